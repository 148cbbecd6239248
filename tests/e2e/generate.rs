//! Generation of pictures from prompts.

use std::fs;

use crescendo::{
    media::video::{Reader, VideoFrame},
    tensor::Samples,
    weights::Checkpoint,
};
use serde_json::Value;

use crate::{Bench, done, here, report};

const SIZED: &str = "generate --model-path {flux} --height 64 --width 96";
const RUN: &str = "generate --model-path {flux} --height 64 --width 96 --num-inference-steps 2";

fn size(bytes: &[u8]) -> (u32, u32) {
    assert!(bytes.starts_with(b"\x89PNG"));
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn prompts_and_seeds_make_one_picture_each() {
    let bench = Bench::new();
    let run = bench.run(&format!("{RUN} --prompt fox dog --num-outputs-per-prompt 2 --output-path out --json"));
    done(&run);
    let document: Value = serde_json::from_slice(&run.out).unwrap();
    let outputs = document["outputs"].as_array().unwrap();
    let names: Vec<&str> = outputs.iter().map(|o| o["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["out/fox_42.png", "out/fox_43.png", "out/dog_42.png", "out/dog_43.png"]);
    assert_eq!((outputs[1]["seed"].as_u64(), outputs[1]["width"].as_u64()), (Some(43), Some(96)));
    assert!(document["seconds"]["denoise"].is_number() && document["peak_memory_bytes"].as_u64() > Some(1 << 20));
    let pictures: Vec<Vec<u8>> = names.iter().map(|n| fs::read(bench.path(n)).unwrap()).collect();
    assert!(pictures.iter().all(|p| size(p) == (96, 64)));
    assert!((0..4).all(|i| (0..i).all(|j| pictures[i] != pictures[j])), "pictures repeat");

    // One seed alone gives the same picture. An existing automatic name gets a suffix.
    done(&bench.run(&format!("{RUN} --prompt dog --seed 43 --output-path out")));
    assert!(fs::read(bench.path("out/dog_43_1.png")).unwrap() == pictures[3], "{:?}", bench.made());
}

/// Processes that choose the same name at the same time.
#[test]
fn concurrent_runs_take_different_names() {
    let bench = Bench::new();
    let runs: Vec<_> = std::thread::scope(|scope| {
        let run = || bench.run(&format!("{RUN} --prompt fox --output-path out --quiet"));
        let threads: Vec<_> = (0..5).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    runs.iter().for_each(done);
    let names: std::collections::BTreeSet<_> = bench.made().into_iter().collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

/// With a memory limit, weights stay mapped and are converted on use; the outputs are equal.
#[test]
fn a_memory_limit_changes_no_picture() {
    let bench = Bench::new();
    let mut bad = vec![];
    for (model, more, name) in [
        ("flux1-dev", "", "a.png"),
        ("flux2-klein", "", "a.png"),
        ("qwen-image", "", "a.png"),
        ("z-image", "", "a.png"),
        ("wan", "--num-frames 5 --codec ffv1", "a.mkv"),
    ] {
        let path = here(&format!("tests/goldens/{model}/model"));
        let picture = |limit: &str| {
            let args = format!(
                "generate --model-path {path} --prompt fox --height 64 --width 96 --num-inference-steps 2 {more}"
            );
            let run = bench.run(&format!("{args} {limit} --overwrite --output-file-path out/{name}"));
            let pixels = if name.ends_with("png") {
                image::open(bench.path("out/a.png")).ok().map(|p| p.to_rgb8().into_raw())
            } else {
                let frames = Reader::open(&bench.path("out/a.mkv")).ok();
                let bytes = |f: VideoFrame| if let Samples::U8(b) = f.frame.samples { b } else { vec![] };
                frames.map(|r| r.flat_map(|f| bytes(f.unwrap())).collect::<Vec<u8>>())
            };
            (run.code, run.err, pixels)
        };
        let (free, limited) = (picture(""), picture("--memory-limit 2GB"));
        let (Some(a), Some(b)) = (&free.2, &limited.2) else {
            bad.push(format!("{model}: {free:?} {limited:?}"));
            continue;
        };
        let near = a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
        if limited.0 != Some(0) || a.len() != b.len() || near * 1000 < a.len() * 999 {
            bad.push(format!("{model}: {near} of {} near, {}", a.len(), limited.1));
        }
    }
    report(bad);
}

#[test]
fn names_latents_and_timings() {
    let bench = Bench::new();
    let to_file = format!("{RUN} --prompt fox --output-file-path out/a.png");
    done(&bench.run(&format!("{to_file} --save-latents out/l.safetensors --perf-dump-path out/p.json")));
    assert_eq!(bench.made(), ["a.png", "l.safetensors", "p.json"]);
    let latents = Checkpoint::open(&bench.path("out/l.safetensors")).unwrap();
    let shapes: Vec<_> = latents.names().map(|n| (n.to_string(), latents.get(n).unwrap().shape.clone())).collect();
    let names: Vec<&str> = shapes.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["latents", "latents.0", "latents.1", "noise"]);
    assert!(shapes.iter().all(|(_, s)| *s == [1, 4, 8, 12]), "{shapes:?}");
    let perf: Value = serde_json::from_slice(&fs::read(bench.path("out/p.json")).unwrap()).unwrap();
    let denoise = perf["stages"].as_array().unwrap().iter().find(|s| s["name"] == "denoise").unwrap();
    assert_eq!(denoise["steps"].as_array().unwrap().len(), 2);

    let picture = fs::read(bench.path("out/a.png")).unwrap();
    let run = bench.run(&to_file);
    assert_eq!((run.code, run.err.lines().count()), (Some(1), 1));
    assert!(run.err.contains("out/a.png already exists; choose another name or pass --overwrite"), "{}", run.err);
    done(&bench.run(&format!("{to_file} --seed 7 --overwrite")));
    assert!(fs::read(bench.path("out/a.png")).unwrap() != picture);

    let run = bench.run(&format!("{RUN} --prompt fox --output-file-path -"));
    done(&run);
    assert!(run.out == picture, "standard output holds another picture than the file");
    done(&bench.run(&format!("{RUN} --prompt fox --no-save-output")));
    assert_eq!(bench.made().len(), 3);
}

/// Flags that cannot change a run are named in a warning, or refused; the others are not.
#[test]
fn flags_without_effect_are_reported() {
    let bench = Bench::new();
    let picture = format!("plan {SIZED} --prompt fox");
    let upscale = "plan enhance {media}/rgb.jpg -o out/a.png --upscale 2 --filter bicubic";
    let mut bad = vec![];
    for (call, flags, code, want) in [
        (picture.as_str(), "", 0, ""),
        (&picture, "--negative-prompt fog", 0, "--negative-prompt: no effect; no guidance of this run uses it"),
        (&picture, "--negative-prompt fog --true-cfg-scale 3", 0, ""),
        (&picture, "--progressive-delta 0.05", 0, "--progressive-delta: no effect; it requires --progressive-mode"),
        (&picture, "--progressive-levels 2", 0, "--progressive-levels or --progressive-scales: no effect"),
        (&picture, "--progressive-scales 0.5,1", 0, "--progressive-levels or --progressive-scales: no effect"),
        (&picture, "--progressive-transform fft", 0, "--progressive-transform: no effect"),
        (&picture, "--progressive-spectrum 2,1", 0, "--progressive-spectrum: no effect"),
        (&picture, "--progressive-mode dct --progressive-delta 0.05 --progressive-transform fft", 0, ""),
        (&picture, "--guidance-scale 5", 0, ""),
        (&picture, "--cfg-batch", 0, "--cfg-batch: no effect"),
        (&picture, "--generator-torch old", 0, "--generator-torch: no effect; only bf16 noise"),
        (&picture, "--generator-torch old --dtype bf16", 0, ""),
        (&picture, "--crf 20", 0, "--crf: no effect; no video is written"),
        (&picture, "--codec libx265", 0, "--codec: no effect"),
        (
            &picture,
            "--output-quality high",
            0,
            "--output-quality or --output-compression: no effect; the output format",
        ),
        (&picture, "--output-quality high --output-file-path out/a.jpg", 0, ""),
        (&picture, "--no-save-output --overwrite", 0, "--overwrite: no effect; no file is written"),
        (&picture, "--vae-tile 64", 0, "--vae-tile: no effect; the VAE works untiled"),
        (&picture, "--vae-tile 32 --vae-tiling on", 0, ""),
        (&picture, "--vae-tile 64 --vae-tiling off", 1, "--vae-tile 64 has no effect"),
        (&picture, "--tile 64", 0, "--tile: no effect; upscaling is not enabled"),
        (&picture, "--frame-interpolation-exp 2", 0, "--frame-interpolation-exp: no effect"),
        (&picture, "--strength 0.5", 1, "--strength requires --image-path"),
        (&picture, "--quality exact", 0, ""),
        (&picture, "--quality high", 1, "--quality high: no approximation is implemented; use lossless or exact"),
        (upscale, "", 0, ""),
        (upscale, "--seed 7", 0, "--seed: no effect; it requires --refine"),
        (upscale, "--tile 64", 0, "--tile: no effect; no upscaling network runs"),
        (upscale, "--crf 20", 0, "--crf: no effect"),
        (upscale, "--chunk 5", 0, "--chunk: no effect"),
        (upscale, "--output-compression 80", 0, "--output-quality or --output-compression: no effect"),
        (
            upscale,
            "--interpolate 3x --frame-interpolation-model-path {rife}",
            0,
            "--interpolate: no effect; pictures are not interpolated",
        ),
        (upscale, "--quality high", 1, "--quality high: no approximation is implemented"),
    ] {
        let out = bench.command().args(crate::split(&format!("{call} {flags}"))).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        let told = err.lines().filter(|line| line.contains("no effect") || line.starts_with("error: ")).count();
        if out.status.code() != Some(code) || !err.contains(want) || told != usize::from(!want.is_empty()) {
            bad.push(format!("{call} {flags}: expected {code} and {want:?}, got {:?}: {err}", out.status.code()));
        }
    }
    report(bad);
}

#[test]
fn growth_and_other_models() {
    let bench = Bench::new();
    let schnell = "{flux}/../../flux1-schnell/model";
    let few = format!("{SIZED} --num-inference-steps 2");
    let mut plain = Vec::new();
    for (name, args) in [
        ("dev", few.clone()),
        ("schnell", format!("generate --model-path {schnell} --height 64 --width 96")),
        ("levels", format!("{SIZED} --num-inference-steps 6 --progressive-mode dct_rewind --progressive-delta 0.05")),
        ("ratios", format!("{SIZED} --num-inference-steps 6 --progressive-mode dct --progressive-scales 1/2 3/4 1")),
        ("heights", format!("{SIZED} --num-inference-steps 6 --progressive-mode dct --progressive-scales 32 64")),
        ("upscaled", format!("{few} --enable-upscaling --upscaling-scale 3 --upscaling-model-path {{x2}}")),
        ("again", format!("{few} --image-path out/dev.png --strength 0.5")),
        ("guided", format!("{few} --negative-prompt blurry --true-cfg-scale 3 --guidance-scale 1.5")),
    ] {
        done(&bench.run(&format!("{args} --prompt fox --output-file-path out/{name}.png")));
        let bytes = fs::read(bench.path(&format!("out/{name}.png"))).unwrap();
        assert_eq!(size(&bytes), if name == "upscaled" { (288, 192) } else { (96, 64) }, "{name}");
        let says = String::from_utf8_lossy(&bytes).contains("Progressive: ");
        assert_eq!(says, ["levels", "ratios", "heights"].contains(&name), "{name}: stage split in the parameters");
        let says = String::from_utf8_lossy(&bytes).contains("Denoising strength: 0.5");
        assert_eq!(says, name == "again", "{name}: strength in the parameters");
        plain.push(bytes);
    }
    assert!((0..plain.len()).all(|i| (0..i).all(|j| plain[i] != plain[j])), "settings without effect");
    for form in ["jpg", "webp"] {
        done(&bench.run(&format!("{few} --prompt fox --output-file-path out/a.{form}")));
        let bytes = fs::read(bench.path(&format!("out/a.{form}"))).unwrap();
        assert!(bytes.starts_with(b"\xff\xd8\xff") || &bytes[8..12] == b"WEBP", "{form}");
    }
}
