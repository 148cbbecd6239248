//! Diffusion upscaling of pictures: comparison with a loop around diffusers' modules, strength 0, tile borders, invalid requests.

use std::{fs, path::Path};

use crescendo::{
    media::picture::{self, Picture, PictureOptions},
    tensor::Frame,
};
use ndarray::{Array3, Axis};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Bench, CLIP, done, ffmpeg, here, published, report};

const MODELS: [&str; 4] = ["flux1-dev", "flux2-klein-base", "qwen-image", "z-image"];

/// Writes a picture of 8 or 16 bits. The output has the same bit depth.
fn write(path: &Path, planes: &Array3<f32>, deep: bool) {
    let options = PictureOptions { overwrite: true, ..PictureOptions::default() };
    picture::write(path, &Picture::from(Frame::from_planes(planes, deep).unwrap()), &options).unwrap();
}

fn planes(path: &Path) -> Array3<f32> {
    picture::read(path).unwrap().frame.planes().unwrap()
}

fn text(path: &Path) -> String {
    let read = picture::read(path).unwrap();
    read.text.into_iter().find(|(keyword, _)| keyword == "parameters").map(|(_, text)| text).unwrap_or_default()
}

/// Returns the maximum difference in the networks' range, −1 to 1.
fn difference(a: &Array3<f32>, b: &Array3<f32>) -> f32 {
    if a.dim() != b.dim() {
        return f32::INFINITY;
    }
    2.0 * a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
}

/// Runs `enhance` with flags and with values that contain spaces.
fn enhance(bench: &Bench, flags: &str, values: &[(&str, &str)]) {
    let mut command = bench.command();
    command.args(flags.split_whitespace()).arg("--quiet");
    for (flag, value) in values {
        command.args([flag, value]);
    }
    let result = command.output().unwrap();
    let err = String::from_utf8_lossy(&result.stderr);
    assert_eq!((result.status.code(), err.as_ref()), (Some(0), ""), "{flags}");
}

/// Returns the fraction of samples that differ by more than 1e-3 in the range of [`difference`].
fn fraction_above_limit(a: &Array3<f32>, b: &Array3<f32>) -> f64 {
    a.iter().zip(b).filter(|(a, b)| 2.0 * (**a - **b).abs() > 1e-3).count() as f64 / a.len() as f64
}

