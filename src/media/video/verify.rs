//! Whether a finished file holds what was written: its packets always, its pictures with `--verify`.

use std::path::Path;

use ffmpeg_next::{Packet, ffi, frame, packet::Mut};
use serde::{Deserialize, Serialize};

use super::{
    Rational,
    animation::WebP,
    ffmpeg,
    info::{self, VideoInfo},
    reader::Reader,
};
use crate::error::{Error, Result};

/// What was given to an encoder.
pub(super) struct Written {
    /// Columns and rows.
    pub size: (usize, usize),
    /// Frames.
    pub frames: u64,
    /// Seconds from the first frame's beginning to the last one's end.
    pub duration: f64,
    /// Seconds by which a container may round or leave out the last frame's end.
    pub slack: f64,
    /// The frames' samples in the encoder's pixel format, where it is lossless.
    pub pixels: Option<Pixels>,
}

/// A running hash of frames in one pixel format: each frame's with that of those before it, so it may be set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pixels {
    hash: String,
    format: i32,
    #[serde(skip)]
    room: Vec<u8>,
}

impl Pixels {
    /// Of no frame yet; `None` for encoders that may lose something.
    pub fn of_encoder(context: &ffi::AVCodecContext) -> Option<Self> {
        // SAFETY: FFmpeg looks the number up and returns a constant or null.
        let described = unsafe { ffi::avcodec_descriptor_get(context.codec_id).as_ref() }?;
        let lossless = described.props & (ffi::AV_CODEC_PROP_LOSSLESS | ffi::AV_CODEC_PROP_LOSSY);
        (lossless == ffi::AV_CODEC_PROP_LOSSLESS).then(|| Self::new(context.pix_fmt as i32))
    }

    fn new(format: i32) -> Self {
        Self { hash: String::new(), format, room: Vec::new() }
    }

    /// Adds a frame; `None` where it is in another pixel format, which says nothing.
    pub fn add(&mut self, frame: &frame::Video) -> Option<()> {
        // SAFETY: the frame owns its planes; FFmpeg writes no more than the length it is told.
        unsafe {
            let raw = &*frame.as_ptr();
            let (format, _) = super::scale::PixelFormat::of(raw.format).filter(|_| raw.format == self.format)?;
            let size = ffi::av_image_get_buffer_size(format, raw.width, raw.height, 1);
            self.room.resize(usize::try_from(size).ok()?, 0);
            let (data, strides) = (raw.data.as_ptr().cast(), raw.linesize.as_ptr());
            let (width, height) = (raw.width, raw.height);
            ffi::av_image_copy_to_buffer(self.room.as_mut_ptr(), size, data, strides, format, width, height, 1);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes()).update(&self.room);
        self.hash = hasher.finalize().to_hex().to_string();
        Some(())
    }
}

/// Holds a file's packets, which are read without decoding, against what was written.
///
/// Errors: another size, number of frames or length, each with what was wanted.
pub(super) fn packets(path: &Path, written: &Written) -> Result<(), String> {
    let (found, frames, duration) = measured(path).map_err(|e| format!("it cannot be read again: {e}"))?;
    let (w, h) = written.size;
    if (found.width, found.height) != (w, h) {
        return Err(format!("its frames are {}x{} where {w}x{h} were written", found.width, found.height));
    }
    // libwebp joins frames that are the same, and what is left of one alone is a still picture.
    if found.container == "webp_pipe" {
        return Ok(());
    }
    if frames != written.frames && found.container != "webp" {
        return Err(format!("it holds {frames} frames where {} were written", written.frames));
    }
    if duration.is_some_and(|d| (d - written.duration).abs() > written.slack + 1e-3) {
        let duration = duration.unwrap_or_default();
        return Err(format!("it lasts {duration:.3} s where {:.3} s were written", written.duration));
    }
    Ok(())
}

/// What a file is, its video's packets and their seconds, where they tell times.
fn measured(path: &Path) -> Result<(VideoInfo, u64, Option<f64>)> {
    if let Some(webp) = WebP::open(path)? {
        let info = webp.info.clone();
        let (frames, duration) = (info.frames.unwrap_or(0), info.duration);
        return Ok((info, frames, duration));
    }
    let mut input = ffmpeg::open(path)?;
    let info = info::of_input(&input, path)?;
    for stream in info.streams.iter().filter(|s| s.index != info.index) {
        // SAFETY: a stream of the container; its demuxer then skips the packets.
        unsafe { (**(*input.as_mut_ptr()).streams.add(stream.index)).discard = ffi::AVDiscard::AVDISCARD_ALL };
    }
    let (mut frames, mut begin, mut end) = (0, i64::MAX, i64::MIN);
    loop {
        let mut packet = Packet::empty();
        // SAFETY: both structures are owned; any error ends the reading, and the count tells.
        if unsafe { ffi::av_read_frame(input.as_mut_ptr(), packet.as_mut_ptr()) } < 0 {
            break;
        }
        if packet.stream() != info.index {
            continue;
        }
        frames += 1;
        if let Some(pts) = packet.pts() {
            (begin, end) = (begin.min(pts), end.max(pts.saturating_add(packet.duration().max(0))));
        }
    }
    let base = Rational::from(info::streams(&input)[info.index].time_base).value();
    let duration = (end > begin).then(|| (end - begin) as f64 * base);
    Ok((info, frames, duration))
}

/// Decodes a file and holds it against what was written.
///
/// Errors: what does not decode, another size or number of frames, other samples from a lossless encoder.
pub(super) fn decoded(path: &Path, written: &Written) -> Result<(), String> {
    let text = |e: Error| format!("it does not decode: {e}");
    let (w, h) = written.size;
    let mut frames = 0;
    if let Some(webp) = WebP::open(path).map_err(text)? {
        return webp.into_iter().try_for_each(|frame| frame.map(|_| ()).map_err(text));
    }
    let mut reader = Reader::open(path).map_err(text)?;
    let joined = reader.info().container == "webp_pipe";
    let mut pixels = written.pixels.as_ref().map(|p| Pixels::new(p.format));
    while let Some(frame) = reader.next() {
        let frame = frame.map_err(text)?.frame;
        if (frame.width, frame.height) != (w, h) {
            return Err(format!(
                "frame {frames} decodes to {}x{} where {w}x{h} were written",
                frame.width, frame.height
            ));
        }
        pixels = pixels.and_then(|mut p| p.add(reader.decoded()).map(|()| p));
        frames += 1;
    }
    if frames != written.frames && !joined {
        return Err(format!("{frames} frames decode where {} were written", written.frames));
    }
    if let (Some(found), Some(wanted)) = (&pixels, &written.pixels)
        && found.hash != wanted.hash
    {
        return Err("its frames decode to other samples than were written, though the codec is lossless".into());
    }
    Ok(())
}
