//! Damaged, malicious and unsuitable checkpoints.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{Bench, FLUX, RIFE, as_safetensors, copy_folder, edit_header, here, poison, report, written::fifo};

const RUN: &str = "generate --prompt fox --height 64 --width 64 --num-inference-steps 2 --output-file-path out/a.png";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const DIT: &str = "transformer/diffusion_pytorch_model-00002-of-00004.safetensors";
const INDEX: &str = "transformer/diffusion_pytorch_model.safetensors.index.json";

fn edit_json(path: &Path, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn set(root: &Path, file: &str, key: &str, value: Value) {
    edit_json(&root.join(file), |v| v[key] = value.clone());
}

fn edit_bytes(path: &Path, edit: impl Fn(Vec<u8>) -> Vec<u8>) {
    fs::write(path, edit(fs::read(path).unwrap())).unwrap();
}

fn replace_by_fifo(path: &Path) {
    fs::remove_file(path).unwrap();
    fifo(path);
}

/// Rows: damage to a copy of a valid checkpoint, and words of the expected error.
type Row = (&'static str, fn(&Path), &'static [&'static str]);

const FOLDERS: &[Row] = &[
    (
        "header truncated",
        |m| edit_bytes(&m.join(VAE), |b| b[..1000].into()),
        &["model/vae/diff", "truncated", "download"],
    ),
    (
        "data truncated",
        |m| edit_bytes(&m.join(VAE), |b| b[..b.len() - 1000].into()),
        &["truncated", "download it again"],
    ),
    (
        "header over-long",
        |m| edit_bytes(&m.join(VAE), |b| [&(1u64 << 40).to_le_bytes()[..], &b[8..]].concat()),
        &["model/vae/diff", "header of 1099511627776 bytes"],
    ),
    ("weights empty", |m| fs::write(m.join(VAE), "").unwrap(), &["is empty (0 bytes)", "download it again"]),
    (
        "shape larger than its bytes",
        |m| edit_header(&m.join(VAE), |h| h["decoder.conv_in.weight"]["shape"] = json!([16, 4, 3, 4])),
        &["model/vae/diff", "decoder.conv_in.weight"],
    ),
    (
        "shape turned",
        |m| edit_header(&m.join(VAE), |h| h["decoder.conv_norm_out.weight"]["shape"] = json!([2, 4])),
        &["model/vae", "decoder.conv_norm_out.weight", "[2, 4]"],
    ),
    (
        "a weight missing",
        |m| {
            edit_header(&m.join(VAE), |h| {
                let entry = h["decoder.conv_out.bias"].take();
                h.as_object_mut().unwrap().remove("decoder.conv_out.bias");
                h["decoder.conv_out.sham"] = entry;
            })
        },
        &["model/vae", "decoder.conv_out.bias", "missing", "decoder.conv_out.sham"],
    ),
    ("shard missing", |m| fs::remove_file(m.join(DIT)).unwrap(), &["-00002-of-00004.safetensors", "is missing"]),
    (
        "../ in the index",
        |m| {
            edit_json(&m.join(INDEX), |v| {
                v["weight_map"]["x_embedder.weight"] = json!("../vae/diffusion_pytorch_model.safetensors");
            })
        },
        &["index.json", "../vae", "is not a plain file name", "shards must be in"],
    ),
    (
        "NaN in CLIP",
        |m| poison(&m.join("text_encoder/model.safetensors"), "text_model.encoder.layers.0.self_attn.q_proj.weight"),
        &["text_encoder", "not finite", "tensor text_model.encoder.layers.0.self_attn.q_proj.weight of", "download"],
    ),
    (
        "NaN in T5",
        |m| {
            let shard = m.join("text_encoder_2/model-00001-of-00002.safetensors");
            poison(&shard, "encoder.block.0.layer.0.SelfAttention.q.weight");
        },
        &["text_encoder_2", "not finite", "tensor encoder.block.0.layer.0.SelfAttention.q.weight of"],
    ),
    (
        "NaN in the transformer",
        |m| poison(&m.join(DIT), "transformer_blocks.1.attn.to_q.weight"),
        &["denoise: step 1: transformer", "not finite", "tensor transformer_blocks.1.attn.to_q.weight of"],
    ),
    (
        "NaN in the VAE",
        |m| poison(&m.join(VAE), "decoder.conv_in.weight"),
        &["vae picture", "not finite", "tensor decoder.conv_in.weight of"],
    ),
    ("no vae", |m| fs::remove_dir_all(m.join("vae")).unwrap(), &["model/vae is missing", "download it again"]),
    ("no scheduler", |m| fs::remove_dir_all(m.join("scheduler")).unwrap(), &["model/scheduler is missing", "download"]),
    ("no tokenizer", |m| fs::remove_dir_all(m.join("tokenizer_2")).unwrap(), &["tokenizer_2 is missing", "download"]),
    ("no config", |m| fs::remove_file(m.join("vae/config.json")).unwrap(), &["vae/config.json is missing", "download"]),
    (
        "tokenizer empty",
        |m| fs::write(m.join("tokenizer_2/tokenizer.json"), "").unwrap(),
        &["model/tokenizer_2: not a tokenizer"],
    ),
    (
        "index broken",
        |m| fs::write(m.join("model_index.json"), "{ nope").unwrap(),
        &["model_index.json: is not JSON", "download it again"],
    ),
    (
        "index empty",
        |m| fs::write(m.join("model_index.json"), "[]").unwrap(),
        &["model_index.json: has no _class_name"],
    ),
    (
        "pipeline unknown",
        |m| set(m, "model_index.json", "_class_name", json!("StableDiffusionPipeline")),
        &["unsupported pipeline class \"StableDiffusionPipeline\"", "FluxPipeline"],
    ),
    (
        "transformer's class unknown",
        |m| set(m, "model_index.json", "transformer", json!(["diffusers", "SD3Transformer2DModel"])),
        &["model/transformer", "SD3Transformer2DModel is not known", "FluxTransformer2DModel"],
    ),
    (
        "scheduler unknown",
        |m| {
            set(m, "scheduler/scheduler_config.json", "_class_name", json!("DDIMScheduler"));
            set(m, "model_index.json", "scheduler", json!(["diffusers", "DDIMScheduler"]));
        },
        &["scheduler_config.json", "unsupported scheduler class DDIMScheduler", "FlowMatchEulerDiscreteScheduler"],
    ),
    (
        "channels contradict",
        |m| set(m, "transformer/config.json", "in_channels", json!(128)),
        &["in_channels 128, but latent_channels 4"],
    ),
    (
        "layers contradict",
        |m| set(m, "transformer/config.json", "num_layers", json!(19)),
        &["model/transformer", "num_layers is 19 and the weights have 2", "download"],
    ),
    (
        "guidance contradicts",
        |m| set(m, "transformer/config.json", "guidance_embeds", json!(false)),
        &["model/transformer", "guidance_embeds is false and the weights have true"],
    ),
    (
        "heads contradict",
        |m| set(m, "text_encoder_2/config.json", "num_heads", json!(63)),
        &["model/text_encoder_2", "num_heads is 63 and the weights have"],
    ),
    (
        "groups do not divide",
        |m| set(m, "vae/config.json", "norm_num_groups", json!(3)),
        &["model/vae", "/decoder/", "3 groups do not divide"],
    ),
    (
        "config is a FIFO",
        |m| replace_by_fifo(&m.join("transformer/config.json")),
        &["model/transformer/config.json", "is a FIFO; expected a regular file"],
    ),
    ("weights are a FIFO", |m| replace_by_fifo(&m.join(VAE)), &["model/vae", "is not a file"]),
    (
        "config is endless",
        |m| fs::File::create(m.join("vae/config.json")).unwrap().set_len(1 << 40).unwrap(),
        &["model/vae/config.json", "is longer than 256 MiB"],
    ),
];

#[test]
fn damaged_folders_give_a_one_line_error() {
    let mut bad = Vec::new();
    for (name, damage, wants) in FOLDERS {
        let bench = Bench::new();
        copy_folder(Path::new(&here(FLUX)), &bench.path("model"));
        damage(&bench.path("model"));
        bad.extend(bench.fault(name, &bench.run(&format!("{RUN} --model-path model")), 3, wants));
    }
    report(bad);
}

/// Rows: a family's tiny checkpoint, a changed config entry, and words of the expected error.
const CONTRADICTIONS: &[(&str, &str, &str, u32, &[&str])] = &[
    ("flux2-dev", "transformer", "num_single_layers", 3, &["num_single_layers is 3 and the weights have 2"]),
    ("flux2-klein", "transformer", "in_channels", 128, &["in_channels 128"]),
    ("flux2-klein", "text_encoder", "num_hidden_layers", 36, &["num_hidden_layers is 36 and the weights have"]),
    ("flux2-klein", "vae", "latent_channels", 32, &["latent_channels"]),
    ("qwen-image", "transformer", "num_layers", 60, &["num_layers is 60 and the weights have 2"]),
    ("qwen-image", "vae", "z_dim", 4, &["z_dim"]),
    ("wan", "transformer", "num_layers", 30, &["num_layers is 30 and the weights have 2"]),
    ("wan", "transformer", "in_channels", 36, &["in_channels 36"]),
    ("wan", "text_encoder", "num_heads", 64, &["num_heads is 64 and the weights have 4"]),
    ("wan", "vae", "base_dim", 96, &["base_dim is 96 and the weights have 2"]),
    ("z-image", "transformer", "n_layers", 30, &["n_layers is 30 and the weights have 2"]),
    ("z-image", "text_encoder", "vocab_size", 151_936, &["vocab_size is 151936 and the weights have 510"]),
];

#[test]
fn configs_that_disagree_with_weights_give_a_one_line_error() {
    let mut bad = Vec::new();
    for (model, component, key, value, wants) in CONTRADICTIONS {
        let bench = Bench::new();
        copy_folder(Path::new(&here(&format!("tests/goldens/{model}/model"))), &bench.path("model"));
        set(&bench.path("model"), &format!("{component}/config.json"), key, json!(value));
        for command in ["plan generate", "generate"] {
            let out = if *model == "wan" {
                "--num-frames 5 --output-file-path out/a.mp4"
            } else {
                "--output-file-path out/a.png"
            };
            let args = format!(
                "{command} --prompt fox --height 64 --width 64 --num-inference-steps 2 --model-path model {out}"
            );
            bad.extend(bench.fault(&format!("{model} {component} {key}: {command}"), &bench.run(&args), 3, wants));
        }
    }
    let bench = Bench::new();
    copy_folder(Path::new(&here("tests/goldens/wan/model")), &bench.path("model"));
    let other = json!(["diffusers", "FlowMatchEulerDiscreteScheduler"]);
    set(&bench.path("model"), "model_index.json", "scheduler", other);
    let wants =
        ["scheduler_config.json", "_class_name is UniPCMultistepScheduler", "says FlowMatchEulerDiscreteScheduler"];
    bad.extend(bench.fault("two schedulers", &bench.run(&format!("{RUN} --model-path model")), 3, &wants));
    report(bad);
}

/// Rows: a family's tiny checkpoint, unsupported flags, and words of the expected error. The error precedes weight loading.
const IMPOSSIBLE: &[(&str, &str, &[&str])] = &[
    ("flux1-dev", "--height 360 --width 640", &["--height 360", "multiple of 16", "352 or 368"]),
    ("flux2-klein", "--height 360 --width 640", &["--height 360", "multiple of 16", "352 or 368"]),
    ("qwen-image", "--height 1000 --width 1024", &["--height 1000", "992 or 1008"]),
    ("z-image", "--height 360 --width 640", &["--height 360", "multiple of 16", "352 or 368"]),
    ("wan", "--height 360 --width 640 --num-frames 5", &["--height 360", "multiple of 16", "352 or 368"]),
    ("wan", "--num-frames 80", &["--num-frames 80", "77 or 81"]),
    ("z-image", "--num-frames 5", &["--num-frames 5", "makes single pictures"]),
    ("flux1-dev", "--num-inference-steps 0", &["num_inference_steps must be a positive int, got 0"]),
    ("flux1-dev", "--flow-shift 3", &["--flow-shift 3", "shifts its schedule by the picture's size"]),
    ("flux1-dev", "--max-sequence-length 513", &["max_sequence_length 513"]),
    ("flux2-klein", "--true-cfg-scale 4", &["--true-cfg-scale 4"]),
    ("wan", "--true-cfg-scale 4", &["--true-cfg-scale 4", "--guidance-scale"]),
    ("flux1-dev", "--guidance-scale -1", &["guidance_scale must be a finite number >= 0, got -1"]),
    ("flux1-dev", "--image-path {pictures}/chelsea.png --strength 0", &["strength must be in (0, 1], got 0"]),
    ("flux1-dev", "--image-path {pictures}/chelsea.png --strength 1.5", &["strength must be in (0, 1], got 1.5"]),
    ("qwen-image", "--cfg-normalization 1", &["--cfg-normalization 1", "Z-Image"]),
    ("flux1-dev", "--generator-gpu a100", &["--generator-gpu requires --generator-device cuda"]),
    (
        "flux1-dev",
        "--generator-device cuda --generator-torch old",
        &["--generator-torch requires --generator-device cpu"],
    ),
    ("flux1-dev", "--generator-device cuda --generator-gpu gtx", &["--generator-gpu must be one of a100", "132x2048"]),
    (
        "wan",
        "--height 64 --width 64 --progressive-mode dct --progressive-transform dwt --progressive-scales 1/3 1",
        &["dwt requires a ratio of 2"],
    ),
];

#[test]
fn unsupported_requests_give_a_one_line_error() {
    let mut bad = Vec::new();
    for (model, flags, wants) in IMPOSSIBLE {
        let bench = Bench::new();
        let path = here(&format!("tests/goldens/{model}/model"));
        let run = bench.run(&format!("generate --prompt fox --output-path out --model-path {path} {flags}"));
        bad.extend(bench.fault(&format!("{model} {flags}"), &run, 1, wants));
    }
    report(bad);
}

/// Writes files that are not upscalers or interpolators.
fn files(bench: &Bench) {
    for (name, text) in [("zero.pth", ""), ("zero.onnx", ""), ("junk.onnx", "hello"), ("junk.pth", "hello, weights")] {
        fs::write(bench.path(name), text).unwrap();
    }
    fs::copy(here("fuzz/corpus/torch_zip/system.pth"), bench.path("system.pth")).unwrap();
    fs::copy(here("fuzz/corpus/torch_legacy/system.0.pkl"), bench.path("system.pkl")).unwrap();
    fs::copy(here("tests/goldens/esrgan/compact-x2.safetensors"), bench.path("nan.safetensors")).unwrap();
    poison(&bench.path("nan.safetensors"), "body.2.weight");
    as_safetensors(RIFE, &bench.path("rife-nan.safetensors"), |_| true);
    poison(&bench.path("rife-nan.safetensors"), "block1.convblock.0.conv.weight");
    as_safetensors(RIFE, &bench.path("rife-short.safetensors"), |n| n != "block2.conv0.1.0.bias");
    as_safetensors(RIFE, &bench.path("rife-none.safetensors"), |n| n.starts_with("block3"));
    as_safetensors("tests/goldens/esrgan/rrdb-x4.pth", &bench.path("rrdb.safetensors"), |n| n != "conv_body.bias");
}

#[test]
fn unsuitable_networks_give_a_one_line_error() {
    let bench = Bench::new();
    files(&bench);
    let picture = "enhance {pictures}/chelsea.png -o out/a.png --upscale 2 --tile 64 --upscaling-model-path";
    let clip = "enhance {clip} -o out/a.mp4 --interpolate 2x --frame-interpolation-model-path";
    let mut bad = Vec::new();
    for (command, model, wants) in [
        (picture, "zero.pth", vec!["zero.pth: is empty", "download it again"]),
        (picture, "junk.pth", vec!["junk.pth: is neither a torch zip file nor a torch legacy file"]),
        (picture, "zero.onnx", vec!["zero.onnx", "not a readable ONNX graph", "download it again"]),
        (picture, "junk.onnx", vec!["junk.onnx", "not a readable ONNX graph", "download it again"]),
        (
            picture,
            "system.pth",
            vec!["system.pth: pickle needs `posix.system`", "only tensors are supported", ".safetensors"],
        ),
        (picture, "system.pkl", vec!["system.pkl: pickle needs `posix.system`", "only tensors are supported"]),
        (picture, "rife-nan.safetensors", vec!["is IFNet (RIFE), not an upscaler", "RRDBNet", "are known"]),
        (picture, "rife-none.safetensors", vec!["unknown architecture", "not an upscaler", "are known"]),
        (picture, "rrdb.safetensors", vec!["rrdb.safetensors", "conv_body.bias", "missing"]),
        (
            picture,
            "nan.safetensors",
            vec!["chelsea.png", "not finite", "tensor body.2.weight of nan.safetensors contains"],
        ),
        (clip, "system.pkl", vec!["system.pkl: pickle needs `posix.system`"]),
        (clip, "nan.safetensors", vec!["is SRVGGNetCompact, not an interpolation network", "are known"]),
        (clip, "rife-none.safetensors", vec!["unknown architecture", "not an interpolation network"]),
        (clip, "rife-short.safetensors", vec!["rife-short.safetensors", "block2.conv0.1.0.bias [8] is missing"]),
        (
            clip,
            "rife-nan.safetensors",
            vec!["big-buck-bunny.mp4", "interpolate", "not finite", "tensor block1.convblock.0.conv.weight of"],
        ),
    ] {
        bad.extend(bench.fault(&format!("{command} {model}"), &bench.run(&format!("{command} {model}")), 3, &wants));
    }
    for (args, code, wants) in [
        (format!("{picture} gone/x2.pth"), 1, vec!["there is no file or folder gone/x2.pth"]),
        ("inspect system.pth".into(), 3, vec!["pickle needs `posix.system`"]),
        ("inspect junk.onnx".into(), 3, vec!["junk.onnx", "not a readable ONNX graph"]),
        ("export system.pth -o out".into(), 3, vec!["pickle needs `posix.system`"]),
        ("export rife-short.safetensors -o out".into(), 3, vec!["block2.conv0.1.0.bias"]),
        ("export rife-none.safetensors -o out".into(), 3, vec!["unknown architecture"]),
    ] {
        bad.extend(bench.fault(&args, &bench.run(&args), code, &wants));
    }
    report(bad);
}