/// Latent and picture mode, tiled and untiled, one and two passes: 99.9 % of samples within 1e-3, all within one grey level.
/// Norms of a decoder amplify rounding errors where all channels are near 0; Qwen-Image's tiny VAE has one or two such positions.
#[test]
fn refined_pictures_equal_diffusers() {
    let (mut wrong, mut table) = (Vec::new(), Vec::new());
    for model in MODELS {
        let root = here(&format!("tests/goldens/{model}"));
        let bytes = fs::read(format!("{root}/refine.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let cases: Vec<Value> =
            serde_json::from_str(&fs::read_to_string(format!("{root}/refine.json")).unwrap()).unwrap();
        for case in cases {
            let (bench, name) = (Bench::new(), case["name"].as_str().unwrap());
            let image = golden.tensor(&format!("{name}.image")).unwrap();
            let made = golden.tensor(&format!("{name}.made")).unwrap();
            let (h, w) = (image.shape()[0], image.shape()[1]);
            let source =
                Array3::from_shape_fn((3, h, w), |(c, y, x)| f32::from(image.data()[(y * w + x) * 3 + c]) / 255.0);
            write(&bench.path("in.png"), &source, true);
            let sample = |i: usize| u16::from_le_bytes([made.data()[2 * i], made.data()[2 * i + 1]]);
            let (mh, mw) = (made.shape()[1], made.shape()[2]);
            let wanted =
                Array3::from_shape_fn((3, mh, mw), |(c, y, x)| f32::from(sample((c * mh + y) * mw + x)) / 65535.0);
            let stages: Vec<String> = case["stages"].as_array().unwrap().iter().map(|f| format!("{f}x")).collect();
            let number = |key: &str| case[key].to_string();
            let mut flags = format!(
                "enhance in.png -o out.png --dtype f32 --refine --refine-model {root}/model --refine-stages {} --seed {} \
                 --refine-strength {} --num-inference-steps {} --refine-tile {} --refine-tile-overlap {} --refine-by {}",
                stages.join(","),
                number("seed"),
                number("strength"),
                number("steps"),
                number("tile"),
                number("tile_overlap"),
                case["by"].as_str().unwrap()
            );
            if case["by"] == "picture" {
                flags.push_str(" --filter nearest");
            }
            for (key, flag) in [("guidance_scale", "guidance-scale"), ("true_cfg_scale", "true-cfg-scale")] {
                if case.get(key).is_some() {
                    flags.push_str(&format!(" --{flag} {}", case[key]));
                }
            }
            let mut values = vec![("--refine-prompt", case["prompt"].as_str().unwrap())];
            values.extend(case.get("negative_prompt").map(|n| ("--negative-prompt", n.as_str().unwrap())));
            enhance(&bench, &flags, &values);
            let error = difference(&planes(&bench.path("out.png")), &wanted);
            let far = fraction_above_limit(&planes(&bench.path("out.png")), &wanted);
            table.push(format!("{model:18} {name:14} {error:.1e}, {:.3} % beyond 1e-3", 100.0 * far));
            if error.is_nan() || error > 1.0 / 255.0 || far > 1e-3 {
                wrong.push(format!("{model} {name}: differs by {error:.2e}, {:.2} % beyond 1e-3", 100.0 * far));
            }
        }
    }
    println!("{}", table.join("\n"));
    report(wrong);
}

/// Strength 0 disables refinement: the bytes equal plain upscaling for any other refinement flag.
#[test]
fn strength_0_equals_plain_upscaling() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (name, upscale) in [
        ("grey_alpha16.png", "--upscale 2 --upscaling-model-path {x2}"),
        ("rgba.png", "--upscale 2 --filter lanczos"),
        ("rgb.jpg", "--upscale 77x55 --upscaling-model-path {x2}"),
    ] {
        let plain = format!("enhance {{media}}/{name} {upscale} --overwrite -o");
        done(&bench.run(&format!("{plain} out/plain.png")));
        let flags = "--refine --refine-model {flux} --refine-strength 0 --refine-stages 2x,1.5x --refine-by latent";
        done(&bench.run(&format!("{plain} out/refined.png {flags}")));
        let [a, b] = ["out/plain.png", "out/refined.png"].map(|f| fs::read(bench.path(f)).unwrap());
        if a != b {
            bad.push(format!("{name} {upscale}: {} and {} bytes", a.len(), b.len()));
        }
    }
    // Without --upscale, the stages set the size. No model is needed.
    for (stages, upscale, network) in [
        ("2x,2x", "4", "--upscaling-model-path {x2}"),
        ("2x,1.5x", "3", "--upscaling-model-path {x2}"),
        ("2x", "2", "--filter bicubic"),
    ] {
        let plain = format!("enhance {{media}}/rgb.jpg {network} --overwrite -o");
        done(&bench.run(&format!("{plain} out/plain.png --upscale {upscale}")));
        let strength_0 = format!("--refine --refine-strength 0 --refine-stages {stages}");
        done(&bench.run(&format!("{plain} out/refined.png {strength_0}")));
        let [a, b] = ["out/plain.png", "out/refined.png"].map(|f| fs::read(bench.path(f)).unwrap());
        if a != b {
            bad.push(format!("{stages} {network}: {} and {} bytes", a.len(), b.len()));
        }
    }
    report(bad);
}

/// A single tile gives the same bytes as `generate` from the picture, which is untiled.
#[test]
fn a_single_tile_equals_untiled() {
    let bench = Bench::new();
    let source = Array3::from_shape_fn((3, 96, 144), |(c, y, x)| ((y * x + 40 * c) % 97) as f32 / 97.0);
    write(&bench.path("in.png"), &source, false);
    let options = "--num-inference-steps 6 --seed 3 --guidance-scale 2";
    done(&bench.run(&format!(
        "generate --model-path {{flux}} --prompt fox --image-path in.png --strength 0.5 --width 144 --height 96 {options} \
         --output-file-path out/whole.png"
    )));
    let whole = planes(&bench.path("out/whole.png"));
    let mut bad = Vec::new();
    for tile in ["", "--refine-tile 144", "--refine-tile 96"] {
        done(&bench.run(&format!(
            "enhance in.png -o out/tiled.png --overwrite --refine --refine-model {{flux}} --refine-prompt fox \
             --refine-strength 0.5 {options} {tile}"
        )));
        let error = difference(&planes(&bench.path("out/tiled.png")), &whole);
        if (error == 0.0) != (tile != "--refine-tile 96") {
            bad.push(format!("{tile}: differs by {error:.4}"));
        }
    }
    report(bad);
}

/// Pixel differences at tile borders do not exceed those beside the borders, for a constant and for a smooth picture.
#[test]
fn tiles_leave_no_seams() {
    let bench = Bench::new();
    let flat = Array3::from_elem((3, 160, 224), 0.4);
    let smooth = Array3::from_shape_fn((3, 160, 224), |(c, y, x)| {
        let (y, x) = (y as f32 / 160.0, x as f32 / 224.0);
        0.5 + 0.3 * (3.0 * x + 2.0 * y + c as f32).sin()
    });
    let mut bad = Vec::new();
    for (name, source) in [("flat", flat), ("smooth", smooth)] {
        write(&bench.path("in.png"), &source, true);
        let run = |tiles: &str| {
            done(&bench.run(&format!(
                "enhance in.png -o out/a.png --overwrite --refine --refine-model {{flux}} --num-inference-steps 5 {tiles}"
            )));
            planes(&bench.path("out/a.png"))
        };
        let (whole, tiled) = (run(""), run("--refine-tile 96 --refine-tile-overlap 32"));
        // Two rows of tiles (start 0 and 64) and three columns (start 0, 64 and 128).
        for (axis, borders) in [(1, &[64, 96][..]), (2, &[64, 96, 128, 160][..])] {
            let axis = Axis(axis);
            let step = |p: &Array3<f32>, at: usize| {
                (&p.index_axis(axis, at) - &p.index_axis(axis, at - 1)).mapv(f32::abs).mean().unwrap()
            };
            let beside =
                |p: &Array3<f32>, at: usize| (1..4).map(|k| step(p, at - k) + step(p, at + k)).sum::<f32>() / 6.0;
            let ratio = |p: &Array3<f32>| {
                borders.iter().map(|&at| step(p, at) / beside(p, at)).sum::<f32>() / borders.len() as f32
            };
            println!("{name} {axis:?}: {:.3}, untiled {:.3}", ratio(&tiled), ratio(&whole));
            // The VAE's blocks of 8 pixels start there too, tiled and untiled.
            if ratio(&tiled) > 1.1 * ratio(&whole) {
                bad.push(format!(
                    "{name} {axis:?}: steps are {:.3} of those beside, untiled {:.3}",
                    ratio(&tiled),
                    ratio(&whole)
                ));
            }
        }
    }
    report(bad);
}

/// The published command with a model from the hub cache. The output's metadata has the settings.
#[test]
fn passes_reach_the_output_size() {
    let bench = published::bench();
    let small = bench.path("small.png");
    ffmpeg(&["-i", &here("tests/data/pictures/chelsea.png"), "-vf", "scale=60:34", small.to_str().unwrap()]);
    let mut bad = Vec::new();
    for (flags, size, stages, by) in [
        ("--upscale 240x135 --refine-stages 2x,2x", (240, 135), "120x68 + 240x135", "latent"),
        ("--upscale 240x135", (240, 135), "120x68 + 240x135", "latent"),
        ("--upscale 200x120 --refine-stages 2x,2x", (200, 120), "120x68 + 200x120", "latent"),
        ("--upscale 200x120 --refine-stages 1.5x", (200, 120), "90x51", "latent"),
        ("--upscale 200x120 --refine-stages 1.5x --filter lanczos", (200, 120), "90x51", "picture"),
        ("--refine-stages 2x,1.5x --filter bilinear", (180, 102), "120x68 + 180x102", "picture"),
        ("--upscale 2 --upscaling-model-path {x2}", (120, 68), "120x68", "picture"),
        ("--upscale 3 --refine-stages 2x,2x,2x", (180, 102), "120x68 + 180x102", "latent"),
        ("", (60, 34), "60x34", "latent"),
        ("--refine-stages 1x,2x", (120, 68), "60x34 + 120x68", "latent"),
        ("--upscale 30x17", (30, 17), "30x17", "latent"),
    ] {
        let args = format!(
            "enhance small.png -o out/big.png --refine --refine-model black-forest-labs/FLUX.1-dev --refine-strength 0.25 \
             --num-inference-steps 8 --refine-prompt cat {flags}"
        );
        let plan = bench.run(&format!("plan {args} --overwrite --json"));
        let planned: Value = serde_json::from_slice(&plan.out).unwrap_or_default();
        done(&bench.run(&format!("{args} --overwrite")));
        let (made, said) = (planes(&bench.path("out/big.png")), text(&bench.path("out/big.png")));
        let found = (made.dim().2, made.dim().1);
        let wanted = format!(
            "cat\nSteps: 8, Sampler: Euler, CFG scale: 3.5, Seed: 42, Size: {}x{}, Model: FLUX.1-dev, Denoising strength: 0.25, \
             Refine by: {by}, Refine stages: {stages}, Version: crescendo",
            size.0, size.1
        );
        let rows = planned["items"][0]["sizes"].as_array().cloned().unwrap_or_default();
        let row = |r: &Value| format!("{}x{}", r["width"], r["height"]);
        let of = |r: &&Value| r["stage"].as_str().unwrap().starts_with("refine");
        let reported: Vec<String> = rows.iter().filter(of).map(row).collect();
        let last = rows.last().map(row).unwrap_or_default();
        for (what, good) in [
            ("size", found == size),
            ("parameters", said.starts_with(&wanted)),
            (
                "plan's stages",
                reported.join(" + ") == stages && planned["notes"][0].as_str().unwrap().contains("2 of 8 steps"),
            ),
            ("plan's end", last == format!("{}x{}", size.0, size.1)),
        ] {
            if !good {
                bad.push(format!("{flags}: {what}; {found:?}; {said}; {planned}"));
            }
        }
    }
    report(bad);
}

/// Alpha equals that of plain upscaling. Bit depth, profile and EXIF are kept. A rotated picture is refined in its viewed orientation.
#[test]
fn refined_pictures_keep_their_metadata() {
    let bench = Bench::new();
    let refine = "--refine --refine-model {flux} --num-inference-steps 4";
    let mut bad = Vec::new();
    for (name, upscale) in [
        ("rgba.png", "--upscale 2 --filter bicubic"),
        ("rgba.png", "--upscale 2 --filter bicubic --refine-by latent"),
        ("rgba.png", "--upscale 2 --upscaling-model-path {x2}"),
        ("grey_alpha16.png", "--upscale 2 --filter lanczos"),
        ("rgb16.png", "--upscale 2 --filter lanczos"),
    ] {
        let plain = upscale.replace(" --refine-by latent", "");
        done(&bench.run(&format!("enhance {{media}}/{name} {plain} --overwrite -o out/plain.png")));
        done(&bench.run(&format!("enhance {{media}}/{name} {upscale} {refine} --overwrite -o out/refined.png")));
        let [a, b] = ["out/plain.png", "out/refined.png"].map(|f| picture::read(&bench.path(f)).unwrap());
        let (p, q) = (a.frame.planes().unwrap(), b.frame.planes().unwrap());
        let alpha = |p: &Array3<f32>| (p.dim().0 == 4).then(|| p.index_axis(Axis(0), 3).to_owned());
        for (what, good) in [
            ("alpha", alpha(&p) == alpha(&q)),
            ("depth", a.frame.is_deep() == b.frame.is_deep()),
            ("profile", a.icc == b.icc && a.exif == b.exif),
            ("nothing was refined", p.index_axis(Axis(0), 0) != q.index_axis(Axis(0), 0)),
        ] {
            if !good {
                bad.push(format!("{name} {upscale}: {what}"));
            }
        }
    }
    report(bad);
}

/// A picture with an EXIF rotation gives the rotated output of the upright picture.
#[test]
fn rotated_pictures_are_refined_upright() {
    let bench = Bench::new();
    let upright = Array3::from_shape_fn((3, 48, 80), |(c, y, x)| ((y * x + 40 * c) % 97) as f32 / 97.0);
    // Orientation 6: the viewer rotates the stored picture by 90° clockwise.
    let mut stored = upright.clone().permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
    stored.invert_axis(Axis(1));
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let picture = Picture { exif: Some(exif), ..Picture::from(Frame::from_planes(&stored, false).unwrap()) };
    assert_eq!(picture.orientation(), 6);
    write(&bench.path("upright.png"), &upright, false);
    picture::write(&bench.path("side.png"), &picture, &PictureOptions::default()).unwrap();
    let mut bad = Vec::new();
    for way in ["--upscale 2", "--upscale 2 --filter bicubic", "--upscale 2 --refine-tile 96 --refine-tile-overlap 16"]
    {
        let made = ["upright", "side"].map(|name| {
            done(&bench.run(&format!(
                "enhance {name}.png -o out/{name}.png --overwrite --refine --refine-model {{flux}} --num-inference-steps 4 {way}"
            )));
            planes(&bench.path(&format!("out/{name}.png")))
        });
        let mut turned = made[0].clone().permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
        turned.invert_axis(Axis(1));
        let error = difference(&turned, &made[1]);
        if error > 2.0 / 255.0 + 1e-6 {
            bad.push(format!("{way}: differs by {error:.4}"));
        }
    }
    report(bad);
}

#[test]
fn invalid_requests_are_rejected_before_loading() {
    let bench = published::bench();
    let small = bench.path("small.png");
    ffmpeg(&["-i", &here("tests/data/pictures/chelsea.png"), "-vf", "scale=40:24", small.to_str().unwrap()]);
    // Reading these invalid weights would give a different error.
    let model = bench.path("unread");
    crate::copy_folder(Path::new(&here(crate::FLUX)), &model);
    for part in ["transformer", "vae", "text_encoder", "text_encoder_2"] {
        for file in fs::read_dir(model.join(part)).unwrap().map(|e| e.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "safetensors") {
                fs::write(file, b"nothing").unwrap();
            }
        }
    }
    let clip = here(CLIP);
    let mut bad = Vec::new();
    for (flags, wants) in [
        ("--refine-strength 1.1", vec!["--refine-strength must be in [0, 1], got 1.1"]),
        ("--refine-strength -0.1", vec!["--refine-strength must be in [0, 1], got -0.1"]),
        ("--refine-strength much", vec!["--refine-strength must be in [0, 1], got 'much'"]),
        (
            "--refine-stages 4x",
            vec!["--refine-stages must be factors from 1x to 2x", "factors from 1x to 2x", "got '4x'"],
        ),
        ("--refine-stages 2x,0.5x", vec!["--refine-stages", "got '0.5x'"]),
        ("--refine-stages 2x,,2x", vec!["--refine-stages", "got ''"]),
        ("--refine-stages 2y", vec!["--refine-stages", "got '2y'"]),
        (
            "--refine-stages 1.5x",
            vec!["--refine-stages: their product, 1.5, must be an integer", "--upscale WIDTHxHEIGHT"],
        ),
        ("--refine-by magic", vec!["invalid value 'magic'"]),
        (
            "--refine-by latent --upscale 2 --upscaling-model-path {x2}",
            vec!["--upscaling-model-path: --refine-by latent runs no upscaling network"],
        ),
        ("--upscale 2 --tile 64", vec!["--tile: --refine-by latent runs no upscaling network", "--refine-by picture"]),
        ("--refine-tile 100", vec!["--refine-tile 100: FLUX.1-dev needs a multiple of 16; 96 or 112"]),
        ("--refine-tile 0", vec!["--refine-tile must be a positive int, got 0"]),
        ("--refine-tile 64 --refine-tile-overlap 33", vec!["--refine-tile-overlap 33: at most half a tile, 32"]),
        ("--num-inference-steps 0", vec!["num_inference_steps must be a positive int, got 0"]),
        ("--true-cfg-scale 4", vec!["--true-cfg-scale 4 requires --negative-prompt"]),
        ("--refine-model Wan-AI/Wan2.1-T2V-1.3B-Diffusers", vec!["--refine-model", "makes videos", "a picture model"]),
        ("--refine-model nothing/at-all", vec!["--refine-model", "nothing/at-all"]),
    ] {
        let model = if flags.contains("--refine-model") { "" } else { "--refine-model unread" };
        let args = format!("enhance small.png -o out/a.png --refine {model} {flags}");
        let code = if flags.contains("at-all") { 3 } else { 1 };
        bad.extend(bench.fault(flags, &bench.run(&args), code, &wants));
    }
    for (args, code, wants) in [
        (
            format!("enhance {clip} -o out/a.mp4 --refine --refine-model unread"),
            1,
            "is a video, and refinement supports pictures only",
        ),
        (format!("plan enhance {clip} -o out/a.mp4 --refine --refine-model unread"), 1, "is a video, and refinement"),
        ("enhance small.png -o out/a.png --upscale 2 --refine-stages 2x".into(), 1, "--refine"),
        ("enhance small.png -o out/a.png --refine --refine-strength 0".into(), 1, "nothing to do"),
        ("enhance small.png -o out/a.png --refine --refine-model unread".into(), 3, "unread/vae"),
    ] {
        bad.extend(bench.fault(&args, &bench.run(&args), code, &[wants]));
    }
    report(bad);
}

