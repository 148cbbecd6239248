//! SGLang diffusion's published commands (`docs/diffusion/api/{cli,post_processing}.md`, `progressive_resolution.mdx`) with
//! `crescendo` instead of `sglang`: original flags, our prompts, repositories from the hub cache.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;

use crate::{Bench, here, report};

/// Repositories of the commands, and the tiny checkpoints that replace them.
const REPOS: [(&str, &str); 13] = [
    ("black-forest-labs/FLUX.1-dev", "flux1-dev/model"),
    ("black-forest-labs/FLUX.1-schnell", "flux1-schnell/model"),
    ("black-forest-labs/FLUX.2-dev", "flux2-dev/model"),
    ("black-forest-labs/FLUX.2-klein-4B", "flux2-klein/model"),
    ("black-forest-labs/FLUX.2-klein-9B", "flux2-klein/model"),
    ("Qwen/Qwen-Image", "qwen-image/model"),
    ("Tongyi-MAI/Z-Image", "z-image/model"),
    ("Tongyi-MAI/Z-Image-Turbo", "z-image/model"),
    ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan/model"),
    ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "wan/model"),
    ("ai-forever/Real-ESRGAN", "esrgan/rrdb-x2.pth=RealESRGAN_x2.pth"),
    ("ai-forever/Real-ESRGAN", "esrgan/rrdb-x4.pth=RealESRGAN_x4.pth"),
    ("elfgum/RIFE-4.22.lite", "rife/4.22.lite/flownet.pkl=flownet.pkl"),
];

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Links every file of `from` into `to`, folder by folder.
fn link_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() { link_tree(&path, &to.join(name)) } else { symlink(&path, to.join(name)).unwrap() }
    }
}

/// The golden is Z-Image-Turbo's. Z-Image differs in the shift of its schedule.
fn base_schedule(snapshot: &Path) {
    let path = snapshot.join("scheduler/scheduler_config.json");
    if snapshot.to_string_lossy().contains("Z-Image/") {
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["shift"] = 6.0.into();
        fs::remove_file(&path).unwrap();
        fs::write(&path, config.to_string()).unwrap();
    }
}

/// Returns a bench whose hub cache contains [`REPOS`].
pub(crate) fn bench() -> Bench {
    let bench = Bench::new();
    for (repo, golden) in REPOS {
        let root = bench.path("hf/hub").join(format!("models--{}", repo.replace('/', "--")));
        let snapshot = root.join("snapshots").join(COMMIT);
        let (golden, name) = golden.split_once('=').map_or((golden, None), |(g, n)| (g, Some(n)));
        let source = here(&format!("tests/goldens/{golden}"));
        match name {
            None => {
                link_tree(Path::new(&source), &snapshot);
                base_schedule(&snapshot);
            }
            Some(name) => {
                fs::create_dir_all(&snapshot).unwrap();
                symlink(source, snapshot.join(name)).unwrap();
            }
        }
        fs::create_dir_all(root.join("refs")).unwrap();
        fs::write(root.join("refs/main"), COMMIT).unwrap();
    }
    bench
}

/// Rows: published command, expected split of `plan`, and width, height and frames of the output with the flags of [`SMALL`].
type Row = (&'static str, &'static str, (u64, u64, u64));

