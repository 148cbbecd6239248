//! A long video in chunks, and the journal of those that are finished, in a hidden folder beside the result.
//!
//! ```text
//! frames ─▶ chunk k ─▶ on disk ─▶ a line in the journal          … all ─▶ put together in the place of the result ─▶ named
//!           chunk k+1 meanwhile
//! ```
//!
//! A chunk is entered once its bytes are on disk, with how the line is taken up after it; what is not entered is made again. A
//! folder without an entry is removed when a run ends, one with entries is left for the next.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::pipeline::retime::{OutputFrame, ResumePoint};
use crate::{
    error::{Error, Result},
    json_lines::JsonLines,
    media::video::{
        VideoOptions, VideoSpec,
        chunk::{Chunk, ChunkWriter, UnsyncedChunk},
        ffmpeg_version,
    },
    tensor::Frame,
};

/// The journal's name in the folder.
const JOURNAL: &str = "chunks.jsonl";

/// The folder of a result's chunks.
pub fn folder_of(output: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".chunks");
    output.with_file_name(name)
}

/// What a result is made from: what has to be the same for a run to be gone on with.
pub struct Identity<'a> {
    /// The hash of the input, found out when it is asked for.
    pub input: &'a dyn Fn() -> Result<String>,
    /// The hash of the models.
    pub models: &'a str,
    /// The hash of the settings.
    pub settings: &'a str,
    /// An error once the input is no longer what it was when the run began.
    pub unchanged: &'a dyn Fn() -> Result<()>,
    /// Whether chunks of another identity are given up.
    pub overwrite: bool,
}

/// The journal's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// Of this program and FFmpeg, as encoders of one kind may still be two.
    version: String,
    input: String,
    models: String,
    settings: String,
}

/// Another line of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    chunk: Chunk,
    /// How the line is taken up after it; `None`: it is the last.
    next: Option<ResumePoint>,
}

/// Chunks in the making.
pub struct Chunks<'a> {
    folder: PathBuf,
    target: PathBuf,
    options: &'a VideoOptions,
    form: &'a VideoSpec,
    identity: &'a Identity<'a>,
    /// Finished, in order.
    lines: Vec<Line>,
    writer: Option<ChunkWriter>,
    /// The chunk that is on its way to disk, and a copy of what is entered then.
    sealing: Option<(JoinHandle<Result<f64>>, Line)>,
    /// Seconds that going to disk took.
    pub seconds: f64,
}

impl<'a> Chunks<'a> {
    /// Looks for what an earlier run has left, and holds it against its journal.
    ///
    /// Errors: chunks of another input, other models, settings or programs, which may not be given up; a folder that cannot be written.
    pub fn open(
        target: &Path,
        options: &'a VideoOptions,
        form: &'a VideoSpec,
        identity: &'a Identity<'a>,
    ) -> Result<Self> {
        let folder = folder_of(target);
        let head = Head {
            version: format!("crescendo {}, FFmpeg {}", env!("CARGO_PKG_VERSION"), ffmpeg_version()),
            input: (identity.input)()?,
            models: identity.models.into(),
            settings: identity.settings.into(),
        };
        let lines = kept(&folder, &head, target, identity.overwrite)?;
        if lines.is_empty() {
            begin(&folder, &head)?;
        }
        let target = target.into();
        Ok(Self { folder, target, options, form, identity, lines, writer: None, sealing: None, seconds: 0.0 })
    }

    /// Finished chunks.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Frames in them.
    pub fn frames(&self) -> u64 {
        self.lines.last().map_or(0, |line| line.chunk.frames())
    }

    /// Where to go on: at the begin, at a mark, or not at all.
    pub fn next(&self) -> Option<Option<&ResumePoint>> {
        match self.lines.last() {
            None => Some(None),
            Some(line) => line.next.as_ref().map(Some),
        }
    }

