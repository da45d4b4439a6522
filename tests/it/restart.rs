//! To be written: the tests of restart.
