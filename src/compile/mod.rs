//! A checkpoint's component → an ONNX graph over its own files.
//!
//! What a file holds is decided by its keys and shapes ([`Kind::of`]); a component of a diffusers folder also has a class name
//! and a config. Nothing is copied: the graph's initialisers point into the checkpoint.

mod agree;
mod export;
mod identify;
mod vae;

use std::path::Path;

use serde::de::DeserializeOwned;

pub use export::{Export, export};
pub use identify::{Identity, identify};
pub use vae::{VaeSpec, autoencoder};

use crate::{
    arch::{
        clip::Clip,
        decoder_lm::DecoderLm,
        flux::Flux,
        flux2::Flux2,
        qwen_image::QwenImage,
        rife::Rife,
        rrdbnet,
        rrdbnet::Rrdb,
        srvgg,
        srvgg::Srvgg,
        t5::T5,
        vae_kl::VaeKl,
        vae_wan::{Depth, Frames, VaeWan},
        wan::Wan,
        z_image::ZImage,
    },
    error::{At, Error, Result},
    model::HiddenStates,
    onnx::{Graph, Model, Scope, Target},
    weights::Checkpoint,
};

/// Which graph of a component to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subgraph {
    /// The whole network: a transformer or a text encoder.
    Full,
    /// A language model up to these hidden states.
    HiddenStates(HiddenStates),
    /// VAE encoder; of a video VAE, for the first frame.
    Encoder,
    /// Video VAE encoder for the frames after the first. It reads the caches of the previous call.
    CachedEncoder,
    /// VAE decoder; of a video VAE, for the first latent frame.
    Decoder,
    /// Video VAE decoder for the latent frames after the first. It reads the caches of the previous call.
    CachedDecoder,
    /// Low-resolution part of a video VAE decoder, latents → features, for the first latent frame.
    DecoderTrunk,
    /// [`Subgraph::DecoderTrunk`] for the latent frames after the first.
    CachedDecoderTrunk,
    /// Full-resolution part of a video VAE decoder, features → one picture, for the first picture.
    DecoderHead,
    /// [`Subgraph::DecoderHead`] for the pictures after the first.
    CachedDecoderHead,
}

/// Classes of diffusers and transformers that can be built.
const CLASSES: &[&str] = &[
    "AutoencoderKL",
    "AutoencoderKLFlux2",
    "AutoencoderKLQwenImage",
    "AutoencoderKLWan",
    "CLIPTextModel",
    "Flux2Transformer2DModel",
    "FluxTransformer2DModel",
    "Mistral3ForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3ForCausalLM",
    "Qwen3Model",
    "QwenImageTransformer2DModel",
    "T5EncoderModel",
    "UMT5EncoderModel",
    "WanTransformer3DModel",
    "ZImageTransformer2DModel",
];

/// Whether the class can be built.
pub fn supports(class: &str) -> bool {
    CLASSES.contains(&class)
}

const LANGUAGE_MODELS: &[&str] =
    &["Mistral3ForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3Model"];

/// Builds a component of a diffusers folder. `tokens` fixes the number of picture tokens of a transformer, for engines that
/// need fixed shapes.
pub fn component(folder: &Path, class: &str, part: Subgraph, tokens: Option<usize>, target: Target) -> Result<Model> {
    if !CLASSES.contains(&class) {
        let (place, known) = (folder.display(), CLASSES.join(", "));
        return Err(Error::failed(format!("{place}: class {class} is not known; known are {known}")));
    }
    let checkpoint = Checkpoint::open(folder)?;
    agree::agree(class, &config(folder)?, &checkpoint)?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let scope = Scope::new(&Graph::new(&name, target), &checkpoint);
    match class {
        "CLIPTextModel" => Clip::detect(config(folder)?, &checkpoint)?.build(&scope),
        "AutoencoderKLQwenImage" => {
            let vae = VaeWan::detect(&config(folder)?, &checkpoint)?;
            if part == Subgraph::Encoder {
                vae.build_picture_encoder(&scope)
            } else {
                vae.build_picture_decoder(&scope)
            }
        }
        "AutoencoderKLWan" => {
            let vae = VaeWan::detect(&config(folder)?, &checkpoint)?;
            match part {
                Subgraph::Encoder => vae.build_encoder(&scope, Frames::First),
                Subgraph::CachedEncoder => vae.build_encoder(&scope, Frames::Later),
                Subgraph::CachedDecoder => vae.build_decoder(&scope, Frames::Later, Depth::Whole),
                Subgraph::DecoderTrunk => vae.build_decoder(&scope, Frames::First, Depth::Features),
                Subgraph::CachedDecoderTrunk => vae.build_decoder(&scope, Frames::Later, Depth::Features),
                Subgraph::DecoderHead => vae.build_decoder(&scope, Frames::First, Depth::Pictures),
                Subgraph::CachedDecoderHead => vae.build_decoder(&scope, Frames::Later, Depth::Pictures),
                Subgraph::Full | Subgraph::Decoder | Subgraph::HiddenStates(_) => {
                    vae.build_decoder(&scope, Frames::First, Depth::Whole);
                }
            }
        }
        "Flux2Transformer2DModel" => Flux2::detect(&checkpoint)?.build(&scope, tokens),
        "FluxTransformer2DModel" => Flux::detect(&checkpoint)?.build(&scope, tokens),
        "QwenImageTransformer2DModel" => QwenImage::detect(&checkpoint)?.build(&scope, tokens),
        "T5EncoderModel" | "UMT5EncoderModel" => T5::detect(config(folder)?, &checkpoint)?.build(&scope),
        "WanTransformer3DModel" => Wan::detect(config(folder)?, &checkpoint)?.build(&scope, tokens),
        "ZImageTransformer2DModel" => ZImage::detect(config(folder)?, &checkpoint)?.build(&scope, tokens),
        class if LANGUAGE_MODELS.contains(&class) => {
            let Subgraph::HiddenStates(states) = part else {
                let place = folder.display();
                return Err(Error::failed(format!("{place}: of a {class} the wanted hidden states must be named")));
            };
            DecoderLm::detect(&config(folder)?, &checkpoint)?.build(&scope, states).at(folder.display())?;
        }
        _ => {
            let vae = VaeKl::detect(&config(folder)?, &checkpoint)?;
            if part == Subgraph::Encoder { vae.build_encoder(&scope) } else { vae.build_decoder(&scope) }
        }
    }
    scope.finish()
}

