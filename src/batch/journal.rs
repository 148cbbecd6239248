//! What is finished: a line for each output, in a file that is only ever appended to.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::identity::{self, Recipe};
use crate::error::{Error, Result};

/// The journal's name in the output folder.
pub const JOURNAL: &str = ".crescendo.jsonl";

/// A file with this hash, under this name, is the whole result of this input, these models and these settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Path below the folder.
    pub output: String,
    /// Hash of the input's bytes.
    pub input: String,
    /// [`identity::stamp`] of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// [`Recipe::models`].
    pub models: String,
    /// [`Recipe::settings`].
    pub settings: String,
    /// Hash of the output's bytes.
    pub hash: String,
    /// Length of the output.
    pub bytes: u64,
    /// When it was written, nanoseconds since 1970.
    pub modified: i64,
    /// Frames in it.
    pub frames: u64,
}

impl Record {
    /// Whether it is of this input and recipe.
    pub fn is_of(&self, input: &str, recipe: &Recipe) -> bool {
        (&*self.input, &self.models, &self.settings) == (input, &recipe.models, &recipe.settings)
    }

    /// Whether the bytes of `path` are those that were entered.
    pub fn is_in(&self, path: &Path) -> bool {
        let same_length = fs::metadata(path).is_ok_and(|data| data.len() == self.bytes);
        same_length && identity::file(path).is_ok_and(|hash| hash == self.hash)
    }

    /// Whether `path` still is what was entered. The bytes are read only where the time of writing is another.
    pub fn holds(&self, path: &Path) -> bool {
        let Ok(data) = fs::metadata(path) else { return false };
        data.len() == self.bytes && (identity::modified(&data) == self.modified || self.is_in(path))
    }
}

/// The journal of a folder, shared by all threads of this process and by other processes.
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    records: HashMap<String, Record>,
    /// Bytes of the file that have been read.
    read: u64,
}

impl Journal {
    /// Reads what is there. Nothing is made before the first entry.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::kept_in(folder, folder)
    }

    /// The journal of outputs in one folder that lies in another.
    pub fn kept_in(place: &Path, folder: &Path) -> Result<Self> {
        let journal = Self { folder: folder.into(), path: place.join(JOURNAL), known: Mutex::default() };
        journal.refresh()?;
        Ok(journal)
    }

    /// The name of an output in the journal.
    pub fn key(&self, output: &Path) -> String {
        let inside = output.strip_prefix(&self.folder).unwrap_or(output);
        // Names that are not UTF-8 are told apart by their bytes.
        inside.to_str().map_or_else(|| inside.as_os_str().as_encoded_bytes().escape_ascii().to_string(), str::to_owned)
    }

    /// The last entry of an output.
    pub fn find(&self, output: &Path) -> Option<Record> {
        self.known().records.get(&self.key(output)).cloned()
    }

    /// Reads what was appended since, by whomever.
    pub fn refresh(&self) -> Result<()> {
        let mut known = self.known();
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.failed("reading", &e)),
        };
        let mut new = Vec::new();
        file.seek(SeekFrom::Start(known.read))
            .and_then(|_| file.read_to_end(&mut new))
            .map_err(|e| self.failed("reading", &e))?;
        // A line without its end is one that is being written, or was when the power failed.
        let whole = new.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        for line in new[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) => drop(known.records.insert(record.output.clone(), record)),
                Err(e) => tracing::warn!("{}: a damaged line is passed over ({e})", self.path.display()),
            }
        }
        known.read += whole as u64;
        Ok(())
    }

    /// Appends an entry; it is on disk when this returns.
    pub fn append(&self, record: &Record) -> Result<()> {
        let mut line =
            serde_json::to_vec(record).map_err(|e| Error::failed(format!("{}: {e}", self.path.display())))?;
        line.push(b'\n');
        let made = !self.path.exists();
        let mut write = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
            // One writer at a time, of all processes; the lock ends with the file. Where there are no locks, appending keeps
            // whole lines apart but for those of a full disk.
            let locked = file.lock().is_ok();
            let length = file.metadata()?.len();
            let mut last = [b'\n'];
            if length > 0 {
                file.read_exact_at(&mut last, length - 1)?;
            }
            if last != *b"\n" {
                line.insert(0, b'\n');
            }
            if let Err(e) = file.write_all(&line) {
                // Half a line of a full disk is of no use.
                if locked {
                    let _ = file.set_len(length);
                }
                return Err(e);
            }
            if locked {
                file.unlock()?;
            }
            file.sync_data()?;
            if made { File::open(self.path.parent().unwrap_or(&self.folder))?.sync_all() } else { Ok(()) }
        };
        write().map_err(|e| self.failed("writing", &e))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str, e: &std::io::Error) -> Error {
        Error::io(doing, &self.path, e)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(output: &str, input: &str) -> Record {
        Record {
            output: output.into(),
            input: input.into(),
            stamp: None,
            models: "m".into(),
            settings: "s".into(),
            hash: "h".into(),
            bytes: 1,
            modified: 2,
            frames: 3,
        }
    }

    #[test]
    fn the_last_whole_line_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (Journal::open(folder.path()).unwrap(), Journal::open(folder.path()).unwrap());
        let at = |name: &str| folder.path().join(name);
        a.append(&record("x/1.png", "old")).unwrap();
        b.append(&record("x/1.png", "new")).unwrap();
        a.refresh().unwrap();
        assert_eq!(a.find(&at("x/1.png")).unwrap().input, "new");
        // The power fails in the middle of a line; the next one begins on its own.
        let mut file = OpenOptions::new().append(true).open(at(JOURNAL)).unwrap();
        file.write_all(br#"{"output":"x/2.png","inp"#).unwrap();
        a.refresh().unwrap();
        assert_eq!(a.find(&at("x/2.png")), None);
        b.append(&record("x/3.png", "three")).unwrap();
        a.refresh().unwrap();
        assert_eq!(a.find(&at("x/3.png")).unwrap().input, "three");
        assert_eq!(a.find(&at("x/2.png")), None);
        let fresh = Journal::open(folder.path()).unwrap();
        assert_eq!(fresh.find(&at("x/1.png")), Some(record("x/1.png", "new")));
    }
}
