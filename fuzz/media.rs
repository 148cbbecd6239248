//! The files of `media` without FFmpeg.

#[path = "../src/media/animated.rs"]
pub(crate) mod animated;
#[path = "../src/media/video/animation/apng.rs"]
pub(crate) mod apng;
#[path = "../src/media/video/encode/chunk_record.rs"]
pub(crate) mod chunk_record;
#[path = "../src/media/format.rs"]
pub mod format;
#[path = "../src/media/gif_blocks.rs"]
pub(crate) mod gif_blocks;
#[path = "../src/media/video/pixel/hash.rs"]
pub(crate) mod hash;
#[path = "../src/media/video/encode/packet_file.rs"]
pub(crate) mod packet_file;
#[path = "../src/media/picture/mod.rs"]
pub mod picture;
#[path = "../src/media/video/rational.rs"]
pub(crate) mod rational;
#[path = "../src/media/riff.rs"]
pub(crate) mod riff;
#[path = "../src/media/video/decode/timing.rs"]
pub(crate) mod timing;
#[path = "../src/media/video/animation/webp_header.rs"]
pub(crate) mod webp_header;

pub(crate) mod video {
    pub(crate) use super::{
        rational::{self, Rational},
        timing::Timing,
    };

    pub(crate) mod chunk {
        pub(crate) use crate::media::chunk_record::Chunk;
    }

    pub(crate) mod pixel {
        pub(crate) use crate::media::hash;
    }
}