fn config<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    crate::model::read_json(&folder.join("config.json"))
}

/// What one call of a transformer costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Floating-point operations per token: twice the weights that it meets.
    pub per_token: f64,
    /// Per pair of tokens: scores and sums of all attention layers.
    pub per_pair: f64,
}

impl Cost {
    /// Operations for `image` tokens beside `text` rows.
    pub fn of(&self, image: usize, text: usize) -> f64 {
        let tokens = (image + text) as f64;
        tokens * self.per_token + tokens * tokens * self.per_pair
    }
}

/// Rows of text that [`transformer_cost`] counts where text is not part of the sequence.
const TEXT_ROWS: usize = 512;

/// The cost of a transformer, from its headers; an error for a class that is not a transformer.
pub fn transformer_cost(folder: &Path, class: &str) -> Result<Cost> {
    let c = Checkpoint::open(folder)?;
    let (per_token, per_pair) = match class {
        "Flux2Transformer2DModel" => Flux2::detect(&c)?.cost(),
        "FluxTransformer2DModel" => Flux::detect(&c)?.cost(),
        "QwenImageTransformer2DModel" => QwenImage::detect(&c)?.cost(),
        "WanTransformer3DModel" => Wan::detect(config(folder)?, &c)?.cost(TEXT_ROWS),
        "ZImageTransformer2DModel" => ZImage::detect(config(folder)?, &c)?.cost(),
        other => return Err(Error::failed(format!("{}: {other} is not a known transformer", folder.display()))),
    };
    Ok(Cost { per_token, per_pair })
}

/// An upscaling network, ready to load.
#[derive(Debug, Clone)]
pub struct Upscaler {
    /// The graph: `picture` → `enlarged`.
    pub model: Model,
    /// What a run needs to know.
    pub spec: UpscalerSpec,
}

/// What a run needs to know of an upscaling network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpscalerSpec {
    /// Output pixels per input pixel, each way.
    pub scale: usize,
    /// Rows and columns must be multiples of this.
    pub multiple: usize,
    /// Input pixels that an output pixel depends on, to each side.
    pub receptive_field: usize,
    /// Bytes of activations per input pixel at the peak, about.
    pub pixel_bytes: usize,
}

/// Builds an upscaling network from a `.pth`, `.safetensors` or the like.
pub fn upscaler(path: &Path, target: Target) -> Result<Upscaler> {
    let own = rrdbnet::canonical(Checkpoint::open(path)?)?;
    let graph = Graph::new("upscaler", target);
    build_upscaler(&own, Scope::new(&graph, &own))
}

/// The same with every weight share·own + (1 − share)·other, `share` in 0..=1, of two checkpoints of one network (Real-ESRGAN's
/// denoise strength, `inference_realesrgan.py`).
pub fn blended_upscaler(path: &Path, other: &Path, share: f32, target: Target) -> Result<Upscaler> {
    let [own, other] = [path, other].map(|p| rrdbnet::canonical(Checkpoint::open(p)?));
    let (own, graph) = (own?, Graph::new("upscaler", target));
    build_upscaler(&own, Scope::blended(&graph, &own, &other?, share))
}

