//! Output files that appear under their final name only when they are complete.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use super::{
    name::part_name,
    target::{Target, folder},
};
use crate::error::{Error, Result};

/// A file that is being written. Its data is in `.name.part.ext`, in the folder of the final name, under a lock.
/// [`PendingFile::commit`] gives it the final name. Dropped without a commit, it deletes the temporary file. The
/// temporary file of a killed run is overwritten.
///
/// The data for a FIFO or a device is in an unnamed temporary file until the commit, which writes it through.
#[derive(Debug)]
pub struct PendingFile {
    /// The path as given.
    path: PathBuf,
    target: Target,
    temporary: PathBuf,
    file: File,
    overwrite: bool,
    committed: bool,
}

impl PendingFile {
    /// Opens the temporary file for `path`.
    ///
    /// Errors: `path` exists and `overwrite` is false (usage), it is a folder or a socket, its folder is missing or not
    /// writable, or another process writes the same file.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        if !overwrite && Target::of(path)?.is_taken() {
            remove_leftover(path);
            return Err(already_exists(path));
        }
        let busy = || Error::failed(format!("{}: another process is writing this file", path.display()));
        Self::try_create(path, overwrite)?.ok_or_else(busy)
    }

    /// Like [`PendingFile::create`], but `path` may exist until [`PendingFile::commit`]. `None`: another process
    /// writes the same file.
    fn try_create(path: &Path, overwrite: bool) -> Result<Option<Self>> {
        let pending = Self::try_open(path, overwrite)?;
        pending.map(|pending| pending.clear().map(|()| pending)).transpose()
    }

    /// Like [`PendingFile::create`], but `path` may exist until [`PendingFile::commit`], and the data that a killed run
    /// left in the temporary file is kept. `None`: another process writes the same file.
    pub fn try_open(path: &Path, overwrite: bool) -> Result<Option<Self>> {
        let target = Target::of(path)?;
        let (file, temporary) = match &target {
            Target::File(real) => {
                let temporary = temporary_of(real, path)?;
                (lock(&temporary, path)?, temporary)
            }
            _ => {
                let file = tempfile::tempfile().map_err(|e| Error::io("creating a temporary file for", path, &e))?;
                let name = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                (Some(file), name)
            }
        };
        Ok(file.map(|file| Self { path: path.into(), target, temporary, file, overwrite, committed: false }))
    }

    /// Empties the temporary file.
    pub fn clear(&self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io("writing", &self.path, &e))
    }

    /// The temporary path, which is written to until the file is committed.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The final path.
    pub fn target(&self) -> &Path {
        &self.path
    }

    /// Another handle of the temporary file, with the same position.
    pub fn open(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Writes all bytes to the temporary file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("writing", &self.path, &e))
    }

    /// Syncs the file to disk and renames it to its final name, or writes it through a FIFO or a device. Returns its size in
    /// bytes.
    ///
    /// Errors: a full disk; without `overwrite`, a file that another process created under the final name.
    pub fn commit(mut self) -> Result<u64> {
        let failed = |e: std::io::Error| Error::io("writing", &self.path, &e);
        let Target::File(target) = &self.target else {
            if !self.overwrite && self.target.is_taken() {
                return Err(already_exists(&self.path));
            }
            let mut source = File::open(&self.temporary).map_err(failed)?;
            return self.target.write_through(&mut source, &self.path);
        };
        self.file.sync_all().map_err(failed)?;
        let bytes = self.file.metadata().map_err(failed)?.len();
        let named =
            if self.overwrite { fs::rename(&self.temporary, target) } else { rename_to_free(&self.temporary, target) };
        match named {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(already_exists(&self.path)),
            named => named.map_err(failed)?,
        }
        // The rename is durable once the folder is synced. File systems that cannot sync folders report an error, which
        // is ignored.
        let _ = File::open(folder(target)).and_then(|f| f.sync_all());
        self.committed = true;
        Ok(bytes)
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.committed && matches!(self.target, Target::File(_)) {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Removes the temporary file that a killed run left for `path`, unless a process still writes it.
pub fn remove_leftover(path: &Path) {
    let Ok(Target::File(real)) = Target::of(path) else { return };
    let Ok(temporary) = temporary_of(&real, path) else { return };
    if temporary.symlink_metadata().is_ok_and(|data| data.is_file())
        && let Ok(Some(file)) = lock(&temporary, path)
    {
        let _ = fs::remove_file(&temporary);
        drop(file);
    }
}

/// Whether a process is writing the file now.
pub fn is_pending(path: &Path) -> bool {
    let temporary = Target::of(path).and_then(|target| match target {
        Target::File(real) => temporary_of(&real, path),
        _ => Err(already_exists(path)),
    });
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).to_owned();
    let file = temporary.ok().and_then(|temporary| options.open(temporary).ok());
    file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The temporary path for the resolved path of a file. `typed` is for messages.
fn temporary_of(real: &Path, typed: &Path) -> Result<PathBuf> {
    let name = real.file_name();
    let name = name.ok_or_else(|| Error::usage(format!("{}: is a folder; name a file in it", typed.display())))?;
    Ok(real.with_file_name(part_name(name)))
}

/// Renames to an unused name, atomically where the file system supports it. Errors: the name is in use.
fn rename_to_free(from: &Path, to: &Path) -> std::io::Result<()> {
    let path = |p: &Path| CString::new(p.as_os_str().as_bytes());
    let (old, new) = (path(from)?, path(to)?);
    // SAFETY: both strings end with a zero byte.
    let code =
        unsafe { libc::renameat2(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), libc::RENAME_NOREPLACE) };
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        _ if code == 0 => Ok(()),
        // Network file systems: create a hard link, then remove the first name.
        Some(libc::EINVAL | libc::ENOSYS) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(e),
            // Without hard links, the check and the rename are not atomic.
            Err(_) if to.symlink_metadata().is_ok() => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        _ => Err(error),
    }
}

