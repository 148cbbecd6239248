//! Encoding options, the description of the video to write, and the summary of what was written.

use std::path::PathBuf;

use crate::media::video::{
    decode::{info::VideoInfo, timing::TimeRange},
    pixel::{
        color::{Color, ColorRange},
        format::Subsampling,
    },
    rational::Rational,
    side_data::SideData,
};

/// Encoding options from the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// Name of a video encoder of the linked FFmpeg (`libx265`), or of a codec, for its first encoder (`h264`:
    /// libx264). `None`: the default of the format ([`mod@crate::media::format`]).
    pub codec: Option<String>,
    /// Constant rate factor, lower is better; `None`: from `quality`.
    pub crf: Option<f64>,
    /// Quality if `crf` is `None`.
    pub quality: VideoQuality,
    /// Preset of the encoder: `medium`.
    pub preset: Option<String>,
    /// FFmpeg's pixel format. `None`: the encoder's format that is nearest to the spec's sampling, depth and
    /// transparency; 4:4:4 for an odd width or height. [`VideoSpec::sampling`] says what animated pictures get.
    pub pix_fmt: Option<String>,
    /// Other options of the encoder or the container, as on ffmpeg's command line.
    pub extra: Vec<(String, String)>,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Whether to decode the finished file before it gets its name, and to compare frame count, size and, with lossless
    /// encoders, the samples.
    pub verify: bool,
}

/// Quality of an encoder, by its own scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VideoQuality {
    /// The encoder's default (libx264: CRF 23).
    #[default]
    Encoder,
    /// 0 to 100 (best), for x264, x265, VP9, AV1 and WebP; other encoders keep their default.
    Scale(u8),
    /// Visually lossless: CRF 17 for H.264 and what gives a similar PSNR for others.
    VisuallyLossless,
}

impl Default for VideoOptions {
    /// The encoder's defaults, no overwriting.
    fn default() -> Self {
        Self {
            codec: None,
            crf: None,
            quality: VideoQuality::Encoder,
            preset: None,
            pix_fmt: None,
            extra: Vec::new(),
            overwrite: false,
            verify: false,
        }
    }
}

/// The video to write: properties of its frames, tags and source.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSpec {
    /// Width of every frame.
    pub width: usize,
    /// Height of every frame.
    pub height: usize,
    /// Frames per second. Frames follow each other at this rate unless they are written with times.
    pub frame_rate: Rational,
    /// Seconds per tick of the time stamps for [`Writer::write_at`](crate::media::video::Writer::write_at). The
    /// reciprocal of the rate if frame durations are constant.
    pub time_base: Rational,
    /// Bits per sample, at least 8, if the encoder supports them.
    pub bit_depth: u8,
    /// Chroma subsampling, if the encoder supports it. An animated picture (`plays`) that a lossy encoder turns into a video is
    /// 4:2:0 whatever this is, because many players show no other H.264 and H.265, and animations are converted to be shared.
    pub sampling: Subsampling,
    /// Whether frames may have transparency. It is kept if the encoder supports it.
    pub alpha: bool,
    /// Whether the source's pixels are either opaque or clear, as in a GIF.
    pub hard_alpha: bool,
    /// Loop count of an animated picture, 0: endless. `None`: the source is a video.
    pub plays: Option<u32>,
    /// Time of the first frame, in seconds from the start of the container.
    pub start: f64,
    /// Colour tags. [`Color::resolved`] fills in unspecified ones that are needed.
    pub color: Color,
    /// Width of a sample divided by its height; `0/1`: unspecified.
    pub sample_aspect_ratio: Rational,
    /// Metadata that is copied unchanged, including the display matrix (rotation).
    pub side_data: Vec<SideData>,
    /// Known losses, each a phrase for [`Summary::left_out`].
    pub left_out: Vec<String>,
    /// Metadata of the container. It takes precedence over that of `source`.
    pub metadata: Vec<(String, String)>,
    /// The file whose audio, subtitles, attachments, chapters and metadata are copied without re-encoding.
    pub source: Option<PathBuf>,
    /// The time range of `source`; `None`: all of it.
    pub time_range: Option<TimeRange>,
}

impl VideoSpec {
    /// A generated video: BT.709, 8 bits, no source.
    pub fn new(width: usize, height: usize, frame_rate: Rational) -> Self {
        Self {
            width,
            height,
            frame_rate,
            time_base: frame_rate.inverse(),
            bit_depth: 8,
            sampling: Subsampling::S420,
            alpha: false,
            hard_alpha: false,
            plays: None,
            start: 0.0,
            color: Color::BT709,
            sample_aspect_ratio: Rational::new(0, 1),
            side_data: Vec::new(),
            left_out: Vec::new(),
            metadata: Vec::new(),
            source: None,
            time_range: None,
        }
    }

    /// A video made from another one, with the same properties where possible. The source's colour tags are resolved by
    /// its own size, as [`Reader`](crate::media::video::Reader) does. `source`: the file whose other streams are
    /// copied.
    pub fn like(info: &VideoInfo, size: (usize, usize), frame_rate: Rational, source: Option<PathBuf>) -> Self {
        let color = info.color.resolved(info.width, info.height);
        // The full range of RGB does not apply to YCbCr.
        let range = if info.sampling == Subsampling::Rgb { ColorRange::Limited } else { color.range };
        Self {
            bit_depth: info.bit_depth,
            sampling: info.sampling,
            alpha: info.alpha,
            hard_alpha: info.codec == "gif",
            plays: info.plays,
            start: info.start,
            color: Color { range, ..color },
            sample_aspect_ratio: info.sample_aspect_ratio,
            side_data: info.side_data.clone(),
            left_out: info.left_out.clone(),
            // An animated WebP has no other streams, and FFmpeg does not read it.
            source: source.filter(|_| info.container != "webp"),
            ..Self::new(size.0, size.1, frame_rate)
        }
    }

    /// Whether a tick is the duration of a frame.
    pub(crate) fn is_steady(&self) -> bool {
        let (a, b) = (self.time_base, self.frame_rate);
        i64::from(a.num) * i64::from(b.num) == i64::from(a.den) * i64::from(b.den)
    }
}

/// Summary of a written video.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of frames.
    pub frames: u64,
    /// File size in bytes.
    pub bytes: u64,
    /// Duration of the video in seconds.
    pub duration: f64,
    /// FFmpeg's name of the encoder: `libx264`.
    pub encoder: String,
    /// Content of the source that is not in the file, each a phrase for a warning.
    pub left_out: Vec<String>,
}
