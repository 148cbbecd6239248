//! Colour tags, pixel formats, conversion between them, and hashes of frames.

pub(crate) mod color;
pub(crate) mod convert;
pub(crate) mod format;
mod frame_hash;
pub(crate) mod hash;
