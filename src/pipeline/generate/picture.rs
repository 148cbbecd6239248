//! Latents → pictures: decodes, upscales and writes them.

use std::time::Instant;

use ndarray::Array3;

use super::jobs::{Job, Run, parameters};
use crate::{
    error::Result,
    files::{is_pending, is_taken},
    media::{
        PictureFormat,
        picture::{self, Picture, PictureOptions},
    },
    onnx::Model,
    pipeline::{
        diagnose::name_damaged_tensor, postprocess::Upscaler, report::OutputRow, timings::Timings, vae::Direction,
    },
    plan::Destination,
    progress::{Task, Unit},
    stage::vae,
    stdio,
    tensor::Frame,
};

/// Writes the pictures of all jobs.
pub(super) fn write_pictures(
    run: &Run<'_>,
    decoder: &Model,
    jobs: Vec<Job<'_>>,
    timings: &mut Timings,
) -> Result<Vec<OutputRow>> {
    let Run { plan, config, cx } = *run;
    let begin = Instant::now();
    let tiling = config.vae.choose(Direction::Decode, (config.size.height, config.size.width), cx);
    let mut network = cx.load_large("vae", decoder)?;
    timings.add("load vae", begin.elapsed().as_secs_f64());
    let mut upscaler = plan.upscaling.as_ref().map(|u| Upscaler::load(u, cx)).transpose()?;
    let weights = config.folder.root().join("vae");
    let mut task = Task::new(cx.progress, "decode", Some(jobs.len() as u64), Unit::Steps);
    let mut rows = Vec::with_capacity(jobs.len());
    for job in jobs {
        let latent = config.family.denormalize(&job.latent);
        let planes = timings.time("decode", || vae::decode(&mut network, latent, tiling));
        let mut planes = planes.map_err(name_damaged_tensor(&weights))?;
        if let Some(upscaler) = &mut upscaler {
            planes = timings.time("upscale", || upscaler.apply(planes))?;
        }
        rows.push(timings.time("write", || write(run, &job, &planes))?);
        task.step(1)?;
    }
    Ok(rows)
}

/// Writes one picture to its file or to standard output.
fn write(run: &Run<'_>, job: &Job<'_>, planes: &Array3<f32>) -> Result<OutputRow> {
    let (output, (_, height, width)) = (&run.plan.output, planes.dim());
    let mut picture = Picture::from(Frame::from_planes(planes, false)?);
    parameters(run, job).sign_picture(&mut picture);
    let options = PictureOptions {
        quality: output.compression(false),
        overwrite: output.overwrite,
        verify: output.verify,
        ..PictureOptions::default()
    };
    let path = loop {
        let Some(path) = output.path(job.item)? else {
            if output.destination == Destination::StandardOutput {
                stdio::document(&picture::encode(&picture, PictureFormat::Png, &options)?)?;
            }
            break None;
        };
        match picture::write(&path, &picture, &options) {
            // Another process took the automatic name after it was chosen.
            Err(_) if output.is_automatic() && (is_taken(&path) || is_pending(&path)) => {}
            written => break written.map(|_| Some(path))?,
        }
    };
    Ok(OutputRow { path, seed: job.item.seed, width, height, frames: 1 })
}
