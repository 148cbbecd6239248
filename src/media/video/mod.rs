//! Videos: what a file holds ([`Reader::info`]), its frames one by one ([`Reader`]), and a new file from frames
//! ([`Writer`]) with the sound and what else travels with the source.
//!
//! Frames keep their stored orientation and shape: rotation and sample aspect ratio travel as tags. Colour values are
//! converted between YCbCr and RGB with the matrix, range and chroma position of the tags; primaries and transfer are
//! never touched, only passed on.

mod animation;
mod decode;
mod encode;
mod ffmpeg;
mod io;
mod pixel;
mod probe;
mod rational;
mod side_data;
mod timestamps;

pub use decode::{
    frame::VideoFrame,
    info::{StreamInfo, StreamKind, VideoInfo},
    timing::{Clock, TimeRange, Timing, Window},
};
pub use encode::{
    chunk,
    spec::{Summary, VideoOptions, VideoSpec},
};
pub use ffmpeg::{ffmpeg_version, show_ffmpeg_log, video_decoders, video_encoders};
pub use io::{Reader, Writer};
pub use pixel::{
    color::{Color, Range},
    format::Sampling,
};
pub use probe::probe;
pub use rational::Rational;
pub use side_data::SideData;
