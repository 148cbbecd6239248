//! From a file to RGB frames: stream information, decoding, frame times.

pub(crate) mod decoder;
pub(crate) mod frame;
pub(crate) mod hdr;
pub(crate) mod info;
pub(crate) mod reader;
pub(crate) mod time_jump;
pub(crate) mod timing;
