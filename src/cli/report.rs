//! What commands answer: one serde document for `--json`, a text for people. Names of JSON keys stay once released.

use std::{fmt::Write, path::PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{catalog::Entry, hub::cache::gigabytes};

/// An answer.
pub trait Report {
    /// The document of `--json`.
    fn json(&self) -> Value;
    /// What a person reads, with a line end at its end, or empty.
    fn text(&self) -> String;
    /// Exit code of the command contract.
    fn exit_code(&self) -> u8 {
        0
    }
}

fn document(value: &impl Serialize) -> Value {
    serde_json::to_value(value)
        .unwrap_or_else(|e| serde_json::json!({ "error": format!("the answer is not JSON: {e}") }))
}

macro_rules! json {
    () => {
        fn json(&self) -> Value {
            document(self)
        }
    };
}

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

impl Report for Generated {
    json!();

    fn text(&self) -> String {
        self.outputs.iter().filter_map(|o| o.path.as_ref()).fold(String::new(), |mut text, path| {
            let _ = writeln!(text, "{}", path.display());
            text
        })
    }
}

/// `enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Enhanced {
    /// In the order of inputs.
    pub items: Vec<ItemRow>,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct ItemRow {
    pub input: PathBuf,
    pub output: Option<PathBuf>,
    pub status: Status,
    /// Why it failed.
    pub cause: Option<String>,
    /// Frames written, 1 for a picture.
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

impl Report for Enhanced {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let _ = match (item.status, &item.output, &item.cause) {
                (Status::Failed, _, cause) => {
                    writeln!(text, "{}: failed: {}", item.input.display(), cause.as_deref().unwrap_or("unknown cause"))
                }
                (Status::Skipped, ..) => writeln!(text, "{}: skipped", item.input.display()),
                (Status::Done, Some(output), _) => writeln!(text, "{}", output.display()),
                (Status::Done, None, _) => writeln!(text, "{}: done", item.input.display()),
            };
        }
        text
    }

    fn exit_code(&self) -> u8 {
        match (self.items.len(), self.items.iter().any(|i| i.status == Status::Failed)) {
            (_, false) => 0,
            (1, true) => 3,
            (_, true) => 2,
        }
    }
}

/// `plan generate`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GenerateForecast {
    /// The model's name.
    pub model: String,
    /// The split of the steps, first level first.
    pub stages: Vec<StageRow>,
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
pub struct StageRow {
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

impl GenerateForecast {
    /// `18@64x64 + 32@128x128`: steps at rows × columns of the latent.
    pub fn split(&self) -> String {
        let stages: Vec<_> = self.stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        stages.join(" + ")
    }
}

fn size_lines(text: &mut String, sizes: &[SizeRow]) {
    for s in sizes {
        let fps = s.fps.map(|f| format!(" at {f} frames/s")).unwrap_or_default();
        let frames = if s.frames == 1 { String::new() } else { format!(", {} frames{fps}", s.frames) };
        let _ = writeln!(text, "{:<12}{}x{}{frames}", s.stage, s.width, s.height);
    }
}

fn bytes_lines(text: &mut String, rows: &[(&str, Option<u64>)]) {
    for (name, bytes) in rows {
        if let Some(bytes) = bytes {
            let _ = writeln!(text, "{name:<12}{}", gigabytes(*bytes));
        }
    }
}

impl Report for GenerateForecast {
    json!();

    fn text(&self) -> String {
        let mut text = format!("{:<12}{}\n{:<12}{}\n", "model", self.model, "split", self.split());
        for (i, s) in self.stages.iter().enumerate() {
            let flop = s.flop.map(|f| format!(", {:.1} TFLOP", f / 1e12)).unwrap_or_default();
            let _ = writeln!(
                text,
                "{:<12}{} steps at {}x{}, {} tokens, sigma {:.4} to {:.4}{flop}",
                format!("level {i}"),
                s.steps,
                s.height,
                s.width,
                s.tokens,
                s.sigma_start,
                s.sigma_end
            );
        }
        size_lines(&mut text, &self.sizes);
        let _ = writeln!(text, "{:<12}{}", "outputs", self.outputs);
        bytes_lines(
            &mut text,
            &[("weights", self.weights_bytes), ("memory", self.memory_bytes), ("disk", self.disk_bytes)],
        );
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "{:<12}{note}", "note");
        });
        text
    }
}

