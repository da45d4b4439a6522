//! To be written: the tests of faults.
