//! Compiles a checkpoint, or one component of it, to an ONNX graph.
//!
//! The tensor names identify a single file. A component of a diffusers folder has a class name and a `config.json`, which is checked
//! against the weights. No weight is copied: the graph's initializers point into the checkpoint's files.
//!
//! This module is generic over the list of architectures in `arch/mod.rs`; it names no network.

mod check_config;
mod export;
mod identify;

use std::path::Path;

use serde_json::Value as Json;

pub use crate::arch::{Cost, Subgraph, VaeSpec};
pub use export::{Export, export};
pub use identify::{CheckpointInfo, identify};

use crate::{
    arch::{ARCHITECTURES, Architecture, Component, NetworkKind},
    error::{Error, Result},
    model::read_config,
    onnx::{Graph, Model, Scope, Target},
    weights::Checkpoint,
};
use check_config::check_config;

/// Whether components of the class can be compiled.
pub fn supports(class: &str) -> bool {
    by_class(class).is_some()
}

fn by_class(class: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().copied().find(|a| a.classes.contains(&class))
}

/// The architecture of a checkpoint, by its tensor names.
fn detect(c: &Checkpoint) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().copied().find(|a| (a.detect)(c))
}

/// A component folder, opened: its architecture, `config.json` and weights.
struct Opened<'a> {
    folder: &'a Path,
    class: &'a str,
    architecture: &'static Architecture,
    config: Json,
    weights: Checkpoint,
}

impl<'a> Opened<'a> {
    /// # Errors
    /// The class is unknown, or files are missing or invalid.
    fn new(folder: &'a Path, class: &'a str) -> Result<Self> {
        let architecture = by_class(class).ok_or_else(|| {
            let mut known: Vec<&str> = ARCHITECTURES.iter().flat_map(|a| a.classes).copied().collect();
            known.sort_unstable();
            Error::failed(format!("{}: class {class} is not known; known: {}", folder.display(), known.join(", ")))
        })?;
        let (config, weights) = (read_config(&folder.join("config.json"))?, Checkpoint::open(folder)?);
        Ok(Self { folder, class, architecture, config, weights })
    }

    fn component(&self) -> Component<'_> {
        Component { class: self.class, config: &self.config, weights: &self.weights }
    }

    /// The error for a class that is not of the required kind of network.
    fn not(&self, kind: &str) -> Error {
        Error::failed(format!("{}: {} is not {kind}", self.folder.display(), self.class))
    }
}

/// Compiles a component of a diffusers folder. `image` fixes the number of image tokens of a transformer, for engines that require
/// static shapes.
///
/// # Errors
/// An unknown class, a config that contradicts the weights, and all missing, misshapen and unused weights in one message.
pub fn component(
    folder: &Path,
    class: &str,
    subgraph: Subgraph,
    image: Option<usize>,
    target: Target,
) -> Result<Model> {
    let opened = Opened::new(folder, class)?;
    check_config(&opened.architecture.config, &opened.config, &opened.weights)?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let scope = Scope::new(&Graph::new(&name, target), &opened.weights);
    match &opened.architecture.network {
        NetworkKind::TextEncoder(open) => {
            let states = if let Subgraph::HiddenStates(states) = subgraph { Some(states) } else { None };
            let net = open(&opened.component())?;
            net.build(&scope, states).map_err(|e| e.at(folder.display()))?;
        }
        NetworkKind::Transformer(open) => open(&opened.component())?.build(&scope, image),
        NetworkKind::Autoencoder(open) => open(&opened.component())?.build(&scope, subgraph),
        NetworkKind::Upscaler { .. } | NetworkKind::Interpolator { .. } => {
            return Err(opened.not("a component of a diffusers folder"));
        }
    }
    scope.finish()
}

/// Cost of one call of a transformer, from its headers.
///
/// # Errors
/// An unknown class, or one that is not a transformer.
pub fn transformer_cost(folder: &Path, class: &str) -> Result<Cost> {
    let opened = Opened::new(folder, class)?;
    match &opened.architecture.network {
        NetworkKind::Transformer(open) => Ok(open(&opened.component())?.cost()),
        _ => Err(opened.not("a transformer")),
    }
}

/// Tiles and memory use of a VAE, from its headers.
///
/// # Errors
/// An unknown class, or one that is not a VAE.
pub fn autoencoder(folder: &Path, class: &str) -> Result<VaeSpec> {
    let opened = Opened::new(folder, class)?;
    match &opened.architecture.network {
        NetworkKind::Autoencoder(open) => {
            let component = opened.component();
            open(&component)?.spec(&component)
        }
        _ => Err(opened.not("a VAE")),
    }
}

