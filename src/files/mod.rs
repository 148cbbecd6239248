//! Files that a call reads and writes: one rule for every written path.
//!
//! - [`WrittenPaths`] checks all written paths of a call before any work: none is a file that the call reads, no two are the
//!   same, and an existing file of another kind requires `--overwrite`.
//! - [`PendingFile`] writes a file beside its final name and renames it when it is complete.
//! - A symbolic link is followed: the file that it leads to is created or replaced, and the link stays.
//! - FIFOs, devices, and open files of the process (`/dev/stdout`, `/dev/fd/3`) are never replaced. The complete file is
//!   written through them. A block device holds data, so it requires `--overwrite`.
//! - [`open_regular`] opens a file to read it. Other kinds are an error, and a FIFO without a writer does not block.

mod name;
mod pending;
mod regular;
mod target;
mod written;

pub use name::{hidden_name, is_folder_name};
pub use pending::{PendingFile, is_pending, remove_leftover};
pub use regular::{check_regular, open_regular, read_text};
pub use target::{is_special, is_taken};
pub use written::{Existing, WrittenPaths};
