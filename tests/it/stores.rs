//! To be written: the tests of stores.
