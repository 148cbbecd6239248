//! Latents → videos: latent frames are decoded one at a time, and streamed through interpolation, upscaling and encoding while later
//! ones are decoded.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    jobs::{Job, Run, parameters},
    video_form::VideoForm,
};
use crate::{
    error::Result,
    media::video::{VideoQuality, VideoSpec, Writer},
    onnx::Model,
    pipeline::{
        report::OutputRow,
        retime::{OutputFrame, SourceFrame},
        stream::{self, Networks, encoder_options},
        timings::Timings,
        vae::Direction,
    },
    plan::GeneratePlan,
    progress::{Task, Unit},
    stage::vae::{DecoderNetworks, VideoDecoder},
};

/// Writes the videos of all jobs.
pub(super) fn write_videos(
    run: &Run<'_>,
    graphs: &[Model; 4],
    jobs: Vec<Job<'_>>,
    timings: &mut Timings,
) -> Result<Vec<OutputRow>> {
    let Run { plan, config, cx } = *run;
    let begin = Instant::now();
    let size = (config.size.height, config.size.width);
    let tiling = config.vae.choose(Direction::Decode, size, cx);
    let load = |i: usize| cx.load_large("vae", &graphs[i]);
    let decoder = DecoderNetworks {
        first_features: load(0)?,
        later_features: load(1)?,
        first_picture: load(2)?,
        later_picture: load(3)?,
    };
    let mut decoder = VideoDecoder::new(decoder, tiling, temporary_folder(plan, &jobs)?, cx.progress);
    timings.add("load vae", begin.elapsed().as_secs_f64());
    let mut networks = Networks::load(plan.interpolation.as_ref(), plan.upscaling.as_ref(), cx)?;
    let form = VideoForm::new(plan, size, config.size.frames, config.fps)?;
    jobs.into_iter().map(|job| write(run, &job, &form, &mut decoder, &mut networks, timings)).collect()
}

/// Decodes and writes one video.
fn write(
    run: &Run<'_>,
    job: &Job<'_>,
    form: &VideoForm,
    decoder: &mut VideoDecoder<'_>,
    networks: &mut Networks,
    timings: &mut Timings,
) -> Result<OutputRow> {
    let Run { plan, config, cx } = *run;
    let (path, (height, width)) = (plan.output.path(job.item)?, form.size);
    let mut spec = VideoSpec::new(width, height, form.rate);
    parameters(run, job).sign_video(&mut spec);
    let quality = VideoQuality::Scale(plan.output.compression(true));
    let writer = path.as_ref().map(|path| Writer::create(path, &encoder_options(&plan.output, quality), &spec));
    let mut writer = writer.transpose()?;
    let mut task = Task::new(cx.progress, "decode", Some(form.frames as u64), Unit::Frames);
    let frames = decoder.frames(config.family.denormalize(&job.latent));
    let frames = (0..).zip(frames).map(|(pts, frame)| Ok(SourceFrame { frame: frame?, pts, duration: 1, stamp: pts }));
    // As in the reference, every frame lasts one tick, the last one too.
    stream::run(frames, form.retime.clone(), false, networks, timings, |OutputFrame { frame, .. }| {
        if let Some(writer) = &mut writer {
            writer.write(&frame)?;
        }
        task.step(1)
    })?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    Ok(OutputRow { path, seed: job.item.seed, width, height, frames: form.frames })
}

/// The folder for decoded tiles: that of the output, which needs space for large files too; without an output, the system's folder
/// for temporary files.
fn temporary_folder(plan: &GeneratePlan, jobs: &[Job<'_>]) -> Result<PathBuf> {
    let path = jobs.first().map(|job| plan.output.path(job.item)).transpose()?.flatten();
    let folder = path.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    Ok(match folder {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder,
        None => std::env::temp_dir(),
    })
}