fn build_upscaler(own: &Checkpoint, scope: Scope) -> Result<Upscaler> {
    let (scale, multiple, pixel_bytes) = match Kind::of(own) {
        Kind::Rrdb => {
            let net = Rrdb::detect(own)?;
            net.build(&scope);
            (net.scale, net.unshuffle, net.pixel_bytes())
        }
        Kind::Srvgg => {
            let net = Srvgg::detect(own)?;
            net.build(&scope);
            (net.scale, 1, net.pixel_bytes())
        }
        other => return Err(unfit(own, other, "an upscaler", "RRDBNet (ESRGAN, Real-ESRGAN) and SRVGGNetCompact")),
    };
    let reach = scope.graph().reach("picture", "enlarged", multiple, scale);
    let model = scope.finish()?;
    let whole = || Error::failed(format!("{}: a pixel of it depends on the whole picture", own.origin().display()));
    Ok(Upscaler {
        model,
        spec: UpscalerSpec { scale, multiple, receptive_field: reach.ok_or_else(whole)?, pixel_bytes },
    })
}

/// An interpolation network, ready to load.
#[derive(Debug, Clone)]
pub struct Interpolator {
    /// The graph: `first`, `second`, `time` → `between`.
    pub model: Model,
    /// Rows and columns must be multiples of this.
    pub multiple: usize,
}

/// Builds RIFE's network. `scale`: of the resolution that flow is sought at.
pub fn interpolator(path: &Path, scale: f32, target: Target) -> Result<Interpolator> {
    let checkpoint = Checkpoint::open(path)?;
    match Kind::of(&checkpoint) {
        Kind::Rife => {
            let net = Rife::detect(&checkpoint)?;
            let scope = Scope::new(&Graph::new("rife", target), &checkpoint);
            net.build(&scope, scale)?;
            Ok(Interpolator { model: scope.finish()?, multiple: net.multiple(scale)? })
        }
        other => Err(unfit(&checkpoint, other, "an interpolation network", "RIFE 4.0 to 4.26 (flownet.pkl)")),
    }
}

/// What a file of weights is, by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Rrdb,
    Srvgg,
    Rife,
    Flux,
    Flux2,
    QwenImage,
    ZImage,
    LanguageModel,
    Vae,
    Clip,
    T5,
    VaeWan,
    Wan,
    Unknown,
}

impl Kind {
    /// Tells architectures apart by keys that only they have.
    pub fn of(c: &Checkpoint) -> Self {
        match () {
            () if rrdbnet::is(c) => Self::Rrdb,
            () if srvgg::is(c) => Self::Srvgg,
            () if crate::arch::rife::is(c) => Self::Rife,
            () if c.contains("single_transformer_blocks.0.proj_mlp.weight") => Self::Flux,
            () if c.contains("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight") => Self::Flux2,
            () if c.contains("transformer_blocks.0.img_mod.1.weight") => Self::QwenImage,
            () if c.contains("decoder.up_blocks.0.upsamplers.0.time_conv.weight") => Self::VaeWan,
            () if c.contains("condition_embedder.time_proj.weight") => Self::Wan,
            () if c.contains("context_refiner.0.attention.to_q.weight") => Self::ZImage,
            () if DecoderLm::is(c) => Self::LanguageModel,
            () if c.contains("decoder.mid_block.resnets.0.conv1.weight") => Self::Vae,
            () if c.contains("text_model.embeddings.position_embedding.weight") => Self::Clip,
            () if c.contains("encoder.block.0.layer.0.SelfAttention.q.weight") => Self::T5,
            () => Self::Unknown,
        }
    }

    /// The architecture's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rrdb => "RRDBNet",
            Self::Srvgg => "SRVGGNetCompact",
            Self::Rife => "IFNet (RIFE)",
            Self::Flux => "FluxTransformer2DModel",
            Self::Flux2 => "Flux2Transformer2DModel",
            Self::QwenImage => "QwenImageTransformer2DModel",
            Self::ZImage => "ZImageTransformer2DModel",
            Self::LanguageModel => "decoder language model",
            Self::Vae => "AutoencoderKL",
            Self::Clip => "CLIPTextModel",
            Self::T5 => "T5EncoderModel",
            Self::VaeWan => "AutoencoderKLWan",
            Self::Wan => "WanTransformer3DModel",
            Self::Unknown => "unknown",
        }
    }
}

fn unfit(c: &Checkpoint, found: Kind, wanted: &str, known: &str) -> Error {
    let origin = c.origin().display();
    let found = match found {
        Kind::Unknown => {
            let keys: Vec<&str> = c.names().take(3).collect();
            format!("an unknown architecture (its first weights are {})", keys.join(", "))
        }
        kind => kind.name().to_string(),
    };
    Error::failed(format!("{origin} is {found}, not {wanted}; {known} are known"))
}
