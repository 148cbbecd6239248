//! Test: every flag changes the plan. `plan::effect` lists what each field of a plan changes.

use std::{collections::BTreeSet, path::Path};

use clap::{Args, CommandFactory, Parser};
use serde_json::{Value, json};

use super::{
    args::{Cli, Command},
    models::Models,
    serving::ServingArgs,
};
use crate::{plan::EnhancePlan, progress::Silent};

/// Flags that do not reach a plan: verbosity, the form of the report, the network. `tests/cli/flags.rs` shows that they act.
const OUTSIDE: [&str; 6] = ["help", "json", "log-level", "offline", "quiet", "version"];

/// Arguments, of which those in brackets are left out for comparison; a JSON pointer into the plan, or a part of its debug text; the
/// value there, which differs without the bracketed arguments. `{net}`: a network, `{dir}`: a folder of models, pictures and folders.
type Row<'a> = (&'a str, &'a str, Value);

const VIDEO: &str = "{dir}/in.mp4 -o out.mp4";
const UP: &str = "{dir}/in.mp4 -o out.mp4 --upscale 2 --upscaling-model-path {net}";
const INTER: &str = "{dir}/in.mp4 -o out.mp4 --interpolate 2x --frame-interpolation-model-path {net}";
const REFINE: &str = "{dir}/in.png -o out.png --upscale 2 --filter nearest --refine --refine-model {dir}";
const PLAIN: &str = "{dir}/in.png -o out.png --upscale 2 --filter nearest";
const MOVING: &str = "--model-path {dir} -p x --enable-frame-interpolation --frame-interpolation-model-path {net}";
const LARGE: &str = "--model-path {dir} -p x --enable-upscaling --upscaling-model-path {net}";
const FOX: &str = "--model-path {dir} -p x";

/// A plan as JSON and as debug text; `None`: the arguments are refused.
type Resolved = Option<(Value, String)>;

fn resolved(command: &str, args: &str, dir: &Path) -> Resolved {
    let (net, dir) = (dir.join("net.pth").display().to_string(), dir.display().to_string());
    let args = args.replace("{net}", &net).replace("{dir}", &dir);
    let argv = ["crescendo", command, "--offline"].into_iter().chain(args.split_whitespace());
    let cli = Cli::try_parse_from(argv).ok()?;
    let models = Models::new(&cli.shared, &Silent, false);
    let (json, text) = match cli.command {
        Command::Generate(args) => {
            let plan = args.resolve(&cli.shared, &models).ok()?;
            (serde_json::to_value(&plan), format!("{plan:?}"))
        }
        Command::Enhance(args) => {
            let plan: EnhancePlan = args.resolve(&cli.shared, &models).ok()?;
            (serde_json::to_value(&plan), format!("{plan:?}"))
        }
        _ => return None,
    };
    // Names of the temporary folder are the same in every run of the test.
    let hidden = |text: String| text.replace(&net, "{net}").replace(&dir, "{dir}");
    let json = serde_json::from_str(&hidden(json.ok()?.to_string())).ok()?;
    Some((json, hidden(text)))
}

/// What a plan has at a place.
fn found(plan: &Resolved, place: &str) -> Option<Value> {
    let (json, text) = plan.as_ref()?;
    if place.starts_with('/') { json.pointer(place).cloned() } else { Some(json!(text.contains(place))) }
}

