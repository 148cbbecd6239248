//! Frames to a video file by FFmpeg.

use super::{
    container::container,
    frames::FrameEncoder,
    muxer::Muxer,
    spec::{Summary, VideoOptions, VideoSpec},
};
use crate::{error::Result, media::atomic_file::PendingFile, tensor::Frame};

/// Encodes frames and writes them, interleaved with the source's other streams, to a file that gets its name in
/// [`Writer::finish`] ([`PendingFile`]); dropped before, it leaves nothing behind.
///
/// It holds the frames that the encoder looks ahead at, and of the other streams what lies within ten seconds.
pub struct StreamWriter {
    encode: FrameEncoder,
    muxer: Muxer,
}

// SAFETY: all parts are owned by the writer, and FFmpeg's contexts may move between threads.
unsafe impl Send for StreamWriter {}

impl StreamWriter {
    /// Opens the encoder and the file, and writes what stands before the first frame.
    ///
    /// Errors: a name without a container, a name that is taken, an unknown encoder (lists those there are), pixel
    /// format or option, a codec or sound that the container cannot hold, a folder that cannot be written.
    pub fn create(place: PendingFile, options: &VideoOptions, output: &VideoSpec) -> Result<Self> {
        let (target, form) = container(place.target(), output.plays.is_some())?;
        let mut encode = FrameEncoder::open(form.wants(), options, output, place.target().into(), None)?;
        let muxer = Muxer::begin(place, target, form.name, options, output, &mut encode.encoder)?;
        Ok(Self { encode, muxer })
    }

    /// Encodes the next frame, a tick after the one before.
    ///
    /// Errors: those of [`Writer::write_at`].
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        self.write_at(frame, self.encode.given.span.1, 1)
    }

    /// Encodes a frame that is shown from `pts` for `duration` ticks of [`VideoSpec::time_base`]: RGB or RGBA of the output's
    /// size, 8 or 16 bits. Where the encoder has no transparency, frames are shown over black. Time stamps count from
    /// [`VideoSpec::start`]. Waits for the encoder and the disk.
    ///
    /// Errors: another size, transparency that was not announced, a time stamp that is not after the last, a failing encoder, a full disk.
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let Self { encode, muxer } = self;
        encode.write_at(frame, pts, duration, &mut |packet| muxer.mux(packet))?;
        muxer.check_disk()
    }

    /// Encodes what is left, copies what is left and closes the file, which is not named yet.
    ///
    /// Errors: no frame was written, a failing encoder, a full disk.
    pub fn close(mut self) -> Result<(PendingFile, Summary)> {
        if self.encode.is_empty() {
            return Err(self.muxer.failed("a video has at least one frame, and there was none"));
        }
        let Self { encode, muxer } = &mut self;
        encode.finish(&mut |packet| muxer.mux(packet))?;
        self.muxer.close(self.encode.encoder, &self.encode.given)
    }
}
