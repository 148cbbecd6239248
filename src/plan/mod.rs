//! Resolved requests: everything that can be decided without weights is decided here, and nothing is checked twice later.
//!
//! `plan` prints what `generate` and `enhance` do because both run from these values. They are plain data: the command line makes
//! them, the pipeline runs them.

use std::path::PathBuf;

use serde::Serialize;

mod noise;
mod output;

pub use noise::{Generator, Gpu, Torch};
pub(crate) use output::known_extension;
pub use output::{Destination, Item, Output, slug};

/// What `generate` shall make.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GeneratePlan {
    /// The diffusion model.
    pub model: Model,
    /// At least one. Each gives one output per seed.
    pub prompts: Vec<String>,
    /// `None`: the family's.
    pub negative_prompt: Option<String>,
    /// One output each, per prompt: `--seed`'s list, or seed, seed+1, … for `--num-outputs-per-prompt`.
    pub seeds: Vec<u64>,
    /// Which of torch's random streams is reproduced.
    pub generator: Generator,
    /// (height, width) in pixels; `None`: the family's. Not yet checked against what the family can do.
    pub size: Option<(usize, usize)>,
    /// Frames of a video; `None`: the family's.
    pub frames: Option<usize>,
    /// Frames a second; `None`: the family's.
    pub fps: Option<f64>,
    /// Denoising steps over all levels; `None`: the family's.
    pub steps: Option<usize>,
    /// `None`: the family's. Not negative.
    pub guidance_scale: Option<f64>,
    /// `None`: the family's. Not negative.
    pub true_cfg_scale: Option<f64>,
    /// Z-Image: the norm of the guided prediction is capped at this times that of the prompt's; 0 or `None`: not capped.
    pub cfg_normalization: Option<f64>,
    /// Z-Image: no guidance once 1 − σ exceeds this; `None`: 1, always guided.
    pub cfg_truncation: Option<f64>,
    /// Whether guidance's two predictions are one call of a batch of two.
    pub cfg_batch: bool,
    /// Static shift of the noise schedule; `None`: the scheduler's own. Positive.
    pub flow_shift: Option<f64>,
    /// Growth of the resolution while denoising.
    pub progressive: Progressive,
    /// Rows of text that the transformer sees, where the family lets one choose; `None`: the family's.
    pub max_sequence_length: Option<usize>,
    /// Start from a picture or clip instead of pure noise.
    pub start: Option<Start>,
    /// Tiles of the autoencoder.
    pub vae: Vae,
    /// More frames afterwards.
    pub interpolation: Option<Interpolation>,
    /// Larger frames afterwards.
    pub upscaling: Option<Upscaling>,
    /// Where results go and how they are encoded.
    pub output: Output,
    /// A `.safetensors` file for the latents of every step.
    pub save_latents: Option<PathBuf>,
    /// A JSON file for the seconds of every stage and step.
    pub perf_dump: Option<PathBuf>,
    /// How exact the result has to be.
    pub quality: Quality,
    /// Whose sampling defaults stand where nothing was asked for.
    pub defaults: Defaults,
    /// Device and memory.
    pub runtime: RuntimeOptions,
}

/// What `enhance` shall do with each input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnhancePlan {
    /// What is made of what, each output once.
    #[serde(skip)]
    pub jobs: Vec<Job>,
    /// The folder that keeps a record of finished outputs, which lie in it or below; `None`: no record is kept.
    pub record: Option<PathBuf>,
    /// More frames.
    pub interpolation: Option<Interpolation>,
    /// Larger frames, after interpolation.
    pub upscaling: Option<Upscaling>,
    /// Diffusion passes after each upscaling step.
    pub refine: Option<Refine>,
    /// Frames a second of the output where it shall differ from what interpolation gives; of numbered pictures before
    /// interpolation.
    pub fps: Option<f64>,
    /// How results are encoded; its target is not used.
    pub encoding: Output,
    /// Part of a video, seconds.
    #[serde(rename = "cut")]
    pub trim: Trim,
    /// Work on many files.
    pub batch: Batch,
    /// Seed of `refine`.
    pub seed: u64,
    /// How exact the result has to be.
    pub quality: Quality,
    /// A JSON file for the seconds of every stage.
    pub perf_dump: Option<PathBuf>,
    /// Device and memory.
    pub runtime: RuntimeOptions,
}

