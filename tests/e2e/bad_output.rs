//! Unsupported sizes, unwritable paths, full disks.

use std::{fs, process::Stdio};

use crate::{Bench, report};

const RUN: &str = "generate --model-path {flux} --prompt fox --num-inference-steps 1";

#[test]
fn unsupported_sizes_name_the_nearest() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (size, wants) in [
        ("--height 100 --width 64", vec!["--height 100", "multiple of 16", "96 or 112"]),
        ("--height 64 --width 1000", vec!["--width 1000", "multiple of 16", "992 or 1008"]),
        ("--output-size 65x64", vec!["--width 65", "64 or 80"]),
        ("--output-size 16384x16384", vec!["noise levels", "not finite", "choose a smaller size"]),
    ] {
        let args = format!("{RUN} {size} --output-file-path out/a.png");
        bad.extend(bench.fault(size, &bench.run(&args), 1, &wants));
    }
    report(bad);
}

/// Even root cannot write to /proc or below a file.
#[test]
fn unwritable_paths_give_a_one_line_error() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "").unwrap();
    let small = format!("{RUN} --height 64 --width 64");
    let picture = "enhance {pictures}/chelsea.png --upscale 2 --upscaling-model-path {x2}";
    let clip = "enhance {clip} --upscale 2 --upscaling-model-path {x2}";
    let mut bad = Vec::new();
    for (args, wants) in [
        (format!("{small} --output-file-path file/a.png"), ["creating the folder file", "choose another location"]),
        (format!("{small} --output-file-path /proc/no/a.png"), ["creating the folder /proc/no", "check the path"]),
        (format!("{small} --output-path /proc/no"), ["creating the folder /proc/no", "check the path"]),
        (
            format!("{small} --output-file-path out/a.png --save-latents /proc/a.safetensors"),
            ["/proc/a.safetensors", "check the path"],
        ),
        (
            format!("{small} --output-file-path out/a.png --save-latents gone/a.safetensors"),
            ["gone/a.safetensors: the folder gone does not exist", "create it"],
        ),
        (
            format!("{small} --output-file-path out/a.png --perf-dump-path /proc/a.json"),
            ["/proc/a.json", "check the path"],
        ),
        (format!("{picture} -o file/a.png"), ["creating the folder file", "choose another location"]),
        (format!("{picture} -o /proc/a.png"), ["/proc/a.png", "check the path"]),
        (format!("{picture} -o out/a.png --perf-dump-path /proc/a.json"), ["/proc/a.json", "check the path"]),
        (format!("{clip} -o /proc/a.mp4"), ["/proc/a.mp4", "check the path"]),
        (format!("{clip} -o file/a.mp4"), ["creating the folder file", "choose another location"]),
        ("export {x2} -o file/x".into(), ["creating the folder file/x", "choose another location"]),
        ("export {x2} -o /proc/x".into(), ["creating the folder /proc/x", "check the path"]),
    ] {
        bad.extend(bench.fault(&args, &bench.run(&args), 3, &wants));
    }
    report(bad);
}

/// A file size limit simulates a full disk: a write fails midway.
#[test]
fn full_disks_leave_no_file() {
    let bench = Bench::new();
    let small = format!("{RUN} --height 64 --width 64");
    let mut bad = Vec::new();
    for (blocks, args, wants) in [
        (4, format!("{small} --output-file-path out/a.png"), vec!["writing out/a.png", "free some space"]),
        (
            4,
            format!("{RUN} --height 128 --width 128 --output-file-path out/a.png --save-latents out/a.safetensors"),
            vec!["writing out/a.safetensors", "free some space"],
        ),
        (
            20,
            "enhance {pictures}/chelsea.png -o out/a.png --upscale 2 --upscaling-model-path {x2}".into(),
            vec!["writing out/a.png", "free some space"],
        ),
        (
            20,
            "enhance {clip} -o out/a.mp4 --upscale 2 --upscaling-model-path {x2}".into(),
            vec!["out/a.mp4: ", "free some space"],
        ),
    ] {
        bad.extend(bench.fault(&args, &bench.run_limited(blocks, &args), 3, &wants));
    }
    report(bad);

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = bench.command();
    command.args(crate::split(&format!("{small} --output-file-path - --quiet"))).stdout(Stdio::from(full));
    let result = command.output().unwrap();
    let err = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(3), "{err}");
    assert!(err.starts_with("error: writing to standard output: No space left on device"), "{err}");
}

/// A failed export is not recognised as a model.
#[test]
fn a_failed_export_is_not_a_model() {
    let bench = Bench::new();
    let run = bench.run_limited(20, "export {flux} -o out/model");
    assert_eq!(run.code, Some(3), "{}", run.err);
    assert!(run.err.contains("free some space") && run.err.lines().count() == 1, "{}", run.err);
    let made = bench.made();
    assert!(!made.iter().any(|n| n == "model_index.json" || n.ends_with(".part")), "{made:?}");
}
