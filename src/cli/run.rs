//! Runs plans. Only this file calls the pipeline and batch runs.

use std::path::Path;

use super::{
    doctor::{DeviceRow, Diagnosis},
    models::Downloads,
};
use crate::{
    batch,
    error::Result,
    pipeline::{self, Context, EnhanceForecast, Enhanced, Exported, GenerateForecast, Generated, Inspection},
    plan::{EnhancePlan, ExportPlan, GeneratePlan, Model, RuntimeOptions},
    progress::Progress,
};

/// `generate`.
pub(super) fn generate(plan: &GeneratePlan, progress: &dyn Progress) -> Result<Generated> {
    pipeline::generate(plan, &Context::start(&plan.runtime, progress)?)
}

/// `enhance`.
pub(super) fn enhance(plan: &EnhancePlan, progress: &dyn Progress) -> Result<Enhanced> {
    let cx = if plan.has_network() {
        Context::start(&plan.runtime, progress)?
    } else {
        Context::without_networks(&plan.runtime, progress)
    };
    batch::enhance(plan, &cx)
}

/// `plan generate`. `downloads`: of models that are not cached.
pub(super) fn plan_generate(plan: &GeneratePlan, downloads: Downloads) -> Result<GenerateForecast> {
    let mut forecast = pipeline::plan_generate(plan)?;
    // A run makes the same check, and knows before whether its outputs are videos.
    let video = forecast.sizes.first().is_some_and(|decoded| decoded.fps.is_some());
    plan.written_paths(&plan.outputs(video)?).check()?;
    forecast.notes.extend(not_cached(plan.networks()));
    forecast.weights_bytes = forecast.weights_bytes.or(downloads.models);
    Ok(GenerateForecast { download_bytes: downloads.total(), ..forecast })
}

/// `plan enhance`. `downloads`: of models that are not cached.
pub(super) fn plan_enhance(plan: &EnhancePlan, downloads: Downloads) -> Result<EnhanceForecast> {
    let mut forecast = batch::plan_enhance(plan)?;
    forecast.notes.extend(not_cached(plan.networks()));
    Ok(EnhanceForecast { download_bytes: downloads.total(), ..forecast })
}

/// A note on each network that a run downloads first.
fn not_cached<'a>(networks: impl Iterator<Item = &'a Model>) -> impl Iterator<Item = String> {
    let missing = networks.filter(|model| model.configs_only);
    missing
        .map(|model| format!("{} is not cached: a run downloads it first; its memory and time are unknown", model.name))
}

/// `export`.
pub(super) fn export(plan: &ExportPlan) -> Result<Exported> {
    pipeline::export(plan)
}

/// `inspect` for a local file or folder.
pub(super) fn inspect(path: &Path, options: &RuntimeOptions) -> Result<Inspection> {
    pipeline::inspect(path, options)
}

/// Adds ONNX Runtime and FFmpeg to the diagnosis of `doctor`.
pub(super) fn diagnose(diagnosis: &mut Diagnosis, options: &RuntimeOptions) {
    let found = pipeline::libraries(options);
    diagnosis.onnxruntime.version = found.onnxruntime.version;
    diagnosis.onnxruntime.path = found.onnxruntime.library;
    diagnosis.onnxruntime.wanted = found.wanted.into();
    diagnosis.providers =
        found.onnxruntime.providers.iter().filter(|p| p.problem.is_none()).map(|p| p.device.to_string()).collect();
    diagnosis.problems.extend(found.onnxruntime.problem);
    let asked = options.engine.device.to_string();
    for provider in found.onnxruntime.providers {
        match provider.problem {
            Some(problem) if provider.device == asked => diagnosis.problems.push(problem),
            Some(problem) if provider.compiled_in && provider.device.starts_with("cuda") => {
                diagnosis.unusable.push(problem);
            }
            _ => {}
        }
    }
    diagnosis.ffmpeg.version = Some(found.ffmpeg);
    diagnosis.ffmpeg.encoders = found.encoders;
    diagnosis.ffmpeg.decoders = found.decoders;
    for (k, name) in found.onnxruntime.devices.into_iter().enumerate() {
        let id = if k == 0 { "cpu".into() } else { format!("cuda:{}", k - 1) };
        diagnosis.devices.push(DeviceRow { id, name, memory_bytes: None });
    }
}
