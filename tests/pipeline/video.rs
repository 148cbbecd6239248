//! Videos: plans, rejected requests, and ffprobe's view of the output.

use std::{path::Path, process::Command};

use crescendo::{
    family::Convention,
    media::resize::Filter,
    pipeline::{Context, generate, plan_generate},
    plan::{Destination, GeneratePlan, Interpolation, Model, Rate, Sides, UpscaleTarget, Upscaling},
    progress::Silent,
    spectral::{Mode, Scales},
};
use serde_json::Value;

use crate::plans;

fn wan() -> GeneratePlan {
    let mut plan = plans::generate(Path::new("tests/goldens/wan/model"), "two boats &amp; a tree");
    (plan.size, plan.frames, plan.steps) = (Sides::of(64, 96), Some(5), Some(2));
    plan
}

fn file(path: &str) -> Model {
    Model { name: path.into(), path: path.into(), ..Model::default() }
}

fn interpolation(times: u32) -> Interpolation {
    let model = file("tests/goldens/rife/4.22.lite/flownet.pkl");
    Interpolation { rate: Rate::Times(times), model, scene_threshold: 1.0, ..Interpolation::default() }
}

fn upscaling() -> Upscaling {
    Upscaling {
        target: UpscaleTarget::Times(2),
        model: Some(file("models/demo/srvgg-x2.safetensors")),
        filter: Filter::Lanczos,
        ..Upscaling::default()
    }
}

/// Panics with all failures, if any.
fn assert_no_failures(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn plans_split_steps_as_published() {
    let rows = [
        (Convention::Diffusers, 0.01, "23@30x52 + 27@60x104"),
        (Convention::Diffusers, 0.02, "27@30x52 + 23@60x104"),
        (Convention::Diffusers, 0.05, "33@30x52 + 17@60x104"),
        (Convention::Diffusers, 0.10, "37@30x52 + 13@60x104"),
        (Convention::Sglang, 0.01, "23@30x52 + 27@60x104"),
        (Convention::Sglang, 0.05, "33@30x52 + 17@60x104"),
    ];
    let mut wrong = vec![];
    for (defaults, delta, want) in rows {
        let mut plan = wan();
        (plan.size, plan.frames, plan.steps, plan.flow_shift) = (Sides::default(), None, None, Some(5.0));
        plan.defaults = defaults;
        plan.progressive.mode = Mode::DctRewind;
        plan.progressive.scales = Scales::Levels(1);
        plan.progressive.delta = delta;
        plan.interpolation = Some(interpolation(4));
        plan.upscaling = Some(upscaling());
        let forecast = plan_generate(&plan).unwrap();
        let split: Vec<String> =
            forecast.stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        if split.join(" + ") != want {
            wrong.push(format!("{defaults:?} δ {delta}: {}, not {want}", split.join(" + ")));
        }
        let tokens: Vec<usize> = forecast.stages.iter().map(|s| s.tokens).collect();
        if tokens != [21 * 15 * 26, 21 * 30 * 52] {
            wrong.push(format!("{defaults:?} δ {delta}: tokens {tokens:?}"));
        }
        let sizes = serde_json::to_value(&forecast.sizes).unwrap();
        let of = |i: usize, key: &str| sizes[i][key].as_f64().unwrap_or(f64::NAN);
        let found: Vec<[f64; 4]> =
            (0..3).map(|i| [of(i, "width"), of(i, "height"), of(i, "frames"), of(i, "fps")]).collect();
        let wanted = [[832.0, 480.0, 81.0, 16.0], [832.0, 480.0, 321.0, 64.0], [1664.0, 960.0, 321.0, 64.0]];
        if found != wanted {
            wrong.push(format!("{defaults:?} δ {delta}: sizes {sizes}"));
        }
    }
    assert_no_failures(wrong);
}

/// Rows: name, change of a plan, words of the error.
type Refused = (&'static str, fn(&mut GeneratePlan), &'static [&'static str]);

#[test]
fn unsupported_requests_are_rejected_before_loading() {
    let rows: &[Refused] = &[
        ("frames", |p| p.frames = Some(6), &["--num-frames 6", "5 or 9"]),
        ("frames", |p| p.frames = Some(3), &["--num-frames 3", "1 or 5"]),
        ("height", |p| p.size = crescendo::plan::Sides::of(360, 640), &["--height 360", "352 or 368"]),
        ("width", |p| p.size = crescendo::plan::Sides::of(64, 8), &["--width 8", "16"]),
        ("true cfg", |p| p.true_cfg_scale = Some(2.0), &["--true-cfg-scale", "--guidance-scale"]),
        ("text", |p| p.max_sequence_length = Some(513), &["max_sequence_length 513", "512"]),
        ("output", |p| p.output.destination = Destination::StandardOutput, &["--output-file-path -", "videos"]),
        ("picture", |p| p.output.destination = Destination::File("/tmp/x.png".into()), &["video", ".png"]),
    ];
    let mut wrong = vec![];
    for (name, change, words) in rows {
        let mut plan = wan();
        change(&mut plan);
        let cx = Context::start(&plan.runtime, &Silent).unwrap();
        match generate(&plan, &cx) {
            Ok(_) => wrong.push(format!("{name}: not refused")),
            Err(e) => {
                let text = e.to_string();
                wrong.extend(
                    words.iter().filter(|w| !text.contains(**w)).map(|w| format!("{name}: no {w:?} in {text}")),
                );
            }
        }
    }
    assert_no_failures(wrong);
}

#[test]
fn videos_are_interpolated_upscaled_and_tagged() {
    let temp = tempfile::tempdir().unwrap();
    let mut wrong = vec![];
    let rows = [
        ("plain", None, 1, "16/1", 5),
        ("faster", Some(24.0), 2, "48/1", 9),
        ("odd", Some(23.976), 4, "96000/1001", 17),
    ];
    for (name, fps, times, rate, frames) in rows {
        let path = temp.path().join(format!("{name}.mp4"));
        let mut plan = wan();
        plan.fps = fps.map(|f: f64| if name == "odd" { 24000.0 / 1001.0 } else { f });
        plan.interpolation = (times > 1).then(|| interpolation(times));
        plan.upscaling = (times > 1).then(upscaling);
        plan.output.destination = Destination::File(path.clone());
        let cx = Context::start(&plan.runtime, &Silent).unwrap();
        let row = &generate(&plan, &cx).unwrap().outputs[0];
        let found = probe(&path);
        let stream = &found["streams"][0];
        let scale = if times > 1 { 2 } else { 1 };
        let comment = found["format"]["tags"]["comment"].as_str().unwrap_or_default().to_string();
        let checks = [
            (row.frames == frames && row.width == 96 * scale && row.height == 64 * scale, "the result"),
            (stream["nb_read_frames"] == frames.to_string().as_str(), "frames"),
            (stream["r_frame_rate"] == rate, "rate"),
            (stream["width"] == 96 * scale && stream["height"] == 64 * scale, "size"),
            (
                comment.contains("two boats") && comment.contains("Sampler: UniPC") && comment.contains("96x64"),
                "comment",
            ),
        ];
        wrong.extend(
            checks.iter().filter(|(good, _)| !good).map(|(_, what)| format!("{name}: {what}: {found} {row:?}")),
        );
    }
    assert_no_failures(wrong);
}

fn probe(path: &Path) -> Value {
    let arguments = ["-v", "error", "-count_frames", "-show_streams", "-show_format", "-of", "json"];
    let out = Command::new("ffprobe").args(arguments).arg(path).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap()
}
