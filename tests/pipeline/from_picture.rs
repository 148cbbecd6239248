//! Runs that start from a picture or a clip; their numbers are judged in the table of whole runs.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crescendo::{
    media::picture,
    tensor::{Frame, Samples},
    weights::Checkpoint,
};

/// A golden's `image` as a file: a PNG, or a clip without loss.
pub fn file(folder: &Path, golden: &Checkpoint, clip: bool) -> PathBuf {
    let stored = golden.get("image").unwrap();
    let (bytes, shape) = (stored.bytes().unwrap().to_vec(), stored.shape.clone());
    let (height, width) = (shape[shape.len() - 3], shape[shape.len() - 2]);
    if clip {
        let path = folder.join("start.mkv");
        encode(&path, &bytes, (width, height), &["-c:v", "ffv1", "-pix_fmt", "bgr0"]);
        return path;
    }
    let path = folder.join("start.png");
    let frame = Frame { width, height, channels: 3, samples: Samples::U8(bytes) };
    picture::write(&path, &frame.into(), &picture::PictureOptions::default()).unwrap();
    path
}

/// Frames of RGB bytes through ffmpeg, 12 a second.
pub fn encode(path: &Path, frames: &[u8], (width, height): (usize, usize), options: &[&str]) {
    let size = format!("{width}x{height}");
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", "12", "-i", "-"])
        .args(options)
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ffmpeg.stdin.take().unwrap().write_all(frames).unwrap();
    assert!(ffmpeg.wait().unwrap().success());
}
