//! The transformer's part of a run: one pass per output.

use std::time::Instant;

use ndarray::ArrayD;

use super::{
    jobs::{Job, Run},
    latents::Latents,
};
use crate::{
    error::Result,
    family::Conditioning,
    onnx::Model,
    pipeline::{diagnose::name_damaged_tensor, timings::Timings},
    plan::Item,
    progress::{Task, Unit},
    spectral::Level,
    stage::denoise::{Denoiser, GuidedPrompt},
};

/// Inputs of the passes.
pub(super) struct Inputs {
    /// The latent of the input picture, at the size of the first level.
    pub start: Option<ArrayD<f32>>,
    /// By prompt.
    pub positive: Vec<Conditioning>,
    /// Of the negative prompt, if guidance needs it.
    pub negative: Option<Conditioning>,
}

/// Denoises all outputs with one loaded transformer.
pub(super) fn denoise<'a>(
    run: &Run<'a>,
    transformer: &Model,
    items: Vec<(usize, Item<'a>)>,
    inputs: &Inputs,
    latents: &mut Latents<'_>,
    timings: &mut Timings,
) -> Result<Vec<Job<'a>>> {
    let Run { plan, config, cx } = *run;
    let (family, weights) = (config.family.as_ref(), config.folder.root().join("transformer"));
    let begin = Instant::now();
    let mut network = cx.load("transformer", transformer)?;
    timings.add("load transformer", begin.elapsed().as_secs_f64());
    let steps: usize = config.levels.iter().map(Level::steps).sum();
    let mut jobs = Vec::with_capacity(items.len());
    for (k, (prompt, item)) in items.into_iter().enumerate() {
        let guided = GuidedPrompt {
            family,
            positive: &inputs.positive[prompt],
            negative: inputs.negative.as_ref(),
            guidance: config.guidance,
        };
        let name = |what: &str| if item.count == 1 { what.to_string() } else { format!("{k}.{what}") };
        let mut task = Task::new(cx.progress, "denoise", Some(steps as u64), Unit::Steps);
        let mut last = Instant::now();
        let mut watch = |what: &str, x: &ArrayD<f32>| {
            latents.add(name(what), x);
            if what == "noise" {
                return Ok(());
            }
            timings.step("denoise", last.elapsed().as_secs_f64());
            last = Instant::now();
            task.step(1)
        };
        let mut denoiser = Denoiser::new(&mut network, &guided).batched(plan.cfg_batch);
        let mut velocity = |x: &ArrayD<f32>, sigma: f32| denoiser.velocity(x, sigma);
        let (pass, shape) = (config.pass(plan.noise), family.latent_shape(config.size));
        let latent = pass.run(&mut velocity, &shape, inputs.start.as_ref(), item.seed, &mut watch);
        let latent = latent.map_err(name_damaged_tensor(&weights))?;
        latents.add(name("latents"), &latent);
        jobs.push(Job { prompt, item, latent });
    }
    Ok(jobs)
}
