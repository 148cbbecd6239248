//! Compares full runs with diffusers: noise, the latent after every step, the final latent and the picture, in every progressive mode.
//!
//! Goldens: `scripts/reference/{flux1,flux2,families,start}.py`.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod exported;
mod flux2_qwen;
mod from_picture;
mod noise;
mod plans;
mod sizes;
mod tiles;
mod video;
mod z_image;

use std::{collections::BTreeMap, path::Path};

use crescendo::{
    media::{picture, video::Reader},
    pipeline::{Context, generate},
    plan::{Destination, Sides, Start},
    progress::Silent,
    spectral::{Mode, Scale, Scales, Spectrum},
    tensor::{DType, Frame, Samples},
    weights::Checkpoint,
};
use serde_json::Value;

fn floats(c: &Checkpoint, name: &str) -> Vec<f32> {
    c.get(name).unwrap_or_else(|| panic!("{}: no {name}", c.origin().display())).to_f32().unwrap()
}

/// max|a − b| / max|b|. Infinite if the lengths differ.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    let scale = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / scale
}

/// Returns the samples of a picture or video: frames, rows, columns, colours.
fn samples(path: &Path, video: bool) -> Vec<u8> {
    let frames: Vec<Frame> = if video {
        Reader::open(path).unwrap().map(|f| f.unwrap().frame).collect()
    } else {
        vec![picture::read(path).unwrap().frame]
    };
    let bytes = |f: Frame| match f.samples {
        Samples::U8(bytes) => bytes,
        Samples::U16(_) => panic!("{}: 16 bits", path.display()),
    };
    frames.into_iter().flat_map(bytes).collect()
}

/// Runs one row of runs.json and returns its faults. `cfg_batch`: both guidance predictions in one call.
fn run(model: &str, row: &Value, cfg_batch: bool, table: &mut Vec<String>) -> Vec<String> {
    let name = row["name"].as_str().unwrap();
    let root = Path::new("tests/goldens").join(model);
    let temp = tempfile::tempdir().unwrap();
    let mut plan = plans::generate(&root.join("model"), row["prompt"].as_str().unwrap());
    let number = |key: &str| row.get(key).and_then(Value::as_f64);
    plan.size = Sides::of(number("height").unwrap() as usize, number("width").unwrap() as usize);
    plan.seeds = vec![number("seed").unwrap() as u64];
    plan.steps = Some(number("steps").unwrap() as usize);
    plan.guidance_scale = number("guidance_scale");
    plan.true_cfg_scale = number("true_cfg_scale");
    plan.cfg_normalization =
        row.get("cfg_normalization").and_then(|c| c.as_f64().or(c.as_bool().map(|cap| f64::from(u8::from(cap)))));
    plan.cfg_batch = cfg_batch;
    plan.cfg_truncation = number("cfg_truncation");
    plan.negative_prompt = row.get("negative_prompt").and_then(Value::as_str).map(str::to_string);
    plan.save_latents = Some(temp.path().join("latents.safetensors"));
    plan.frames = number("num_frames").map(|n| n as usize);
    let video = plan.frames.is_some();
    let golden = Checkpoint::open(&root.join(format!("runs/{name}.safetensors"))).unwrap();
    if row.get("source").is_some() {
        let clip = row["clip"] == true;
        let image = from_picture::file(temp.path(), &golden, clip);
        // A clip determines the number of frames. The pipeline's default strength is omitted.
        plan.frames = plan.frames.filter(|_| !clip);
        plan.start = Some(Start { image, strength: number("strength").filter(|_| name != "start") });
    }
    // Lossless, so that the file has the decoded values.
    (plan.output.codec, plan.output.pix_fmt) =
        if video { (Some("ffv1".into()), Some("bgr0".into())) } else { (None, None) };
    let out = temp.path().join(if video { "out.mkv" } else { "out.png" });
    plan.output.destination = Destination::File(out.clone());
    let bf16 = row.get("noise_dtype").and_then(Value::as_str) == Some("bfloat16");
    plan.runtime.dtype = Some(if bf16 { DType::BF16 } else { DType::F32 });
    if let Some(mode) = row.get("progressive_mode").and_then(Value::as_str) {
        plan.progressive.mode = if mode == "dct" { Mode::Dct } else { Mode::DctRewind };
        plan.progressive.delta = number("progressive_delta").unwrap();
        plan.progressive.spectrum =
            row.get("spectrum").and_then(|s| Some(Spectrum { a: s[0].as_f64()?, beta: s[1].as_f64()? }));
        plan.progressive.scales = match row.get("progressive_scales").and_then(Value::as_array) {
            Some(s) => Scales::Explicit(s.iter().map(|v| Scale::Ratio(v.as_f64().unwrap())).collect()),
            None => Scales::Levels(number("levels").unwrap() as usize),
        };
    }
    plan.max_sequence_length = number("max_sequence_length").map(|n| n as usize);
    let cx = Context::start(&plan.runtime, &Silent).unwrap();
    if let Err(e) = generate(&plan, &cx) {
        return vec![format!("{name}: {e}")];
    }
    let ours = Checkpoint::open(plan.save_latents.as_ref().unwrap()).unwrap();
    let mut wrong = Vec::new();
    let mut worst = BTreeMap::new();
    for key in golden.names().filter(|k| k.starts_with("latents") || ["noise", "start"].contains(k)) {
        let limit =
            [("noise", 0.0), ("start", 1e-4)].into_iter().find(|(k, _)| *k == key).map_or(1e-3, |(_, limit)| limit);
        let error = relative(&floats(&ours, key), &floats(&golden, key));
        let kind = if ["noise", "start", "latents"].contains(&key) { key } else { "steps" };
        let most = worst.entry(kind).or_insert(0f32);
        *most = most.max(error);
        if error.is_nan() || error > limit {
            wrong.push(format!("{name}: {key} differs by {error:.2e}, limit {limit:.0e}"));
        }
    }
    let wanted = golden.get("picture").unwrap().bytes().unwrap().to_vec();
    let found = samples(&out, video);
    let near = found.iter().zip(&wanted).filter(|(a, b)| a.abs_diff(**b) <= 1).count() as f64 / wanted.len() as f64;
    if found.len() != wanted.len() || near < 0.99 {
        wrong.push(format!("{name}: {:.1} % of the picture within 1/255, wanted 99", near * 100.0));
    }
    let errors: String = worst.iter().map(|(kind, error)| format!("{kind} {error:.1e}  ")).collect();
    table.push(format!("{model:14} {name:22} {errors}picture {:.2} %", near * 100.0));
    wrong
}

