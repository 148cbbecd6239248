//! What a run or a plan answers: serde documents, whose names stay once released.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// `generate`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Generated {
    /// In the order of prompts, then seeds.
    pub outputs: Vec<OutputRow>,
    /// By stage; `total` last.
    pub seconds: Map<String, Value>,
    /// Largest resident size of the process.
    pub peak_memory_bytes: u64,
}

/// One result.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct OutputRow {
    /// `None` when it was not saved, or went to standard output.
    pub path: Option<PathBuf>,
    pub seed: u64,
    pub width: usize,
    pub height: usize,
    /// 1 for a picture.
    pub frames: usize,
}

/// `enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Enhanced {
    /// In the order of inputs; those that were not begun after a failure (`--fail-fast`) are missing.
    pub items: Vec<ItemRow>,
    /// How many there should be.
    #[serde(skip)]
    pub asked: usize,
    /// The most memory of the process that was resident.
    pub peak_memory_bytes: u64,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct ItemRow {
    #[serde(serialize_with = "shown")]
    pub input: PathBuf,
    #[serde(serialize_with = "shown_too")]
    pub output: Option<PathBuf>,
    pub status: Status,
    /// Why it failed, or was left to another run.
    pub cause: Option<String>,
    /// Frames in the output, 1 for a picture.
    pub frames: u64,
    pub seconds: f64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Status {
    Done,
    Failed,
    Skipped,
}

/// `plan generate`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GenerateForecast {
    /// The model's name.
    pub model: String,
    /// The split of the steps, first level first.
    pub stages: Vec<LevelRow>,
    /// Size and frames before interpolation and upscaling, then after.
    pub sizes: Vec<SizeRow>,
    /// How many pictures or videos.
    pub outputs: usize,
    /// Estimate of the largest resident size.
    pub memory_bytes: Option<u64>,
    /// Bytes of weights that are read.
    pub weights_bytes: Option<u64>,
    /// Estimate of what is written.
    pub disk_bytes: Option<u64>,
    /// Anything else worth a line.
    pub notes: Vec<String>,
}

/// One level of the denoising.
#[derive(Debug, Clone, Serialize)]
pub struct LevelRow {
    /// Rows of the latent.
    pub height: usize,
    /// Columns of the latent.
    pub width: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Image tokens of one step.
    pub tokens: usize,
    /// σ before its first step.
    pub sigma_start: f64,
    /// σ after its last step.
    pub sigma_end: f64,
    /// Estimate of its floating-point operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop: Option<f64>,
}

/// A picture's or video's form after a stage.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct SizeRow {
    /// The stage that makes it: `decode`, `interpolate`, `upscale`.
    pub stage: String,
    pub width: usize,
    pub height: usize,
    pub frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
}

/// `plan enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EnhanceForecast {
    /// In the order of inputs.
    pub items: Vec<EnhanceForecastRow>,
    /// Anything else worth a line: what each stage of a refinement does.
    pub notes: Vec<String>,
    /// Estimate of the largest resident size.
    pub memory_bytes: Option<u64>,
    /// Estimate of what is written.
    pub disk_bytes: Option<u64>,
    /// Frames of all results, 1 for a picture.
    pub frames: u64,
    /// Estimate of the time it takes, from what this machine took last time; `None` before a first run.
    pub seconds: Option<f64>,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
pub struct EnhanceForecastRow {
    /// The file, or the pattern of numbered pictures.
    #[serde(serialize_with = "shown")]
    pub input: PathBuf,
    /// Where its result goes.
    #[serde(serialize_with = "shown")]
    pub output: PathBuf,
    /// Its form, then after each stage.
    pub sizes: Vec<SizeRow>,
    /// Why it cannot be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// JSON is UTF-8, names of files need not be.
fn shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

fn shown_too<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Path::to_string_lossy).serialize(to)
}

/// `export`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Exported {
    /// The graphs written.
    pub graphs: Vec<GraphRow>,
    /// Wall time.
    pub seconds: f64,
}

/// One graph.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct GraphRow {
    pub path: PathBuf,
    pub architecture: String,
    pub parameters: u64,
    /// Of the graph itself; weights stay in the checkpoint.
    pub bytes: u64,
}

/// `inspect`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// `diffusion`, `interpolation`, `upscaling`, `text_encoder`, `vae`, `graph`, ….
    pub kind: String,
    /// The architecture: `FluxTransformer2DModel`, `IFNet`, `RRDBNet`, ….
    pub architecture: String,
    /// Elements over all tensors.
    pub parameters: u64,
    /// How most elements are stored.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: u64,
    /// Factor of an upscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Version of a network that has several: `4.22.lite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Anything else: depth, width, heads, inputs, outputs, ….
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// The parts of a folder, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentRow>,
}

/// A part of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentRow {
    /// Its folder.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub inspection: Inspection,
}

impl GenerateForecast {
    /// `18@64x64 + 32@128x128`: steps at rows × columns of the latent.
    pub fn split(&self) -> String {
        let stages: Vec<_> = self.stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        stages.join(" + ")
    }
}
