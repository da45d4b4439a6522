//! To be written: the tests of begin.
