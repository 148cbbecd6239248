//! Resolved arguments of `enhance`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Interpolation, Model, Output, Quality, RuntimeOptions, Upscaling, postprocess::networks};

/// Resolved arguments of `enhance`. Its JSON, without some keys, is hashed to recognise finished outputs of earlier runs
/// (`batch::identity`), so keys, values and their order must not change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnhancePlan {
    /// Inputs and outputs.
    #[serde(skip)]
    pub jobs: Vec<Job>,
    /// Folder of the journal of finished outputs, which lie in or below it. `None`: no journal.
    pub record: Option<PathBuf>,
    /// Frame interpolation.
    pub interpolation: Option<Interpolation>,
    /// Upscaling, after interpolation.
    pub upscaling: Option<Upscaling>,
    /// Diffusion passes after each upscaling step.
    pub refine: Option<Refine>,
    /// Frames per second of numbered pictures, before interpolation.
    pub fps: Option<f64>,
    /// Encoding of the outputs. Its destination is not used.
    pub encoding: Output,
    /// Part of a video.
    #[serde(rename = "cut")]
    pub trim: Trim,
    /// Whether frames of a damaged video that do not decode repeat the one before them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub conceal_errors: bool,
    /// Whether no warning says that a video is interlaced.
    #[serde(skip)]
    pub assume_progressive: bool,
    /// Handling of several files.
    pub batch: Batch,
    /// Seed of the refinement.
    pub seed: u64,
    /// Accuracy of the arithmetic.
    pub quality: Quality,
    /// JSON file for the time of every stage.
    pub perf_dump: Option<PathBuf>,
    /// Other files that the call reads, such as the configuration.
    #[serde(skip)]
    pub read_files: Vec<PathBuf>,
    /// Device, precision and memory.
    pub runtime: RuntimeOptions,
}

impl Default for EnhancePlan {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            record: None,
            interpolation: None,
            upscaling: None,
            refine: None,
            fps: None,
            encoding: Output::default(),
            trim: Trim::default(),
            conceal_errors: false,
            assume_progressive: false,
            batch: Batch::default(),
            seed: 42,
            quality: Quality::default(),
            perf_dump: None,
            read_files: Vec::new(),
            runtime: RuntimeOptions::default(),
        }
    }
}

impl EnhancePlan {
    /// Whether a network runs: `--filter` alone resamples without one.
    pub fn has_network(&self) -> bool {
        let upscales = self.upscaling.as_ref().is_some_and(|upscaling| upscaling.model.is_some());
        upscales || self.interpolation.is_some() || self.refine.is_some()
    }

    /// Number of items that are processed at the same time.
    pub fn concurrent_jobs(&self) -> u64 {
        self.batch.jobs.clamp(1, self.jobs.len().max(1)) as u64
    }

    /// The interpolation and upscaling networks.
    pub fn networks(&self) -> impl Iterator<Item = &Model> {
        networks(self.interpolation.as_ref(), self.upscaling.as_ref())
    }
}

/// One output of `enhance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Picture, video or numbered pictures.
    pub input: Input,
    /// Output file.
    pub output: PathBuf,
    /// Why this item fails without being processed, such as an output that another item has too.
    pub refusal: Option<String>,
}

impl Job {
    /// A job that is processed.
    pub fn new(input: Input, output: PathBuf) -> Self {
        Self { input, output, refusal: None }
    }
}

/// An input of `enhance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A picture or a video.
    File(PathBuf),
    /// Numbered pictures: the frames of a video at [`EnhancePlan::fps`].
    Sequence {
        /// As typed: `frame_%05d.png`.
        pattern: PathBuf,
        /// In order, without a gap; at least one.
        files: Vec<PathBuf>,
    },
}

impl Input {
    /// The file or the pattern, for messages.
    pub fn name(&self) -> &Path {
        match self {
            Self::File(path) | Self::Sequence { pattern: path, .. } => path,
        }
    }
}

/// Multi-pass upscaling with diffusion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refine {
    /// The diffusion model.
    pub model: Model,
    /// What a pass enlarges.
    pub by: RefineBy,
    /// Part of the schedule that is denoised again, in (0, 1].
    pub strength: f64,
    /// Largest factor of each pass, 1 to 2. Empty: as many doublings as the output size needs.
    pub stages: Vec<f64>,
    /// Content of the pictures; may be empty.
    pub prompt: String,
    /// `None`: the family's default.
    pub negative_prompt: Option<String>,
    /// Denoising steps of the whole schedule, of which the part `strength` runs. `None`: the family's default.
    pub steps: Option<usize>,
    /// At least 0. `None`: the family's default.
    pub guidance_scale: Option<f64>,
    /// At least 0. `None`: the family's default.
    pub true_cfg_scale: Option<f64>,
    /// Side of a tile in pixels. `None`: the side of the family's default size.
    pub tile: Option<usize>,
    /// Smallest overlap of neighbouring tiles in pixels. `None`: a quarter of a tile.
    pub tile_overlap: Option<usize>,
}

impl Default for Refine {
    fn default() -> Self {
        Self {
            model: Model::default(),
            by: RefineBy::default(),
            strength: 0.3,
            stages: Vec::new(),
            prompt: String::new(),
            negative_prompt: None,
            steps: None,
            guidance_scale: None,
            true_cfg_scale: None,
            tile: None,
            tile_overlap: None,
        }
    }
}

/// `--refine-by`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefineBy {
    /// The latent, in the frequency domain.
    #[default]
    Latent,
    /// The picture, by an upscaling network or resampling.
    Picture,
}

/// Part of a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Trim {
    /// Seconds from the first frame.
    pub start: Option<f64>,
    /// Seconds from the first frame.
    pub end: Option<f64>,
    /// Seconds of one resumable chunk.
    pub chunk: Option<f64>,
}

/// Handling of several files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Whether finished outputs of the same input, models and settings are kept even with `overwrite`.
    pub skip_existing: bool,
    /// Files processed at the same time, at least 1.
    pub jobs: usize,
    /// Whether the first failure ends the run.
    pub fail_fast: bool,
    /// JSON-lines file that gets one line per item.
    pub report: Option<PathBuf>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { skip_existing: false, jobs: 1, fail_fast: false, report: None }
    }
}
