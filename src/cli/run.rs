//! From resolved requests to the pipeline: the one place where the command line touches what it commands.

use std::path::Path;

use super::doctor::Diagnosis;
use crate::{
    batch,
    error::Result,
    pipeline::{self, Context, EnhanceForecast, Enhanced, Exported, GenerateForecast, Generated, Inspection},
    plan::{EnhancePlan, ExportPlan, GeneratePlan, RuntimeOptions},
    progress::Progress,
};

/// `generate`.
pub fn generate(plan: &GeneratePlan, progress: &dyn Progress) -> Result<Generated> {
    pipeline::generate(plan, &Context::start(&plan.runtime, progress)?)
}

/// `enhance`.
pub fn enhance(plan: &EnhancePlan, progress: &dyn Progress) -> Result<Enhanced> {
    batch::enhance(plan, &Context::start(&plan.runtime, progress)?)
}

/// `plan generate`.
pub fn plan_generate(plan: &GeneratePlan) -> Result<GenerateForecast> {
    pipeline::plan_generate(plan)
}

/// `plan enhance`.
pub fn plan_enhance(plan: &EnhancePlan) -> Result<EnhanceForecast> {
    batch::plan_enhance(plan)
}

/// `export`.
pub fn export(plan: &ExportPlan) -> Result<Exported> {
    pipeline::export(plan)
}

/// `inspect` of a local file or folder.
pub fn inspect(path: &Path, options: &RuntimeOptions) -> Result<Inspection> {
    pipeline::inspect(path, options)
}

/// Fills in what `doctor` says of ONNX Runtime and FFmpeg.
pub fn diagnose(diagnosis: &mut Diagnosis, options: &RuntimeOptions) {
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
        diagnosis.devices.push(super::doctor::Device { id, name, memory_bytes: None });
    }
}
