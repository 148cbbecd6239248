//! Seconds of stages and steps.

use std::{path::Path, time::Instant};

use serde::Serialize;
use serde_json::json;

use crate::{
    error::{Error, Result},
    media::PendingFile,
    runtime::peak_memory,
};

/// Seconds of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageSeconds {
    /// What was done.
    pub name: String,
    /// From begin to end.
    pub seconds: f64,
    /// Of each step, where it has steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<f64>,
}

/// What a run took.
#[derive(Debug, Clone)]
pub struct Timings {
    began: Instant,
    /// In the order in which they ended.
    pub stages: Vec<StageSeconds>,
    /// The stage split of the denoising, as `plan` prints it.
    pub split: Option<String>,
}

impl Default for Timings {
    fn default() -> Self {
        Self { began: Instant::now(), stages: vec![], split: None }
    }
}

impl Timings {
    /// Times a stage.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = work();
        self.add(name, begin.elapsed().as_secs_f64());
        result
    }

    /// Adds seconds to a stage; the same name again adds up.
    pub fn add(&mut self, name: &str, seconds: f64) {
        match self.stages.iter_mut().find(|s| s.name == name) {
            Some(stage) => stage.seconds += seconds,
            None => self.stages.push(StageSeconds { name: name.into(), seconds, steps: vec![] }),
        }
    }

    /// Seconds of a stage so far.
    pub fn of(&self, name: &str) -> f64 {
        self.stages.iter().filter(|s| s.name == name).map(|s| s.seconds).sum()
    }

    /// Adds a step's seconds to a stage.
    pub fn step(&mut self, name: &str, seconds: f64) {
        self.add(name, seconds);
        if let Some(stage) = self.stages.iter_mut().find(|s| s.name == name) {
            stage.steps.push(seconds);
        }
    }

    /// Seconds since the run began; stages of a line work at the same time, so theirs may add up to more.
    fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds by stage, and in all.
    pub fn seconds(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut map: serde_json::Map<_, _> = self.stages.iter().map(|s| (s.name.clone(), json!(s.seconds))).collect();
        map.insert("total".into(), json!(self.total()));
        map
    }

    /// Writes `--perf-dump-path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let dump = json!({"stages": self.stages, "split": self.split, "total_seconds": self.total(), "peak_memory_bytes": peak_memory()});
        let text =
            serde_json::to_string_pretty(&dump).map_err(|e| Error::failed(format!("{}: {e}", path.display())))?;
        let mut place = PendingFile::create(path, true)?;
        place.write((text + "\n").as_bytes())?;
        place.commit()?;
        Ok(())
    }
}
