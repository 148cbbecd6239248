//! Compares weight readers with torch and safetensors (tests/data/weights, scripts/reference/weights.py); tests invalid files.
#![allow(clippy::unwrap_used)]

mod invalid;
mod mutations;
mod valid;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn data(name: &str) -> PathBuf {
    root().join("tests/data/weights").join(name)
}

pub(crate) fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Panics with all failures, if any.
#[track_caller]
pub(crate) fn assert_no_failures(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
