//! Resolved arguments of `generate`.

use std::{collections::HashSet, path::PathBuf};

use serde::Serialize;

use super::{Interpolation, Item, Model, Output, Quality, RuntimeOptions, Upscaling, postprocess::networks};
use crate::{
    error::Result,
    family::Convention,
    schedule::NoiseSource,
    spectral::{Mode, Scales, Spectrum, Transform},
};

/// Resolved arguments of `generate`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratePlan {
    /// The diffusion model.
    pub model: Model,
    /// At least one. Each gives one output per seed.
    pub prompts: Vec<String>,
    /// `None`: the family's default.
    pub negative_prompt: Option<String>,
    /// Seeds of the outputs of each prompt: the list of `--seed`, or seed, seed+1, … for `--num-outputs-per-prompt`.
    pub seeds: Vec<u64>,
    /// Random stream of the noise.
    pub noise: NoiseSource,
    /// The size in pixels, not yet checked against the family's limits.
    pub size: Sides,
    /// Frames of a video. `None`: the family's default.
    pub frames: Option<usize>,
    /// Frames per second. `None`: the family's default.
    pub fps: Option<f64>,
    /// Denoising steps over all levels. `None`: the family's default.
    pub steps: Option<usize>,
    /// At least 0. `None`: the family's default.
    pub guidance_scale: Option<f64>,
    /// At least 0. `None`: the family's default.
    pub true_cfg_scale: Option<f64>,
    /// Z-Image: cap on the norm of the guided prediction, relative to the norm of the prompt's. 0 or `None`: no cap.
    pub cfg_normalization: Option<f64>,
    /// Z-Image: no guidance once 1 − σ exceeds this. `None`: 1, always guided.
    pub cfg_truncation: Option<f64>,
    /// Whether the predictions with the prompt and with the negative prompt run as one batch of two.
    pub cfg_batch: bool,
    /// Static shift of the noise schedule, positive. `None`: the scheduler's.
    pub flow_shift: Option<f64>,
    /// Growth of the resolution while denoising.
    pub progressive: Progressive,
    /// Tokens of the prompt that the transformer reads. `None`: the family's default.
    pub max_sequence_length: Option<usize>,
    /// Picture or clip to start from. `None`: pure noise.
    pub start: Option<Start>,
    /// Tiling of the VAE.
    pub vae: Vae,
    /// Frame interpolation of the result.
    pub interpolation: Option<Interpolation>,
    /// Upscaling of the result.
    pub upscaling: Option<Upscaling>,
    /// Output files and their encoding.
    pub output: Output,
    /// `.safetensors` file for the latents of every step.
    pub save_latents: Option<PathBuf>,
    /// JSON file for the time of every stage and step.
    pub perf_dump: Option<PathBuf>,
    /// Other files that the call reads, such as the configuration and the prompts.
    #[serde(skip)]
    pub read_files: Vec<PathBuf>,
    /// Accuracy of the arithmetic.
    pub quality: Quality,
    /// Project whose sampling defaults apply.
    pub defaults: Convention,
    /// Device, precision and memory.
    pub runtime: RuntimeOptions,
}

impl GeneratePlan {
    /// The interpolation and upscaling networks.
    pub fn networks(&self) -> impl Iterator<Item = &Model> {
        networks(self.interpolation.as_ref(), self.upscaling.as_ref())
    }

    /// The items, by prompt, then seed, each with the index of its prompt. `video`: they are videos.
    pub fn items(&self, video: bool) -> Vec<(usize, Item<'_>)> {
        let count = self.prompts.len() * self.seeds.len();
        let pairs = self.prompts.iter().enumerate().flat_map(|(p, text)| self.seeds.iter().map(move |&s| (p, text, s)));
        pairs.enumerate().map(|(index, (p, prompt, seed))| (p, Item { prompt, seed, index, count, video })).collect()
    }

    /// The output files, by prompt, then seed; none if outputs are discarded or written to standard output. Creates nothing. Equal
    /// automatic names get their suffix when the first file exists, so they are one path here.
    ///
    /// # Errors
    /// Those of [`Output::path`].
    pub fn outputs(&self, video: bool) -> Result<Vec<PathBuf>> {
        let (mut outputs, mut seen) = (Vec::new(), HashSet::new());
        for (_, item) in self.items(video) {
            outputs.extend(self.output.path(item)?.filter(|path| seen.insert(path.clone())));
        }
        Ok(outputs)
    }
}

/// A requested size in pixels. A side that is `None` is the family's default, as in SGLang.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Sides {
    pub height: Option<usize>,
    pub width: Option<usize>,
}

impl Sides {
    /// Both sides.
    pub fn of(height: usize, width: usize) -> Self {
        Self { height: Some(height), width: Some(width) }
    }
}

impl Default for GeneratePlan {
    fn default() -> Self {
        Self {
            model: Model::default(),
            prompts: Vec::new(),
            negative_prompt: None,
            seeds: vec![42],
            noise: NoiseSource::default(),
            size: Sides::default(),
            frames: None,
            fps: None,
            steps: None,
            guidance_scale: None,
            true_cfg_scale: None,
            cfg_normalization: None,
            cfg_truncation: None,
            cfg_batch: false,
            flow_shift: None,
            progressive: Progressive::default(),
            max_sequence_length: None,
            start: None,
            vae: Vae::default(),
            interpolation: None,
            upscaling: None,
            output: Output::default(),
            save_latents: None,
            perf_dump: None,
            read_files: Vec::new(),
            quality: Quality::default(),
            defaults: Convention::default(),
            runtime: RuntimeOptions::default(),
        }
    }
}

/// Progressive growth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progressive {
    /// Whether and how latents grow.
    pub mode: Mode,
    /// The levels. No effect with [`Mode::Fullres`].
    pub scales: Scales,
    /// δ of the activation-time rule, in (0, 1).
    pub delta: f64,
    /// Transform that enlarges the latent.
    pub transform: Transform,
    /// Power spectrum of the VAE's latents. `None`: the family's.
    pub spectrum: Option<Spectrum>,
}

impl Default for Progressive {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            scales: Scales::Levels(1),
            delta: 0.01,
            transform: Transform::default(),
            spectrum: None,
        }
    }
}

/// Picture or clip to start from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Start {
    /// An existing file.
    pub image: PathBuf,
    /// Part of the schedule that is denoised again, in (0, 1]. `None`: the family's default.
    pub strength: Option<f64>,
}

/// Tiling of the VAE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Vae {
    /// When to tile.
    pub tiling: VaeTiling,
    /// Side of a tile in pixels. `None`: the reference's, smaller with `Auto` if memory requires it.
    pub tile: Option<usize>,
    /// Overlap of neighbouring tiles in pixels. `None`: the reference's fraction of a tile.
    pub overlap: Option<usize>,
}

/// `--vae-tiling`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VaeTiling {
    /// If the whole picture exceeds the memory limit or the free memory.
    #[default]
    Auto,
    /// If the picture is larger than a tile.
    On,
    /// Never.
    Off,
}
