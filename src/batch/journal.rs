//! The journal of an output folder: one JSON line per finished output.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use super::{
    identity::{self, Recipe},
    record::Record,
};
use crate::{
    error::Result, files::Existing, json_lines::JsonLines, pipeline::OUTPUT_JOURNAL, plan::EnhancePlan, sync::lock,
};

/// The journal's name in the output folder.
pub const JOURNAL: &str = OUTPUT_JOURNAL;

/// Keys of every line; every line begins with the first one.
const RECORD: &[&str] = &["output", "hash"];

/// Checks the files that a call writes, with the journal. Creates nothing.
///
/// # Errors
/// Those of [`WrittenPaths::check`](crate::files::WrittenPaths::check).
pub(super) fn check_written(plan: &EnhancePlan) -> Result<()> {
    let mut paths = plan.written_paths();
    if let Some(folder) = &plan.record {
        paths.write("the journal", &folder.join(JOURNAL), Existing::JsonLines(RECORD));
    }
    paths.check()
}

impl Record {
    /// Whether input, models and settings match.
    pub(super) fn is_of(&self, input: &str, recipe: &Recipe) -> bool {
        (&*self.input, &self.models, &self.settings) == (input, &recipe.models, &recipe.settings)
    }

    /// Whether the file at `path` has the recorded bytes.
    pub(super) fn has_bytes_of(&self, path: &Path) -> bool {
        let same_length = fs::metadata(path).is_ok_and(|data| data.len() == self.bytes);
        same_length && identity::file(path).is_ok_and(|hash| hash == self.hash)
    }

    /// Whether the file at `path` is unchanged. Reads the bytes only if the modification time differs.
    pub(super) fn is_unchanged(&self, path: &Path) -> bool {
        let Ok(data) = fs::metadata(path) else { return false };
        data.len() == self.bytes && (identity::modified(&data) == self.modified || self.has_bytes_of(path))
    }
}

/// The journal of a folder. Threads and processes share it.
pub(super) struct Journal {
    folder: PathBuf,
    file: JsonLines,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    records: HashMap<String, Record>,
    /// Bytes of the file that are already parsed.
    parsed: u64,
}

impl Journal {
    /// Reads the journal in `folder`. The first append creates the file.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        Self::open_in(folder, folder)
    }

    /// Reads the journal in `location` about outputs in `folder`.
    pub(super) fn open_in(location: &Path, folder: &Path) -> Result<Self> {
        let file = JsonLines::new(location.join(JOURNAL));
        let journal = Self { folder: folder.into(), file, known: Mutex::default() };
        journal.refresh()?;
        Ok(journal)
    }

    /// The name of an output in the journal.
    pub(super) fn key(&self, output: &Path) -> String {
        let inside = output.strip_prefix(&self.folder).unwrap_or(output);
        // Names that are not UTF-8 are escaped, so that they stay distinct.
        inside.to_str().map_or_else(|| inside.as_os_str().as_encoded_bytes().escape_ascii().to_string(), str::to_owned)
    }

    /// The last record of an output.
    pub(super) fn find(&self, output: &Path) -> Option<Record> {
        self.known().records.get(&self.key(output)).cloned()
    }

    /// Reads the records that this or another process appended since the last call.
    pub(super) fn refresh(&self) -> Result<()> {
        let mut known = self.known();
        for line in self.file.read(known.parsed)? {
            known.parsed = line.end;
            match line.parse::<Record>() {
                Ok(record) => drop(known.records.insert(record.output.clone(), record)),
                Err(e) => tracing::warn!("{}: ignored an invalid line ({e})", self.file.path().display()),
            }
        }
        Ok(())
    }

    /// Appends a record. It is on disk when this returns.
    pub(super) fn append(&self, record: &Record) -> Result<()> {
        self.file.append(record)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
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
    fn the_last_complete_line_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (Journal::open(folder.path()).unwrap(), Journal::open(folder.path()).unwrap());
        let at = |name: &str| folder.path().join(name);
        a.append(&record("x/1.png", "old")).unwrap();
        b.append(&record("x/1.png", "new")).unwrap();
        a.refresh().unwrap();
        assert_eq!(a.find(&at("x/1.png")).unwrap().input, "new");
        // A power failure leaves a torn line; the next append starts on a new line.
        let mut file = fs::OpenOptions::new().append(true).open(at(JOURNAL)).unwrap();
        std::io::Write::write_all(&mut file, br#"{"output":"x/2.png","inp"#).unwrap();
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
