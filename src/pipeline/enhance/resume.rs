//! Long videos in chunks, with a journal of the finished ones, so that an interrupted run resumes.
//!
//! ```text
//! frames ─▶ chunk k ─▶ on disk ─▶ a line in the journal      … all ─▶ joined into the output file ─▶ renamed
//!           chunk k+1 at the same time
//! ```
//!
//! Videos of more than a minute are encoded in chunks of 10 s of output time (`--chunk`), in the hidden folder `.NAME.chunks` beside the
//! output. A chunk holds the packets of a separate encoder with exact times, in a private file format
//! ([`media::video::chunk`](crate::media::video::chunk)). When its bytes are on disk, a line with its hash is appended to
//! `chunks.jsonl`, on a thread beside the encoding of the next chunk. A chunk without a line is encoded again. At the end the packets
//! are copied, not encoded again, into the container with the source's other streams. The output depends only on the chunks and the
//! source; the disk must hold both until it is complete. The folder is removed when the output is renamed, or when a run
//! ends without a finished chunk.
//!
//! The journal's first line holds the hashes of input, models and settings and the versions. Chunks of another identity are an error;
//! `--overwrite` discards them. Every other line holds a [`ResumePoint`]: the state of the stages after the chunk. All stages but the
//! encoder run through chunk borders, so the frames do not depend on the chunks. The source frame that the point names is decoded
//! again: from the key frame before it where the container has an index, else, or if its hash differs, from the beginning.
//!
//! Output files contain no random numbers (FFmpeg's `bitexact`). `scripts/soak` kills runs at random moments and compares bytes.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files::hidden_name,
    json_lines::JsonLines,
    media::video::{
        VideoOptions, VideoSpec,
        chunk::{Chunk, ChunkWriter, UnsyncedChunk},
        ffmpeg_version,
    },
    pipeline::retime::{OutputFrame, ResumePoint},
    tensor::Frame,
};

/// File name of the journal.
const JOURNAL: &str = "chunks.jsonl";
/// File name of the journal of the output, for a single file without a journal in its folder.
pub const OUTPUT_JOURNAL: &str = ".crescendo.jsonl";

/// The folder of the chunks of an output file.
pub fn chunk_folder(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default();
    output.with_file_name(hidden_name(name, OsStr::new(".chunks"), name))
}

/// Removes the folder of the chunks of an output file, if there is one.
///
/// # Errors
/// A folder without a journal of chunks, or with other files, which stay; a link.
pub fn remove_chunks(folder: &Path) -> io::Result<()> {
    let Ok(data) = folder.symlink_metadata() else { return Ok(()) };
    if !data.is_dir() {
        return Err(io::Error::other("is not a folder of chunks; move it"));
    }
    if journal(folder).path().is_file() {
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let is_chunk = name.len() >= 5 && name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if is_chunk || name == OUTPUT_JOURNAL {
                fs::remove_file(folder.join(name))?;
            }
        }
        // Last: a folder with it is known as one of chunks.
        fs::remove_file(journal(folder).path())?;
    }
    fs::remove_dir(folder).map_err(|e| match e.kind() {
        io::ErrorKind::DirectoryNotEmpty => io::Error::other("has files that are not chunks; move them"),
        _ => e,
    })
}

/// Inputs that must match to resume.
pub struct Identity<'a> {
    /// Computes the hash of the input.
    pub input: &'a dyn Fn() -> Result<String>,
    /// Hash of the models.
    pub models: &'a str,
    /// Hash of the settings.
    pub settings: &'a str,
    /// Returns an error if the input has changed since the run began.
    pub unchanged: &'a dyn Fn() -> Result<()>,
    /// Whether chunks of another identity are discarded.
    pub overwrite: bool,
}

/// The journal's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct JournalHead {
    /// Of this program and of FFmpeg: encoders of different versions must not be mixed.
    version: String,
    input: String,
    models: String,
    settings: String,
}

