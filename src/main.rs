//! Arguments, logging, signals, exit code; nothing else.

fn main() {}
