//! Ctrl-C during a run: exit code 130, no output file and no pending file.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::{Bench, ffmpeg, split};

fn interrupt(child: &Child) {
    // SAFETY: the child has not been waited for, so its process id is valid.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

/// Waits for the end. Returns the exit code and the rest of standard error.
fn end(mut child: Child) -> (Option<i32>, String) {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("still running a minute after Ctrl-C");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut err = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut err).unwrap();
    }
    (child.wait().unwrap().code(), err)
}

#[test]
fn interrupting_a_video_leaves_no_file() {
    let bench = Bench::new();
    let clip = bench.path("long.mp4");
    let source = "testsrc2=size=640x360:rate=25:duration=60";
    ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", clip.to_str().unwrap()]);
    let args = "enhance long.mp4 -o out/a.mp4 --upscale 2 --upscaling-model-path {x2} --quiet";
    let child = bench.command().args(split(args)).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    // The encoder has written data, so frames have passed all stages.
    while std::fs::metadata(bench.path("out/.a.part.mp4")).map_or(0, |m| m.len()) == 0 {
        assert!(since.elapsed() < Duration::from_secs(120), "nothing is written");
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child);
    let (code, err) = end(child);
    assert_eq!((code, err.lines().last()), (Some(130), Some("error: interrupted")), "{err}");
    assert_eq!(bench.made(), [""; 0]);
}

#[test]
fn interrupting_a_picture_leaves_no_file() {
    let bench = Bench::new();
    let args = "generate --model-path {flux} --prompt fox --height 256 --width 256 --num-inference-steps 100000 \
        --output-file-path out/a.png --save-latents out/a.safetensors --perf-dump-path out/a.json";
    let mut child = bench.command().args(split(args)).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().starts_with("load transformer")));
    interrupt(&child);
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let (code, _) = end(child);
    assert_eq!((code, rest.last().map(String::as_str)), (Some(130), Some("error: interrupted")), "{rest:?}");
    assert_eq!(bench.made(), [""; 0]);
}
