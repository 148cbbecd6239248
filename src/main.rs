//! The `crescendo` binary.

#[global_allocator]
static ALLOCATOR: crescendo::allocator::Allocator = crescendo::allocator::Allocator;

fn main() -> std::process::ExitCode {
    crescendo::cli::main()
}
