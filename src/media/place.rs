//! Where a finished file goes: written beside its final name, synced, then renamed.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// A file in the making. It lives at `.name.part.ext` beside its final name, under a lock, and gets that name only in
/// [`Place::commit`]; dropped before, it leaves nothing behind. A file of a killed run is simply written over.
#[derive(Debug)]
pub struct Place {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    overwrite: bool,
    committed: bool,
}

impl Place {
    /// Opens the temporary file for `target`.
    ///
    /// Errors: `target` exists and `overwrite` is false (usage), it is a folder, its folder is missing or not
    /// writable, or another process is writing the same file.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        let name = target.file_name().filter(|_| !target.is_dir());
        let name = name.ok_or_else(|| Error::usage(format!("{}: is a folder; name a file in it", target.display())))?;
        if !overwrite && target.symlink_metadata().is_ok() {
            return Err(taken(target));
        }
        let mut part = OsString::from(".");
        part.push(Path::new(name).file_stem().unwrap_or(name));
        part.push(".part");
        if let Some(extension) = target.extension() {
            part.push(".");
            part.push(extension);
        }
        let temporary = target.with_file_name(part);
        let file = lock(&temporary, target)?;
        Ok(Self { target: target.into(), temporary, file, overwrite, committed: false })
    }

    /// The path to write to until the file is committed.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The path the file will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes all bytes to the temporary file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("writing", &self.target, &e))
    }

    /// Syncs the file to disk and gives it its final name; returns its size in bytes.
    ///
    /// Without `overwrite` the final name is taken by a hard link, which fails if somebody else took it meanwhile.
    pub fn commit(mut self) -> Result<u64> {
        let failed = |e: std::io::Error| Error::io("writing", &self.target, &e);
        self.file.sync_all().map_err(failed)?;
        let bytes = self.file.metadata().map_err(failed)?.len();
        let linked = if self.overwrite { None } else { Some(fs::hard_link(&self.temporary, &self.target)) };
        match linked {
            Some(Ok(())) => fs::remove_file(&self.temporary).map_err(failed)?,
            Some(Err(e)) if e.kind() == ErrorKind::AlreadyExists => return Err(taken(&self.target)),
            // No hard links on this file system: the window between the check and the rename cannot be closed.
            Some(Err(_)) if self.target.symlink_metadata().is_ok() => return Err(taken(&self.target)),
            _ => fs::rename(&self.temporary, &self.target).map_err(failed)?,
        }
        self.committed = true;
        // The name itself is durable once its folder is synced; file systems that cannot do that say so here.
        let _ = File::open(folder(&self.target)).and_then(|f| f.sync_all());
        Ok(bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn taken(target: &Path) -> Error {
    Error::usage(format!("{}: exists already; choose another name or pass --overwrite", target.display()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens and locks the temporary file. A file that was renamed or removed between opening and locking is opened anew.
fn lock(temporary: &Path, target: &Path) -> Result<File> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(temporary).map_err(|e| {
            if e.kind() == ErrorKind::NotFound && !folder(target).is_dir() {
                let folder = folder(target).display();
                return Error::failed(format!("{}: the folder {folder} does not exist; create it", target.display()));
            }
            Error::io("writing", target, &e)
        })?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::failed(format!("{}: another process is writing this file", target.display())));
        }
        let opened = file.metadata().map_err(|e| Error::io("writing", target, &e))?;
        if fs::metadata(temporary).is_ok_and(|m| (m.dev(), m.ino()) == (opened.dev(), opened.ino())) {
            file.set_len(0).map_err(|e| Error::io("writing", target, &e))?;
            return Ok(file);
        }
    }
}
