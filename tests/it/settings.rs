//! To be written: the tests of settings.
