//! Pictures against what Pillow reads (tests/data/media), videos against ffmpeg and ffprobe, and the queues.

#![allow(clippy::unwrap_used)]

#[path = "media/line.rs"]
mod line;
#[path = "media/picture.rs"]
mod picture;
#[path = "media/resize.rs"]
mod resize;

use std::path::PathBuf;

/// A file of tests/data/media.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/media").join(name)
}

/// Fails with all rows that failed.
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} rows failed:\n{}", faults.len(), faults.join("\n"));
}
