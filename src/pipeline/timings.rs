//! Seconds of stages and steps, for `--perf-dump-path` and the summary.

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
    /// Name of the stage.
    pub name: String,
    /// Seconds in total.
    pub seconds: f64,
    /// Seconds of each step, if the stage has steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<f64>,
}

/// The timings of a run.
#[derive(Debug, Clone)]
pub struct Timings {
    began: Instant,
    /// In the order in which stages first ended.
    pub stages: Vec<StageSeconds>,
    /// Steps by resolution level, as printed by `plan`.
    pub split: Option<String>,
}

impl Default for Timings {
    fn default() -> Self {
        Self { began: Instant::now(), stages: vec![], split: None }
    }
}

impl Timings {
    /// Runs `work` and adds its time to a stage.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = work();
        self.add(name, begin.elapsed().as_secs_f64());
        result
    }

    /// Adds seconds to a stage.
    pub fn add(&mut self, name: &str, seconds: f64) {
        match self.stages.iter_mut().find(|s| s.name == name) {
            Some(stage) => stage.seconds += seconds,
            None => self.stages.push(StageSeconds { name: name.into(), seconds, steps: vec![] }),
        }
    }

    /// Seconds of a stage.
    pub fn of(&self, name: &str) -> f64 {
        self.stages.iter().filter(|s| s.name == name).map(|s| s.seconds).sum()
    }

    /// Adds one step to a stage.
    pub fn step(&mut self, name: &str, seconds: f64) {
        self.add(name, seconds);
        if let Some(stage) = self.stages.iter_mut().find(|s| s.name == name) {
            stage.steps.push(seconds);
        }
    }

    /// Seconds since the run began. Stages of a stream run at the same time, so the sum of their seconds may be larger.
    fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds by stage, then `total`.
    pub fn seconds(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut map: serde_json::Map<_, _> = self.stages.iter().map(|s| (s.name.clone(), json!(s.seconds))).collect();
        map.insert("total".into(), json!(self.total()));
        map
    }

    /// Writes the file of `--perf-dump-path`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let dump = json!({"stages": self.stages, "split": self.split, "total_seconds": self.total(), "peak_memory_bytes": peak_memory()});
        let text =
            serde_json::to_string_pretty(&dump).map_err(|e| Error::failed(format!("{}: {e}", path.display())))?;
        let mut file = PendingFile::create(path, true)?;
        file.write((text + "\n").as_bytes())?;
        file.commit()?;
        Ok(())
    }
}
