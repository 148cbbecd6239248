//! Decodes animated WebP with libwebp. FFmpeg 5.1 does not decode it, and the image crate supports only part of it.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use libwebp_sys as webp;

use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::video::{
        decode::{
            frame::VideoFrame,
            info::{StreamInfo, StreamKind, VideoInfo},
            timing::Timing,
        },
        pixel::{color::Color, format::Subsampling},
        rational::Rational,
    },
    tensor::{Frame, Samples, collected},
};

/// Duration in ms that browsers use for frames with a duration of 10 ms or less.
const DEFAULT_DELAY: u32 = 100;

const DAMAGED: &str = "is damaged or truncated; get a complete copy of the file";

/// Decodes an animated WebP. The iterator returns its frames.
pub(crate) struct WebP {
    path: PathBuf,
    pub info: VideoInfo,
    decoder: *mut webp::WebPAnimDecoder,
    /// The file, which the decoder reads.
    _bytes: Box<[u8]>,
    delays: Vec<u32>,
    alpha: bool,
    next: usize,
    /// Time of the next frame, in ms.
    time: i64,
}

// SAFETY: the decoder is owned and used by one thread at a time.
unsafe impl Send for WebP {}

impl WebP {
    /// Opens a file; `None`: it is not an animated WebP.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let failed = |e: std::io::Error| Error::io("reading", path, &e);
        let mut head = Vec::new();
        open_regular(path).and_then(|f| f.take(12).read_to_end(&mut head)).map_err(failed)?;
        if !head.starts_with(b"RIFF") || !head.ends_with(b"WEBP") {
            return Ok(None);
        }
        let bytes = std::fs::read(path).map_err(failed)?.into_boxed_slice();
        let chunks: Vec<_> = chunks(&bytes).collect();
        let delays: Vec<u32> = chunks.iter().filter(|c| c.name == *b"ANMF").map(|c| delay(c.data)).collect();
        let Some(anim) = chunks.iter().find(|c| c.name == *b"ANIM" && c.data.len() >= 6) else { return Ok(None) };
        let plays = u32::from(u16::from_le_bytes([anim.data[4], anim.data[5]]));
        let profile = chunks.iter().any(|c| c.name == *b"ICCP");
        let alpha = chunks.iter().any(|c| c.name == *b"VP8X" && c.data.first().is_some_and(|flags| flags & 0x10 != 0));
        if let Some((width, height)) = chunks.iter().find_map(canvas) {
            // The decoder holds two canvases. It does not say that memory was missing.
            let needed = collected::<u8>(width.saturating_mul(height).saturating_mul(8), std::iter::empty());
            drop(needed.at(path.display())?);
        }
        let (decoder, size, frames) =
            open_decoder(&bytes).filter(|(.., frames)| *frames == delays.len()).ok_or_else(|| {
                let name = path.display();
                Error::failed(format!("{name}: the WebP {DAMAGED}"))
            })?;
        let mut info = info_of(&delays, size, alpha);
        info.frames = Some(frames as u64);
        info.plays = Some(plays);
        info.left_out.extend(profile.then(|| "the colour profile".into()));
        Ok(Some(Self { path: path.into(), info, decoder, _bytes: bytes, delays, alpha: false, next: 0, time: 0 }))
    }

    /// Returns RGBA frames if the file has transparency.
    pub(crate) fn with_alpha(&mut self) {
        self.alpha = self.info.alpha;
    }

    /// The frame times.
    pub(crate) fn timing(&self) -> Timing {
        let (rate, delays) = (self.info.frame_rate, &self.delays);
        let frames = delays.len() as u64;
        let last = i64::from(delays.last().copied().unwrap_or(DEFAULT_DELAY));
        if !self.info.variable_rate {
            return Timing::at_rate(rate, frames);
        }
        let end = delays.iter().map(|d| i64::from(*d)).sum::<i64>() - last;
        let shortest = delays.iter().min().copied().unwrap_or(DEFAULT_DELAY).into();
        let tick = self.info.time_base;
        Timing { rate, steady: false, tick, frames, shortest, last, end, stamped: true, window: None }
    }

    /// The next frame; `None`: libwebp rejects it. Errors: the memory cannot be allocated.
    fn decode(&mut self) -> Result<Option<Frame>> {
        let (width, height) = (self.info.width, self.info.height);
        let (mut pixels, mut end) = (std::ptr::null_mut(), 0);
        // SAFETY: the decoder is open. It returns an RGBA canvas of its size, which stays valid until the next call.
        let pixels = unsafe {
            if webp::WebPAnimDecoderGetNext(self.decoder, &mut pixels, &mut end) == 0 || pixels.is_null() {
                return Ok(None);
            }
            std::slice::from_raw_parts(pixels, width * height * 4)
        };
        let channels = if self.alpha { 4 } else { 3 };
        let samples = pixels.as_chunks::<4>().0.iter().flat_map(|p| &p[..channels]).copied();
        let samples = Samples::U8(collected(width * height * channels, samples)?);
        Ok(Some(Frame { width, height, channels, samples }))
    }
}

impl Drop for WebP {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { webp::WebPAnimDecoderDelete(self.decoder) };
    }
}

