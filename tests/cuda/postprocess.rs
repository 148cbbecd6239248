//! Interpolation and upscaling in every type. What one more frame does is the difference between clips of 4 and of 3 frames.

use std::{path::Path, process::Command};

use crate::{Bench, report};

/// Rows, columns of a frame.
const SIDE: i64 = 64;

/// Flags of `enhance`, and f32 values that one more frame of the source may copy to the device and from it.
const ROWS: &[(&str, [i64; 2])] = &[
    // A pair of frames and the time; the frame between.
    (
        "--interpolate 2x --frame-interpolation-model-path {goldens}/rife/4.22.lite/flownet.pkl",
        [6 * SIDE * SIDE + 1, 3 * SIDE * SIDE],
    ),
    // The only network that chooses between two results.
    (
        "--interpolate 2x --frame-interpolation-model-path {goldens}/rife/4.0/flownet.pkl",
        [6 * SIDE * SIDE + 1, 3 * SIDE * SIDE],
    ),
    // A frame; four times its sides.
    ("--upscale 4 --upscaling-model-path {goldens}/esrgan/rrdb-x4.pth", [3 * SIDE * SIDE, 48 * SIDE * SIDE]),
    ("--upscale 2 --upscaling-model-path {goldens}/esrgan/compact-x2.safetensors", [3 * SIDE * SIDE, 12 * SIDE * SIDE]),
];

/// Bytes of small tables that the kernels of a frame may get.
const TABLES: i64 = 1024;

fn clip(path: &Path, frames: usize) {
    let source = format!("testsrc2=size={SIDE}x{SIDE}:rate=10:duration=1");
    let args = ["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", &frames.to_string(), "-c:v", "ffv1"]
        .map(String::from);
    let made = Command::new("ffmpeg").args(args).arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn frames_cross_the_bus_once_in_every_type() {
    let (bench, mut bad) = (Bench::new(), Vec::new());
    for frames in [3, 4] {
        clip(&bench.path(&format!("{frames}.mkv")), frames);
    }
    for (flags, values) in ROWS {
        for dtype in ["auto", "f32", "f16", "bf16"] {
            let name = format!("{flags} {dtype}");
            let [short, long] = [3, 4].map(|frames| {
                bench.run(&format!("enhance {frames}.mkv -o out.mkv --overwrite {flags} --dtype {dtype}"), &[])
            });
            bad.extend(long.faults(&name));
            let warned = long.err.contains("upscalers have no kernels in bf16");
            if warned != (flags.starts_with("--upscale") && dtype == "bf16") {
                bad.push(format!("{name}: a warning: {warned}"));
            }
            let (copied, wanted) = (long.log.copied_more_than(&short.log), values.map(|count| 4 * count));
            // Some kernels get tables of addresses and extents.
            if !(0..=TABLES).contains(&(copied[0] - wanted[0])) || copied[1] != wanted[1] {
                bad.push(format!("{name}: a frame copies {copied:?} bytes to and from the device, wanted {wanted:?}"));
            }
        }
    }
    report(&bad);
}