/// A compiled upscaling network.
#[derive(Debug, Clone)]
pub struct Upscaler {
    /// The graph: `picture` → `enlarged`.
    pub model: Model,
    /// Scale, size limits and memory use.
    pub spec: UpscalerSpec,
}

/// Scale, size limits and memory use of an upscaling network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpscalerSpec {
    /// Output pixels per input pixel, each way.
    pub scale: usize,
    /// Rows and columns must be multiples of this.
    pub multiple: usize,
    /// Input pixels to each side that an output pixel depends on.
    pub receptive_field: usize,
    /// Peak activation memory in bytes per input pixel, estimated.
    pub pixel_bytes: usize,
}

/// Compiles an upscaling network from a `.pth` or `.safetensors` file.
pub fn upscaler(path: &Path, target: Target) -> Result<Upscaler> {
    build_upscaler(Checkpoint::open(path)?, None, target)
}

/// Compiles an upscaling network with weights share·own + (1 − share)·other, `share` in 0..=1, from two checkpoints of one network
/// (Real-ESRGAN's denoise strength, `inference_realesrgan.py`).
pub fn blended_upscaler(path: &Path, other: &Path, share: f32, target: Target) -> Result<Upscaler> {
    build_upscaler(Checkpoint::open(path)?, Some((Checkpoint::open(other)?, share)), target)
}

fn build_upscaler(own: Checkpoint, blend: Option<(Checkpoint, f32)>, target: Target) -> Result<Upscaler> {
    let found = detect(&own);
    let Some(NetworkKind::Upscaler { canonical, open, .. }) = found.map(|a| &a.network) else {
        return Err(wrong_kind(&own, found, "an upscaler", |network| match network {
            NetworkKind::Upscaler { models, .. } => Some(models),
            _ => None,
        }));
    };
    let own = canonical(own)?;
    let graph = Graph::new("upscaler", target);
    let scope = match blend {
        Some((other, share)) => Scope::blended(&graph, &own, &canonical(other)?, share),
        None => Scope::new(&graph, &own),
    };
    let net = open(&own)?;
    net.build(&scope);
    let (scale, multiple) = (net.scale(), net.multiple());
    let receptive_field = scope.graph().receptive_field("picture", "enlarged", multiple, scale);
    let model = scope.finish()?;
    let receptive_field = receptive_field.ok_or_else(|| {
        let origin = own.origin().display();
        Error::failed(format!("{origin}: each output pixel depends on the whole picture, so it cannot be tiled"))
    })?;
    Ok(Upscaler { model, spec: UpscalerSpec { scale, multiple, receptive_field, pixel_bytes: net.pixel_bytes() } })
}

/// A compiled interpolation network.
#[derive(Debug, Clone)]
pub struct Interpolator {
    /// The graph: `first`, `second`, `time` → `between`.
    pub model: Model,
    /// Rows and columns must be multiples of this.
    pub multiple: usize,
    /// Peak activation memory in bytes per pixel of a pair of frames, estimated.
    pub pixel_bytes: usize,
}

/// Compiles a frame interpolation network. `scale`: resolution of the flow relative to the frames.
pub fn interpolator(path: &Path, scale: f32, target: Target) -> Result<Interpolator> {
    let checkpoint = Checkpoint::open(path)?;
    let found = detect(&checkpoint);
    let Some(NetworkKind::Interpolator { open, .. }) = found.map(|a| &a.network) else {
        return Err(wrong_kind(&checkpoint, found, "an interpolation network", |network| match network {
            NetworkKind::Interpolator { models, .. } => Some(models),
            _ => None,
        }));
    };
    let net = open(&checkpoint)?;
    let scope = Scope::new(&Graph::new("rife", target), &checkpoint);
    net.build(&scope, scale)?;
    Ok(Interpolator { model: scope.finish()?, multiple: net.multiple(scale)?, pixel_bytes: net.pixel_bytes() })
}

/// The error for a checkpoint of another kind of network.
fn wrong_kind(
    c: &Checkpoint,
    found: Option<&Architecture>,
    kind: &str,
    models: fn(&NetworkKind) -> Option<&'static str>,
) -> Error {
    let models = ARCHITECTURES.iter().filter_map(|a| models(&a.network)).collect::<Vec<_>>().join(" and ");
    let found = found.map_or_else(
        || {
            let keys: Vec<&str> = c.names().take(3).collect();
            format!("an unknown architecture (its first weights are {})", keys.join(", "))
        },
        |a| a.name.to_string(),
    );
    Error::failed(format!("{} is {found}, not {kind}; {models} are known", c.origin().display()))
}
