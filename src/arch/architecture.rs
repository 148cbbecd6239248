//! The descriptor that each network exports, and the interface of each kind of network.
//!
//! The traits below define the inputs and outputs of a graph, so that the rest of the program depends on the kind of network and
//! never on a single one.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{
    error::{Error, Result},
    model::HiddenStates,
    onnx::Scope,
    weights::Checkpoint,
};

/// A network architecture. `arch/mod.rs` lists all of them.
pub(crate) struct Architecture {
    /// Name that `inspect` prints.
    pub name: &'static str,
    /// Class names of diffusers and transformers, as in `model_index.json`; empty for networks that are single files.
    pub classes: &'static [&'static str],
    /// Whether a checkpoint holds this network. It tests for tensor names that no other network has.
    pub detect: fn(&Checkpoint) -> bool,
    /// Entries of `config.json` that the weights determine.
    pub config: ConfigChecks,
    /// Kind of network, and how to open one.
    pub network: NetworkKind,
}

/// Kind of network, with the function that reads its dimensions from a checkpoint.
pub(crate) enum NetworkKind {
    /// Token ids → hidden states.
    TextEncoder(fn(&Component<'_>) -> Result<Box<dyn TextEncoder>>),
    /// Diffusion transformer: noisy latents → velocity.
    Transformer(fn(&Component<'_>) -> Result<Box<dyn Transformer>>),
    /// VAE: picture ↔ latents.
    Autoencoder(fn(&Component<'_>) -> Result<Box<dyn Autoencoder>>),
    /// Picture → larger picture.
    Upscaler {
        /// Names of released models, for messages.
        models: &'static str,
        /// Renames the tensors of older releases to the names that `open` reads.
        canonical: fn(Checkpoint) -> Result<Checkpoint>,
        /// Reads the dimensions from a canonical checkpoint.
        open: fn(&Checkpoint) -> Result<Box<dyn Upscaler>>,
    },
    /// Two frames and a time → the frame between.
    Interpolator {
        /// Names of released models, for messages.
        models: &'static str,
        /// Reads the dimensions.
        open: fn(&Checkpoint) -> Result<Box<dyn Interpolator>>,
    },
}

impl NetworkKind {
    /// The kind as `inspect` prints it: `upscaling`, `interpolation`, `transformer`, `vae` or `text_encoder`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::TextEncoder(_) => "text_encoder",
            Self::Transformer(_) => "transformer",
            Self::Autoencoder(_) => "vae",
            Self::Upscaler { .. } => "upscaling",
            Self::Interpolator { .. } => "interpolation",
        }
    }
}

/// A component of a diffusers checkpoint.
pub(crate) struct Component<'a> {
    /// Class name in `model_index.json`.
    pub class: &'a str,
    /// The component's `config.json`.
    pub config: &'a Json,
    /// Its weights.
    pub weights: &'a Checkpoint,
}

impl Component<'_> {
    /// Reads `config.json` as `T`.
    pub(crate) fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let origin = self.weights.origin().display();
        T::deserialize(self.config).map_err(|e| Error::failed(format!("{origin}: config.json: {e}")))
    }
}

/// Entries of `config.json` that the weights determine, for checking one against the other.
pub(crate) struct ConfigChecks {
    /// Object of `config.json` that holds the entries where present, such as `text_config`.
    pub section: Option<&'static str>,
    /// Possible prefixes of the tensor names; the first that matches a tensor is used.
    pub prefixes: &'static [&'static str],
    /// Entry and the fact about the weights that it must equal.
    pub entries: &'static [(&'static str, Fact)],
}

impl ConfigChecks {
    /// Entries at the top of `config.json`, tensors without a prefix.
    pub(crate) const fn new(entries: &'static [(&'static str, Fact)]) -> Self {
        Self { section: None, prefixes: &[""], entries }
    }
}

