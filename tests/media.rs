//! Compares pictures with Pillow (tests/data/media) and videos with ffmpeg and ffprobe; tests the queues.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

#[path = "media/animations.rs"]
mod animations;
#[path = "media/chain.rs"]
mod chain;
#[path = "media/containers.rs"]
mod containers;
#[path = "media/hostile.rs"]
mod hostile;
#[path = "media/mutations.rs"]
mod mutations;
#[path = "media/picture.rs"]
mod picture;
#[path = "media/reader.rs"]
mod reader;
#[path = "media/resize.rs"]
mod resize;
#[path = "media/timing.rs"]
mod timing;
#[path = "media/writer.rs"]
mod writer;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// Path of a file in tests/data/media.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/media").join(name)
}

/// Panics with all faults, if any.
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} rows failed:\n{}", faults.len(), faults.join("\n"));
}

/// Runs `ffmpeg` or `ffprobe`. These tests require both.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|e| panic!("{program} is needed for this test ({e}); scripts/setup installs it"));
    assert!(output.status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs `ffmpeg` with a command line that is split at spaces. `@` stands for the folder.
fn ffmpeg(folder: &Path, line: &str) -> Vec<u8> {
    let line = line.replace('@', folder.to_str().unwrap());
    let arguments: Vec<_> = ["-v", "error", "-nostdin", "-y"].into_iter().chain(line.split_whitespace()).collect();
    run("ffmpeg", &arguments).stdout
}

/// Returns ffprobe's JSON for a file, with the number of video packets.
fn ffprobe(path: &Path) -> Value {
    let arguments = "-v error -show_streams -show_format -show_chapters -count_packets -of json";
    let arguments: Vec<_> = arguments.split(' ').chain([path.to_str().unwrap()]).collect();
    serde_json::from_slice(&run("ffprobe", &arguments).stdout).unwrap()
}
