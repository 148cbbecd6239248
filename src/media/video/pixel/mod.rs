//! Colour tags, pixel formats, conversion between them, and hashes of frames.

pub(crate) mod color;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod hash;
