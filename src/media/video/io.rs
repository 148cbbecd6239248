//! One way in and one way out for videos and animated pictures, whichever library does them.

use std::path::Path;

use super::{
    animation::{gif::Gif, loop_count, webp::WebP},
    decode::{frame::VideoFrame, info::VideoInfo, reader::StreamReader},
    encode::{
        spec::{Summary, VideoOptions, VideoSpec},
        writer::StreamWriter,
    },
};
use crate::{error::Result, media::atomic_file::PendingFile, tensor::Frame};

/// Decodes a video or an animated picture. The iterator gives every frame in the order of display; it holds one at a time,
/// and the decoder the few it needs.
///
/// It ends with `None` after the last frame of a whole file. A file that is cut off gives all that is there, then an error.
/// A damaged frame gives an error that tells its number and time, and, to a caller who goes on, the frame as the decoder
/// mended it.
pub struct Reader(Source);

enum Source {
    Stream(Box<StreamReader>),
    WebP(Box<WebP>),
}

impl Reader {
    /// Opens a file for decoding. Errors: those of [`probe`](super::probe()), or no decoder.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(webp) = WebP::open(path)? {
            return Ok(Self(Source::WebP(Box::new(webp))));
        }
        let mut reader = StreamReader::open(path)?;
        let plays = loop_count::plays(path, &reader.info().container);
        reader.set_plays(plays);
        Ok(Self(Source::Stream(Box::new(reader))))
    }

    /// The same reader giving RGBA frames where the source has transparency.
    #[must_use]
    pub fn with_alpha(self) -> Self {
        Self(match self.0 {
            Source::Stream(reader) => Source::Stream(Box::new(reader.with_alpha())),
            Source::WebP(mut webp) => {
                webp.with_alpha();
                Source::WebP(webp)
            }
        })
    }

    /// Goes to the first frame at or after a time stamp of [`VideoFrame::pts`], by the container's index. `false` where it has none to
    /// trust, or it leads elsewhere: the reader is then of no more use.
    pub fn seek(&mut self, pts: i64) -> bool {
        match &mut self.0 {
            Source::Stream(reader) => reader.seek(pts),
            Source::WebP(_) => false,
        }
    }

    /// What the file holds.
    pub fn info(&self) -> &VideoInfo {
        match &self.0 {
            Source::Stream(reader) => reader.info(),
            Source::WebP(webp) => &webp.info,
        }
    }
}

impl Iterator for Reader {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Stream(reader) => reader.next(),
            Source::WebP(webp) => webp.next(),
        }
    }
}

/// Encodes frames to a file that gets its name in [`Writer::finish`] ([`PendingFile`]); dropped before, it
/// leaves nothing behind. Videos are interleaved with the source's other streams.
///
/// It holds the frames that the encoder looks ahead at, and of the other streams what lies within ten seconds.
pub struct Writer(Target);

enum Target {
    Stream(Box<StreamWriter>),
    Gif(Box<Gif>),
}

impl Writer {
    /// Opens the encoder and the file, and writes what stands before the first frame.
    ///
    /// Errors: a name without a container, a name that is taken, an unknown encoder (lists those there are), pixel
    /// format or option, a codec or sound that the container cannot hold, a folder that cannot be written.
    pub fn create(path: &Path, options: &VideoOptions, output: &VideoSpec) -> Result<Self> {
        Self::create_in(PendingFile::create(path, options.overwrite)?, options, output)
    }

    /// As [`Writer::create`] in a place that is taken already; it decides whether a file is replaced.
    pub fn create_in(place: PendingFile, options: &VideoOptions, output: &VideoSpec) -> Result<Self> {
        let is_gif = place.target().extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"));
        Ok(Self(if is_gif {
            Target::Gif(Box::new(Gif::create(place, options, output)?))
        } else {
            Target::Stream(Box::new(StreamWriter::create(place, options, output)?))
        }))
    }

    /// Encodes the next frame, a tick after the one before.
    ///
    /// Errors: those of [`Writer::write_at`].
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        match &mut self.0 {
            Target::Stream(writer) => writer.write(frame),
            Target::Gif(gif) => gif.write_at(frame, gif.end(), 1),
        }
    }

    /// Encodes a frame that is shown from `pts` for `duration` ticks of [`VideoSpec::time_base`]: RGB or RGBA of the output's
    /// size, 8 or 16 bits. Where the encoder has no transparency, frames are shown over black. Time stamps count from
    /// [`VideoSpec::start`]. Waits for the encoder and the disk.
    ///
    /// Errors: another size, transparency that was not announced, a time stamp that is not after the last, a failing
    /// encoder, a full disk.
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        match &mut self.0 {
            Target::Stream(writer) => writer.write_at(frame, pts, duration),
            Target::Gif(gif) => gif.write_at(frame, pts, duration),
        }
    }

    /// Encodes what is left, copies what is left, closes, syncs and names the file.
    ///
    /// Errors: no frame was written, a failing encoder, a full disk.
    pub fn finish(self) -> Result<Summary> {
        let (place, mut summary) = self.close()?;
        summary.bytes = place.commit()?;
        Ok(summary)
    }

    /// As [`Writer::finish`], but the file is not named yet: that is left to [`PendingFile::commit`], which also tells its size.
    pub fn close(self) -> Result<(PendingFile, Summary)> {
        match self.0 {
            Target::Stream(writer) => writer.close(),
            Target::Gif(gif) => gif.close(),
        }
    }
}
