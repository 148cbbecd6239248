//! Where the bytes of a written path go.

use std::{
    fs::{self, File, FileType, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::regular::kind_name;
use crate::{
    error::{Error, Result},
    progress,
};

/// Maximum number of symbolic links that are followed, as in Linux.
const MOST_LINKS: usize = 40;

/// Where the bytes of a written path go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A regular file, which may not exist yet. Links are resolved.
    File(PathBuf),
    /// A FIFO or a device.
    Special(PathBuf),
    /// A block device. It holds data.
    BlockDevice(PathBuf),
    /// An open file of this process, by its descriptor.
    Descriptor(i32),
}

impl Target {
    /// Follows the links of a path. Errors (usage): a folder, a socket, a circle of links.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let mut at = path.to_path_buf();
        for _ in 0..MOST_LINKS {
            if let Some(number) = descriptor(&at) {
                return Ok(Self::Descriptor(number));
            }
            match fs::read_link(&at) {
                Ok(link) => at = folder(&at).join(link),
                Err(_) => return Self::of_resolved(at, path),
            }
        }
        Err(Error::usage(format!("{}: is a circle of symbolic links; choose another name", path.display())))
    }

    fn of_resolved(at: PathBuf, typed: &Path) -> Result<Self> {
        let Ok(kind) = fs::metadata(&at).map(|data: fs::Metadata| data.file_type()) else {
            return Ok(Self::File(at));
        };
        let refused = |what: FileType| {
            let advice = if what.is_dir() { "; name a file in it" } else { "; choose another name" };
            Err(Error::usage(format!("{}: is {}{advice}", typed.display(), kind_name(what))))
        };
        match kind {
            kind if kind.is_file() => Ok(Self::File(at)),
            kind if kind.is_dir() || kind.is_socket() => refused(kind),
            kind if kind.is_block_device() => Ok(Self::BlockDevice(at)),
            _ => Ok(Self::Special(at)),
        }
    }

    /// Whether there is data that writing would replace.
    pub(super) fn is_taken(&self) -> bool {
        match self {
            Self::File(path) => path.symlink_metadata().is_ok(),
            Self::BlockDevice(_) => true,
            Self::Special(_) | Self::Descriptor(_) => false,
        }
    }

    /// Copies all bytes of `source` to a target that is not a regular file. Returns their number. Waits for the reader of a FIFO.
    pub(super) fn write_through(&self, source: &mut File, typed: &Path) -> Result<u64> {
        let failed = |e: io::Error| Error::io("writing", typed, &e);
        let mut sink = self.open(typed)?;
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        loop {
            let length = source.read(&mut buffer).map_err(failed)?;
            if length == 0 {
                return Ok(total);
            }
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                progress::check()?;
                match sink.write(rest) {
                    Ok(n) => rest = &rest[n..],
                    Err(e) if e.kind() == ErrorKind::WouldBlock => wait_for_space(&sink),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            total += length as u64;
        }
    }

    fn open(&self, typed: &Path) -> Result<File> {
        let failed = |e: io::Error| Error::io("writing", typed, &e);
        let path = match self {
            Self::Descriptor(number) => {
                // SAFETY: the descriptor is only duplicated. A closed one is an error of the system call.
                let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
                return borrowed.try_clone_to_owned().map(File::from).map_err(failed);
            }
            Self::File(path) | Self::Special(path) | Self::BlockDevice(path) => path,
        };
        loop {
            progress::check()?;
            let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
            match opened {
                // A FIFO that nobody reads yet. A blocking call would also block signals.
                Err(e) if e.raw_os_error() == Some(libc::ENXIO) && is_fifo(path) => {
                    thread::sleep(Duration::from_millis(50));
                }
                opened => return opened.map_err(failed),
            }
        }
    }
}

/// Whether writing to a path would replace data. Links are followed; FIFOs and devices are written through.
pub fn is_taken(path: &Path) -> bool {
    Target::of(path).map_or(true, |target| target.is_taken())
}

/// Whether a path leads to a FIFO, a device or an open file of this process.
pub fn is_special(path: &Path) -> bool {
    Target::of(path).is_ok_and(|target| !matches!(target, Target::File(_)))
}

fn is_fifo(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo())
}

/// Waits up to 0.1 s until a FIFO has space.
fn wait_for_space(sink: &File) {
    let mut poll = libc::pollfd { fd: sink.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one initialized entry. The result is not used: the next write reports errors.
    unsafe { libc::poll(&mut poll, 1, 100) };
}

/// The number of a path in the descriptor folder of this process: `/proc/self/fd/1`, `/dev/fd/1`.
fn descriptor(path: &Path) -> Option<i32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = folder(path).canonicalize().ok()?;
    let process = format!("/proc/{}", std::process::id());
    let inside = folder.strip_prefix(process).ok()?;
    let is_folder = inside.ends_with("fd") && (inside == Path::new("fd") || inside.starts_with("task"));
    is_folder.then_some(number)
}

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
