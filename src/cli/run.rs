//! From resolved requests to the pipeline: the one place where the command line touches what it commands.

use std::path::Path;

use super::{
    doctor::Diagnosis,
    plan::{EnhancePlan, GeneratePlan, RuntimeOptions},
    report::{EnhanceForecast, Enhanced, Exported, GenerateForecast, Generated, Inspection},
    tools::ExportPlan,
};
use crate::{
    error::{Error, Result},
    progress::Progress,
};

fn unconnected(what: &str) -> Error {
    Error::failed(format!("{what} is not connected"))
}

/// `generate`.
pub fn generate(_plan: &GeneratePlan, _progress: &dyn Progress) -> Result<Generated> {
    Err(unconnected("generate"))
}

/// `enhance`.
pub fn enhance(_plan: &EnhancePlan, _progress: &dyn Progress) -> Result<Enhanced> {
    Err(unconnected("enhance"))
}

/// `plan generate`.
pub fn plan_generate(_plan: &GeneratePlan) -> Result<GenerateForecast> {
    Err(unconnected("plan generate"))
}

/// `plan enhance`.
pub fn plan_enhance(_plan: &EnhancePlan) -> Result<EnhanceForecast> {
    Err(unconnected("plan enhance"))
}

/// `export`.
pub fn export(_plan: &ExportPlan, _progress: &dyn Progress) -> Result<Exported> {
    Err(unconnected("export"))
}

/// `inspect` of a local file or folder.
pub fn inspect(_path: &Path) -> Result<Inspection> {
    Err(unconnected("inspect"))
}

/// Fills in what `doctor` says of ONNX Runtime and FFmpeg.
pub fn diagnose(diagnosis: &mut Diagnosis, _runtime: &RuntimeOptions) {
    diagnosis.problems.push(unconnected("doctor").to_string());
}
