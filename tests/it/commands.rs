//! To be written: the tests of commands.
