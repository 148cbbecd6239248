//! Runs plans. Only this file calls the pipeline and batch runs.

use std::path::Path;

use super::doctor::{DeviceRow, Diagnosis};
use crate::{
    batch,
    error::Result,
    pipeline::{self, Context, EnhanceForecast, Enhanced, Exported, GenerateForecast, Generated, Inspection},
    plan::{EnhancePlan, ExportPlan, GeneratePlan, RuntimeOptions},
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

/// `plan generate`. `download_bytes`: of models that are not cached.
pub(super) fn plan_generate(plan: &GeneratePlan, download_bytes: Option<u64>) -> Result<GenerateForecast> {
    let forecast = pipeline::plan_generate(plan)?;
    let weights_bytes = forecast.weights_bytes.or(download_bytes);
    Ok(GenerateForecast { download_bytes, weights_bytes, ..forecast })
}

/// `plan enhance`. `download_bytes`: of models that are not cached.
pub(super) fn plan_enhance(plan: &EnhancePlan, download_bytes: Option<u64>) -> Result<EnhanceForecast> {
    Ok(EnhanceForecast { download_bytes, ..batch::plan_enhance(plan)? })
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
    diagnosis.ffmpeg.version = Some(found.ffmpeg);
    diagnosis.ffmpeg.encoders = found.encoders;
    diagnosis.ffmpeg.decoders = found.decoders;
    for (k, name) in found.onnxruntime.devices.into_iter().enumerate() {
        let id = if k == 0 { "cpu".into() } else { format!("cuda:{}", k - 1) };
        diagnosis.devices.push(DeviceRow { id, name, memory_bytes: None });
    }
}
