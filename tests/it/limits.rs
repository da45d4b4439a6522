//! To be written: the tests of limits.
