//! The `crescendo` binary: parse, resolve, run, exit code.

fn main() {}
