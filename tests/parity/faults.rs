//! Damaged checkpoints: a one-line error for every fault, and no panic for any shape.

use std::{
    collections::BTreeMap,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use crescendo::{
    Result, compile,
    compile::Subgraph,
    model::{HiddenStates, Padding},
    onnx::{Provider, Target},
    tensor::DType,
    weights::Checkpoint,
};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use crate::table::{Table, goldens};

/// A checkpoint in memory: name → dtype, shape, bytes.
#[derive(Clone)]
struct Weights(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Weights {
    fn read(path: &Path) -> Self {
        let dtype = |d: DType| match d {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            other => panic!("{}", other.name()),
        };
        let checkpoint = Checkpoint::open(path).unwrap();
        let tensors = checkpoint
            .iter()
            .map(|(name, t)| (name.to_string(), (dtype(t.dtype), t.shape.clone(), t.bytes().unwrap().to_vec())));
        Self(tensors.collect())
    }

    fn write(&self, path: &Path) {
        let views = self.0.iter().map(|(n, (d, s, b))| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn insert(&mut self, name: &str, dtype: Dtype, shape: &[usize]) {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        self.0.insert(name.into(), (dtype, shape.to_vec(), bytes));
    }

    fn misshape(&mut self, name: &str, shape: &[usize]) {
        assert!(self.0.contains_key(name), "no {name}");
        self.insert(name, Dtype::F32, shape);
    }

    fn remove(&mut self, name: &str) {
        assert!(self.0.remove(name).is_some(), "no {name}");
    }
}

/// The kind of network that a checkpoint is opened as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Upscaler,
    Interpolator,
    Component(&'static str, Subgraph),
}

const TRANSFORMER: As = As::Component("FluxTransformer2DModel", Subgraph::Full);
const Z_IMAGE: As = As::Component("ZImageTransformer2DModel", Subgraph::Full);
const QWEN3: As =
    As::Component("Qwen3Model", Subgraph::HiddenStates(HiddenStates { hidden: &[-2], pads: Padding::None }));
const QWEN2_5: As = As::Component(
    "Qwen2_5_VLForConditionalGeneration",
    Subgraph::HiddenStates(HiddenStates { hidden: &[-1], pads: Padding::After }),
);
const MISTRAL: As = As::Component(
    "Mistral3ForConditionalGeneration",
    Subgraph::HiddenStates(HiddenStates { hidden: &[0, 3], pads: Padding::Before }),
);
const CLIP: As = As::Component("CLIPTextModel", Subgraph::Full);
const T5: As = As::Component("T5EncoderModel", Subgraph::Full);
const DECODER: As = As::Component("AutoencoderKL", Subgraph::Decoder);
const ENCODER: As = As::Component("AutoencoderKL", Subgraph::Encoder);
const WAN: As = As::Component("WanTransformer3DModel", Subgraph::Full);
const UMT5: As = As::Component("UMT5EncoderModel", Subgraph::Full);
const WAN_LATER_DECODER: As = As::Component("AutoencoderKLWan", Subgraph::CachedDecoder);
const WAN_LATER_ENCODER: As = As::Component("AutoencoderKLWan", Subgraph::CachedEncoder);

const FLUX2: As = As::Component("Flux2Transformer2DModel", Subgraph::Full);
const QWEN_IMAGE: As = As::Component("QwenImageTransformer2DModel", Subgraph::Full);
const FLUX2_DECODER: As = As::Component("AutoencoderKLFlux2", Subgraph::Decoder);

/// A small checkpoint of every architecture in the goldens.
fn sources() -> Vec<(PathBuf, As)> {
    let mut all = vec![];
    for file in ["rrdb-x1.safetensors", "rrdb-x8-old.pth", "plus-x4-old.pth", "compact-x2.safetensors"] {
        all.push((goldens("esrgan").join(file), As::Upscaler));
    }
    for version in ["4.0", "4.2", "4.6", "4.7", "4.25"] {
        all.push((goldens("rife").join(version).join("flownet.pkl"), As::Interpolator));
    }
    let component = |name| goldens("flux1-dev/model").join(name);
    all.extend([
        (component("transformer"), TRANSFORMER),
        (component("text_encoder"), CLIP),
        (component("text_encoder_2"), T5),
        (component("vae"), DECODER),
        (component("vae"), ENCODER),
        (goldens("flux2-dev/model/transformer"), FLUX2),
        (goldens("qwen-image/model/transformer"), QWEN_IMAGE),
        (goldens("flux2-klein/model/vae"), FLUX2_DECODER),
    ]);
    all.extend([
        (goldens("z-image/model/transformer"), Z_IMAGE),
        (goldens("z-image/model/text_encoder"), QWEN3),
        (goldens("qwen-image/model/text_encoder"), QWEN2_5),
        (goldens("mistral/old"), MISTRAL),
    ]);
    let component = |name| goldens("wan/model").join(name);
    all.extend([
        (component("transformer"), WAN),
        (component("text_encoder"), UMT5),
        (component("vae"), WAN_LATER_DECODER),
    ]);
    all
}

/// A folder with weights and the config of their source.
struct Bench {
    folder: TempDir,
    file: PathBuf,
}

impl Bench {
    fn new(source: &Path, how: As) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = match how {
            As::Component(class, _) => {
                fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
                let diffusers = ["Transformer2D", "Transformer3D"].iter().any(|t| class.contains(t));
                let diffusers = diffusers || class.starts_with("Autoencoder");
                if diffusers { "diffusion_pytorch_model.safetensors" } else { "model.safetensors" }
            }
            _ => "weights.safetensors",
        };
        Self { file: folder.path().join(name), folder }
    }

    fn build(&self, how: As, target: Target) -> Result<()> {
        match how {
            As::Upscaler => compile::upscaler(&self.file, target).map(drop),
            As::Interpolator => compile::interpolator(&self.file, 1.0, target).map(drop),
            As::Component(class, part) => compile::component(self.folder.path(), class, part, None, target).map(drop),
        }
    }
}

type Edit = fn(&mut Weights);
type Fault = (&'static str, &'static str, As, Edit, &'static [&'static str]);

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    ("a video encoder's", "wan/model/vae", WAN_LATER_ENCODER, |w| {
        w.remove("encoder.down_blocks.5.time_conv.weight");
    }, &["halves time 1 times", "doubles it 2 times", "time_conv.weight"]),
    ("a video decoder's", "wan/model/vae", WAN_LATER_DECODER, |w| {
        w.remove("decoder.up_blocks.0.upsamplers.0.time_conv.bias");
        w.misshape("decoder.up_blocks.1.resnets.0.conv2.weight", &[8, 8, 1, 3, 3]);
        w.insert("decoder.up_blocks.3.upsamplers.0.extra", Dtype::F32, &[4]);
    }, &["time_conv.bias", "missing", "up_blocks.1.resnets.0.conv2.weight", "extra", "not used"]),
    ("nothing wrong", "esrgan/rrdb-x4.pth", As::Upscaler, |_| {}, &[]),
    ("three at once", "esrgan/rrdb-x4.pth", As::Upscaler, |w| {
        w.remove("body.1.rdb2.conv3.weight");
        w.misshape("conv_hr.bias", &[7]);
        w.insert("attention.weight", Dtype::F32, &[2, 3]);
    }, &["body.1.rdb2.conv3.weight [3, 12, 3, 3] is missing", "conv_hr.bias must be [6] and is [7]",
         "attention.weight [2, 3] is not used", "weights.safetensors"]),
    ("renamed", "esrgan/rrdb-x4.pth", As::Upscaler, |w| {
        let t = w.0.remove("conv_body.weight").unwrap();
        w.0.insert("conv_trunk.weight".into(), t);
    }, &["conv_body.weight [6, 6, 3, 3] is missing", "conv_trunk.weight [6, 6, 3, 3] is not used"]),
    ("first upsampling gone", "esrgan/rrdb-x4.pth", As::Upscaler, |w| w.remove("conv_up1.weight"),
     &["conv_up1.weight [6, 6, 3, 3] is missing"]),
    ("one extra convolution gone", "esrgan/plus-x4-old.pth", As::Upscaler,
     |w| w.remove("model.1.sub.0.RDB2.conv1x1.weight"), &["body.0.rdb2.conv1x1.weight [3, 6, 1, 1] is missing"]),
    ("a block gone", "esrgan/rrdb-x4.pth", As::Upscaler, |w| w.0.retain(|n, _| !n.starts_with("body.0.rdb2.")),
     &["body.0.rdb2.conv1.weight [3, 6, 3, 3] is missing", "body.0.rdb2.conv5.bias [6] is missing"]),
    ("integers", "esrgan/compact-x2.safetensors", As::Upscaler, |w| w.insert("body.2.bias", Dtype::I64, &[16]),
     &["body.2.bias must be floating and is i64"]),
    ("four inputs", "esrgan/rrdb-x4.pth", As::Upscaler, |w| w.misshape("conv_first.weight", &[6, 4, 3, 3]),
     &["conv_first has 4 inputs", "3, 12 or 48"]),
    ("two axes", "esrgan/rrdb-x4.pth", As::Upscaler, |w| w.misshape("conv_first.weight", &[6, 27]),
     &["conv_first.weight must have 4 axes and is [6, 27]"]),
    ("no output channels", "esrgan/compact-x2.safetensors", As::Upscaler, |w| w.misshape("body.6.bias", &[0]),
     &["body.6.bias is [0]", "from 1 to"]),
    ("blocks of 99999", "esrgan/rrdb-x4.pth", As::Upscaler, |w| w.insert("body.99999.x", Dtype::F32, &[1]),
     &["body counts to 99999 and has 3 entries"]),
    ("no network", "esrgan/rrdb-x4.pth", As::Upscaler, |w| {
        w.0.clear();
        w.insert("layers.0.weight", Dtype::F32, &[2, 2]);
    }, &["is an unknown architecture", "layers.0.weight", "not an upscaler", "RRDBNet"]),
    ("an upscaler for interpolation", "esrgan/rrdb-x4.pth", As::Interpolator, |_| {},
     &["is RRDBNet, not an interpolation network", "RIFE 4.0 to 4.26"]),
    ("RIFE for upscaling", "rife/4.6/flownet.pkl", As::Upscaler, |_| {}, &["is IFNet (RIFE), not an upscaler"]),
    ("RIFE with keys missing", "rife/4.22.lite/flownet.pkl", As::Interpolator, |w| {
        w.remove("block2.convblock.5.beta");
        w.remove("block3.lastconv.0.bias");
        w.remove("encode.cnn2.weight");
    }, &["block2.convblock.5.beta [1, 8, 1, 1] is missing", "block3.lastconv.0.bias [52] is missing",
         "encode.cnn2.weight [16, 16, 3, 3] is missing"]),
    ("RIFE without a block", "rife/4.22.lite/flownet.pkl", As::Interpolator, |w| w.0.retain(|n, _| !n.starts_with("block3.")),
     &["block3.conv0.0.0.weight is missing"]),
    ("RIFE, half 4.2, half 4.6", "rife/4.6/flownet.pkl", As::Interpolator, |w| {
        w.remove("block0.lastconv.0.weight");
        w.insert("block0.lastconv.weight", Dtype::F32, &[12, 5, 4, 4]);
    }, &["block0.convblock.0.0.weight is missing"]),
    ("RIFE 4.2 with other ends", "rife/4.2/flownet.pkl", As::Interpolator,
     |w| w.misshape("block0.lastconv.weight", &[12, 6, 4, 4]), &["6 channels at the end of a block", "no known RIFE"]),
    ("RIFE with other ends", "rife/4.6/flownet.pkl", As::Interpolator,
     |w| w.misshape("block0.lastconv.0.weight", &[12, 22, 4, 4]), &["22 channels at the end of a block", "no known RIFE"]),
    ("transformer", "flux1-dev/model/transformer", TRANSFORMER, |w| {
        w.remove("transformer_blocks.1.attn.to_k.bias");
        w.misshape("single_transformer_blocks.0.attn.norm_q.weight", &[9]);
        w.insert("lora.up", Dtype::BF16, &[1]);
    }, &["transformer_blocks.1.attn.to_k.bias [32] is missing",
         "single_transformer_blocks.0.attn.norm_q.weight must be [16] and is [9]", "lora.up [1] is not used"]),
    ("half of guidance", "flux1-dev/model/transformer", TRANSFORMER,
     |w| w.remove("time_text_embed.guidance_embedder.linear_1.weight"),
     &["time_text_embed.guidance_embedder.linear_1.bias [32] is not used"]),
    ("clip", "flux1-dev/model/text_encoder", CLIP, |w| {
        w.remove("text_model.encoder.layers.0.self_attn.q_proj.bias");
        w.misshape("text_model.embeddings.token_embedding.weight", &[10, 10, 4]);
    }, &["text_model.encoder.layers.0.self_attn.q_proj.bias [40] is missing",
         "text_model.embeddings.token_embedding.weight must be [10, 40] and is [10, 10, 4]"]),
    ("t5", "flux1-dev/model/text_encoder_2", T5, |w| {
        w.remove("encoder.block.1.layer.0.layer_norm.weight");
        w.insert("decoder.final_layer_norm.weight", Dtype::F32, &[24]);
    }, &["encoder.block.1.layer.0.layer_norm.weight [24] is missing", "decoder.final_layer_norm.weight [24] is not used"]),
    ("Z-Image", "z-image/model/transformer", Z_IMAGE, |w| {
        w.remove("layers.1.attention.to_out.0.weight");
        w.remove("x_pad_token");
        w.misshape("noise_refiner.0.adaLN_modulation.0.bias", &[96]);
        w.insert("siglip_embedder.0.weight", Dtype::F32, &[4]);
    }, &["layers.1.attention.to_out.0.weight [32, 32] is missing", "x_pad_token [1, 32] is missing",
         "noise_refiner.0.adaLN_modulation.0.bias must be [128] and is [96]", "siglip_embedder.0.weight [4] is not used"]),
    ("language model", "z-image/model/text_encoder", QWEN3, |w| {
        w.remove("model.layers.1.self_attn.o_proj.weight");
        w.misshape("model.layers.1.self_attn.k_norm.weight", &[4]);
        w.insert("model.layers.0.self_attn.sinks", Dtype::F32, &[4]);
    }, &["model.layers.1.self_attn.o_proj.weight [40, 32] is missing", "k_norm.weight must be [8] and is [4]",
         "model.layers.0.self_attn.sinks [4] is not used"]),
    ("a layer that is not needed", "z-image/model/text_encoder", QWEN3, |w| w.remove("model.layers.2.mlp.up_proj.weight"), &[]),
    ("a picture's weights", "qwen-image/model/text_encoder", QWEN2_5,
     |w| w.misshape("visual.merger.ln_q.weight", &[3]), &[]),
    ("half a bias", "qwen-image/model/text_encoder", QWEN2_5,
     |w| w.misshape("model.layers.2.self_attn.v_proj.bias", &[3]), &["v_proj.bias must be [16] and is [3]"]),
    ("no language", "qwen-image/model/text_encoder", QWEN2_5, |w| w.0.retain(|n, _| n.starts_with("visual.")),
     &["model.embed_tokens.weight is missing"]),
    ("decoder", "flux1-dev/model/vae", DECODER, |w| {
        w.remove("decoder.up_blocks.0.upsamplers.0.conv.weight");
        w.remove("decoder.up_blocks.1.resnets.0.conv1.weight");
    }, &["decoder.up_blocks.0.upsamplers.0.conv.weight", "decoder.up_blocks.1.resnets.0.conv1.weight", "is missing"]),
    ("shared modulation gone", "flux2-dev/model/transformer", FLUX2, |w| {
        w.remove("single_stream_modulation.linear.weight");
        w.misshape("transformer_blocks.0.ff_context.linear_in.weight", &[7, 32]);
        w.insert("x_embedder.bias", Dtype::BF16, &[32]);
    }, &["single_stream_modulation.linear.weight [96, 32] is missing", "x_embedder.bias [32] is not used",
         "transformer_blocks.0.ff_context.linear_in.weight must be [192, 32] and is [7, 32]"]),
    ("heads that do not fit", "flux2-dev/model/transformer", FLUX2,
     |w| w.misshape("transformer_blocks.0.attn.norm_q.weight", &[9]), &["attention_head_dim is 16 and the weights have 9"]),
    ("last block's text", "qwen-image/model/transformer", QWEN_IMAGE, |w| {
        w.remove("transformer_blocks.0.txt_mlp.net.2.bias");
        w.remove("transformer_blocks.1.img_mod.1.bias");
    }, &["transformer_blocks.0.txt_mlp.net.2.bias [32] is missing",
         "transformer_blocks.1.img_mod.1.bias [192] is missing"]),
    ("half of the statistics", "flux2-klein/model/vae", FLUX2_DECODER, |w| w.remove("bn.running_var"),
     &["bn.running_var [16] is missing"]),
    ("encoder", "flux1-dev/model/vae", ENCODER, |w| w.remove("encoder.conv_norm_out.bias"),
     &["encoder.conv_norm_out.bias", "is missing"]),
];

#[test]
fn one_error_names_all_faults() {
    let mut table = Table::default();
    for (name, source, how, edit, wanted) in FAULTS {
        let source = goldens(source);
        let bench = Bench::new(&source, *how);
        let mut weights = Weights::read(&source);
        edit(&mut weights);
        weights.write(&bench.file);
        let message = bench.build(*how, Target::CPU).err().map(|e| e.to_string()).unwrap_or_default();
        let lacking: Vec<_> = wanted.iter().filter(|part| !message.contains(**part)).collect();
        let good = lacking.is_empty() && message.is_empty() == wanted.is_empty() && !message.contains('\n');
        table.row(
            good,
            format!("{name:<32} {message}{}", if good { String::new() } else { format!("\n   lacks {lacking:?}") }),
        );
    }
    table.finish();
}

/// Each tensor in turn has an invalid shape or is missing, then all of them. A build may fail with an error but not panic.
#[test]
fn no_shape_makes_a_build_panic() {
    const SHAPES: &[&[usize]] = &[
        &[],
        &[0],
        &[1, 1],
        &[0, 1 << 60],
        &[2, 7, 3, 3],
        &[0, 0, 0, 0],
        &[1, 1, 1, 1, 1],
        &[0, 1 << 40, 3, 3],
        &[5, 1, 1],
    ];
    let portable = Target { provider: Provider::Portable, compute: DType::F32 };
    let builds = |(source, how): &(PathBuf, As)| {
        let how = *how;
        let bench = Bench::new(source, how);
        let weights = Weights::read(source);
        let half = match how {
            DECODER | FLUX2_DECODER => "decoder.",
            ENCODER => "encoder.",
            _ => "",
        };
        let names: Vec<String> = weights.0.keys().filter(|n| n.starts_with(half)).cloned().collect();
        let mut builds = 0;
        let mut panics = vec![];
        let mut attempt = |weights: &Weights, what: String, targets: &[Target]| {
            weights.write(&bench.file);
            for &target in targets {
                builds += 1;
                if catch_unwind(|| drop(bench.build(how, target))).is_err() {
                    panics.push(what.clone());
                }
            }
        };
        for name in &names {
            let mut edited = weights.clone();
            edited.remove(name);
            attempt(&edited, format!("without {name}"), &[Target::CPU]);
            for shape in &SHAPES[..6] {
                edited.insert(name, Dtype::F32, shape);
                attempt(&edited, format!("{name} {shape:?}"), &[Target::CPU]);
            }
        }
        for shape in SHAPES {
            let mut edited = weights.clone();
            names.iter().for_each(|name| edited.insert(name, Dtype::F32, shape));
            attempt(&edited, format!("all {shape:?}"), &[Target::CPU, portable]);
        }
        panics.truncate(8);
        let row =
            format!("{:<60} {how:?}: {builds} builds {panics:?}", source.strip_prefix(goldens("")).unwrap().display());
        (panics.is_empty(), row)
    };
    let rows: Vec<(bool, String)> = sources().par_iter().map(builds).collect();
    let mut table = Table::default();
    rows.into_iter().for_each(|(good, row)| table.row(good, row));
    table.finish();
}

#[test]
fn invalid_configs_are_rejected() {
    let mut table = Table::default();
    let rows: [(&str, As, &str, &str, &str); 8] = [
        (
            "text_encoder",
            CLIP,
            "num_attention_heads",
            "0",
            "layers.0/self_attn/q_proj/Add: 0 heads do not divide [n, s, 40]",
        ),
        ("text_encoder", CLIP, "num_attention_heads", "7", "7 heads do not divide [n, s, 40] evenly"),
        ("text_encoder", CLIP, "hidden_act", "\"relu\"", "hidden_act is relu; expected quick_gelu or gelu"),
        ("text_encoder_2", T5, "feed_forward_proj", "\"relu\"", "feed_forward_proj is \"relu\"; only gated-gelu"),
        ("text_encoder_2", T5, "relative_attention_max_distance", "0", "is 0; it must be 1 to 65536"),
        ("text_encoder_2", T5, "relative_attention_max_distance", "9000000000000000000", "is too large for any model"),
        ("vae", DECODER, "norm_num_groups", "0", "0 groups, 4 levels"),
        ("vae", ENCODER, "norm_num_groups", "5", "5 groups do not divide [n, 8, 8*h, 8*w] evenly"),
    ];
    for (component, how, key, value, wanted) in rows {
        let source = goldens("flux1-dev/model").join(component);
        let bench = Bench::new(&source, how);
        Weights::read(&source).write(&bench.file);
        let path = bench.folder.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        fs::write(&path, config.to_string()).unwrap();
        let message = catch_unwind(|| bench.build(how, Target::CPU).err().map(|e| e.to_string()));
        let good = matches!(&message, Ok(Some(message)) if message.contains(wanted));
        table.row(good, format!("{component} {key} {value}: {message:?}"));
    }
    table.finish();
}

#[test]
fn flow_scales_with_mismatched_blocks_are_rejected() {
    let mut table = Table::default();
    let path = goldens("rife/4.22.lite/flownet.pkl");
    let rows = [
        (0.25, true),
        (0.5, true),
        (1.0, true),
        (2.0, true),
        (4.0, true),
        (0.3, false),
        (0.0, false),
        (8.0, false),
        (-1.0, false),
        (f32::NAN, false),
        (f32::INFINITY, false),
    ];
    for (scale, good) in rows {
        let found = compile::interpolator(&path, scale, Target::CPU).map(|i| i.multiple);
        let refused = found.as_ref().is_err_and(|e| e.to_string().contains("RIFE supports 0.25"));
        table.row(found.is_ok() == good && refused != good, format!("flow scale {scale}: {found:?}"));
    }
    table.finish();
}
