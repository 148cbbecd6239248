//! Latents → videos: decoded latent frame by latent frame, and on through the line while later ones are decoded.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Job, Run, parameters};
use crate::{
    error::Result,
    media::video::{Rational, Timing, VideoSpec, Writer},
    onnx::Model,
    pipeline::{
        enhance::{self, Networks},
        postprocess,
        report::OutputRow,
        retime::{OutputFrame, Retime, SourceFrame},
        timings::Timings,
        vae::Direction,
    },
    plan::GeneratePlan,
    progress::{Task, Unit},
    stage::vae::{DecoderNetworks, VideoDecoder},
};

/// Pictures and frames a second of a video after all stages; `height` and `width` are those of decoding.
pub struct Form {
    /// The times of its pictures.
    pub pacing: Retime,
    /// (height, width) of a picture.
    pub size: (usize, usize),
    /// Pictures.
    pub frames: usize,
    /// Of them, those of a second.
    pub rate: Rational,
}

impl Form {
    /// What a plan makes of `frames` pictures at `fps` a second. Interpolation makes more of both.
    pub fn new(plan: &GeneratePlan, (height, width): (usize, usize), frames: usize, fps: f64) -> Result<Self> {
        let size = match &plan.upscaling {
            Some(u) => postprocess::output_size(u.target, height, width),
            None => (height, width),
        };
        let rate = Rational::of_rate(fps);
        let pacing = Retime::new(plan.interpolation.as_ref(), &Timing::at_rate(rate, frames as u64))?;
        Ok(Self { size, frames: pacing.frames as usize, rate: pacing.rate, pacing })
    }
}

/// Decodes, interpolates, enlarges and encodes.
pub(super) fn finish(
    run: &Run<'_>,
    graphs: &[Model; 4],
    jobs: Vec<Job<'_>>,
    perf: &mut Timings,
) -> Result<Vec<OutputRow>> {
    let Run { plan, resolved, cx, .. } = *run;
    let begin = Instant::now();
    let tiling = resolved.vae.choose(Direction::Decode, (resolved.size.height, resolved.size.width), cx);
    let load = |i: usize| cx.load_large("vae", &graphs[i]);
    let decoder = DecoderNetworks {
        first_features: load(0)?,
        later_features: load(1)?,
        first_picture: load(2)?,
        later_picture: load(3)?,
    };
    let mut decoder = VideoDecoder::new(decoder, tiling, scratch(plan, &jobs)?, cx.progress);
    perf.add("load vae", begin.elapsed().as_secs_f64());
    let mut networks = Networks {
        interpolate: plan.interpolation.as_ref().map(|i| postprocess::Interpolator::load(i, cx)).transpose()?,
        upscale: plan.upscaling.as_ref().map(|u| postprocess::Upscaler::load(u, cx)).transpose()?,
    };
    let size = resolved.size;
    let form = Form::new(plan, (size.height, size.width), size.frames, resolved.fps)?;
    let mut made = Vec::with_capacity(jobs.len());
    for job in jobs {
        let path = plan.output.path(job.item)?;
        let mut output = VideoSpec::new(form.size.1, form.size.0, form.rate);
        parameters(plan, resolved, &job).sign_video(&mut output);
        let writer = path.as_ref().map(|path| Writer::create(path, &enhance::options(&plan.output), &output));
        let mut writer = writer.transpose()?;
        let mut task = Task::new(cx.progress, "decode", Some(form.frames as u64), Unit::Frames);
        let frames = decoder.frames(resolved.family.denormalize(&job.latent));
        let frames =
            (0..).zip(frames).map(|(pts, frame)| Ok(SourceFrame { frame: frame?, pts, duration: 1, stamp: pts }));
        let times =
            enhance::through(frames, form.pacing.clone(), false, &mut networks, |OutputFrame { frame, .. }| {
                // One tick each, the last one too, as published.
                if let Some(writer) = &mut writer {
                    writer.write(&frame)?;
                }
                task.step(1)
            })?;
        if let Some(writer) = writer {
            writer.finish()?;
        }
        times.iter().for_each(|time| perf.add(&time.name, time.busy.as_secs_f64()));
        let (height, width) = form.size;
        made.push(OutputRow { path, seed: job.item.seed, width, height, frames: form.frames });
    }
    Ok(made)
}

/// Where tiles wait for each other: beside the results, as these are large too; without results, where temporary files go.
fn scratch(plan: &GeneratePlan, jobs: &[Job<'_>]) -> Result<PathBuf> {
    let path = jobs.first().map(|job| plan.output.path(job.item)).transpose()?.flatten();
    let folder = path.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    Ok(match folder {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder,
        None => std::env::temp_dir(),
    })
}