fn already_exists(target: &Path) -> Error {
    Error::usage(format!("{}: already exists; choose another name or pass --overwrite", target.display()))
}

/// Opens and locks the temporary file. `None`: another process holds the lock. A file that was renamed or removed
/// before it was locked is opened again.
fn lock(temporary: &Path, target: &Path) -> Result<Option<File>> {
    // A link or a FIFO with the temporary name is not from this program: it is neither followed nor waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    loop {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(flags);
        let file = options.open(temporary).map_err(|e| {
            if e.kind() == ErrorKind::NotFound && !folder(temporary).is_dir() {
                let folder = folder(target).display();
                return Error::failed(format!("{}: the folder {folder} does not exist; create it", target.display()));
            }
            if temporary.symlink_metadata().is_ok_and(|data| !data.is_file()) {
                return in_the_way(temporary, target);
            }
            Error::io("writing", target, &e)
        })?;
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return Err(in_the_way(temporary, target));
        }
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Ok(None);
        }
        let opened = file.metadata().map_err(|e| Error::io("writing", target, &e))?;
        if opened.nlink() > 1 {
            // A run was killed after linking the final name, before removing the temporary one. Writing would change
            // the finished file.
            fs::remove_file(temporary).map_err(|e| Error::io("writing", target, &e))?;
            continue;
        }
        if fs::metadata(temporary).is_ok_and(|m| (m.dev(), m.ino()) == (opened.dev(), opened.ino())) {
            return Ok(Some(file));
        }
    }
}

fn in_the_way(temporary: &Path, target: &Path) -> Error {
    let (target, temporary) = (target.display(), temporary.display());
    Error::failed(format!("{target}: {temporary} has the name of its temporary file but is not a file; remove it"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.png");
        let mut mine = PendingFile::try_create(&target, false).unwrap().unwrap();
        assert!(PendingFile::try_create(&target, true).unwrap().is_none(), "a file in the making has one writer");
        mine.write(b"mine").unwrap();
        fs::write(&target, "yours").unwrap();
        assert!(mine.commit().unwrap_err().to_string().contains("already exists"));
        assert_eq!(fs::read(&target).unwrap(), b"yours");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A run that is killed between linking the final name and removing the temporary one leaves both.
    #[test]
    fn a_second_name_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.png");
        fs::write(&target, "finished").unwrap();
        fs::hard_link(&target, folder.path().join(".a.part.png")).unwrap();
        let mut pending = PendingFile::create(&target, true).unwrap();
        pending.write(b"half").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"finished");
        drop(pending);
        assert_eq!(fs::read(&target).unwrap(), b"finished");
    }
}
