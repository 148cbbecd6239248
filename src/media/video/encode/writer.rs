//! Writes a video file with FFmpeg.

use super::{
    container::container,
    frames::FrameEncoder,
    muxer::Muxer,
    pace::Pace,
    spec::{Summary, VideoOptions, VideoSpec},
};
use crate::{error::Result, files::PendingFile, tensor::Frame};

/// Encodes frames and muxes them with the source's other streams. See [`Writer`](crate::media::video::Writer) for what
/// its methods promise.
pub(crate) struct StreamWriter {
    encode: FrameEncoder,
    muxer: Muxer,
    /// `None`: frames may be short.
    pace: Option<Pace>,
}

// SAFETY: the writer owns all parts. FFmpeg's contexts may move between threads.
unsafe impl Send for StreamWriter {}

impl StreamWriter {
    /// Opens the encoder and the file, and writes the header.
    pub(crate) fn create(pending: PendingFile, options: &VideoOptions, spec: &VideoSpec) -> Result<Self> {
        let (target, form) = container(pending.target(), spec.plays.is_some())?;
        let mut encode = FrameEncoder::open(form.encoder_requirements(), options, spec, pending.target().into(), None)?;
        let pace = Pace::of(pending.target(), spec.time_base);
        let muxer = Muxer::open(pending, target, form.name, options, spec, &mut encode.encoder)?;
        Ok(Self { encode, muxer, pace })
    }

    /// Encodes the next frame, one tick after the previous one.
    pub(crate) fn write(&mut self, frame: &Frame) -> Result<()> {
        self.write_at(frame, self.encode.totals.span.1, 1)
    }

    /// Encodes a frame that is displayed from `pts` for `duration` ticks.
    pub(crate) fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let Self { encode, muxer, pace } = self;
        let (pts, duration) = pace.as_mut().map_or((pts, duration), |pace| pace.place(pts, duration));
        encode.write_at(frame, pts, duration, &mut |packet| muxer.write(packet))?;
        muxer.check_disk()
    }

    /// Flushes the encoder, copies the rest of the other streams and closes the file, which is not named yet.
    ///
    /// Errors: no frame was written, an encoder failure, a full disk.
    pub(crate) fn close(mut self) -> Result<(PendingFile, Summary)> {
        if self.encode.is_empty() {
            return Err(self.muxer.failed("no frame was written; a video needs at least one"));
        }
        let Self { encode, muxer, .. } = &mut self;
        encode.finish(&mut |packet| muxer.write(packet))?;
        self.muxer.close(self.encode.encoder, &self.encode.totals)
    }
}