/// The demo model has random weights: refinement needs a named model, and pictures say what made them.
#[test]
fn random_weights_are_named_and_not_used_to_refine() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    let run = |args: &str, models: &str| {
        let mut command = bench.command();
        command.args(crate::split(args)).env("CRESCENDO_MODELS", models);
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let models = here("models");
    let demo = format!("{models}/demo/flux1-tiny");
    let (warns, name) = ("has random weights: outputs have no meaning", "Model: demo (random weights)");
    let few = "--height 64 --width 64 --num-inference-steps 2 --prompt fox --overwrite";
    for (args, code, wants, named) in [
        (format!("generate {few} --output-file-path out/a.png"), 0, warns, Some(name)),
        (format!("generate {few} --model-path {demo} --output-file-path out/a.png"), 0, warns, Some(name)),
        (
            format!("generate {few} --model-path {{flux}} --output-file-path out/a.png"),
            0,
            "",
            Some("Model: FLUX.1-dev"),
        ),
        (
            "enhance {media}/rgb.jpg -o out/b.png --refine --upscale 2".into(),
            1,
            "--refine requires --refine-model",
            None,
        ),
        ("plan enhance {media}/rgb.jpg -o out/b.png --refine".into(), 1, "--refine requires --refine-model", None),
        (
            format!("enhance {{media}}/rgb.jpg -o out/a.png --overwrite --refine --refine-model {demo} --upscale 2"),
            0,
            warns,
            Some(name),
        ),
    ] {
        let (found, err) = run(&args, &models);
        let says = named.is_none_or(|named| text(&bench.path("out/a.png")).contains(named));
        let quiet = !wants.is_empty() || !err.contains("random");
        if found != Some(code) || !err.contains(wants) || !says || !quiet {
            bad.push(format!("{args}: {found:?}, parameters named {says}: {err}"));
        }
    }
    report(bad);
}

