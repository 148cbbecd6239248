//! Habits from other programs, near names, messages that name the flag, and runs that need no download and no ONNX Runtime.

use std::fs;

use crate::{check, crescendo, folder};

const FLUX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/flux1-dev/model");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures/chelsea.png");

/// Rows: arguments, exit code, and the expected error. A request that gets as far as its model is accepted.
#[test]
fn habits_work_and_messages_name_the_flag() {
    let folder = folder();
    for name in ["clip.mp4", "photo.jpg"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let no_model = "no --model-path was given";
    let mut bad = Vec::new();
    for (args, code, want) in [
        ("generate fox", 3, no_model),
        ("generate -p fox", 3, no_model),
        ("generate -p fox wolf", 3, no_model),
        ("generate fox --prompt wolf", 1, "cannot be used with"),
        ("generate -p fox -i nothing.png", 1, "--image-path: no such file: nothing.png"),
        ("generate -p fox -o taken.png", 1, "taken.png already exists"),
        ("generate -p fox --output taken.png", 1, "taken.png already exists"),
        ("generate -p fox -o taken.png -y", 3, no_model),
        ("generate fox -o new/", 3, no_model),
        ("generate fox -o .", 3, no_model),
        ("generate fox -o /dev/stdout", 1, "/dev/stdout is no regular file, and its name has no extension"),
        ("generate fox -o /dev/null", 1, "--no-save-output writes nothing"),
        ("generate fox --steps 1000000000", 1, "num_inference_steps must be at most 1000000"),
        ("generate fox --num-outputs 99999999", 1, "num_outputs_per_prompt must be at most 1000000"),
        ("generate fox --threads 1000000", 1, "threads must be at most 1024"),
        ("enhance in.png -o o.png --upscale 2 --jobs 1000000", 1, "jobs must be at most 1024"),
        ("generate fox --steps 0", 1, "num_inference_steps must be a positive int, got 0"),
        ("generate fox --cfg inf", 1, "guidance_scale must be a finite number >= 0, got inf"),
        ("generate fox --height 720", 3, no_model),
        ("generate fox --width 720", 3, no_model),
        ("generate fox --vae-tile-overlap -1", 1, "--vae-tile-overlap must be an int of at least 0, got -1"),
        ("enhance -i photo.jpg -o taken.png --upscale 2", 1, "taken.png already exists"),
        ("enhance in.png -o o.png --upscale 2 --tile -1", 1, "--tile must be an int of at least 0, got -1"),
        ("enhance in.png -o o.png --upscale 2 --tile-overlap x", 1, "--tile-overlap must be an int of at least 0"),
        ("enhance in.png -o o.png --refine --refine-tile-overlap -1", 1, "--refine-tile-overlap must be an int"),
        ("enhance in.png -o o.png --upscale 9x", 1, "--upscale must be a factor in [1, 8], got '9x'"),
        ("enhance in.png -o o.png --upscale big", 1, "--upscale must be a factor, WIDTHxHEIGHT or a height"),
        ("enhance in.png -o o.png --upscale 0x5", 1, "--upscale must be WIDTHxHEIGHT"),
        ("enhance in.png -o o.png --upscaling-scale 9", 1, "upscaling_scale must be an int in [1, 8], got 9"),
        ("enhance in.png -o o.png --upscale 2 --start x", 1, "--start: a time must be seconds"),
        ("enhance clip.mp4 -o o.mp4 --interpolate 60", 1, "got 60; write 60x or 60fps"),
        ("enhance clip.mp4 -o o.mp4 --interpolate 60x", 1, "--interpolate 60x makes 60 frames of each frame"),
        ("enhance clip.mp4 -o o.mp4 --interpolate 60x --force", 3, "RIFE"),
        ("enhance clip.mp4 -o o.mp4 --interpolate 16x", 3, "RIFE"),
        ("enhance in.png -o o.xyz --upscale 2", 1, "o.xyz: .xyz cannot be written; use .png"),
        ("enhance clip.mp4 -o o.xyz --upscale 2", 1, "o.xyz: .xyz cannot be written; use .png"),
        ("enhance in.png -o o --upscale 2", 1, "o: the name has no extension; give one such as .png or .mp4"),
        ("enhance photo.jpg -o o.mp4 --upscale 2", 1, "o.mp4: a picture cannot be written as .mp4"),
        ("enhance clip.mp4 -o o.png --upscale 2", 1, "o.png: a video cannot be written as .png"),
        ("enhance clip.mp4 -o o.ogv --upscale 2", 3, "is not complete in"),
        ("plan enhance in.png -o o.xyz --upscale 2", 1, "o.xyz: .xyz cannot be written"),
        ("generate fox --modle-path x", 1, "did you mean --model-path?"),
        ("generate fox --widht 3", 1, "did you mean --width?"),
        ("enhance in.png -o o.png --upscale 2 --filter bicubc", 1, "did you mean bicubic?"),
        ("generate fox --model-path kleni-4b", 1, "did you mean klein-4b?"),
        ("generate fox --model-path black-forest-labs/FLUX.1-dve", 3, "did you mean black-forest-labs/FLUX.1-dev?"),
        ("models pull flux1-dve", 1, "did you mean flux1-dev?"),
        ("models rm flux1-dve", 1, "did you mean flux1-dev?"),
        ("models rm black-forest-labs/FLUX.1-dve", 1, "did you mean black-forest-labs/FLUX.1-dev?"),
        ("enhance in.png -o o.png --upscale 2", 3, "download it; or give --filter bicubic (no network)"),
    ] {
        check(&mut bad, args, &crescendo(folder.path(), &args.split(' ').collect::<Vec<_>>()), code, want);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn without_a_network_the_upscaler_that_ships_is_named() {
    let folder = folder();
    let shipped = folder.path().join("models/demo/srvgg-x2.safetensors");
    fs::create_dir_all(shipped.parent().unwrap()).unwrap();
    fs::write(&shipped, "").unwrap();
    let mut bad = Vec::new();
    for (args, want) in [
        ("enhance in.png -o o.png --upscale 2", format!("--upscaling-model-path {} (2x,", shipped.display())),
        ("enhance in.png -o o.png --upscale 2", "or --filter bicubic".into()),
    ] {
        check(&mut bad, args, &crescendo(folder.path(), &args.split(' ').collect::<Vec<_>>()), 3, &want);
    }
    let named = crescendo(
        folder.path(),
        &["enhance", "in.png", "-o", "o.png", "--upscale", "2", "--upscaling-model-path", "realesrgan-x2"],
    );
    if named.code != 3 || named.err.contains("--filter") {
        bad.push(format!("a network that was asked for: {}", named.err));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Rows: value of `--upscale`, and the size that a picture of 256x192 gets.
#[test]
fn a_filter_alone_needs_no_onnx_runtime() {
    let folder = folder();
    let mut bad = Vec::new();
    for (typed, want) in [("1.5", (384, 288)), ("1.5x", (384, 288)), ("2", (512, 384)), ("4k", (2880, 2160))] {
        let args = ["enhance", PICTURE, "-o", "o.png", "--upscale", typed, "--filter", "nearest", "-y", "--quiet"];
        let run = crescendo(folder.path(), &[&args[..], &["--onnxruntime", "nowhere"]].concat());
        let bytes = fs::read(folder.path().join("o.png")).unwrap_or_default();
        let side = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()));
        if run.code != 0 || (side(16), side(20)) != want {
            bad.push(format!("{typed}: {} {:?} {}", run.code, (side(16), side(20)), run.err));
        }
    }
    let network = ["enhance", PICTURE, "-o", "o.png", "--upscale", "2", "-y", "--upscaling-model-path", "in.png"];
    let run = crescendo(folder.path(), &[&network[..], &["--onnxruntime", "nowhere"]].concat());
    if run.code != 3 || !run.err.contains("ONNX Runtime") {
        bad.push(format!("a network: {} {}", run.code, run.err));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Rows: the given side, the latent's size, and the log line.
#[test]
fn one_side_keeps_the_default_of_the_other() {
    let folder = folder();
    let mut bad = Vec::new();
    for (flags, want, line) in [
        ("--height 512", (64, 128), "--height 512: the width is the default of FLUX.1-dev, 1024"),
        ("--width 512", (128, 64), "--width 512: the height is the default of FLUX.1-dev, 1024"),
    ] {
        let args = ["plan", "generate", "fox", "--json", "--model-path", FLUX];
        let run = crescendo(folder.path(), &[&args[..], &flags.split(' ').collect::<Vec<_>>()].concat());
        let document: serde_json::Value = serde_json::from_str(&run.out).unwrap_or_default();
        let side = |name: &str| document["stages"][0][name].as_u64().unwrap_or(0);
        if (side("height"), side("width")) != want || !run.err.contains(line) {
            bad.push(format!("{flags}: {} {}", run.out, run.err));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_missing_gpu_is_one_sentence() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let folder = folder();
    let mut bad = Vec::new();
    for device in ["cuda", "cuda:1", "tensorrt"] {
        let args = ["generate", "fox", "--model-path", FLUX, "--no-save-output", "--device", device];
        let run = crescendo(folder.path(), &args);
        let want = "this machine has no NVIDIA GPU with a driver; leave out --device or give cpu";
        check(&mut bad, device, &run, 3, want);
        if run.err.lines().count() != 1 {
            bad.push(format!("{device}: {}", run.err));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