/// `plan enhance`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EnhanceForecast {
    /// In the order of inputs.
    pub items: Vec<EnhanceForecastRow>,
    /// Estimate of the largest resident size.
    pub memory_bytes: Option<u64>,
    /// Estimate of what is written.
    pub disk_bytes: Option<u64>,
}

/// One input.
#[derive(Debug, Clone, Serialize)]
pub struct EnhanceForecastRow {
    /// The file.
    pub input: PathBuf,
    /// Where its result goes.
    pub output: PathBuf,
    /// Its form, then after each stage.
    pub sizes: Vec<SizeRow>,
}

impl Report for EnhanceForecast {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let _ = writeln!(text, "{} → {}", item.input.display(), item.output.display());
            size_lines(&mut text, &item.sizes);
        }
        bytes_lines(&mut text, &[("memory", self.memory_bytes), ("disk", self.disk_bytes)]);
        text
    }
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

impl Report for Exported {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for g in &self.graphs {
            let _ = writeln!(text, "{} ({}, {} parameters)", g.path.display(), g.architecture, g.parameters);
        }
        let _ = writeln!(text, "{} graphs in {:.2} s", self.graphs.len(), self.seconds);
        text
    }
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
    pub components: Vec<Part>,
}

/// A part of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its folder.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub inspection: Inspection,
}

impl Inspection {
    fn lines(&self, text: &mut String, indent: usize) {
        let mut row = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "{:indent$}{name:<14}{value}", "");
            }
        };
        row("kind", &self.kind);
        row("architecture", &self.architecture);
        row("version", self.version.as_deref().unwrap_or_default());
        row("scale", &self.scale.map(|s| s.to_string()).unwrap_or_default());
        row("parameters", &self.parameters.to_string());
        row("tensors", &self.tensors.to_string());
        row("dtype", &self.dtype);
        for (name, value) in &self.details {
            row(name, &value.as_str().map_or_else(|| value.to_string(), Into::into));
        }
        for part in &self.components {
            let _ = writeln!(text, "{:indent$}{}/", "", part.name);
            part.inspection.lines(text, indent + 2);
        }
    }
}

impl Report for Inspection {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        self.lines(&mut text, 0);
        text
    }
}

/// `models list`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct ModelsReport {
    pub models: Vec<ModelRow>,
}

/// One known model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelRow {
    /// The catalogue's entry.
    #[serde(flatten)]
    pub entry: &'static Entry,
    /// Bytes of all weights, where known.
    pub bytes: Option<u64>,
    /// Where it lies completely in the cache.
    pub cached: Option<PathBuf>,
}

impl Report for ModelsReport {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.models {
            let size = row.bytes.map(gigabytes).unwrap_or_default();
            let place = row.entry.repo.as_deref().or(row.entry.url.as_deref()).unwrap_or_default();
            let state = if row.cached.is_some() { "cached" } else { "" };
            let terms = if row.entry.gated { " (terms to accept)" } else { "" };
            let _ = writeln!(text, "{:<26}{size:>9}  {state:<8}{place}{terms}", row.entry.id);
        }
        text
    }
}

/// `models pull`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Pulled {
    pub name: String,
    pub path: PathBuf,
}

impl Report for Pulled {
    json!();

    fn text(&self) -> String {
        format!("{}\n", self.path.display())
    }
}

/// `models rm`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Removed {
    pub name: String,
    /// Freed.
    pub bytes: u64,
}

impl Report for Removed {
    json!();

    fn text(&self) -> String {
        format!("{} removed, {} freed\n", self.name, gigabytes(self.bytes))
    }
}

/// `models du`.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// The hub's cache.
    pub cache: PathBuf,
    /// Its repositories, largest first.
    pub repos: Vec<UsageRow>,
    /// Our own cache.
    pub own_cache: PathBuf,
    /// Bytes of files downloaded from URLs.
    pub urls_bytes: u64,
}

/// One repository.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct UsageRow {
    pub repo: String,
    /// The catalogue's id.
    pub known: Option<&'static str>,
    pub bytes: u64,
}

impl Report for Usage {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.repos {
            let _ = writeln!(text, "{:>9}  {}", gigabytes(row.bytes), row.repo);
        }
        let total = self.repos.iter().map(|r| r.bytes).sum();
        let _ = writeln!(text, "{:>9}  {}", gigabytes(total), self.cache.display());
        let _ = writeln!(text, "{:>9}  {}", gigabytes(self.urls_bytes), self.own_cache.join("urls").display());
        text
    }
}
