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

/// The items of a plan, by prompt, then seed, each with the index of its prompt.
pub(super) fn items(plan: &GeneratePlan, video: bool) -> Vec<(usize, Item<'_>)> {
    let count = plan.prompts.len() * plan.seeds.len();
    let pairs = plan.prompts.iter().enumerate().flat_map(|(p, text)| plan.seeds.iter().map(move |&s| (p, text, s)));
    pairs.enumerate().map(|(index, (p, prompt, seed))| (p, Item { prompt, seed, index, count, video })).collect()
}

/// Checks that all outputs can be written, and creates their folders.
pub(super) fn check_outputs(plan: &GeneratePlan, items: &[(usize, Item<'_>)]) -> Result<()> {
    let mut outputs = Vec::new();
    for (_, item) in items {
        let Some(path) = plan.output.path(*item)? else { continue };
        if !item.video {
            PictureFormat::of_name(&path)?;
        }
        // Equal automatic names get their suffix when the first file exists.
        if !outputs.contains(&path) {
            outputs.push(path);
        }
    }
    plan.written_paths(&outputs).check()?;
    for path in &outputs {
        create_folder_of(path)?;
        check_file(path)?;
    }
    plan.save_latents.iter().chain(&plan.perf_dump).try_for_each(|path| check_file(path))
}

/// Checks that all outputs can have the frame rate of the plan.
pub(super) fn check_rates(plan: &GeneratePlan, config: &RunConfig, items: &[(usize, Item<'_>)]) -> Result<()> {
    let size = (config.size.height, config.size.width);
    let rate = VideoForm::new(plan, size, config.size.frames, config.fps)?.rate;
    let paths = items.iter().filter_map(|(_, item)| plan.output.path(*item).transpose());
    paths.into_iter().try_for_each(|path| check_rate(&path?, rate))
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