const MODELS: [&str; 8] =
    ["flux1-dev", "flux1-schnell", "flux2-dev", "flux2-klein", "flux2-klein-base", "qwen-image", "wan", "z-image"];

/// Returns runs from prompts and runs from pictures. schnell has no picture goldens: it shares dev's code.
fn rows(model: &str) -> Vec<Value> {
    let lists: &[&str] = if model == "flux1-schnell" { &["runs"] } else { &["runs", "starts"] };
    let read = |list: &&str| {
        let path = format!("tests/goldens/{model}/{list}.json");
        serde_json::from_str::<Vec<Value>>(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    lists.iter().flat_map(read).collect()
}

#[test]
fn full_runs_equal_diffusers() {
    let (mut wrong, mut table) = (Vec::new(), Vec::new());
    for model in MODELS {
        let rows = rows(model);
        assert!(!rows.is_empty());
        for row in &rows {
            wrong.extend(run(model, row, false, &mut table));
        }
    }
    println!("{}", table.join("\n"));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Every family with guidance. Prompts of different lengths need two calls and give a warning.
#[test]
fn batched_guidance_equals_diffusers() {
    let (mut wrong, mut table) = (Vec::new(), Vec::new());
    for model in ["flux1-dev", "flux2-klein-base", "qwen-image", "wan", "z-image"] {
        let guided = |row: &&Value| ["guidance_scale", "true_cfg_scale"].iter().any(|k| row[k].as_f64() > Some(1.0));
        let row =
            rows(model).into_iter().find(|r| guided(&r) && (model != "flux1-dev" || r.get("true_cfg_scale").is_some()));
        wrong.extend(run(model, &row.unwrap(), true, &mut table));
    }
    println!("{}", table.join("\n"));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
