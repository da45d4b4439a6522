//! To be written: the tests of drain.
