//! Checks a finished file: its packets always, its decoded frames with `--verify`.

use std::path::Path;

use ffmpeg_next::{Packet, ffi, packet::Mut};

use crate::{
    error::{Error, Result},
    media::video::{
        animation::webp::WebP,
        decode::{
            info::{self, VideoInfo},
            reader::StreamReader,
        },
        open::open,
        pixel::hash::PixelHash,
        rational::Rational,
    },
};

/// What was sent to the encoder.
pub(crate) struct ExpectedFrames {
    /// Width and height.
    pub size: (usize, usize),
    /// Number of frames.
    pub frames: u64,
    /// Seconds from the start of the first frame to the end of the last one.
    pub duration: f64,
    /// Tolerance of the duration in seconds: containers round or omit the end of the last frame.
    pub slack: f64,
    /// Hash of the frames in the encoder's pixel format, if it is lossless.
    pub pixels: Option<PixelHash>,
}

/// Compares a file's packets with the expected frames, without decoding.
///
/// Errors: a different size, number of frames or duration.
pub(crate) fn packets(path: &Path, written: &ExpectedFrames) -> Result<(), String> {
    let (found, frames, duration) = measured(path).map_err(|e| format!("it cannot be read back: {e}"))?;
    let (w, h) = written.size;
    if (found.width, found.height) != (w, h) {
        return Err(format!("its frames are {}x{}, expected {w}x{h}", found.width, found.height));
    }
    // libwebp merges equal frames. A single remaining frame is a still picture.
    if found.container == "webp_pipe" {
        return Ok(());
    }
    if frames != written.frames && found.container != "webp" {
        return Err(format!("it has {frames} frames, expected {}", written.frames));
    }
    if duration.is_some_and(|d| (d - written.duration).abs() > written.slack + 1e-3) {
        let duration = duration.unwrap_or_default();
        return Err(format!("it lasts {duration:.3} s, expected {:.3} s", written.duration));
    }
    Ok(())
}

/// Returns a file's information, the number of its video packets, and their duration in seconds if they have times.
fn measured(path: &Path) -> Result<(VideoInfo, u64, Option<f64>)> {
    if let Some(webp) = WebP::open(path)? {
        let info = webp.info.clone();
        let (frames, duration) = (info.frames.unwrap_or(0), info.duration);
        return Ok((info, frames, duration));
    }
    let mut input = open(path)?;
    let info = info::of_input(&input, path)?;
    for stream in info.streams.iter().filter(|s| s.index != info.index) {
        // SAFETY: a stream of the container. Its demuxer then skips the packets.
        unsafe { (**(*input.as_mut_ptr()).streams.add(stream.index)).discard = ffi::AVDiscard::AVDISCARD_ALL };
    }
    let (mut frames, mut begin, mut end) = (0, i64::MAX, i64::MIN);
    loop {
        let mut packet = Packet::empty();
        // SAFETY: both structures are owned. An error ends the reading; the count reveals it.
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

/// Decodes a file and compares it with the expected frames.
///
/// Errors: a frame that does not decode, a different size or number of frames, different samples from a lossless
/// encoder.
pub(crate) fn decoded(path: &Path, written: &ExpectedFrames) -> Result<(), String> {
    let text = |e: Error| format!("it does not decode: {e}");
    let (w, h) = written.size;
    let mut frames = 0;
    if let Some(webp) = WebP::open(path).map_err(text)? {
        return webp.into_iter().try_for_each(|frame| frame.map(|_| ()).map_err(text));
    }
    let mut reader = StreamReader::open(path).map_err(text)?;
    let joined = reader.info().container == "webp_pipe";
    let mut pixels = written.pixels.as_ref().map(PixelHash::like);
    while let Some(frame) = reader.next() {
        let frame = frame.map_err(text)?.frame;
        if (frame.width, frame.height) != (w, h) {
            return Err(format!("frame {frames} decodes to {}x{}, expected {w}x{h}", frame.width, frame.height));
        }
        if let Some(mut hash) = pixels.take() {
            pixels = hash.add(reader.decoded()).map_err(|e| e.to_string())?.then_some(hash);
        }
        frames += 1;
    }
    if frames != written.frames && !joined {
        return Err(format!("{frames} frames decode, expected {}", written.frames));
    }
    if let (Some(found), Some(wanted)) = (&pixels, &written.pixels)
        && !found.agrees(wanted)
    {
        return Err("its frames decode to different samples, although the codec is lossless".into());
    }
    Ok(())
}
