//! To be written: the tests of exit_codes.
