//! The files that a plan reads and writes.

use std::path::{Path, PathBuf};

use super::{EnhancePlan, GeneratePlan, Input, Model, RuntimeOptions};
use crate::files::{Existing, WrittenPaths};

/// Keys of the file of `--perf-dump-path`.
const TIMINGS: &[&str] = &["stages", "total_seconds"];
/// Keys of the lines of `--report`; every line begins with the first one.
const REPORT: &[&str] = &["input", "status"];

impl EnhancePlan {
    /// The files that the call reads and writes, without the journal.
    pub fn written_paths(&self) -> WrittenPaths {
        let mut paths = WrittenPaths::new(self.encoding.overwrite);
        for job in &self.jobs {
            match &job.input {
                Input::File(path) => paths.read("an input", path),
                Input::Sequence { files, .. } => files.iter().for_each(|file| paths.read("an input", file)),
            }
            // Whether an output may be replaced depends on the journal. A refused item writes nothing.
            if job.refusal.is_none() {
                paths.write("-o", &job.output, Existing::Any);
            }
        }
        read_common(&mut paths, self.networks(), &self.runtime, &self.read_files);
        if let Some(refine) = &self.refine {
            paths.read("a model file", &refine.model.path);
        }
        write_timings(&mut paths, self.perf_dump.as_deref());
        if let Some(report) = &self.batch.report {
            paths.write("--report", report, Existing::JsonLines(REPORT));
        }
        paths
    }
}

impl GeneratePlan {
    /// The files that the call reads and writes. `outputs`: the pictures or videos.
    pub fn written_paths(&self, outputs: &[PathBuf]) -> WrittenPaths {
        let mut paths = WrittenPaths::new(self.output.overwrite);
        paths.read("a model file", &self.model.path);
        if let Some(start) = &self.start {
            paths.read("an input", &start.image);
        }
        read_common(&mut paths, self.networks(), &self.runtime, &self.read_files);
        // Output names are free, or were checked when they were chosen.
        outputs.iter().for_each(|path| paths.write("the output", path, Existing::Any));
        if let Some(latents) = &self.save_latents {
            paths.write("--save-latents", latents, Existing::Overwrite);
        }
        write_timings(&mut paths, self.perf_dump.as_deref());
        paths
    }
}

fn read_common<'a>(
    paths: &mut WrittenPaths,
    networks: impl Iterator<Item = &'a Model>,
    runtime: &RuntimeOptions,
    files: &[PathBuf],
) {
    networks.for_each(|model| paths.read("a model file", &model.path));
    files.iter().chain(&runtime.engine.library).for_each(|file| paths.read("an input", file));
}

fn write_timings(paths: &mut WrittenPaths, file: Option<&Path>) {
    if let Some(file) = file {
        paths.write("--perf-dump-path", file, Existing::Json(TIMINGS));
    }
}
