//! Exported folders and graphs run as models. Checks `inspect`, `plan` and `doctor`.

use std::fs;

use serde_json::{Value, json};

use crate::{Bench, done, report};

#[test]
fn an_exported_folder_gives_the_same_picture() {
    let bench = Bench::new();
    done(&bench.run("export {flux} -o exported"));
    for (model, name) in [("{flux}", "a"), ("exported", "b")] {
        done(&bench.run(&format!(
            "generate --model-path {model} --prompt fox --height 64 --width 64 --num-inference-steps 2 \
             --output-file-path out/{name}.png"
        )));
    }
    assert!(fs::read(bench.path("out/a.png")).unwrap() == fs::read(bench.path("out/b.png")).unwrap());
    // A second export to the same folder changes nothing. Different graphs require --overwrite.
    done(&bench.run("export {flux} -o exported"));
    let run = bench.run("export {flux} -o exported --portable");
    assert!(run.code == Some(3) && run.err.contains("exists and differs; --overwrite"), "{}", run.err);
    done(&bench.run("export {flux} -o exported --portable --overwrite"));
    // The parts of two models are not mixed.
    crate::copy_folder(std::path::Path::new(&crate::here("tests/goldens/z-image/model")), &bench.path("out/other"));
    let before = bench.made();
    let run = bench.run("export {flux} -o out/other");
    assert!(run.code == Some(1) && run.err.contains("-o out/other holds another model"), "{}", run.err);
    assert_eq!(bench.made(), before);
}

/// A graph with only standard operators, like that of another tool, gives the outputs of its checkpoint.
#[test]
fn a_foreign_graph_upscales_like_its_checkpoint() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (file, scale) in [("compact-x2.pth", 2), ("compact-x3.pth", 3), ("rrdb-x4.pth", 4)] {
        let file = if scale == 2 { "compact-x2.safetensors" } else { file };
        done(&bench.run(&format!("export {{esrgan}}/{file} --portable -o {scale}")));
        for (model, name) in [(format!("{scale}/upscaler.onnx"), "onnx"), (format!("{{esrgan}}/{file}"), "own")] {
            done(&bench.run(&format!(
                "enhance {{media}}/rgba.png -o out/{name}.png --overwrite --upscale {scale} --upscaling-model-path {model}"
            )));
        }
        let near = max_difference(&bench, "out/onnx.png", "out/own.png");
        if near > 1 {
            bad.push(format!("{file}: the graph's picture differs by {near} grey levels"));
        }
        let found = json_of(&bench, &format!("inspect {scale}/upscaler.onnx"));
        if found["kind"] != "graph" {
            bad.push(format!("{file}: {found}"));
        }
    }
    report(bad);
}

/// Returns the maximum difference between two 8-bit pictures.
fn max_difference(bench: &Bench, a: &str, b: &str) -> u8 {
    let read = |name: &str| crescendo::media::picture::read(&bench.path(name)).unwrap().frame;
    let (a, b) = (read(a), read(b));
    assert_eq!((a.height, a.width), (b.height, b.width));
    let crescendo::tensor::Samples::U8(a) = a.samples else { panic!("8 bits") };
    let crescendo::tensor::Samples::U8(b) = b.samples else { panic!("8 bits") };
    a.iter().zip(&b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn json_of(bench: &Bench, args: &str) -> Value {
    let run = bench.run(&format!("{args} --json"));
    done(&run);
    serde_json::from_slice(&run.out).unwrap_or_else(|e| panic!("{args}: {e}"))
}

#[test]
fn inspect_identifies_files() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (path, wants) in [
        ("{rife}", json!({"kind": "interpolation", "architecture": "IFNet (RIFE)", "dtype": "f32"})),
        ("{x2}", json!({"kind": "upscaling", "architecture": "SRVGGNetCompact", "scale": 2, "dtype": "f16"})),
        ("{esrgan}/rrdb-x4.pth", json!({"kind": "upscaling", "architecture": "RRDBNet", "scale": 4})),
        ("{esrgan}/rrdb-x8.pth", json!({"kind": "upscaling", "architecture": "RRDBNet", "scale": 8})),
        ("{esrgan}/rrdb-x4-old.pth", json!({"kind": "upscaling", "architecture": "RRDBNet", "scale": 4})),
        ("{esrgan}/compact-x2-legacy.pth", json!({"kind": "upscaling", "scale": 2})),
        ("{flux}", json!({"kind": "diffusion", "architecture": "FluxPipeline", "tensors": 427, "parameters": 323_403})),
        ("{flux}/vae", json!({"kind": "vae", "architecture": "AutoencoderKL"})),
        ("{flux}/transformer", json!({"kind": "transformer", "architecture": "FluxTransformer2DModel"})),
        ("{flux}/text_encoder/model.safetensors", json!({"kind": "text_encoder", "architecture": "CLIPTextModel"})),
    ] {
        let found = json_of(&bench, &format!("inspect {path}"));
        for (key, want) in wants.as_object().unwrap() {
            if found[key] != *want {
                bad.push(format!("{path}: {key} is {}, wanted {want}", found[key]));
            }
        }
    }
    report(bad);
}

/// FLUX.1-dev's rows of the published table, with the schedule of the checkpoint.
#[test]
fn plan_prints_the_published_splits() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (levels, delta, split) in [
        (1, "0.01", "18@64x64 + 32@128x128"),
        (1, "0.05", "28@64x64 + 22@128x128"),
        (2, "0.01", "10@32x32 + 8@64x64 + 32@128x128"),
    ] {
        let args = format!(
            "plan generate --model-path {{flux}} --prompt x --output-size 1024x1024 --num-inference-steps 50 \
             --progressive-mode dct_rewind --progressive-levels {levels} --progressive-delta {delta}"
        );
        let run = bench.run(&args);
        let text = String::from_utf8_lossy(&run.out).into_owned();
        if !text.lines().any(|l| l.starts_with("split ") && l.ends_with(&format!(" {split}"))) {
            bad.push(format!("{levels} {delta}: wanted {split}, got {text}{}", run.err));
        }
        let stages = json_of(&bench, &args)["stages"].clone();
        let parts: Vec<String> = stages
            .as_array()
            .unwrap()
            .iter()
            .map(|s| format!("{}@{}x{}", s["steps"], s["height"], s["width"]))
            .collect();
        if parts.join(" + ") != split {
            bad.push(format!("{levels} {delta}: --json has {}", parts.join(" + ")));
        }
    }
    report(bad);
}

#[test]
fn doctor_finds_installed_libraries() {
    let found = json_of(&Bench::new(), "doctor");
    assert_eq!(found["onnxruntime"]["version"], found["onnxruntime"]["wanted"]);
    assert!(found["providers"].as_array().unwrap().contains(&json!("cpu")), "{found}");
    assert!(found["ffmpeg"]["encoders"].as_array().unwrap().contains(&json!("libx264")), "{found}");
    assert_eq!(found["problems"], json!([]));
}
