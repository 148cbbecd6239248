//! The request to encode a video, and the summary of what was written.

use std::path::PathBuf;

use crate::media::video::{
    decode::{info::VideoInfo, timing::TimeRange},
    pixel::{
        color::{Color, Range},
        format::Sampling,
    },
    rational::Rational,
    side_data::SideData,
};

/// How a video is encoded: what the command line says.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// Any video encoder the linked FFmpeg has (`libx265`), or a codec's name for its first encoder (`h264`: libx264).
    /// `None`: VP9 in WebM, ProRes 4444 for transparency in MOV, an animated picture's own, else H.264.
    pub codec: Option<String>,
    /// Constant rate factor, smaller is better; `None`: by `quality`.
    pub crf: Option<f64>,
    /// 0 to 100 (best), for encoders that we know the scale of (x264, x265, VP9, AV1, WebP); `None`: the encoder's own
    /// default (libx264: 23).
    pub quality: Option<u8>,
    /// The encoder's preset: `medium`.
    pub preset: Option<String>,
    /// FFmpeg's pixel format; `None`: the encoder's nearest to the output's sampling, depth and transparency, 4:4:4 for an
    /// odd width or height.
    pub pix_fmt: Option<String>,
    /// More options of the encoder or the container, as on ffmpeg's command line.
    pub extra: Vec<(String, String)>,
    /// Whether a file of the same name may be replaced.
    pub overwrite: bool,
    /// Whether the finished file is decoded before it gets its name: frames, size, and the samples of lossless encoders.
    pub verify: bool,
}

impl Default for VideoOptions {
    /// H.264 with the encoder's defaults, nothing replaced.
    fn default() -> Self {
        Self {
            codec: None,
            crf: None,
            quality: None,
            preset: None,
            pix_fmt: None,
            extra: Vec::new(),
            overwrite: false,
            verify: false,
        }
    }
}

/// The video to write: what the frames are, and what is said about them.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSpec {
    /// Columns of every frame.
    pub width: usize,
    /// Rows of every frame.
    pub height: usize,
    /// Frames a second; frames follow one another at this rate where nothing else is said.
    pub frame_rate: Rational,
    /// Seconds a tick of the time stamps that [`Writer::write_at`](super::Writer::write_at) takes; the rate's reciprocal where
    /// frames keep the rate.
    pub time_base: Rational,
    /// Bits a sample to encode where the encoder can, from 8 on.
    pub bit_depth: u8,
    /// How much of colour to keep where the encoder can.
    pub sampling: Sampling,
    /// Whether frames may have transparency, to be kept where the encoder can.
    pub alpha: bool,
    /// How often an animated picture plays, 0 for endlessly; `None`: it was made from a video.
    pub plays: Option<u32>,
    /// When the first frame is shown, in seconds from the beginning of the container.
    pub start: f64,
    /// Colour tags; what is unspecified and needed is filled in ([`Color::resolved`]).
    pub color: Color,
    /// Width of a sample to its height; `0/1`: not said.
    pub sample_aspect_ratio: Rational,
    /// Passed on as it is: the display matrix (rotation) among it.
    pub side_data: Vec<SideData>,
    /// What is known not to be passed on, each a phrase, for [`Summary::left_out`](super::Summary::left_out).
    pub left_out: Vec<String>,
    /// Metadata of the container, besides and before that of `source`.
    pub metadata: Vec<(String, String)>,
    /// The file whose sound, subtitles, attachments, chapters and metadata are copied, none of it re-encoded.
    pub source: Option<PathBuf>,
    /// The part of `source` that is wanted; `None`: all of it.
    pub time_range: Option<TimeRange>,
}

impl VideoSpec {
    /// A generated video: BT.709, 8 bits, nothing else.
    pub fn new(width: usize, height: usize, frame_rate: Rational) -> Self {
        Self {
            width,
            height,
            frame_rate,
            time_base: frame_rate.inverse(),
            bit_depth: 8,
            sampling: Sampling::S420,
            alpha: false,
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

    /// A video that is made from another and keeps what can be kept. The source's colours are resolved by its own size,
    /// as [`Reader`](super::Reader) reads them. `source`: where sound and the rest come from.
    pub fn like(info: &VideoInfo, size: (usize, usize), frame_rate: Rational, source: Option<PathBuf>) -> Self {
        let color = info.color.resolved(info.width, info.height);
        // The full range of RGB says nothing about that of YCbCr.
        let range = if info.sampling == Sampling::Rgb { Range::Limited } else { color.range };
        Self {
            bit_depth: info.bit_depth,
            // An animated picture becomes the video that every player plays.
            sampling: if info.plays.is_some() { Sampling::S420 } else { info.sampling },
            alpha: info.alpha,
            plays: info.plays,
            start: info.start,
            color: Color { range, ..color },
            sample_aspect_ratio: info.sample_aspect_ratio,
            side_data: info.side_data.clone(),
            left_out: info.left_out.clone(),
            // An animated WebP has nothing beside its frames, and FFmpeg does not read it.
            source: source.filter(|_| info.container != "webp"),
            ..Self::new(size.0, size.1, frame_rate)
        }
    }

    /// Whether a tick is the length of a frame.
    pub(crate) fn is_steady(&self) -> bool {
        let (a, b) = (self.time_base, self.frame_rate);
        i64::from(a.num) * i64::from(b.num) == i64::from(a.den) * i64::from(b.den)
    }
}

/// A video that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Video frames.
    pub frames: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Seconds of video.
    pub duration: f64,
    /// FFmpeg's name of the encoder that was used: `libx264`.
    pub encoder: String,
    /// What of the source is not in the file, each a phrase to tell the person.
    pub left_out: Vec<String>,
}
