//! The outputs of a run: one per prompt and seed.

use std::path::Path;

use ndarray::ArrayD;

use super::{run_config::RunConfig, video_form::VideoForm};
use crate::{
    error::Result,
    media::{PendingFile, PictureFormat, metadata::Parameters, video::check_rate},
    pipeline::{components::model_name, context::Context, folders::create_folder_of},
    plan::{GeneratePlan, Item},
};

/// The plan and the state of a run, for all of its steps.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub plan: &'a GeneratePlan,
    pub config: &'a RunConfig,
    pub cx: &'a Context<'a>,
}

/// One output, denoised and not yet decoded.
pub(super) struct Job<'a> {
    /// Index of the prompt.
    pub prompt: usize,
    pub item: Item<'a>,
    pub latent: ArrayD<f32>,
}

/// Checks that all outputs can be written, and creates their folders.
pub(super) fn check_outputs(plan: &GeneratePlan, video: bool) -> Result<()> {
    let outputs = plan.outputs(video)?;
    if !video {
        outputs.iter().try_for_each(|path| PictureFormat::of_name(path).map(drop))?;
    }
    plan.written_paths(&outputs).check()?;
    for path in &outputs {
        create_folder_of(path)?;
        match plan.output.is_automatic() {
            // Another process may be writing this name. The file will get another one then.
            true => PendingFile::try_open(path, true).map(drop)?,
            false => check_file(path)?,
        }
    }
    plan.save_latents.iter().chain(&plan.perf_dump).try_for_each(|path| check_file(path))
}

/// Checks that all outputs can have the frame rate of the plan.
pub(super) fn check_rates(plan: &GeneratePlan, config: &RunConfig) -> Result<()> {
    let size = (config.size.height, config.size.width);
    let rate = VideoForm::new(plan, size, config.size.frames, config.fps)?.rate;
    plan.outputs(true)?.iter().try_for_each(|path| check_rate(path, rate))
}

fn check_file(path: &Path) -> Result<()> {
    PendingFile::create(path, true).map(drop)
}

/// The settings in an output's metadata.
pub(super) fn parameters<'a>(run: &Run<'a>, job: &Job<'_>) -> Parameters<'a> {
    let (plan, config) = (run.plan, run.config);
    let split = (config.levels.len() > 1).then(|| ("Progressive", config.split()));
    Parameters {
        prompt: &plan.prompts[job.prompt],
        negative_prompt: plan.negative_prompt.as_deref(),
        steps: config.steps,
        sampler: config.family.solver().name(),
        guidance_scale: config.guidance.scale(),
        seed: job.item.seed,
        size: (config.size.width, config.size.height),
        model: model_name(&config.folder, config.family.as_ref()),
        strength: config.strength,
        more: split.into_iter().collect(),
    }
}