const ROWS: &[Row] = &[
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.1-schnell --prompt "A lake at dusk""#,
        "4@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.2-klein-9B --prompt "A lake at dusk""#,
        "4@64x64",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path Tongyi-MAI/Z-Image-Turbo --prompt "A lake at dusk" --height 1024 --width 1024"#,
        "9@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-14B-Diffusers --prompt "A raccoon" --save-output"#,
        "50@60x104",
        (64, 64, 5),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompt "A curious raccoon" --num-frames 81 \
            --height 480 --width 832 --flow-shift 5.0 --progressive-mode dct_rewind --progressive-delta 0.05 \
            --enable-frame-interpolation --frame-interpolation-exp 1 --enable-upscaling --upscaling-scale 2"#,
        "33@30x52 + 17@60x104",
        (128, 128, 9),
    ),
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.1-dev --prompt "A lake at dusk" \
            --num-inference-steps 50 --dit-cpu-offload false \
            --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.05"#,
        "28@64x64 + 22@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.2-klein-4B --prompt "A lake at dusk""#,
        "4@64x64",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.2-klein-4B --prompt "A lake at dusk" \
            --num-inference-steps 30 --dit-cpu-offload false \
            --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.10"#,
        "20@32x32 + 10@64x64",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompt "A cheetah in slow motion" \
            --num-inference-steps 50 --num-frames 81 --height 480 --width 832 --guidance-scale 5.0 --flow-shift 5.0 \
            --dit-cpu-offload false --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.05"#,
        "33@30x52 + 17@60x104",
        (64, 64, 5),
    ),
    (
        r#"sglang generate --model-path Tongyi-MAI/Z-Image --prompt "A lake at dusk" --height 1024 --width 1024"#,
        "50@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path Tongyi-MAI/Z-Image --prompt "A lake at dusk" --height 1024 --width 1024 \
            --num-inference-steps 50 --dit-cpu-offload false \
            --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.10"#,
        // The published 42+8 does not follow from the published constants.
        "39@64x64 + 11@128x128",
        (64, 64, 1),
    ),
    (r#"sglang generate --model-path Qwen/Qwen-Image --prompt "A lake at dusk""#, "50@128x128", (64, 64, 1)),
    (
        r#"sglang generate --model-path Qwen/Qwen-Image --prompt "A lake at dusk" \
            --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.20 \
            --num-inference-steps 30 --dit-cpu-offload false"#,
        "19@64x64 + 11@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path Qwen/Qwen-Image --prompt "A lake" --output-file-path out/q.png \
            --attention-backend torch_sdpa --seed 7 --height 1024 --width 1024 --num-inference-steps 30 \
            --dit-cpu-offload false --progressive-mode dct_rewind --progressive-levels 1 --progressive-delta 0.05 --save-output"#,
        "13@64x64 + 17@128x128",
        (64, 64, 1),
    ),
    (
        r#"sglang generate --model-path black-forest-labs/FLUX.2-dev --prompt "A cat on a windowsill" \
            --output-size 1024x1024 --enable-upscaling --save-output"#,
        "50@64x64",
        (256, 256, 1),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompt "A raccoon" \
            --text-encoder-cpu-offload --pin-cpu-memory --num-gpus 4 --ulysses-degree=2 --ring-degree=2 \
            --save-output --output-path outputs --output-file-name "A curious raccoon.mp4""#,
        "50@60x104",
        (64, 64, 5),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompt "A raccoon" \
            --enable-upscaling --upscaling-scale 4 --save-output"#,
        "50@60x104",
        (256, 256, 5),
    ),
    (
        r#"sglang generate --model-path Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompt "A raccoon" --num-frames 5 \
            --enable-frame-interpolation --frame-interpolation-exp 1 --enable-upscaling --upscaling-scale 4 --save-output"#,
        "50@60x104",
        (256, 256, 9),
    ),
];

/// Flags that make a run small. Later flags override earlier ones.
const SMALL: &str = r#"case "$*" in *--output-size*) set -- "$@" --output-size 64x64 ;; *) set -- "$@" --height 64 --width 64 ;; esac
    case "$*" in *Wan*) set -- "$@" --num-frames 5 ;; esac
    set -- "$@" --num-inference-steps 2"#;

/// Runs a published command in a shell where `sglang` is a function with this body.
fn run_in_shell(bench: &Bench, body: &str, command: &str) -> (Option<i32>, Value, String) {
    let script = format!("sglang() {{\n{body}\n}}\n{command}");
    let binary = assert_cmd::cargo::cargo_bin("crescendo");
    let out = bench.shelled("bash").env("CRESCENDO", binary).args(["-c", &script]).output().unwrap();
    let result = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
    (out.status.code(), result, String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn published_commands_are_planned_and_run() {
    let bench = bench();
    let mut bad = Vec::new();
    for (command, split, (width, height, frames)) in ROWS {
        let (code, result, err) = run_in_shell(&bench, r#"shift; "$CRESCENDO" plan generate "$@" --json"#, command);
        let found: Vec<String> = result["stages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| format!("{}@{}x{}", s["steps"], s["height"], s["width"]))
            .collect();
        if code != Some(0) || found.join(" + ") != *split {
            bad.push(format!("plan of {command}\n  wanted {split}, got {} ({code:?}) {err}", found.join(" + ")));
        }
        let body = format!("{SMALL}\n\"$CRESCENDO\" \"$@\" --overwrite --json");
        let (code, result, err) = run_in_shell(&bench, &body, command);
        let row = &result["outputs"][0];
        let made = [&row["width"], &row["height"], &row["frames"]].map(Value::as_u64);
        let file = row["path"].as_str().is_some_and(|p| bench.path(p).is_file());
        if code != Some(0) || made != [Some(*width), Some(*height), Some(*frames)] || !file {
            bad.push(format!("{command}\n  wanted {width}×{height}×{frames}, got {made:?} ({code:?}) {err}"));
        }
        let useless = ["--dit-cpu-offload", "--num-gpus", "--attention-backend"];
        for flag in useless.iter().filter(|f| command.contains(**f) && !err.contains(*f)) {
            bad.push(format!("{command}\n  {flag} has no effect, and nothing says so: {err}"));
        }
    }
    report(bad);
}
