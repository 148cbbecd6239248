//! The `crescendo` binary: parse, resolve, run, exit code.

fn main() -> std::process::ExitCode {
    crescendo::cli::main()
}