    /// Takes the next frame; one with a mark begins a chunk. Waits for the encoder, and for the disk only if a whole chunk was
    /// encoded since it was given the last one.
    pub fn write(&mut self, OutputFrame { frame, pts, duration, mark }: OutputFrame<Frame>) -> Result<()> {
        if let Some(mark) = mark {
            self.seal(Some(*mark))?;
        }
        if self.sealing.as_ref().is_some_and(|(thread, _)| thread.is_finished()) {
            self.sealed()?;
        }
        if self.writer.is_none() {
            let before = self.sealing.as_ref().map(|(_, line)| line).or(self.lines.last()).map(|line| &line.chunk);
            let number = self.lines.len() + usize::from(self.sealing.is_some());
            let path = file(&self.folder, number);
            self.writer = Some(ChunkWriter::create(&path, &self.target, self.options, self.form, before)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write_at(&frame, pts, duration),
            None => Ok(()),
        }
    }

    /// Ends the last chunk; all of them.
    pub fn finish(&mut self) -> Result<Vec<Chunk>> {
        self.seal(None)?;
        self.sealed()?;
        Ok(self.lines.iter().map(|line| line.chunk.clone()).collect())
    }

    /// Says what a run that cannot go on leaves.
    pub fn kept(&mut self) {
        // The first cause is told; a chunk that could not be saved is not among those that are left.
        let _ = self.sealed();
        if !self.lines.is_empty() {
            let (count, frames, folder) = (self.count(), self.frames(), self.folder.display());
            tracing::warn!(
                "{count} finished chunks ({frames} frames) stay in {folder}; the same command goes on after them"
            );
        }
    }

    /// Ends the chunk in the making and sends it to disk.
    fn seal(&mut self, next: Option<ResumePoint>) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (written, chunk) = writer.finish()?;
        self.sealed()?;
        // Frames of a changed file are not entered as those of the one that it was.
        (self.identity.unchanged)()?;
        let line = Line { chunk, next };
        let (folder, entry) = (self.folder.clone(), line.clone());
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || enter(&folder, written, &entry))
            .map_err(|e| Error::failed(format!("a thread cannot be started: {e}")))?;
        self.sealing = Some((thread, line));
        Ok(())
    }

    /// Waits until the chunk on its way is on disk and entered.
    fn sealed(&mut self) -> Result<()> {
        let Some((thread, line)) = self.sealing.take() else { return Ok(()) };
        let fault = |_| Error::failed("a fault in this program while a chunk was saved; please report it");
        self.seconds += thread.join().map_err(fault)??;
        self.lines.push(line);
        Ok(())
    }
}

impl Drop for Chunks<'_> {
    fn drop(&mut self) {
        // What is on its way may still be entered.
        let _ = self.sealed();
        self.writer = None;
        let _ = fs::remove_file(file(&self.folder, self.lines.len()));
        if self.lines.is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}"))
}

/// Creates an empty folder with a journal that identifies its chunks.
fn begin(folder: &Path, head: &Head) -> Result<()> {
    let create = || {
        if folder.is_dir() {
            fs::remove_dir_all(folder)?;
        }
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
fn enter(folder: &Path, written: UnsyncedChunk, line: &Line) -> Result<f64> {
    let begin = Instant::now();
    written.sync()?;
    let _ = File::open(folder).and_then(|f| f.sync_all());
    journal(folder).append(line)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// What of an earlier run is whole. The journal ends there afterwards.
fn kept(folder: &Path, head: &Head, target: &Path, overwrite: bool) -> Result<Vec<Line>> {
    let journal = journal(folder);
    // The folder of an unreadable journal is replaced.
    let mut lines = journal.read(0).unwrap_or_default().into_iter();
    let Some(first) = lines.next() else { return Ok(Vec::new()) };
    let found: Option<Head> = first.parse().ok();
    let mut entries = lines.peekable();
    if found.as_ref() != Some(head) && entries.peek().is_some() {
        let what = match &found {
            Some(found) if found.input != head.input => "of an input that has changed since",
            Some(found) if found.models != head.models => "with other models",
            Some(found) if found.settings != head.settings => "with other settings",
            Some(_) => "with another version of this program or of FFmpeg",
            None => "in a way that cannot be read any more",
        };
        let (target, folder) = (target.display(), folder.display());
        if !overwrite {
            return Err(Error::usage(format!(
                "{target}: a run {what} has left finished chunks in {folder}; --overwrite gives them up"
            )));
        }
        tracing::warn!("{target}: chunks made {what} are given up");
        return Ok(Vec::new());
    }
    let (mut kept, mut length) = (Vec::new(), first.end);
    for entry in entries {
        let Ok(mut line) = entry.parse::<Line>() else { break };
        line.chunk.file = file(folder, kept.len());
        if !line.chunk.is_whole() {
            tracing::warn!("{}: is not what was entered, so it is made again", line.chunk.file.display());
            break;
        }
        length = entry.end;
        kept.push(line);
    }
    journal.truncate(length)?;
    Ok(kept)
}