/// Each network is loaded once and each prompt encoded once for all items. A video among them fails with its own error.
#[test]
fn networks_are_loaded_once_for_all_items() {
    let bench = Bench::new();
    for (name, size) in [("a", "40:24"), ("b", "33:47"), ("c", "16:16")] {
        let file = bench.path(&format!("in/{name}.png"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let scale = format!("scale={size}");
        ffmpeg(&["-i", &here("tests/data/pictures/chelsea.png"), "-vf", &scale, file.to_str().unwrap()]);
    }
    fs::copy(here(CLIP), bench.path("in/d.mp4")).unwrap();
    let flux = here(crate::FLUX);
    let refine = ["--refine", "--refine-model", &flux, "--upscale", "2", "--num-inference-steps", "4"];
    let mut command = bench.command();
    command.args(["enhance", "in", "-o", "out", "--jobs", "2", "--json"]).args(refine);
    let result = command.output().unwrap();
    let (document, err) = (serde_json::from_slice::<Value>(&result.stdout), String::from_utf8_lossy(&result.stderr));
    let document = document.unwrap_or_else(|e| panic!("{e}: {err}"));
    let items = document["items"].as_array().unwrap();
    let states: Vec<&str> = items.iter().map(|i| i["status"].as_str().unwrap()).collect();
    assert_eq!((result.status.code(), states), (Some(2), vec!["done", "done", "done", "failed"]), "{err}");
    assert!(items[3]["cause"].as_str().unwrap().contains("is a video, and refinement supports pictures only"));
    for stage in ["load transformer", "load vae", "load vae encoder", "load text_encoder", "load text_encoder_2"] {
        assert_eq!(err.matches(&format!("{stage},")).count(), 1, "{stage}\n{err}");
    }
    done(
        &bench.run(
            "enhance in/b.png -o out/alone.png --refine --refine-model {flux} --upscale 2 --num-inference-steps 4",
        ),
    );
    assert_eq!(fs::read(bench.path("out/b.png")).unwrap(), fs::read(bench.path("out/alone.png")).unwrap());
}
