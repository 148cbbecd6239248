//! Reads what a file holds without decoding it.

use std::path::Path;

use super::{
    animation::{loop_count, webp::WebP},
    decode::info::{self, VideoInfo},
};
use crate::error::Result;

/// Reads what a file holds without decoding it.
///
/// Errors: unreadable, empty, no container FFmpeg knows, damaged headers, no video in it.
pub fn probe(path: &Path) -> Result<VideoInfo> {
    if let Some(webp) = WebP::open(path)? {
        return Ok(webp.info.clone());
    }
    let mut info = info::probe(path)?;
    info.plays = loop_count::plays(path, &info.container);
    Ok(info)
}

/// What a source has beside its frames, which no animated picture holds: each a phrase.
pub(crate) fn other_streams(source: &Path) -> Result<Vec<String>> {
    if WebP::open(source)?.is_some() {
        return Ok(Vec::new());
    }
    let found = info::probe(source)?;
    let others = found.streams.iter().filter(|s| s.index != found.index);
    Ok(others.map(|s| format!("stream {} ({:?}, {})", s.index, s.kind, s.codec).to_lowercase()).collect())
}
