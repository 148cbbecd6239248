//! Opens files to read them. Only regular files are accepted.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use crate::error::{Error, Result};

/// Opens a regular file to read it. Opening never blocks, unlike that of a FIFO without a writer.
///
/// Errors: a file that cannot be opened, a folder, a FIFO, a socket, a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(format!("is {}; expected a regular file", kind_name(kind))))
}

/// Bytes of the longest text that is read. The longest known, a tokenizer, has 33 million.
const LONGEST_TEXT: u64 = 256 << 20;

/// Reads a regular file of text.
///
/// Errors: those of [`open_regular`], more than 256 MiB, bytes that are not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.take(LONGEST_TEXT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_TEXT {
        return Err(io::Error::other("is longer than 256 MiB, the maximum of a text"));
    }
    Ok(text)
}

/// Returns an error if a path leads to something that is neither a regular file nor a folder. A missing file is no error.
pub fn check_regular(path: &Path) -> Result<()> {
    match path.metadata().map(|data| data.file_type()) {
        Ok(kind) if !kind.is_file() && !kind.is_dir() => {
            Err(Error::failed(format!("{}: is {}; expected a regular file", path.display(), kind_name(kind))))
        }
        _ => Ok(()),
    }
}

/// `a FIFO`, `a socket`, …
pub(super) fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
