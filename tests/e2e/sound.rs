//! Sound in every container: the same samples, at the same time relative to the frames.

use std::path::Path;

use crate::{Bench, done, ffmpeg, report};

/// Times of the frames of a stream in seconds, as ffprobe decodes them; frames without a time are left out.
fn times(file: &Path, stream: &str) -> Vec<f64> {
    let show = ["-show_entries", "frame=best_effort_timestamp_time", "-of", "csv=p=0"];
    let command = ["-v", "error", "-select_streams", stream];
    let output = std::process::Command::new("ffprobe").args(command).args(show).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// Hash of the decoded sound.
fn samples(file: &Path) -> String {
    let command = ["-i", file.to_str().unwrap(), "-map", "0:a", "-af", "asetpts=N", "-f", "md5", "-"];
    String::from_utf8(ffmpeg(&command)).unwrap()
}

/// Rows: encoder of the sound, container of the source, container of the output.
#[test]
fn sound_stays_in_sync() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (codec, from, to) in [
        ("aac", "mp4", "ts"),
        ("aac", "mp4", "mp4"),
        ("aac", "ts", "ts"),
        ("aac", "ts", "mp4"),
        ("aac", "ts", "mkv"),
        ("ac3", "ts", "ts"),
        ("ac3", "mkv", "ts"),
        ("mp2", "ts", "ts"),
        ("libopus", "mkv", "ts"),
        ("mp2", "avi", "avi"),
        ("ac3", "mkv", "avi"),
        ("pcm_s16le", "avi", "avi"),
        ("pcm_s16le", "avi", "mkv"),
    ] {
        let source = bench.path(&format!("{codec}.{from}"));
        let bars = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-f", "lavfi", "-i", "sine=r=48000:d=2"];
        let video = ["-c:v", "mpeg4", "-c:a", codec, "-strict", "-2", source.to_str().unwrap()];
        ffmpeg(&[&bars[..], &video].concat());
        let name = format!("out/{codec}-{from}.{to}");
        done(&bench.run(&format!("enhance {codec}.{from} -o {name} --upscale 2 --filter nearest")));
        let made = bench.path(&name);
        let (before, after) = (times(&source, "v:0"), times(&made, "v:0"));
        let lag = |file: &Path, video: &[f64]| video[0] - times(file, "a:0")[0];
        let moved = lag(&made, &after) - lag(&source, &before);
        // What a decoder skips at the start of AAC and Opus is stored differently in each container; AVI counts packets.
        let skips = codec == "aac" || codec == "libopus";
        let room = if skips || to == "avi" { 0.03 } else { 0.002 };
        let same = skips && from != to || samples(&source) == samples(&made);
        let spaced = |times: &[f64]| times.windows(2).all(|t| (t[1] - t[0] - 0.04).abs() < 0.002);
        if before.len() != 50 || after.len() != 50 || !spaced(&after) || moved.abs() > room || !same {
            bad.push(format!(
                "{codec} {from} → {to}: {} of {} frames, moved by {moved:.3} s, same sound {same}",
                after.len(),
                before.len()
            ));
        }
    }
    report(bad);
}
