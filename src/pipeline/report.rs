//! Results of runs and plans, as serde documents. Their field names are a public interface.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// Result of `generate`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Generated {
    /// By prompt, then seed.
    pub outputs: Vec<OutputRow>,
    /// Seconds by stage; `total` last.
    pub seconds: Map<String, Value>,
    /// Peak resident memory of the process.
    pub peak_memory_bytes: u64,
}

/// One output.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct OutputRow {
    /// `None`: not saved, or written to standard output.
    pub path: Option<PathBuf>,
    pub seed: u64,
    pub width: usize,
    pub height: usize,
    /// 1 for a picture.
    pub frames: usize,
}

/// Result of `enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Enhanced {
    /// In the order of inputs. Inputs that `--fail-fast` skipped are missing.
    pub items: Vec<ItemRow>,
    /// Number of inputs.
    #[serde(skip)]
    pub asked: usize,
    /// Peak resident memory of the process.
    pub peak_memory_bytes: u64,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct ItemRow {
    #[serde(serialize_with = "lossy")]
    pub input: PathBuf,
    #[serde(serialize_with = "lossy_option")]
    pub output: Option<PathBuf>,
    pub status: Status,
    /// Why it failed or was skipped.
    pub cause: Option<String>,
    /// Frames in the output, 1 for a picture.
    pub frames: u64,
    pub seconds: f64,
}

/// How an input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Status {
    Done,
    Failed,
    Skipped,
}

/// Result of `plan generate`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GenerateForecast {
    /// Name of the model.
    pub model: String,
    /// The resolution levels, first to last.
    pub stages: Vec<LevelRow>,
    /// Size and frames after each stage from decoding on.
    pub sizes: Vec<SizeRow>,
    /// Number of pictures or videos.
    pub outputs: usize,
    /// Estimate of the peak resident memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of weights to read.
    pub weights_bytes: Option<u64>,
    /// Bytes of models and networks that a run downloads first; `None`: unknown.
    pub download_bytes: Option<u64>,
    /// Estimate of the bytes to write.
    pub disk_bytes: Option<u64>,
    /// Notes and warnings.
    pub notes: Vec<String>,
}

/// One resolution level.
#[derive(Debug, Clone, Serialize)]
pub struct LevelRow {
    /// Rows of the latent.
    pub height: usize,
    /// Columns of the latent.
    pub width: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Tokens of the latent in the transformer.
    pub tokens: usize,
    /// σ before the first step.
    pub sigma_start: f64,
    /// σ after the last step.
    pub sigma_end: f64,
    /// Estimate of the floating-point operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop: Option<f64>,
}

/// Size and frames of a picture or video after a stage.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct SizeRow {
    /// The stage: `decode`, `interpolate`, `upscale`, …
    pub stage: String,
    pub width: usize,
    pub height: usize,
    pub frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
}

/// Result of `plan enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EnhanceForecast {
    /// In the order of inputs.
    pub items: Vec<EnhanceForecastRow>,
    /// Notes on each refinement pass.
    pub notes: Vec<String>,
    /// Estimate of the peak resident memory.
    pub memory_bytes: Option<u64>,
    /// Estimate of the bytes to write.
    pub disk_bytes: Option<u64>,
    /// Bytes of models and networks that a run downloads first; `None`: unknown.
    pub download_bytes: Option<u64>,
    /// Frames of all outputs, 1 for a picture.
    pub frames: u64,
    /// Estimate of the seconds, from the throughput of earlier runs on this machine; `None`: no earlier run.
    pub seconds: Option<f64>,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
pub struct EnhanceForecastRow {
    /// The file or the pattern of numbered pictures.
    #[serde(serialize_with = "lossy")]
    pub input: PathBuf,
    /// The output file.
    #[serde(serialize_with = "lossy")]
    pub output: PathBuf,
    /// Size and frames of the input, then after each stage.
    pub sizes: Vec<SizeRow>,
    /// Why it cannot be enhanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// JSON is UTF-8, file names need not be.
fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Path::to_string_lossy).serialize(to)
}

/// Result of `export`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Exported {
    /// The written graphs.
    pub graphs: Vec<GraphRow>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One graph.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct GraphRow {
    pub path: PathBuf,
    pub architecture: String,
    pub parameters: u64,
    /// Bytes of the graph file. Weights stay in the checkpoint.
    pub bytes: u64,
}

/// Result of `inspect`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// `diffusion`, `interpolation`, `upscaling`, `text_encoder`, `vae`, `graph`, ….
    pub kind: String,
    /// The architecture: `FluxTransformer2DModel`, `IFNet`, `RRDBNet`, ….
    pub architecture: String,
    /// Elements over all tensors.
    pub parameters: u64,
    /// The type of most elements.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: u64,
    /// Scale of an upscaler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Version of the network: `4.22.lite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Further properties: depth, width, heads, inputs, outputs, …
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// The components of a diffusers folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentRow>,
}

/// A component of a diffusers folder.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentRow {
    /// Name of its folder.
    pub name: String,
    /// Its properties.
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
