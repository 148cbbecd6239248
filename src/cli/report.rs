//! Reports of the subcommands: a JSON document for `--json`, else text. JSON keys are stable.

use std::{fmt::Write, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::{
    catalog::Entry,
    hub::cache::gigabytes,
    pipeline::{
        EnhanceForecast, Enhanced, Exported, GenerateForecast, Generated, Inspection, ItemRow, SizeRow, Status,
    },
};

/// The report of a subcommand.
pub(crate) trait Report {
    /// The document of `--json`.
    fn json(&self) -> Value;
    /// The text, empty or with a line end at its end.
    fn text(&self) -> String;
    /// One line per failed item.
    fn errors(&self) -> Vec<String> {
        Vec::new()
    }
    /// Exit code: 0 success, 2 some items failed, 3 the job failed.
    fn exit_code(&self) -> u8 {
        0
    }
}

fn document(value: &impl Serialize) -> Value {
    serde_json::to_value(value)
        .unwrap_or_else(|e| serde_json::json!({ "error": format!("serializing the report: {e}") }))
}

macro_rules! json {
    () => {
        fn json(&self) -> Value {
            document(self)
        }
    };
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

impl Report for Enhanced {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let _ = match (item.status, &item.output) {
                (Status::Failed, _) => Ok(()),
                (Status::Skipped, _) => {
                    let why = item.cause.as_deref().unwrap_or("already finished");
                    writeln!(text, "{}: skipped, {why}", item.input.display())
                }
                (Status::Done, Some(output)) => writeln!(text, "{}", output.display()),
                (Status::Done, None) => writeln!(text, "{}: done", item.input.display()),
            };
        }
        text
    }

    fn errors(&self) -> Vec<String> {
        let sentence = |item: &ItemRow| {
            let (input, cause) = (item.input.display().to_string(), item.cause.as_deref().unwrap_or("unknown cause"));
            if cause.contains(&input) { cause.to_string() } else { format!("{input}: {cause}") }
        };
        self.items.iter().filter(|i| i.status == Status::Failed).map(sentence).collect()
    }

    fn exit_code(&self) -> u8 {
        match (self.asked, self.items.iter().any(|i| i.status == Status::Failed)) {
            (_, false) => 0,
            (1, true) => 3,
            (_, true) => 2,
        }
    }
}

fn size_lines(text: &mut String, sizes: &[SizeRow]) {
    for s in sizes {
        let fps = s.fps.map(|f| format!(" at {f} fps")).unwrap_or_default();
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
            &[
                ("weights", self.weights_bytes),
                ("download", self.download_bytes.filter(|&bytes| bytes > 0)),
                ("memory", self.memory_bytes),
                ("disk", self.disk_bytes),
            ],
        );
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "{:<12}{note}", "note");
        });
        text
    }
}

impl Report for EnhanceForecast {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for item in &self.items {
            let _ = match &item.cause {
                Some(cause) => writeln!(text, "{}: {cause}", item.input.display()),
                None => writeln!(text, "{} → {}", item.input.display(), item.output.display()),
            };
            size_lines(&mut text, &item.sizes);
        }
        let _ = writeln!(text, "{:<12}{}\n{:<12}{}", "items", self.items.len(), "frames", self.frames);
        let download = self.download_bytes.filter(|&bytes| bytes > 0);
        bytes_lines(&mut text, &[("download", download), ("memory", self.memory_bytes), ("disk", self.disk_bytes)]);
        let time = self.seconds.map_or_else(|| "unknown until a first run".into(), duration);
        let _ = writeln!(text, "{:<12}{time}", "time");
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "{:<12}{note}", "note");
        });
        text
    }
}

/// `1 h 5 min`, `3 min 20 s`, `1.5 s`: as precise as an estimate needs.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
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

fn lines(of: &Inspection, text: &mut String, indent: usize) {
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:indent$}{name:<14}{value}", "");
        }
    };
    row("kind", &of.kind);
    row("architecture", &of.architecture);
    row("version", of.version.as_deref().unwrap_or_default());
    row("scale", &of.scale.map(|s| s.to_string()).unwrap_or_default());
    row("parameters", &of.parameters.to_string());
    row("tensors", &of.tensors.to_string());
    row("dtype", &of.dtype);
    for (name, value) in &of.details {
        row(name, &value.as_str().map_or_else(|| value.to_string(), Into::into));
    }
    for part in &of.components {
        let _ = writeln!(text, "{:indent$}{}/", "", part.name);
        lines(&part.inspection, text, indent + 2);
    }
}

impl Report for Inspection {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        lines(self, &mut text, 0);
        text
    }
}

/// `models list`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct ModelsReport {
    pub models: Vec<ModelRow>,
}

/// A model of the catalogue.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ModelRow {
    /// The catalogue's entry.
    #[serde(flatten)]
    pub entry: &'static Entry,
    /// Bytes of all weights. `None`: unknown.
    pub bytes: Option<u64>,
    /// Its folder or file in the cache. `None`: not cached, or not completely.
    pub cached: Option<PathBuf>,
}

impl Report for ModelsReport {
    json!();

    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.models {
            let size = row.bytes.map(gigabytes).unwrap_or_default();
            let source = row.entry.repo.as_deref().or(row.entry.url.as_deref()).unwrap_or_default();
            let state = if row.cached.is_some() { "cached" } else { "" };
            let terms = if row.entry.gated { " (license must be accepted)" } else { "" };
            let _ = writeln!(text, "{:<26}{size:>9}  {state:<8}{source}{terms}", row.entry.id);
        }
        text
    }
}

/// `models pull`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct Pulled {
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
pub(super) struct Removed {
    pub name: String,
    /// Freed bytes.
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
pub(super) struct Usage {
    /// Cache of the hub.
    pub cache: PathBuf,
    /// Cached repositories, largest first.
    pub repos: Vec<UsageRow>,
    /// Cache of this program.
    pub own_cache: PathBuf,
    /// Bytes of files downloaded from URLs.
    pub urls_bytes: u64,
}

/// A cached repository.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct UsageRow {
    pub repo: String,
    /// Its id in the catalogue.
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
