//! Reads the information of a video file without decoding it.

use std::path::Path;

use super::{
    animation::{loop_count, webp::WebP},
    decode::info::{self, VideoInfo},
};
use crate::error::Result;

/// Reads the information of a video or an animated picture without decoding it.
///
/// Errors: a file that is unreadable, empty, of an unknown container or without video, or damaged headers.
pub fn probe(path: &Path) -> Result<VideoInfo> {
    if let Some(webp) = WebP::open(path)? {
        return Ok(webp.info.clone());
    }
    let mut info = info::probe(path)?;
    info.plays = loop_count::plays(path, &info.container);
    Ok(info)
}

/// Streams of a source other than the video, each a phrase for a warning. Animated pictures cannot store them.
pub(crate) fn other_streams(source: &Path) -> Result<Vec<String>> {
    if WebP::open(source)?.is_some() {
        return Ok(Vec::new());
    }
    let found = info::probe(source)?;
    let others = found.streams.iter().filter(|s| s.index != found.index);
    Ok(others.map(|s| format!("stream {} ({:?}, {})", s.index, s.kind, s.codec).to_lowercase()).collect())
}