impl Iterator for WebP {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        let delay = *self.delays.get(self.next)?;
        let frame = match self.decode() {
            Ok(Some(frame)) => frame,
            other => {
                let (path, frame) = (self.path.display(), self.next);
                self.next = self.delays.len();
                let damaged = || Error::failed(format!("{path}: frame {frame} {DAMAGED}"));
                return Some(Err(other.err().map_or_else(damaged, |e| e.at(format!("{path}: frame {frame}")))));
            }
        };
        let pts = self.time;
        self.time += i64::from(delay);
        self.next += 1;
        Some(Ok(VideoFrame { frame, pts, time: pts as f64 * 1e-3 }))
    }
}

/// Creates a decoder that reads `bytes`, which must outlive it. Returns it with (width, height) and the number of
/// frames; `None`: libwebp rejects the file.
fn open_decoder(bytes: &[u8]) -> Option<(*mut webp::WebPAnimDecoder, (usize, usize), usize)> {
    // SAFETY: libwebp fills its structures. The version argument asserts that their layout is the one it was built
    // with.
    unsafe {
        let version = webp::WebPGetDemuxABIVersion();
        let mut options: webp::WebPAnimDecoderOptions = std::mem::zeroed();
        (webp::WebPAnimDecoderOptionsInitInternal(&mut options, version) != 0).then_some(())?;
        options.color_mode = webp::WEBP_CSP_MODE::MODE_RGBA;
        let data = webp::WebPData { bytes: bytes.as_ptr(), size: bytes.len() };
        let decoder = webp::WebPAnimDecoderNewInternal(&data, &options, version);
        (!decoder.is_null()).then_some(())?;
        let mut info: webp::WebPAnimInfo = std::mem::zeroed();
        if webp::WebPAnimDecoderGetInfo(decoder, &mut info) == 0 {
            webp::WebPAnimDecoderDelete(decoder);
            return None;
        }
        Some((decoder, (info.canvas_width as usize, info.canvas_height as usize), info.frame_count as usize))
    }
}

/// A chunk of a RIFF file. `at`: offset of its data.
pub(crate) struct RiffChunk<'a> {
    pub name: [u8; 4],
    pub at: usize,
    pub data: &'a [u8],
}

/// The chunks of a WebP file (RFC 9649 §2.3), up to the first incomplete one.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = RiffChunk<'_>> {
    let mut at = 12;
    std::iter::from_fn(move || {
        let (head, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let chunk = RiffChunk { name: [head[0], head[1], head[2], head[3]], at: at + 8, data: rest.get(..length)? };
        at += 8 + length.next_multiple_of(2);
        Some(chunk)
    })
}

/// (width, height) of the canvas of a `VP8X` chunk (RFC 9649 §2.7).
fn canvas(chunk: &RiffChunk<'_>) -> Option<(usize, usize)> {
    let side = |at: usize| {
        let bytes = chunk.data.get(at..at + 3)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize + 1)
    };
    (chunk.name == *b"VP8X").then(|| Some((side(4)?, side(7)?)))?
}

/// The duration of a frame in ms, from the header of its ANMF chunk (RFC 9649 §2.7.1.1).
fn delay(frame: &[u8]) -> u32 {
    let stored = frame.get(12..15).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], 0]));
    if stored <= 10 { DEFAULT_DELAY } else { stored }
}

fn info_of(delays: &[u32], (width, height): (usize, usize), alpha: bool) -> VideoInfo {
    let total = delays.iter().map(|d| u64::from(*d)).sum::<u64>().max(1);
    let first = delays.first().copied().unwrap_or(DEFAULT_DELAY);
    let variable_rate = delays.iter().any(|d| *d != first);
    let frame_rate = if variable_rate {
        Rational::ratio(1000 * delays.len() as u64, total)
    } else {
        Rational::new(1000, first as i32)
    };
    let stream = StreamInfo { index: 0, kind: StreamKind::Video, codec: "webp".into(), language: None };
    VideoInfo {
        container: "webp".into(),
        codec: "webp".into(),
        pixel_format: if alpha { "rgba" } else { "rgb24" }.into(),
        bit_depth: 8,
        alpha,
        sampling: Subsampling::Rgb,
        plays: None,
        width,
        height,
        frame_rate,
        variable_rate,
        frames: Some(delays.len() as u64),
        duration: Some(total as f64 * 1e-3),
        start: 0.0,
        time_base: Rational::new(1, 1000),
        rotation: 0,
        sample_aspect_ratio: Rational::new(0, 1),
        color: Color::default(),
        field_order: None,
        side_data: Vec::new(),
        left_out: Vec::new(),
        streams: vec![stream],
        metadata: Vec::new(),
        index: 0,
        origin: 0,
    }
}

/// Sets the duration of the last frame of an animated WebP so that it ends at `end` ms. libwebp writes the mean of the
/// other durations.
pub(crate) fn set_last_delay(path: &Path, end: u32) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("writing", path, &e);
    let bytes = std::fs::read(path).map_err(failed)?;
    let frames: Vec<_> = chunks(&bytes).filter(|c| c.name == *b"ANMF").collect();
    let Some((last, before)) = frames.split_last() else { return Ok(()) };
    let begin: u64 = before.iter().map(|c| u64::from(delay(c.data))).sum();
    let duration = (u64::from(end).saturating_sub(begin).clamp(1, 0xff_ffff) as u32).to_le_bytes();
    let file = File::options().write(true).open(path).map_err(failed)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &duration[..3], last.at as u64 + 12).map_err(failed)
}
