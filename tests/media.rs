//! Pictures against what Pillow reads (tests/data/media), videos against ffmpeg and ffprobe, and the queues.

#![allow(clippy::unwrap_used)]

#[path = "media/animations.rs"]
mod animations;
#[path = "media/containers.rs"]
mod containers;
#[path = "media/line.rs"]
mod line;
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

/// A file of tests/data/media.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/media").join(name)
}

/// Fails with all rows that failed.
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} rows failed:\n{}", faults.len(), faults.join("\n"));
}

/// Runs a program of FFmpeg's, which these tests need.
fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|e| panic!("{program} is needed for this test ({e}); scripts/setup installs it"));
    assert!(output.status.success(), "{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    output
}

/// `ffmpeg` with a command line split at spaces; `@` stands for the folder.
fn ffmpeg(folder: &Path, line: &str) -> Vec<u8> {
    let line = line.replace('@', folder.to_str().unwrap());
    let arguments: Vec<_> = ["-v", "error", "-nostdin", "-y"].into_iter().chain(line.split_whitespace()).collect();
    run("ffmpeg", &arguments).stdout
}

/// What ffprobe says about a file, with the video's packets counted.
fn ffprobe(path: &Path) -> Value {
    let arguments = "-v error -show_streams -show_format -show_chapters -count_packets -of json";
    let arguments: Vec<_> = arguments.split(' ').chain([path.to_str().unwrap()]).collect();
    serde_json::from_slice(&run("ffprobe", &arguments).stdout).unwrap()
}
