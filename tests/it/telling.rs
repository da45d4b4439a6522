//! To be written: the tests of telling.
