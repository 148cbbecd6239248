//! Decodes animated WebP with libwebp. FFmpeg 5.1 does not decode it, and the image crate supports only part of it.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use libwebp_sys as webp;

use super::webp_header::{DEFAULT_DELAY, Header, delay};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::{
        riff::chunks,
        video::{
            decode::{
                frame::VideoFrame,
                info::{StreamInfo, StreamKind, VideoInfo},
                timing::Timing,
            },
            pixel::{color::Color, format::Subsampling},
            rational::Rational,
        },
    },
    tensor::{Frame, Samples, check_room, collected},
};

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
        let Some(header) = Header::of(&bytes) else { return Ok(None) };
        if let Some((width, height)) = header.canvas {
            // The decoder holds two canvases. It does not say that memory was missing.
            check_room::<u8>(width.saturating_mul(height).saturating_mul(8)).at(path.display())?;
        }
        let damaged = || Error::failed(format!("{}: the WebP {DAMAGED}", path.display()));
        let (decoder, size, frames) = open_decoder(&bytes).ok_or_else(damaged)?;
        let mut info = info_of(&header, size);
        info.left_out.extend(header.profile.then(|| "the colour profile".into()));
        let delays = header.delays;
        let webp = Self { path: path.into(), info, decoder, _bytes: bytes, delays, alpha: false, next: 0, time: 0 };
        if frames == webp.delays.len() { Ok(Some(webp)) } else { Err(damaged()) }
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
        let longest = delays.iter().max().copied().unwrap_or(DEFAULT_DELAY).into();
        let (tick, stamped) = (self.info.time_base, true);
        Timing { rate, steady: false, tick, frames, shortest, longest, last, end, stamped, window: None }
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

fn info_of(header: &Header, (width, height): (usize, usize)) -> VideoInfo {
    let alpha = header.alpha;
    let (frame_rate, variable_rate) = header.rate();
    let stream = StreamInfo { index: 0, kind: StreamKind::Video, codec: "webp".into(), language: None };
    VideoInfo {
        container: "webp".into(),
        codec: "webp".into(),
        pixel_format: if alpha { "rgba" } else { "rgb24" }.into(),
        bit_depth: 8,
        alpha,
        sampling: Subsampling::Rgb,
        plays: Some(header.plays),
        width,
        height,
        frame_rate,
        variable_rate,
        frames: Some(header.delays.len() as u64),
        duration: Some(header.total() as f64 * 1e-3),
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