/// One result of `enhance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What it is made from.
    pub input: Input,
    /// The file to write.
    pub output: PathBuf,
}

/// What a result of `enhance` is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A picture or a video.
    File(PathBuf),
    /// Numbered pictures, which are the frames of a video at [`EnhancePlan::fps`].
    Sequence {
        /// As typed: `frame_%05d.png`.
        pattern: PathBuf,
        /// In order, without a gap; at least one.
        files: Vec<PathBuf>,
    },
}

impl Input {
    /// What it is called in messages: the file, or the pattern.
    pub fn name(&self) -> &std::path::Path {
        match self {
            Self::File(path) | Self::Sequence { pattern: path, .. } => path,
        }
    }
}

/// A model by name and where its files are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// As typed: path, repository id or short name.
    pub name: String,
    /// The catalogue's id when it knows the model.
    pub known: Option<&'static str>,
    /// Local folder (diffusion) or file (interpolation, upscaling). For `plan`, a folder may hold configurations only.
    pub path: PathBuf,
}

/// Progressive growth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progressive {
    /// How one level becomes the next.
    pub mode: Mode,
    /// Which levels.
    pub scales: Scales,
    /// δ of the activation-time rule, in (0, 1).
    pub delta: f64,
    /// The transform that is expanded.
    pub transform: Transform,
    /// (A, β) of the VAE's power spectrum A·f^−β; `None`: the family's.
    pub spectrum: Option<(f64, f64)>,
}

/// `--progressive-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All steps at full resolution.
    #[serde(rename = "fullres")]
    FullRes,
    /// Spectral growth.
    Dct,
    /// Spectral growth with the noise level rewound to what the grown latent holds.
    DctRewind,
}

/// Which levels precede full resolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scales {
    /// So many halvings below full resolution, at least one.
    Levels(usize),
    /// Exactly these, ascending, the last one being full resolution.
    Explicit(Vec<Scale>),
}

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Of full resolution, in (0, 1].
    Ratio(f64),
    /// Pixels.
    Height(usize),
}

/// `--progressive-transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Discrete cosine transform, any ratio.
    Dct,
    /// Haar wavelets, each ratio 2.
    Dwt,
    /// Fourier transform, any ratio.
    Fft,
}

/// A picture or clip to start from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Start {
    /// An existing file.
    pub image: PathBuf,
    /// How much of the schedule is denoised again, in (0, 1]; `None`: the family's.
    pub strength: Option<f64>,
}

/// How the autoencoder cuts its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Vae {
    /// Whether it does.
    pub tiling: VaeTiling,
    /// Pixels of a tile's side; `None`: the reference's, with `Auto` smaller where memory wants it.
    pub tile: Option<usize>,
    /// Pixels that neighbouring tiles share; `None`: the reference's share of a tile.
    pub overlap: Option<usize>,
}

/// `--vae-tiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VaeTiling {
    /// Where the whole would not fit into the memory limit, or free memory.
    Auto,
    /// Where a picture is larger than a tile.
    On,
    /// Never.
    Off,
}

/// Frame interpolation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interpolation {
    /// What it aims at.
    pub rate: Rate,
    /// RIFE's working resolution relative to the frame's, 0.25–4.
    pub scale: f64,
    /// A `flownet` file.
    pub model: Model,
    /// The score above which a frame begins another scene ([`Change::score`](crate::stage::scene_change::Change)), 0–1; 1 never.
    pub scene_threshold: f64,
    /// Whether repeated frames are found and interpolated over.
    pub dedup: bool,
}

/// What interpolation aims at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// So many times the frame rate.
    Times(u32),
    /// Frames a second.
    Fps(f64),
}

impl Rate {
    /// n where the rate is multiplied by 2ⁿ, n in 1..=4 (recursive midpoints).
    pub fn exp(self) -> Option<u32> {
        match self {
            Self::Times(n) if n.is_power_of_two() && (2..=16).contains(&n) => Some(n.trailing_zeros()),
            _ => None,
        }
    }
}

