//! Plans with defaults, on the CPU.

use std::path::Path;

use crescendo::{
    plan::{GeneratePlan, Model, RuntimeOptions},
    runtime::{DeviceChoice, Options},
};

pub(crate) fn runtime() -> RuntimeOptions {
    RuntimeOptions { engine: Options { device: DeviceChoice::Cpu, ..Options::default() }, dtype: None }
}

pub(crate) fn generate(model: &Path, prompt: &str) -> GeneratePlan {
    GeneratePlan {
        model: Model { name: model.display().to_string(), path: model.to_path_buf(), ..Model::default() },
        prompts: vec![prompt.into()],
        runtime: runtime(),
        ..GeneratePlan::default()
    }
}
