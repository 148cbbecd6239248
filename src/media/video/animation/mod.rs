//! Animated pictures: loop counts, rates of APNG, animated WebP in, GIF out. FFmpeg writes APNG and animated WebP.

pub(crate) mod apng;
pub(crate) mod gif;
pub(crate) mod loop_count;
pub(crate) mod webp;
pub(crate) mod webp_header;
