//! A decoded frame, and its conversion to RGB.

use ffmpeg_next::{ffi, frame};

use super::info::VideoInfo;
use crate::{
    media::video::pixel::{
        color::{Color, ColorRange},
        convert::{Converter, Layout, allocate},
        format::PixelFormat,
    },
    tensor::{Frame, Samples, collected},
};

/// A frame and its time.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoFrame {
    /// RGB, or RGBA if requested and present. 8 bits for sources of at most 8 bits, else 16.
    pub frame: Frame,
    /// Time stamp as stored, in ticks of [`VideoInfo::time_base`].
    pub pts: i64,
    /// Seconds from the start of the container.
    pub time: f64,
}

/// Converts decoded frames to RGB or RGBA, at 8 or 16 bits.
pub(crate) struct ToRgb {
    /// Return RGBA.
    pub alpha: bool,
    converter: Option<Converter>,
    converted: frame::Video,
}

impl ToRgb {
    /// A converter to RGB.
    pub(crate) fn new() -> Self {
        Self { alpha: false, converter: None, converted: frame::Video::empty() }
    }

    /// Converts a frame. Errors: a size that differs from the stream's, unsupported colour tags.
    pub(crate) fn convert(&mut self, decoded: &frame::Video, info: &VideoInfo) -> Result<Frame, String> {
        use ffi::AVPixelFormat::*;
        // SAFETY: a frame that the decoder has filled.
        let raw = unsafe { &*decoded.as_ptr() };
        let (width, height) = (info.width, info.height);
        if (raw.width as usize, raw.height as usize) != (width, height) {
            let (w, h) = (raw.width, raw.height);
            return Err(format!("the size changes from {width}x{height} to {w}x{h}; split the file there"));
        }
        let (format, known) = PixelFormat::of(raw.format).ok_or("the frame has no known pixel format")?;
        // Tags of the frame take precedence over those of the container.
        let (tags, defaults) = (Color::of_frame(raw), info.color);
        let color = Color {
            matrix: if tags.matrix == 2 { defaults.matrix } else { tags.matrix },
            range: if tags.range == ColorRange::Unspecified { defaults.range } else { tags.range },
            ..tags
        };
        if color.matrix == 0 && !known.is_rgb() {
            return Err(format!("{} frames are tagged as RGB; correct the tag", known.name()));
        }
        let from = Layout { format, color: color.resolved(width, height) };
        let deep = info.bit_depth > 8;
        let target = match (deep, self.alpha) {
            (false, false) => AV_PIX_FMT_RGB24,
            (false, true) => AV_PIX_FMT_RGBA,
            (true, false) if cfg!(target_endian = "big") => AV_PIX_FMT_RGB48BE,
            (true, false) => AV_PIX_FMT_RGB48LE,
            (true, true) if cfg!(target_endian = "big") => AV_PIX_FMT_RGBA64BE,
            (true, true) => AV_PIX_FMT_RGBA64LE,
        };
        let size = (raw.width, raw.height);
        if self.converter.as_ref().is_none_or(|s| s.from != from) {
            let to = Layout { format: target, color: from.color };
            self.converter = Some(Converter::new(from, to, size)?);
            self.converted = allocate(target, size)?;
        }
        let converter = self.converter.as_mut().ok_or("no converter")?;
        converter.run(decoded, &mut self.converted)?;
        let channels = if self.alpha { 4 } else { 3 };
        let (bytes, stride) = (self.converted.data(0), self.converted.stride(0));
        let row = width * channels * if deep { 2 } else { 1 };
        let rows = bytes.chunks(stride).take(height).map(|r| &r[..row]);
        let samples = if deep {
            let mut samples = empty(width * height * channels)?;
            rows.for_each(|r| samples.extend(r.as_chunks().0.iter().map(|b| u16::from_ne_bytes(*b))));
            Samples::U16(samples)
        } else {
            let mut samples = empty(row * height)?;
            rows.for_each(|r| samples.extend_from_slice(r));
            Samples::U8(samples)
        };
        Ok(Frame { width, height, channels, samples })
    }
}

/// An empty vector with space for `count` values.
fn empty<T>(count: usize) -> Result<Vec<T>, String> {
    collected(count, std::iter::empty()).map_err(|e| e.to_string())
}
