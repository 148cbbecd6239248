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
    fs,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use super::{
    chunk_journal::{append, chunk_folder, create_journal, file, read_journal, remove_chunks},
    chunk_lines::{ChunkRecord, JournalHead},
};
use crate::{
    error::{Error, Result},
    media::video::{
        VideoOptions, VideoSpec,
        chunk::{Chunk, ChunkWriter},
        ffmpeg_version,
    },
    pipeline::{resume_point::ResumePoint, retime::OutputFrame},
    tensor::Frame,
};

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
    /// Finds the chunks of an earlier run and checks them against their journal. `fits`: whether a run can have left a resume point.
    ///
    /// # Errors
    /// Chunks of another identity without `overwrite`; a folder that cannot be written.
    pub(super) fn open(
        target: &Path,
        (options, spec): (&'a VideoOptions, &'a VideoSpec),
        identity: &'a Identity<'a>,
        fits: &dyn Fn(&ResumePoint) -> bool,
    ) -> Result<Self> {
        let folder = chunk_folder(target);
        let head = JournalHead {
            version: format!("crescendo {}, FFmpeg {}", env!("CARGO_PKG_VERSION"), ffmpeg_version()),
            input: (identity.input)()?,
            models: identity.models.into(),
            settings: identity.settings.into(),
        };
        let lines = read_journal(&folder, &head, (target, identity.overwrite), fits)?;
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
            .map_err(|e| Error::thread(&e))?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{media::video::Rational, tensor::Samples};

    /// A frame of one grey. Chunks begin at 3 and 6.
    fn frame(pts: i64) -> OutputFrame<Frame> {
        let state = r#"{"anchor":null,"repeats":[],"still":false,"count":0,"next":null,"begun":false}"#;
        let timeline = serde_json::from_str(state).unwrap();
        let (number, last, usual, hash) = (pts as u64, 1, 0, String::new());
        let point =
            ResumePoint { from: pts, number, before: pts - 1, anchor: 0, stamp: 0, hash, last, usual, timeline };
        let samples = Samples::U8(vec![pts as u8 * 20; 32 * 32 * 3]);
        let frame = Frame { width: 32, height: 32, channels: 3, samples };
        let resume_point = (pts == 3 || pts == 6).then(|| Box::new(point));
        OutputFrame { frame, pts, duration: 1, resume_point }
    }

    /// Frames that a run writes before it ends, and whether it is finished or the input changes then; the finished chunks, their frames, and
    /// where the next run begins. A run without a finished chunk leaves nothing.
    #[test]
    fn a_run_resumes_after_its_last_finished_chunk() {
        let options = VideoOptions { codec: Some("ffv1".into()), ..VideoOptions::default() };
        let spec = VideoSpec::new(32, 32, Rational::new(25, 1));
        let mut wrong = Vec::new();
        for (frames, ends, want) in [
            (0, "", (0, 0, Some(0))),
            (3, "", (0, 0, Some(0))),
            (4, "", (1, 3, Some(3))),
            (6, "", (1, 3, Some(3))),
            (7, "", (2, 6, Some(6))),
            (8, "finished", (3, 8, None)),
            (3, "finished", (1, 3, None)),
            (8, "changed", (2, 6, Some(6))),
        ] {
            let temporary = tempfile::tempdir().unwrap();
            let target = temporary.path().join("a.mkv");
            let changed = std::cell::Cell::new(false);
            let unchanged = || if changed.get() { Err(Error::failed("changed while it was read")) } else { Ok(()) };
            let input = || Ok("input".to_owned());
            let identity =
                Identity { input: &input, models: "m", settings: "s", unchanged: &unchanged, overwrite: false };
            let open = || Chunks::open(&target, (&options, &spec), &identity, &|_| true).unwrap();
            let mut chunks = open();
            (0..frames).for_each(|pts| chunks.write(frame(pts)).unwrap());
            changed.set(ends == "changed");
            if !ends.is_empty() {
                let made = chunks.finish();
                assert_eq!(made.is_ok(), ends == "finished", "{frames}: {made:?}");
            }
            drop(chunks);
            let left = chunk_folder(&target).is_dir();
            changed.set(false);
            let again = open();
            let from = again.next().map(|point| point.map_or(0, |point| point.from));
            let found = (again.count(), again.frames(), from);
            if found != want || left != (want.0 > 0) {
                wrong.push(format!("{frames} {ends}: wanted {want:?}, got {found:?}, a folder: {left}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
