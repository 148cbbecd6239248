//! The public reader and writer of videos and animated pictures. They select the library that handles the file.

use std::path::Path;

use super::{
    animation::{gif::Gif, loop_count, webp::WebP},
    decode::{frame::VideoFrame, info::VideoInfo, reader::StreamReader},
    encode::{
        check::check_rate,
        spec::{Summary, VideoOptions, VideoSpec},
        writer::StreamWriter,
    },
};
use crate::{error::Result, files::PendingFile, tensor::Frame};

/// Decodes a video or an animated picture. The iterator returns frames in display order. It holds one frame, and the
/// decoder holds its reference frames.
///
/// After the last frame of a complete file it returns `None`. A truncated file returns all decodable frames, then an
/// error. A damaged frame returns an error with its number and time; the next call returns the frame as the decoder
/// concealed it.
pub struct Reader(ReaderBackend);

enum ReaderBackend {
    Stream(Box<StreamReader>),
    WebP(Box<WebP>),
}

impl Reader {
    /// Opens a file for decoding. Errors: those of [`probe`](super::probe()), or no decoder.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(webp) = WebP::open(path)? {
            return Ok(Self(ReaderBackend::WebP(Box::new(webp))));
        }
        let mut reader = StreamReader::open(path)?;
        let plays = loop_count::plays(path, &reader.info().container);
        reader.set_plays(plays);
        Ok(Self(ReaderBackend::Stream(Box::new(reader))))
    }

    /// Returns RGBA frames if the source has transparency.
    #[must_use]
    pub fn with_alpha(self) -> Self {
        Self(match self.0 {
            ReaderBackend::Stream(reader) => ReaderBackend::Stream(Box::new(reader.with_alpha())),
            ReaderBackend::WebP(mut webp) => {
                webp.with_alpha();
                ReaderBackend::WebP(webp)
            }
        })
    }

    /// Seeks to the first frame at or after a time stamp ([`VideoFrame::pts`]) with the container's index. `false`: the
    /// container has no reliable index, or it leads elsewhere; the reader must not be used any more.
    pub fn seek(&mut self, pts: i64) -> bool {
        match &mut self.0 {
            ReaderBackend::Stream(reader) => reader.seek(pts),
            ReaderBackend::WebP(_) => false,
        }
    }

    /// Information about the file.
    pub fn info(&self) -> &VideoInfo {
        match &self.0 {
            ReaderBackend::Stream(reader) => reader.info(),
            ReaderBackend::WebP(webp) => &webp.info,
        }
    }
}

impl Iterator for Reader {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            ReaderBackend::Stream(reader) => reader.next(),
            ReaderBackend::WebP(webp) => webp.next(),
        }
    }
}

/// Encodes frames to a file that gets its name in [`Writer::finish`] ([`PendingFile`]). Dropped before, it leaves no
/// file. The source's other streams are interleaved with the video.
///
/// Memory: the encoder's lookahead, and up to ten seconds of the other streams.
pub struct Writer(WriterBackend);

enum WriterBackend {
    Stream(Box<StreamWriter>),
    Gif(Box<Gif>),
}

impl Writer {
    /// Opens the encoder and the file, and writes the header.
    ///
    /// Errors: a file extension without a container, an existing file, an unknown encoder (lists the available ones),
    /// pixel format or option, a codec or audio that the container cannot store, a
    /// folder that is not writable, a steady rate above that of an animated picture's format. Without a steady rate, frames
    /// that are too short for the format are lengthened, and the following ones shortened.
    pub fn create(path: &Path, options: &VideoOptions, spec: &VideoSpec) -> Result<Self> {
        Self::create_in(PendingFile::create(path, options.overwrite)?, options, spec)
    }

    /// Like [`Writer::create`], with a pending file, which decides whether a file is replaced.
    pub fn create_in(pending: PendingFile, options: &VideoOptions, spec: &VideoSpec) -> Result<Self> {
        if spec.is_steady() {
            check_rate(pending.target(), spec.frame_rate)?;
        }
        let is_gif = pending.target().extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"));
        Ok(Self(if is_gif {
            WriterBackend::Gif(Box::new(Gif::create(pending, options, spec)?))
        } else {
            WriterBackend::Stream(Box::new(StreamWriter::create(pending, options, spec)?))
        }))
    }

    /// Encodes the next frame, one tick after the previous one.
    ///
    /// Errors: those of [`Writer::write_at`].
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        match &mut self.0 {
            WriterBackend::Stream(writer) => writer.write(frame),
            WriterBackend::Gif(gif) => gif.write_at(frame, gif.end(), 1),
        }
    }

    /// Encodes a frame that is shown from `pts` for `duration` ticks of [`VideoSpec::time_base`]. The frame is RGB or
    /// RGBA, of the size of the spec, with 8 or 16 bits. If the encoder has no transparency, frames are blended over
    /// black. Time stamps count from [`VideoSpec::start`]. Blocks on the encoder and the disk.
    ///
    /// Errors: a different size, transparency that the spec does not announce, a time stamp that does not increase, an
    /// encoder failure, a full disk.
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        match &mut self.0 {
            WriterBackend::Stream(writer) => writer.write_at(frame, pts, duration),
            WriterBackend::Gif(gif) => gif.write_at(frame, pts, duration),
        }
    }

    /// Flushes the encoder, copies the rest of the other streams, closes, syncs and names the file.
    ///
    /// Errors: no frame was written, an encoder failure, a full disk.
    pub fn finish(self) -> Result<Summary> {
        let (pending, mut summary) = self.close()?;
        summary.bytes = pending.commit()?;
        Ok(summary)
    }

    /// Like [`Writer::finish`], but leaves naming the file to [`PendingFile::commit`], which also returns its size.
    pub fn close(self) -> Result<(PendingFile, Summary)> {
        match self.0 {
            WriterBackend::Stream(writer) => writer.close(),
            WriterBackend::Gif(gif) => gif.close(),
        }
    }
}