/// Upscaling.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upscaling {
    /// What it aims at.
    pub target: Target,
    /// A network's file; `None`: plain resampling with `filter`.
    pub model: Option<Model>,
    /// Plain resampling, and the final fit to an exact size.
    pub filter: Filter,
    /// Pixels of a tile's side, 0 for none; `None`: from the memory limit and the network's receptive field.
    pub tile: Option<usize>,
    /// Pixels that tiles share; `None`: the network's receptive field.
    pub tile_overlap: Option<usize>,
    /// Blend with a second weight set of the same network.
    pub denoise: Option<Denoise>,
}

/// A blend of two weight sets of one network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Denoise {
    /// Part of the network that denoises, 0–1; the rest is the other's.
    pub strength: f64,
    /// The network that denoises weakly ("wdn").
    pub weak: Model,
}

/// What upscaling aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// So many times as wide and high, 1–8.
    Times(usize),
    /// Exactly, pixels.
    #[allow(missing_docs)]
    Size { width: usize, height: usize },
    /// This many rows, the shape kept.
    Height(usize),
}

/// A resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Filter {
    Lanczos,
    Bicubic,
    Bilinear,
    Nearest,
}

/// Multi-stage upscaling with diffusion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refine {
    /// The diffusion model.
    pub model: Model,
    /// What a stage makes larger.
    pub by: RefineBy,
    /// How much of the schedule is denoised again, in (0, 1].
    pub strength: f64,
    /// How many times as wide and high each stage makes a picture at most, each in 1..=2; none: doublings, as many as the size
    /// that is asked for needs.
    pub stages: Vec<f64>,
    /// What the pictures show; empty when not told.
    pub prompt: String,
    /// `None`: the family's.
    pub negative_prompt: Option<String>,
    /// Denoising steps of the whole schedule, of which `strength` is done; `None`: the family's.
    pub steps: Option<usize>,
    /// `None`: the family's. Not negative.
    pub guidance_scale: Option<f64>,
    /// `None`: the family's. Not negative.
    pub true_cfg_scale: Option<f64>,
    /// Pixels of a tile's side; `None`: the side of what the family makes by itself.
    pub tile: Option<usize>,
    /// Pixels that neighbouring tiles share at least; `None`: a quarter of a tile.
    pub tile_overlap: Option<usize>,
}

/// `--refine-by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RefineBy {
    /// The picture's latent, in the frequency domain.
    Latent,
    /// The picture, by an upscaling network or resampling.
    Picture,
}

/// Part of a video.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trim {
    /// Seconds from its begin.
    pub start: Option<f64>,
    /// Seconds from its begin.
    pub end: Option<f64>,
    /// Seconds of one resumable chunk.
    pub chunk: Option<f64>,
}

/// Work on many files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Leave finished outputs of the same content and settings as they are, even where others are replaced.
    pub skip_existing: bool,
    /// Files at the same time.
    pub jobs: usize,
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// One JSON line an item is added to it.
    pub report: Option<PathBuf>,
}

/// Device, precision and memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuntimeOptions {
    /// Where networks run.
    pub device: Device,
    /// What networks compute in.
    pub dtype: Precision,
    /// Threads of the CPU; `None`: one a core.
    pub threads: Option<usize>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// The shared library; `None`: where the binary finds it by itself.
    pub onnxruntime: Option<PathBuf>,
    /// Never use the network.
    pub offline: bool,
}

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// CUDA where it works, else CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device.
    Cuda(u32),
    /// TensorRT on CUDA device 0.
    TensorRt,
}

/// `--dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Precision {
    Auto,
    #[value(alias = "fp32")]
    F32,
    #[value(alias = "fp16")]
    F16,
    Bf16,
}

/// `--quality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The reference's arithmetic.
    Exact,
    /// Faster arithmetic within rounding.
    Lossless,
    /// Approximations that a viewer does not see.
    High,
}

/// `--defaults`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Defaults {
    Diffusers,
    Sglang,
}

/// What `export` shall write.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportPlan {
    /// As typed.
    pub name: String,
    /// Local folder or file.
    pub model: PathBuf,
    /// Folder for the graphs.
    pub output: PathBuf,
    /// Standard operators only.
    pub portable: bool,
    /// Whether files that are there may be replaced.
    pub overwrite: bool,
    /// (height, width) in pixels that fixed-shape graphs are for; `None`: the family's.
    pub size: Option<(usize, usize)>,
    /// The levels that fixed-shape graphs are for.
    pub levels: usize,
    /// Device and precision that the graphs are for.
    pub runtime: RuntimeOptions,
}