/// The faults of a table for a subcommand: rows that do not hold, and flags without a row.
fn faults(command: &str, groups: &[(&str, &[Row<'_>])]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let dir = folder.path();
    let names = ["net.pth", "in.mp4", "in.png", "f_001.png", "f_002.png", "in/a.png", "in/sub/deep.png", "p.txt"];
    for name in names {
        let path = dir.join(name);
        path.parent().map(std::fs::create_dir_all).transpose().unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(path, "a fox\n").unwrap_or_else(|e| panic!("{e}"));
    }
    let (mut faults, mut shown) = (Vec::new(), BTreeSet::new());
    for (base, rows) in groups {
        for (args, place, want) in *rows {
            let (before, rest) = args.split_once('[').unwrap_or((args, ""));
            let (flag, after) = rest.split_once(']').unwrap_or((rest, ""));
            shown.extend(flag.split_whitespace().filter(|word| word.starts_with('-')).map(str::to_owned));
            let with = found(&resolved(command, &format!("{base} {before} {flag} {after}"), dir), place);
            let without = found(&resolved(command, &format!("{base} {before} {after}"), dir), place);
            if with.as_ref() != Some(want) || without.as_ref() == Some(want) {
                faults.push(format!(
                    "{command} {base} {args}: {place}: wanted {want}, got {with:?}, without it {without:?}"
                ));
            }
        }
    }
    let cli = Cli::command();
    let known = cli.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let serving = ServingArgs::augment_args(clap::Command::new(""));
    for arg in known.chain(cli.get_arguments()) {
        let long = arg.get_long().unwrap_or_default();
        let names: Vec<String> = arg
            .get_long()
            .into_iter()
            .chain(arg.get_all_aliases().into_iter().flatten())
            .map(|name| format!("--{name}"))
            .chain(arg.get_short().map(|letter| format!("-{letter}")))
            .collect();
        let ignored = serving.get_arguments().any(|other| other.get_long() == Some(long));
        if !arg.is_positional()
            && !ignored
            && !OUTSIDE.contains(&long)
            && !names.iter().any(|name| shown.contains(name))
        {
            faults.push(format!("{command} {names:?} has no row: show what it changes"));
        }
    }
    faults
}

fn shared() -> Vec<Row<'static>> {
    vec![
        ("[--device cuda:1]", "/runtime/device", json!({ "cuda": 1 })),
        ("[--dtype f16]", "/runtime/dtype", json!("f16")),
        ("[--dit-precision bf16]", "/runtime/dtype", json!("bf16")),
        ("[--threads 3]", "/runtime/threads", json!(3)),
        ("[--memory-limit 2GB]", "/runtime/memory_limit", json!(2_000_000_000_u64)),
        ("[--onnxruntime lib]", "/runtime/library", json!("lib")),
        ("[--config c.yaml]", "read_files: [\"c.yaml\"]", json!(true)),
    ]
}

fn encoding(root: &'static str) -> Vec<Row<'static>> {
    let at = |field: &str| -> &'static str { format!("/{root}/{field}").leak() };
    vec![
        ("[--output-quality low]", at("compression"), json!(35)),
        ("--output-quality low [--output-compression 80]", at("compression"), json!(80)),
        ("[--x264-preset slow]", at("x264_preset"), json!("slow")),
        ("[--codec libx265]", at("codec"), json!("libx265")),
        ("[--crf 20]", at("crf"), json!(20.0)),
        ("[--pix-fmt yuv444p]", at("pix_fmt"), json!("yuv444p")),
        ("[-e tune=film]", at("encoder_options"), json!([["tune", "film"]])),
        ("[--overwrite]", at("overwrite"), json!(true)),
        ("[-y]", at("overwrite"), json!(true)),
        ("[--verify]", at("verify"), json!(true)),
        ("[--perf-dump-path t.json]", "/perf_dump", json!("t.json")),
        ("[--quality exact]", "/quality", json!("exact")),
    ]
}

#[test]
#[allow(clippy::too_many_lines)]
fn every_flag_of_enhance_changes_the_plan() {
    let inputs: &[Row<'_>] = &[
        ("-o out.png --upscale 2 --filter nearest [{dir}/in.png]", "{dir}/in.png", json!(true)),
        ("-o out.png --upscale 2 --filter nearest [-i {dir}/in.png]", "{dir}/in.png", json!(true)),
        ("{dir}/in.png --upscale 2 --filter nearest [-o out.png]", "out.png", json!(true)),
        ("{dir}/in -o {dir}/out --upscale 2 --filter nearest [--recursive]", "deep.png", json!(true)),
        ("{dir}/f_%03d.png -o out.mp4 --upscale 2 --filter nearest [--fps 24]", "/fps", json!(24.0)),
        ("{dir}/in.mp4 -o out.mp4 --filter nearest [--upscale 3]", "/upscaling/target", json!({ "times": 3 })),
        ("{dir}/in.mp4 -o out.mp4 --filter nearest [--enable-upscaling]", "/upscaling/target", json!({ "times": 4 })),
    ];
    let video: &[Row<'_>] = &[
        ("--frame-interpolation-model-path {net} [--interpolate 3x]", "/interpolation/rate", json!({ "times": 3 })),
        ("--frame-interpolation-model-path {net} --interpolate 20x [--force]", "/interpolation/rate/times", json!(20)),
        (
            "--frame-interpolation-model-path {net} [--enable-frame-interpolation]",
            "/interpolation/rate/times",
            json!(2),
        ),
        (
            "--frame-interpolation-model-path {net} --enable-frame-interpolation [--frame-interpolation-exp 3]",
            "/interpolation/rate/times",
            json!(8),
        ),
        ("--interpolate 2x [--frame-interpolation-model-path {net}]", "/interpolation/model/path", json!("{net}")),
        ("--filter nearest --enable-upscaling [--upscaling-scale 3]", "/upscaling/target", json!({ "times": 3 })),
        ("--upscale 2 [--upscaling-model-path {net}]", "/upscaling/model/path", json!("{net}")),
    ];
    let interpolated: &[Row<'_>] = &[
        ("[--frame-interpolation-scale 0.5]", "/interpolation/scale", json!(0.5)),
        ("[--scene-threshold 0.5]", "/interpolation/scene_threshold", json!(0.5)),
        ("[--dedup]", "/interpolation/dedup", json!(true)),
        ("[--start 0:01.5]", "/cut/start", json!(1.5)),
        ("[--end 2]", "/cut/end", json!(2.0)),
        ("[--chunk 5]", "/cut/chunk", json!(5.0)),
        ("[--conceal-errors]", "/conceal_errors", json!(true)),
        ("[--assume-progressive]", "assume_progressive: true", json!(true)),
        ("[--skip-existing]", "/batch/skip_existing", json!(true)),
        ("[--jobs 3]", "/batch/jobs", json!(3)),
        ("[--fail-fast]", "/batch/fail_fast", json!(true)),
        ("[--report r.jsonl]", "/batch/report", json!("r.jsonl")),
    ];
    let upscaled: &[Row<'_>] = &[
        ("[--tile 64]", "/upscaling/tile", json!(64)),
        ("[--tile-overlap 8]", "/upscaling/tile_overlap", json!(8)),
        ("[--filter lanczos]", "/upscaling/filter", json!("lanczos")),
        ("--denoise-model-path {net} [--denoise-strength 0.5]", "/upscaling/denoise/strength", json!(0.5)),
        ("--denoise-strength 0.5 [--denoise-model-path {net}]", "/upscaling/denoise/weak/path", json!("{net}")),
    ];
    let refined: &[Row<'_>] = &[
        ("[--refine-prompt fox]", "/refine/prompt", json!("fox")),
        ("[--refine-by latent]", "/refine/by", json!("latent")),
        ("[--refine-strength 0.5]", "/refine/strength", json!(0.5)),
        ("[--refine-stages 2x,1.5x]", "/refine/stages", json!([2.0, 1.5])),
        ("[--refine-tile 512]", "/refine/tile", json!(512)),
        ("[--refine-tile-overlap 64]", "/refine/tile_overlap", json!(64)),
        ("[--negative-prompt fog]", "/refine/negative_prompt", json!("fog")),
        ("[--num-inference-steps 9]", "/refine/steps", json!(9)),
        ("[--steps 9]", "/refine/steps", json!(9)),
        ("[--guidance-scale 2.5]", "/refine/guidance_scale", json!(2.5)),
        ("[--cfg 2.5]", "/refine/guidance_scale", json!(2.5)),
        ("[--true-cfg-scale 3]", "/refine/true_cfg_scale", json!(3.0)),
        ("[--seed 7]", "/seed", json!(7)),
    ];
    let refining: &[Row<'_>] = &[
        ("--refine-model {dir} [--refine]", "/refine/strength", json!(0.3)),
        ("--refine [--refine-model {dir}]", "/refine/model/path", json!("{dir}")),
    ];
    let groups = [
        ("", inputs),
        (VIDEO, video),
        (INTER, interpolated),
        (UP, upscaled),
        (REFINE, refined),
        (PLAIN, refining),
        (INTER, &encoding("encoding")),
        (INTER, &shared()),
    ];
    let faults = faults("enhance", &groups);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[allow(clippy::too_many_lines)]
fn every_flag_of_generate_changes_the_plan() {
    let requests: &[Row<'_>] = &[
        ("-p x [--model-path {dir}]", "/model/path", json!("{dir}")),
        ("--model-path {dir} [fox]", "/prompts", json!(["fox"])),
        ("--model-path {dir} [--prompt fox wolf]", "/prompts", json!(["fox", "wolf"])),
        ("--model-path {dir} [--prompt-path {dir}/p.txt]", "/prompts", json!(["a fox"])),
    ];
    let plain: &[Row<'_>] = &[
        ("[--negative-prompt fog]", "/negative_prompt", json!("fog")),
        ("[--height 64]", "/size/height", json!(64)),
        ("[--width 64]", "/size/width", json!(64)),
        ("[--720p]", "/size/height", json!(720)),
        ("[--1080p]", "/size/height", json!(1080)),
        ("[--2k]", "/size/height", json!(1440)),
        ("[--4k]", "/size/height", json!(2160)),
        ("[--output-size 96x64]", "/size", json!({ "height": 64, "width": 96 })),
        ("[--num-frames 9]", "/frames", json!(9)),
        ("[--fps 12.5]", "/fps", json!(12.5)),
        ("[--seed 7 9]", "/seeds", json!([7, 9])),
        ("[--num-outputs-per-prompt 2]", "/seeds", json!([42, 43])),
        ("[--num-inference-steps 9]", "/steps", json!(9)),
        ("[--guidance-scale 2.5]", "/guidance_scale", json!(2.5)),
        ("[--true-cfg-scale 3]", "/true_cfg_scale", json!(3.0)),
        ("[--cfg-normalization 1.5]", "/cfg_normalization", json!(1.5)),
        ("[--cfg-truncation 0.5]", "/cfg_truncation", json!(0.5)),
        ("[--cfg-batch]", "/cfg_batch", json!(true)),
        ("[--flow-shift 5]", "/flow_shift", json!(5.0)),
        ("[--max-sequence-length 99]", "/max_sequence_length", json!(99)),
        ("[--image-path {dir}/in.png]", "/start/image", json!("{dir}/in.png")),
        ("--image-path {dir}/in.png [--strength 0.5]", "/start/strength", json!(0.5)),
        ("[--defaults sglang]", "/defaults", json!("sglang")),
        ("[--generator-device cuda]", "/noise/cuda/sms", json!(132)),
        ("[--generator-torch old]", "/noise/cpu", json!("old")),
        ("--generator-device cuda [--generator-gpu 84x1536]", "/noise/cuda/sms", json!(84)),
        ("[--progressive-mode dct]", "/progressive/mode", json!("dct")),
        ("[--progressive-levels 2]", "/progressive/scales", json!({ "levels": 2 })),
        ("[--progressive-delta 0.05]", "/progressive/delta", json!(0.05)),
        ("[--progressive-scales 0.5 1]", "/progressive/scales/explicit/0", json!({ "ratio": 0.5 })),
        ("[--progressive-transform fft]", "/progressive/transform", json!("fft")),
        ("[--progressive-spectrum 2,1]", "/progressive/spectrum", json!({ "a": 2.0, "beta": 1.0 })),
        ("[--vae-tiling on]", "/vae/tiling", json!("on")),
        ("[--vae-tile 64]", "/vae/tile", json!(64)),
        ("[--vae-tile-overlap 8]", "/vae/overlap", json!(8)),
        ("[--output-path made]", "/output/destination", json!({ "folder": "made" })),
        ("[--output-file-name a.png]", "/output/destination", json!({ "file": "outputs/a.png" })),
        ("[--output-file-path a.png]", "/output/destination", json!({ "file": "a.png" })),
        ("[--no-save-output]", "/output/destination", json!("nowhere")),
        ("--no-save-output [--save-output]", "/output/destination", json!({ "folder": "outputs/" })),
        ("[--save-latents l.safetensors]", "/save_latents", json!("l.safetensors")),
        (
            "--frame-interpolation-model-path {net} [--enable-frame-interpolation]",
            "/interpolation/rate/times",
            json!(2),
        ),
        ("--enable-frame-interpolation [--frame-interpolation-model-path {net}]", "/interpolation/scale", json!(1.0)),
        ("--upscaling-model-path {net} [--enable-upscaling]", "/upscaling/target", json!({ "times": 4 })),
        ("--enable-upscaling [--upscaling-model-path {net}]", "/upscaling/model/path", json!("{net}")),
    ];
    let moving: &[Row<'_>] = &[
        ("[--frame-interpolation-exp 3]", "/interpolation/rate/times", json!(8)),
        ("[--frame-interpolation-scale 0.5]", "/interpolation/scale", json!(0.5)),
    ];
    let large: &[Row<'_>] = &[
        ("[--upscaling-scale 2]", "/upscaling/target", json!({ "times": 2 })),
        ("[--tile 64]", "/upscaling/tile", json!(64)),
        ("[--tile-overlap 8]", "/upscaling/tile_overlap", json!(8)),
    ];
    let groups =
        [("", requests), (FOX, plain), (MOVING, moving), (LARGE, large), (FOX, &encoding("output")), (FOX, &shared())];
    let faults = faults("generate", &groups);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The flags of SGLang's server are accepted and change nothing.
#[test]
fn flags_of_a_server_change_nothing() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let plain = resolved("generate", FOX, folder.path());
    assert!(plain.is_some());
    let all = ServingArgs::augment_args(clap::Command::new(""));
    for flag in all.get_arguments().filter_map(clap::Arg::get_long) {
        let given = ["", " 1", " x"]
            .into_iter()
            .find_map(|value| resolved("generate", &format!("{FOX} --{flag}{value}"), folder.path()));
        assert_eq!(given, plain, "--{flag}");
    }
}
