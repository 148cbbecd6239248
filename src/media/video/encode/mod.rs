//! From RGB frames to a file: encoder, container, other streams of the source, checks of the finished file, chunks.

pub(crate) mod check;
pub mod chunk;
pub(crate) mod chunk_record;
pub(crate) mod codec_options;
pub(crate) mod container;
pub(crate) mod encoder;
pub(crate) mod frames;
pub(crate) mod hdr;
pub(crate) mod muxer;
mod pace;
pub(crate) mod packet_file;
pub(crate) mod packets;
pub(crate) mod pixel_choice;
pub(crate) mod readback;
pub(crate) mod remux;
pub(crate) mod spec;
pub(crate) mod subtitle;
pub(crate) mod verify;
pub(crate) mod writer;