/// A fact about the weights.
pub(crate) enum Fact {
    /// Extent of a tensor along an axis.
    Extent(&'static str, usize),
    /// Length of a list of modules.
    Count(&'static str),
    /// Whether a tensor name starts with a prefix.
    Present(&'static str),
}

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

/// A text encoder.
pub(crate) trait TextEncoder {
    /// Input `ids` [n, s], i64; output `states`, the hidden states [n, s, width]. `states` selects the hidden states of a language
    /// model; encoders with one output ignore it.
    fn build(&self, w: &Scope, states: Option<HiddenStates>) -> Result<()>;
}

/// A diffusion transformer.
pub(crate) trait Transformer {
    /// Cost of one call.
    fn cost(&self) -> Cost;
    /// Inputs `latents` [n, image, features], `text` [n, text, features] and what the family adds; output `velocity`
    /// [n, image, features]. `image` fixes the number of image tokens, for engines that require static shapes.
    fn build(&self, w: &Scope, image: Option<usize>);
}

/// A VAE.
pub(crate) trait Autoencoder {
    /// Reference tiles and memory use.
    fn spec(&self, component: &Component<'_>) -> Result<VaeSpec>;
    /// Decoder: input `latents` [n, c, h, w], output `picture` [n, 3, h·factor, w·factor] in about −1..=1. Encoder: input
    /// `picture`, outputs `mean` and, unless the latents are normalised inside the network, `logvar`.
    fn build(&self, w: &Scope, subgraph: Subgraph);
}

/// An upscaling network.
pub(crate) trait Upscaler {
    /// Output pixels per input pixel, each way.
    fn scale(&self) -> usize;
    /// Rows and columns must be multiples of this.
    fn multiple(&self) -> usize {
        1
    }
    /// Number of blocks or layers, as `inspect` prints.
    fn depth(&self) -> usize;
    /// Peak activation memory in bytes per input pixel, estimated.
    fn pixel_bytes(&self) -> usize;
    /// Input `picture` [n, 3, h, w] in 0..=1; output `enlarged` [n, 3, h·scale, w·scale], not clamped.
    fn build(&self, w: &Scope);
}

/// A frame interpolation network.
pub(crate) trait Interpolator {
    /// Released versions with these dimensions, as `inspect` prints.
    fn version(&self) -> &'static str;
    /// Rows and columns must be multiples of this at a flow scale.
    ///
    /// # Errors
    /// An unsupported flow scale.
    fn multiple(&self, scale: f32) -> Result<usize>;
    /// Peak activation memory in bytes per pixel of a pair of frames, estimated.
    fn pixel_bytes(&self) -> usize;
    /// Inputs `first`, `second` [n, 3, h, w] in 0..=1 and `time` `[n]` in 0..=1; output `between` [n, 3, h, w], not clamped.
    /// `scale`: resolution of the flow relative to the frames.
    fn build(&self, w: &Scope, scale: f32) -> Result<()>;
}

/// Cost of one call of a transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// FLOP per token: two per weight that processes it.
    pub per_token: f64,
    /// FLOP per pair of tokens: scores and weighted sums of all attention layers.
    pub per_pair: f64,
}

impl Cost {
    /// FLOP for `image` image tokens and `text` text tokens.
    pub fn of(&self, image: usize, text: usize) -> f64 {
        let tokens = (image + text) as f64;
        tokens * self.per_token + tokens * tokens * self.per_pair
    }
}

/// Reference tiles and memory use of a VAE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaeSpec {
    /// Picture pixels per latent pixel, each way.
    pub factor: usize,
    /// Side of the patches that one latent pixel packs; 1 without packing.
    pub patch: usize,
    /// Side of the reference's tiles in picture pixels.
    pub tile: usize,
    /// Overlap of the reference's tiles in picture pixels.
    pub overlap: usize,
    /// Peak activation memory of decoding in bytes per picture pixel, estimated.
    pub decode_bytes: usize,
    /// Peak activation memory of encoding in bytes per picture pixel, estimated.
    pub encode_bytes: usize,
    /// Memory of the loaded weights in bytes, estimated.
    pub weights: usize,
}
