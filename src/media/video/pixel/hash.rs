//! A running hash of frames.

use serde::{Deserialize, Serialize};

/// A running hash of frames in one pixel format. Each step hashes the previous hash and the frame, so its state can be
/// stored and restored. `frame_hash` adds FFmpeg's frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PixelHash {
    hash: String,
    /// FFmpeg's number of the pixel format.
    pub(super) format: i32,
    #[serde(skip)]
    pub(super) buffer: Vec<u8>,
}

impl PixelHash {
    /// A hash of no frames.
    pub(super) fn new(format: i32) -> Self {
        Self { hash: String::new(), format, buffer: Vec::new() }
    }

    /// A hash of no frames, in the pixel format of `other`.
    pub(crate) fn like(other: &Self) -> Self {
        Self::new(other.format)
    }

    /// Whether both hashed the same frames.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// Adds the frame in `buffer`.
    pub(super) fn add_buffer(&mut self) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes()).update(&self.buffer);
        self.hash = hasher.finalize().to_hex().to_string();
    }
}
