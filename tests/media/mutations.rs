//! Damaged videos and animated pictures: mutations, the same on every run, of one small file per container. Each is decoded or is an
//! error of one line that names the file.

use std::{fs, panic::catch_unwind, path::Path};

use crescendo::{
    error::Error,
    media::video::{Reader, Timing, VideoFrame, probe},
};
use crescendo_fuzz::Mutations;

use crate::{ffmpeg, report};

/// Most decoded frames: a damaged header may claim any number.
const FRAMES: usize = 40;

/// One file of 32x24 pixels and 8 frames per container, by extension.
const MADE: &[(&str, &str)] = &[
    ("mp4", "-c:v libx264 -preset ultrafast -bf 2"),
    ("mkv", "-c:v libx264 -preset ultrafast -bf 2"),
    ("ts", "-c:v libx264 -preset ultrafast"),
    ("flv", "-c:v libx264 -preset ultrafast"),
    ("webm", "-c:v libvpx"),
    ("avi", "-c:v mpeg4"),
    ("mov", "-c:v mjpeg"),
    ("gif", ""),
    ("apng", ""),
    ("webp", "-c:v libwebp_anim"),
];

/// What is wrong with an error message. `None`: nothing.
fn wrong(error: &Error, name: &str) -> Option<String> {
    let message = error.to_string();
    (!message.contains(name) || message.contains('\n')).then_some(message)
}

/// Opens, measures and decodes a file as a run does. Returns what is wrong.
fn fault(path: &Path, name: &str) -> Option<String> {
    let info = match probe(path) {
        Ok(info) => info,
        Err(e) => return wrong(&e, name),
    };
    let ranged = Timing::read_range(path, Some(0.05), Some(0.2)).err().and_then(|e| wrong(&e, name));
    let timing = match Timing::read(path) {
        Ok(timing) => timing,
        Err(e) => return wrong(&e, name),
    };
    if info.width * info.height > 1 << 22 {
        return ranged;
    }
    let frames: Vec<Result<VideoFrame, Error>> = match Reader::open(path) {
        Ok(reader) => reader.take(FRAMES).collect(),
        Err(e) => return wrong(&e, name),
    };
    let mut clock = timing.clock(&info);
    let positions: Vec<i64> = frames.iter().flatten().map(|frame| clock.position(frame.pts)).collect();
    let unsorted = !positions.is_sorted_by(|a, b| a < b) || positions.first().is_some_and(|first| *first < 0);
    let errors = frames.iter().filter_map(|frame| frame.as_ref().err());
    let message = errors.filter_map(|e| wrong(e, name)).next();
    unsorted.then(|| format!("positions {positions:?}")).or(message).or(ranged)
}

#[test]
fn damaged_videos_are_decoded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (extension, made) in MADE {
        let seed = format!("seed.{extension}");
        let loops = if matches!(*extension, "gif" | "webp") { "-loop 0" } else { "" };
        ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=s=32x24:r=25:d=0.32 {made} {loops} @/{seed}"));
        let seeds = [fs::read(folder.path().join(&seed)).unwrap()];
        let name = format!("damaged.{extension}");
        let path = folder.path().join(&name);
        for (round, bytes) in Mutations::new(&seeds, 33).take(120).enumerate() {
            fs::write(&path, &bytes).unwrap();
            let found = catch_unwind(|| fault(&path, &name)).unwrap_or_else(|_| Some("a panic".into()));
            faults.extend(found.map(|what| format!("{name}, round {round}: {what}")));
        }
    }
    report(&faults);
}
