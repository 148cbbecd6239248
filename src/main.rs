//! The `crescendo` binary.

fn main() -> std::process::ExitCode {
    crescendo::cli::main()
}