/// Every other line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ChunkRecord {
    #[serde(flatten)]
    chunk: Chunk,
    /// Where to resume after it; `None`: it is the last chunk.
    next: Option<ResumePoint>,
}

/// The chunks of one output file.
pub(super) struct Chunks<'a> {
    folder: PathBuf,
    target: PathBuf,
    options: &'a VideoOptions,
    spec: &'a VideoSpec,
    identity: &'a Identity<'a>,
    /// Finished chunks, in order.
    lines: Vec<ChunkRecord>,
    writer: Option<ChunkWriter>,
    /// The thread that writes the last encoded chunk to disk and to the journal, and its line.
    sealing: Option<(JoinHandle<Result<f64>>, ChunkRecord)>,
    /// Seconds of waiting for the disk.
    pub seconds: f64,
}

impl<'a> Chunks<'a> {
    /// Finds the chunks of an earlier run and checks them against their journal.
    ///
    /// # Errors
    /// Chunks of another identity without `overwrite`; a folder that cannot be written.
    pub(super) fn open(
        target: &Path,
        options: &'a VideoOptions,
        spec: &'a VideoSpec,
        identity: &'a Identity<'a>,
    ) -> Result<Self> {
        let folder = chunk_folder(target);
        let head = JournalHead {
            version: format!("crescendo {}, FFmpeg {}", env!("CARGO_PKG_VERSION"), ffmpeg_version()),
            input: (identity.input)()?,
            models: identity.models.into(),
            settings: identity.settings.into(),
        };
        let lines = read_journal(&folder, &head, target, identity.overwrite)?;
        if lines.is_empty() {
            create_journal(&folder, &head)?;
        }
        let target = target.into();
        Ok(Self { folder, target, options, spec, identity, lines, writer: None, sealing: None, seconds: 0.0 })
    }

    /// Number of finished chunks.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Number of frames in the finished chunks.
    pub(super) fn frames(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.chunk.frames())
    }

    /// Where to continue: `Some(None)` at the beginning, `Some(Some(_))` at a resume point, `None` if all chunks are finished.
    pub(super) fn next(&self) -> Option<Option<&ResumePoint>> {
        match self.lines.last() {
            None => Some(None),
            Some(line) => line.next.as_ref().map(Some),
        }
    }

    /// Encodes the next frame. A frame with a resume point begins a chunk. Waits for the disk only if it is still writing the
    /// chunk before the last one.
    pub(super) fn write(
        &mut self,
        OutputFrame { frame, pts, duration, resume_point }: OutputFrame<Frame>,
    ) -> Result<()> {
        if let Some(point) = resume_point {
            self.seal(Some(*point))?;
        }
        if self.sealing.as_ref().is_some_and(|(thread, _)| thread.is_finished()) {
            self.wait()?;
        }
        if self.writer.is_none() {
            let before = self.sealing.as_ref().map(|(_, line)| line).or(self.lines.last()).map(|line| &line.chunk);
            let number = self.lines.len() + usize::from(self.sealing.is_some());
            let path = file(&self.folder, number);
            self.writer = Some(ChunkWriter::create(&path, &self.target, self.options, self.spec, before)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write_at(&frame, pts, duration),
            None => Ok(()),
        }
    }

    /// Finishes the last chunk and returns all.
    pub(super) fn finish(&mut self) -> Result<Vec<Chunk>> {
        self.seal(None)?;
        self.wait()?;
        Ok(self.lines.iter().map(|line| line.chunk.clone()).collect())
    }

    /// Warns that finished chunks stay after an error.
    pub(super) fn warn_remaining(&mut self) {
        // The first error is reported. A chunk that could not be saved is not counted.
        let _ = self.wait();
        if !self.lines.is_empty() {
            let (count, frames, folder) = (self.count(), self.frames(), self.folder.display());
            tracing::warn!(
                "{count} finished chunks ({frames} frames) stay in {folder}; the same command resumes after them"
            );
        }
    }

    /// Finishes the current chunk and starts writing it to disk.
    fn seal(&mut self, next: Option<ResumePoint>) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (written, chunk) = writer.finish()?;
        self.wait()?;
        // Frames of a changed input must not enter the journal.
        (self.identity.unchanged)()?;
        let line = ChunkRecord { chunk, next };
        let (folder, entry) = (self.folder.clone(), line.clone());
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || append(&folder, written, &entry))
            .map_err(|e| Error::failed(format!("cannot start a thread: {e}")))?;
        self.sealing = Some((thread, line));
        Ok(())
    }

    /// Waits until the last encoded chunk is on disk and in the journal.
    fn wait(&mut self) -> Result<()> {
        let Some((thread, line)) = self.sealing.take() else { return Ok(()) };
        let fault = |_| Error::failed("internal error while saving a chunk; please report it");
        self.seconds += thread.join().map_err(fault)??;
        self.lines.push(line);
        Ok(())
    }
}

