//! JSON Lines files that are only appended to: journals and reports.
//!
//! A line is complete with its line break. A line without one is torn: the process was killed, or the disk was full. Readers
//! ignore it, and the next append starts on a new line. Several processes may append to one file; each append holds a lock.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    files::open_regular,
    sync::lock,
};

/// A JSON Lines file.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    /// `None`: opened for every append. Threads that share an open file share its lock too, so they need another one.
    file: Option<Mutex<File>>,
}

/// A complete line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text without the line break.
    pub text: Vec<u8>,
    /// Byte offset in the file after the line break.
    pub end: u64,
}

impl Line {
    /// Parses the line.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.text)
    }
}

impl JsonLines {
    /// The file at `path`. The first append creates it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// Creates the file now and keeps it open, for files that are read while they are written (pipes).
    ///
    /// Errors: the file cannot be opened for writing.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = open(&path).map_err(|e| Error::io("writing", &path, &e))?;
        Ok(Self { path, file: Some(Mutex::new(file)) })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the complete lines that start at byte `offset` or later; none if the file does not exist.
    pub fn read(&self, offset: u64) -> Result<Vec<Line>> {
        let mut text = Vec::new();
        let read = open_regular(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_end(&mut text)
        });
        match read {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|e| Error::io("reading", &self.path, &e))?,
        };
        let mut end = offset;
        let lines = text.split_inclusive(|b| *b == b'\n').filter_map(|line| {
            end += line.len() as u64;
            let text = line.strip_suffix(b"\n").filter(|text| !text.is_empty())?;
            Some(Line { text: text.into(), end })
        });
        Ok(lines.collect())
    }

    /// Appends a record as one line. The line is on disk when this returns; after an error the file is unchanged.
    pub fn append(&self, record: &impl Serialize) -> Result<()> {
        let append = || {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            if let Some(file) = &self.file {
                return append_line(&lock(file), line);
            }
            let is_new = !self.path.exists();
            append_line(&open(&self.path)?, line)?;
            if is_new && let Some(folder) = self.path.parent() {
                // Some file systems cannot sync a folder.
                let _ = File::open(folder).and_then(|folder| folder.sync_all());
            }
            Ok(())
        };
        append().map_err(|e: io::Error| Error::io("writing", &self.path, &e))
    }

    /// Removes everything after byte `length`.
    pub fn truncate(&self, length: u64) -> Result<()> {
        let truncate = || {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
        };
        truncate().map_err(|e: io::Error| Error::io("writing", &self.path, &e))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn append_line(mut file: &File, mut line: Vec<u8>) -> io::Result<()> {
    // Without locks (some network file systems), appends still keep lines apart, except on a full disk.
    let locked = file.lock().is_ok();
    let data = file.metadata()?;
    // A pipe has no length, cannot be read back and cannot be synced.
    let length = if data.is_file() { data.len() } else { 0 };
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        line.insert(0, b'\n');
    }
    let written = file.write_all(&line);
    if written.is_err() && locked && data.is_file() {
        let _ = file.set_len(length);
    }
    if locked {
        file.unlock()?;
    }
    written?;
    if data.is_file() { file.sync_data() } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn numbers(lines: &[Line]) -> Vec<(u32, u64)> {
        lines.iter().map(|line| (line.parse().unwrap(), line.end)).collect()
    }

    #[test]
    fn torn_lines_are_ignored_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let file = JsonLines::new(&path);
        assert_eq!(file.read(0).unwrap(), []);
        file.append(&1).unwrap();
        file.append(&22).unwrap();
        assert_eq!(numbers(&file.read(0).unwrap()), [(1, 2), (22, 5)]);
        assert_eq!(numbers(&file.read(2).unwrap()), [(22, 5)]);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"33").unwrap();
        assert_eq!(file.read(5).unwrap(), []);
        let other = JsonLines::create(&path).unwrap();
        other.append(&4).unwrap();
        assert_eq!(numbers(&file.read(5).unwrap()), [(33, 8), (4, 10)]);
        file.truncate(5).unwrap();
        file.truncate(7).unwrap();
        other.append(&6).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n22\n6\n");
    }

    /// Lines that are longer than a page of memory, from threads that share the file.
    #[test]
    fn threads_append_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let file = JsonLines::create(&path).unwrap();
        std::thread::scope(|scope| {
            for letter in ["a", "b", "c", "d"] {
                scope.spawn(|| (0..80).for_each(|_| file.append(&letter.repeat(5000)).unwrap()));
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let broken = text.lines().filter(|line| serde_json::from_str::<String>(line).is_err()).count();
        assert_eq!((text.lines().count(), broken), (320, 0));
    }

    #[test]
    fn errors_contain_the_path() {
        let path = Path::new("/nowhere/a.jsonl");
        for failed in
            [JsonLines::create(path).map(drop), JsonLines::new(path).append(&1), JsonLines::new(path).truncate(0)]
        {
            let message = failed.unwrap_err().to_string();
            assert!(message.starts_with("writing /nowhere/a.jsonl: No such file"), "{message}");
        }
    }
}
