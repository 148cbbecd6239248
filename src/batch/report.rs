//! `--report`: a line for each item, as it ends.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    pipeline::ItemRow,
};

/// One line.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// Input, output, status, cause, frames, seconds.
    #[serde(flatten)]
    pub row: &'a ItemRow,
    /// BLAKE3 of the input's bytes; `None` where they could not be read.
    pub input_hash: Option<String>,
    /// BLAKE3 over the models.
    pub model_hash: &'a str,
    /// BLAKE3 over the settings.
    pub settings_hash: &'a str,
    /// Most memory that the process had held by then.
    pub peak_memory_bytes: u64,
}

/// The file. Lines are added to what is there.
pub struct ReportFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl ReportFile {
    /// Opens or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("writing the report", path, &e);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut last = [b'\n'];
        // A run that was killed may have left half a line. What is no file (a pipe) has no length.
        if length > 0 && file.read_exact_at(&mut last, length - 1).is_ok() && last != *b"\n" {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { path: path.into(), file: Mutex::new(file) })
    }

    /// Adds a line, whole and at once.
    pub fn write(&self, line: &Line<'_>) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|e| Error::failed(format!("{}: {e}", self.path.display())))?;
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).map_err(|e| Error::io("writing the report", &self.path, &e))
    }
}
