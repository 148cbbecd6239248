//! Videos and animated pictures: information ([`probe()`]), frame times ([`Timing`]), frames ([`Reader`]), and new
//! files ([`Writer`], [`chunk`]) with the audio and the other streams of the source.
//!
//! Frames keep their stored orientation and shape: rotation and sample aspect ratio are copied as tags. Pixels are
//! converted between YCbCr and RGB with the tagged matrix, range and chroma position. Primaries and transfer are copied
//! as tags; colours are not transformed.
//!
//! - `decode`: file → RGB frames and their times.
//! - `encode`: RGB frames → file, with the streams of the source, checks, and chunks for resuming.
//! - `animation`: animated WebP in, GIF out, loop counts.
//! - `pixel`: colour tags, pixel formats, conversion.

mod animation;
mod decode;
mod demuxers;
mod encode;
mod ffmpeg;
mod io;
mod open;
mod pixel;
mod probe;
mod rational;
mod side_data;
mod timestamps;

pub use decode::{
    frame::VideoFrame,
    info::{FieldOrder, StreamInfo, StreamKind, VideoInfo},
    timing::{Clock, TimeRange, Timing, Window},
};
pub use encode::{
    check::{check_longest, check_options, check_rate, short_frames},
    chunk,
    container::is_container,
    spec::{Summary, VideoOptions, VideoQuality, VideoSpec},
};
pub use ffmpeg::{ffmpeg_version, video_decoders, video_encoders};
pub use io::{Reader, Writer};
pub use pixel::{
    color::{Color, ColorRange},
    format::Subsampling,
};
pub use probe::probe;
pub use rational::Rational;
pub use side_data::SideData;
