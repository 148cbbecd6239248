//! What the journal of a long video stores of a finished chunk.

use std::{fs::File, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::media::video::pixel::hash::PixelHash;

/// Totals of the frames that encoders received so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct EncodeTotals {
    pub frames: u64,
    /// Time stamp of the first frame and end of the last one, in ticks.
    pub span: (i64, i64),
    /// Duration of the last frame, in ticks.
    pub last: i64,
    /// Longest duration of a frame, in ticks.
    pub longest: i64,
    /// Whether a transparent frame was flattened because the encoder has no transparency.
    pub flattened: bool,
    /// Hash of the frames of a lossless encoder, if it is to be verified.
    pub pixels: Option<PixelHash>,
}

/// A finished chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// The file. The journal stores paths relative to its own folder.
    #[serde(skip)]
    pub file: PathBuf,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub hash: String,
    /// File size in bytes.
    pub bytes: u64,
    /// Totals of all encoders up to the end of the chunk.
    #[serde(rename = "given")]
    pub(crate) totals: EncodeTotals,
}

impl Chunk {
    /// Frames of the video up to the end of the chunk.
    pub fn frames(&self) -> u64 {
        self.totals.frames
    }

    /// Whether the file still has the bytes that were written.
    pub fn is_intact(&self) -> bool {
        let Ok(mut file) = File::open(&self.file) else { return false };
        let mut hasher = blake3::Hasher::new();
        let same_length = file.metadata().is_ok_and(|m| m.len() == self.bytes);
        same_length && hasher.update_reader(&mut file).is_ok() && hasher.finalize().to_hex().as_str() == self.hash
    }

    /// The end of its last frame, in ticks.
    pub fn end(&self) -> i64 {
        self.totals.span.1
    }

    /// Whether it can follow another chunk, or be the first. A damaged journal may hold any numbers.
    pub(crate) fn follows(&self, before: Option<&Self>) -> bool {
        let EncodeTotals { frames, span: (begin, end), last, longest, .. } = self.totals;
        let known = before.map_or((0, begin, begin), |before| {
            let EncodeTotals { frames, span: (begin, end), .. } = before.totals;
            (frames, begin, end)
        });
        let (frames_before, begin_before, end_before) = known;
        frames > frames_before && begin == begin_before && end > end_before && (1..=longest).contains(&last)
    }
}