impl Drop for Chunks<'_> {
    fn drop(&mut self) {
        // The last encoded chunk may still be saved.
        let _ = self.wait();
        self.writer = None;
        let _ = fs::remove_file(file(&self.folder, self.lines.len()));
        if self.lines.is_empty() {
            let _ = remove_chunks(&self.folder);
        }
    }
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}"))
}

/// Creates an empty folder with a journal that identifies its chunks.
fn create_journal(folder: &Path, head: &JournalHead) -> Result<()> {
    let create = || {
        remove_chunks(folder)?;
        fs::create_dir_all(folder)
    };
    create().map_err(|e| Error::io("writing", folder, &e))?;
    journal(folder).append(head)?;
    // Some file systems cannot sync a folder.
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(parent).and_then(|f| f.sync_all());
    Ok(())
}

fn journal(folder: &Path) -> JsonLines {
    JsonLines::new(folder.join(JOURNAL))
}

/// Waits until the chunk is on disk and appends it to the journal. Returns the seconds this took.
fn append(folder: &Path, written: UnsyncedChunk, line: &ChunkRecord) -> Result<f64> {
    let begin = Instant::now();
    written.sync()?;
    let _ = File::open(folder).and_then(|f| f.sync_all());
    journal(folder).append(line)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The valid chunks of an earlier run. Truncates the journal after them.
fn read_journal(folder: &Path, head: &JournalHead, target: &Path, overwrite: bool) -> Result<Vec<ChunkRecord>> {
    let journal = journal(folder);
    // The folder of an unreadable journal is replaced.
    let mut lines = journal.read(0).unwrap_or_default().into_iter();
    let Some(first) = lines.next() else { return Ok(Vec::new()) };
    let found: Option<JournalHead> = first.parse().ok();
    let mut entries = lines.peekable();
    if found.as_ref() != Some(head) && entries.peek().is_some() {
        let what = match &found {
            Some(found) if found.input != head.input => "of an input that has changed since",
            Some(found) if found.models != head.models => "with other models",
            Some(found) if found.settings != head.settings => "with other settings",
            Some(_) => "with another version of this program or of FFmpeg",
            None => "with an unreadable journal",
        };
        let (target, folder) = (target.display(), folder.display());
        if !overwrite {
            return Err(Error::usage(format!(
                "{target}: a run {what} has left finished chunks in {folder}; --overwrite discards them"
            )));
        }
        tracing::warn!("{target}: chunks of a run {what} are discarded");
        return Ok(Vec::new());
    }
    let (mut valid, mut length) = (Vec::new(), first.end);
    for entry in entries {
        let Ok(mut line) = entry.parse::<ChunkRecord>() else { break };
        line.chunk.file = file(folder, valid.len());
        if !line.chunk.is_intact() {
            tracing::warn!("{}: does not match the journal; it is encoded again", line.chunk.file.display());
            break;
        }
        length = entry.end;
        valid.push(line);
    }
    journal.truncate(length)?;
    Ok(valid)
}
