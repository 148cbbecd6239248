//! Standard output and standard error. Only this file writes to them, and it never panics.
#![allow(clippy::disallowed_methods)]

use std::{
    fmt::Display,
    fs::File,
    io::{self, ErrorKind, IsTerminal, Write, stderr, stdout},
    mem::ManuallyDrop,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::FileTypeExt,
    },
};

use crate::error::{Error, Result};

/// Whether standard error is a terminal.
pub fn is_terminal() -> bool {
    stderr().is_terminal()
}

/// Writes log text to standard error. Text that cannot be written is dropped: a full disk or a closed terminal ends no run.
pub fn log(text: &[u8]) {
    let mut err = stderr().lock();
    let _ = err.write_all(text).and_then(|()| err.flush());
}

/// Writes the last text of a process that has no memory left to standard error: without a lock and without an allocation.
pub fn last_line(text: &[u8]) {
    // SAFETY: the text is readable.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Writes a line to standard error, as [`log`].
pub fn line(text: impl Display) {
    log(format!("{text}\n").as_bytes());
}

/// Writes a document to standard output. A reader that is gone (a closed pipe or terminal) is not an error.
///
/// # Errors
/// Standard output cannot be written for another reason, such as a full disk.
pub fn document(bytes: &[u8]) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if !is_closed(&e) => {
            let text = e.to_string();
            let what = text.split(" (os error ").next().unwrap_or_default();
            Err(Error::failed(format!("writing to standard output: {what}; redirect it to another file")))
        }
        _ => Ok(()),
    }
}

/// Whether the reader of standard output is gone. A terminal that was closed reports an input/output error.
fn is_closed(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe || (error.raw_os_error() == Some(libc::EIO) && is_device())
}

fn is_device() -> bool {
    // SAFETY: the descriptor is open while the process runs, and `ManuallyDrop` keeps the file from closing it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(stdout().as_raw_fd()) });
    file.metadata().is_ok_and(|data| data.file_type().is_char_device())
}
