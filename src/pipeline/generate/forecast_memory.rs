//! Memory of `generate`, phase by phase, from headers.

use super::run_config::RunConfig;
use crate::{
    compile::{self, Subgraph},
    error::Result,
    onnx::{Model, Target},
    pipeline::{
        components::subgraph_of,
        context::maps_weights,
        memory::{BYTES, PLANES, Phase, SESSION, peak, pixels},
        postprocess::UpscaleForm,
        vae::Direction,
    },
    plan::{GeneratePlan, RuntimeOptions},
};

/// Maps of the widest linear layer of a transformer that are held at once: its input, its output and the activation of the output.
const TOKEN_MAPS: u64 = 3;
/// Text encoders, transformer and VAE of a run, each with the threads and kernels that stay loaded.
const SESSIONS: u64 = 3;

/// Weights of the networks of a run.
#[derive(Default)]
pub(super) struct Networks {
    /// Bytes of the largest text encoder's converted weights.
    text: u64,
    /// Bytes of the transformer's converted weights.
    transformer: u64,
    /// Features of the transformer's widest linear layer.
    widest: u64,
    mapped: Vec<String>,
}

impl Networks {
    /// Adds a component. The CPU computes in f32: weights are converted once, or stay mapped.
    pub(super) fn add(&mut self, name: &str, model: &Model, runtime: &RuntimeOptions) {
        let mapped = maps_weights(model, runtime);
        let bytes = if mapped { 0 } else { 4 * model.parameters };
        if mapped {
            self.mapped.push(name.to_owned());
        }
        if name == "transformer" {
            let tensors = model.proto.graph.iter().flat_map(|graph| &graph.initializer);
            let widths = tensors.filter(|t| t.dims.len() == 2).flat_map(|t| t.dims.iter().copied().max());
            (self.transformer, self.widest) = (bytes, widths.max().unwrap_or(0).unsigned_abs());
        } else if name.starts_with("text_encoder") {
            self.text = self.text.max(bytes);
        }
    }

    /// Which weights stay mapped.
    pub(super) fn notes(&self) -> Vec<String> {
        let names = self.mapped.join(", ");
        if names.is_empty() { vec![] } else { vec![format!("weights stay mapped and are converted on use: {names}")] }
    }
}

/// Bytes of all weights in the files, and what the networks hold. Builds their graphs on the headers of the files.
///
/// # Errors
/// Missing, misshapen and unused weights.
pub(super) fn networks(plan: &GeneratePlan, config: &RunConfig) -> Result<(u64, Networks)> {
    let (mut weights, mut networks) = (0, Networks::default());
    for (name, class) in config.folder.components().filter(|(_, class)| compile::supports(class)) {
        let subgraph = subgraph_of(config.family.as_ref(), name, Subgraph::Decoder);
        let model = compile::component(&config.folder.path(name)?, class, subgraph, None, Target::CPU)?;
        weights += model.weight_bytes;
        networks.add(name, &model, &plan.runtime);
    }
    Ok((weights, networks))
}

/// The peak of a run.
///
/// # Errors
/// An upscaling network of the wrong kind.
pub(super) fn peak_of(plan: &GeneratePlan, config: &RunConfig, networks: &Networks) -> Result<Phase> {
    let sessions = SESSIONS * SESSION;
    let level = config.levels.last().map_or((0, 0), |level| (level.height, level.width));
    let mut latent = config.family.latent_shape(config.size);
    let axes = latent.len();
    (latent[axes - 2], latent[axes - 1]) = level;
    let tokens = (config.family.tokens(&latent) + config.family.text_tokens()) as u64;
    let count = (plan.prompts.len() * plan.seeds.len()) as u64;
    let latents = latent.iter().fold(4 * count, |bytes, &n| bytes.saturating_mul(n as u64));
    let activations = tokens.saturating_mul(4 * TOKEN_MAPS * networks.widest);
    let base = || Phase::default().with("sessions", sessions).with("latents", latents);
    let text = base().with("text encoder", networks.text);
    let denoise = base().with("transformer", networks.transformer).with("activations", activations);
    let size = (config.size.height, config.size.width);
    let vae = config.vae.planned_bytes(Direction::Decode, size);
    let decode = base().with("VAE and its tiles", vae);
    let encoded = config.start.as_ref().map(|image| image.encoded_size(config.family.vae_scale_factor(), config.size));
    let encode =
        base().with("VAE and its tiles", encoded.map_or(0, |s| config.vae.planned_bytes(Direction::Encode, s)));
    let form = plan.upscaling.as_ref().map(|u| UpscaleForm::read(u, plan.runtime.engine.memory_limit)).transpose()?;
    let write = form.flatten().map_or_else(
        || base().with("picture", pixels(size).saturating_mul(PLANES + 2 * BYTES)),
        |form| {
            let planes = form.plane_bytes(size, 3);
            let frame = pixels(form.output_size(size)).saturating_mul(2 * BYTES);
            let network = form.network_bytes(form.tiles(size, planes), size);
            base().with("f32 planes", planes).with("output picture", frame).with("upscaler and its tiles", network)
        },
    );
    Ok(peak([text, encode, denoise, decode, write]))
}
