//! Long videos in chunks: killed anywhere they go on, and a chunk begins in the middle as if the line had run through.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Bench, done, ffmpeg, probe, report, split};

const NETWORK: &str = "--frame-interpolation-model-path {rife}";
const LOSSLESS: &str = "--codec ffv1 --pix-fmt bgr0";

/// A clip by a graph of lavfi and more arguments.
fn clip(bench: &Bench, name: &str, graph: &str, more: &str) {
    let path = bench.path(name);
    let mut args = vec!["-f", "lavfi", "-i", graph];
    args.extend(more.split_whitespace());
    args.push(path.to_str().unwrap());
    ffmpeg(&args);
}

/// Times and pictures of a video, as ffmpeg sums them up.
fn shown(path: &Path) -> Vec<String> {
    let name = path.to_str().unwrap();
    let sums = ffmpeg(&["-i", name, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    String::from_utf8_lossy(&sums).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

/// Seconds at which the packets of a stream are shown.
fn times(file: &Path, stream: &str) -> Vec<f64> {
    let entries = "packet=pts_time,flags";
    let command = ["-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "json"];
    let answer = Command::new("ffprobe").args(command).arg(file).output().unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let shown = |p: &&Value| !p["flags"].as_str().unwrap().contains('D');
    let packets = answer["packets"].as_array().unwrap().iter().filter(shown);
    let mut times: Vec<f64> = packets.map(|p| p["pts_time"].as_str().unwrap().parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Entries of a journal so far.
fn entries(folder: &Path) -> usize {
    let text = fs::read(folder.join("chunks.jsonl")).unwrap_or_default();
    text.iter().filter(|b| **b == b'\n').count().saturating_sub(1)
}

/// Runs until so many chunks are entered, then kills. Whether it was still running.
fn killed(bench: &Bench, args: &str, folder: &Path, count: usize) -> bool {
    let mut command = bench.command();
    let mut child =
        command.args(split(args)).arg("--quiet").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while entries(folder) < count && child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "{args}: {count} chunks do not come");
        std::thread::sleep(Duration::from_micros(500));
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// What is wrong with a result in chunks: other pictures or times than in one piece, other bytes after a kill, something left.
fn faults(bench: &Bench, name: &str, args: &str, chunk: f64) -> Vec<String> {
    let at = |part: &str| bench.path(&format!("out/{name}-{part}.mkv"));
    let run = |part: &str, chunk: f64| format!("enhance {args} -o out/{name}-{part}.mkv --chunk {chunk}");
    done(&bench.run(&run("whole", 1000.0)));
    done(&bench.run(&run("parts", chunk)));
    let (whole, parts) = (shown(&at("whole")), shown(&at("parts")));
    let mut bad = Vec::new();
    if whole != parts {
        let first = whole.iter().zip(&parts).position(|(a, b)| a != b);
        bad.push(format!("{name}: {} frames, {} in chunks, from {first:?} on others", whole.len(), parts.len()));
    }
    let mut kills = 0;
    for count in [1, 3] {
        let (folder, args) = (bench.path(&format!("out/.{name}-{count}.mkv.chunks")), run(&count.to_string(), chunk));
        if !killed(bench, &args, &folder, count) {
            continue;
        }
        kills += 1;
        let rerun = bench.run(&args);
        if rerun.code != Some(0) || fs::read(at(&count.to_string())).ok() != fs::read(at("parts")).ok() {
            bad.push(format!("{name}: killed after {count} chunks it comes to other bytes {}", rerun.err));
        }
    }
    if kills < 1 {
        bad.push(format!("{name}: only {kills} of 2 runs could be killed"));
    }
    let left: Vec<String> = bench.made().into_iter().filter(|n| n.starts_with(&format!(".{name}-"))).collect();
    if !left.is_empty() {
        bad.push(format!("{name}: left {left:?}"));
    }
    bad
}

#[test]
fn chunks_are_as_one_piece() {
    let bench = Bench::new();
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -g 11";
    clip(&bench, "steady.mp4", "testsrc2=s=64x48:r=25:d=1.4", x264);
    clip(
        &bench,
        "late.mp4",
        "testsrc2=s=64x48:r=30:d=1.4,settb=1/90000,setpts=(N/30+0.003*mod(N*7\\,5))/TB",
        &format!("{x264} -enc_time_base 1/90000 -fps_mode vfr"),
    );
    let mut bad = Vec::new();
    for (name, args) in [
        ("twice", "steady.mp4 --interpolate 2x"),
        ("thrice", "steady.mp4 --interpolate 3x"),
        ("sixty", "steady.mp4 --interpolate 60fps"),
        ("uneven", "late.mp4 --interpolate 2x"),
        ("grid", "late.mp4 --interpolate 24fps"),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK} {LOSSLESS}"), 0.32));
    }
    report(bad);
}

#[test]
fn cuts_repeats_and_gaps_are_as_in_one_piece() {
    let bench = Bench::new();
    let exact = "-c:v ffv1 -pix_fmt bgr0";
    let scenes = "testsrc2=s=64x48:r=25:d=0.8[a];mandelbrot=s=64x48:r=25,trim=end_frame=20,setsar=1[b];\
                  testsrc=s=64x48:r=25:d=0.8,setsar=1[c];[a][b][c]concat=n=3";
    clip(&bench, "scenes.mkv", scenes, exact);
    clip(&bench, "twos.mkv", "testsrc2=s=64x48:r=12:d=2,fps=24", exact);
    clip(
        &bench,
        "still.mkv",
        "testsrc2=s=64x48:r=24:d=0.5,tpad=stop_mode=clone:stop_duration=1.2[a];\
         mandelbrot=s=64x48:r=24,trim=end_frame=12,setsar=1[b];[a][b]concat=n=2",
        exact,
    );
    // Gaps that are longer than a chunk.
    clip(&bench, "slow.mkv", "testsrc2=s=64x48:r=1:d=4", exact);
    let mut bad = Vec::new();
    for (name, args, chunk) in [
        ("cuts", "scenes.mkv --interpolate 2x", 0.5),
        ("twos", "twos.mkv --interpolate 2x --dedup", 0.4),
        ("still", "still.mkv --interpolate 60fps --dedup", 0.4),
        ("slow", "slow.mkv --interpolate 12fps", 0.4),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK} {LOSSLESS}"), chunk));
    }
    report(bad);
}

#[test]
fn any_container_is_gone_on_with() {
    let bench = Bench::new();
    let graph = "testsrc2=s=64x48:r=25:d=1.4";
    // 10 bits, and groups of pictures that refer to the one before.
    clip(
        &bench,
        "deep.mkv",
        graph,
        "-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=error:keyint=10:open-gop=1:bframes=3",
    );
    clip(&bench, "cast.ts", graph, "-c:v libx264 -preset ultrafast -bf 2 -g 11");
    clip(&bench, "bare.h264", graph, "-c:v libx264 -preset ultrafast -bf 2 -g 11");
    clip(&bench, "open.mp4", graph, "-c:v libx264 -bf 3 -g 10 -x264-params open-gop=1");
    clip(&bench, "frame_%03d.png", "testsrc2=s=64x48:r=25:d=1.4", "-start_number 1");
    let mut bad = Vec::new();
    for (name, args) in [
        ("deep", "deep.mkv --interpolate 2x --codec ffv1"),
        ("cast", "cast.ts --interpolate 2x --codec ffv1"),
        ("bare", "bare.h264 --interpolate 2x --codec ffv1"),
        ("open", "open.mp4 --interpolate 2x --verify --codec ffv1"),
        ("frames", "frame_%03d.png --fps 25 --interpolate 2x --codec ffv1"),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK}"), 0.32));
    }
    assert_eq!(probe(&bench.path("out/deep-parts.mkv"), "v:0")["pix_fmt"], "yuv420p10le");
    report(bad);
}
