//! Animated pictures: loop counts, animated WebP in, GIF out. APNG and animated WebP are written by FFmpeg.

pub(crate) mod gif;
pub(crate) mod loop_count;
pub(crate) mod webp;
