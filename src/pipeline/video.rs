//! A video through the line: decode → interpolate → upscale → encode, each on its own thread, joined by bounded queues.

use std::{path::Path, sync::atomic::AtomicBool};

use super::{context::Context, perf::Perf, post};
use crate::{
    error::{Error, Result},
    media::{
        queue::{Emit, Line, StageTime},
        video::{Output, Reader, VideoFrame, VideoInfo, VideoOptions, Writer},
    },
    plan::{self, EnhancePlan, Interpolation, Rate},
    progress::{Stage, Unit, stop_flag},
    stage::interpolate::Planes,
    tensor::Frame,
};

/// Frames that may wait between two stages.
const WAITING: usize = 2;

/// The networks of a run over videos, loaded once.
pub struct Networks {
    /// Between frames.
    pub interpolate: Option<post::Interpolator>,
    /// Larger frames.
    pub upscale: Option<post::Upscaler>,
}

/// Frames made for each gap between two of the source: 2^exp.
pub fn exponent(interpolation: Option<&Interpolation>) -> Result<u32> {
    let Some(interpolation) = interpolation else { return Ok(0) };
    interpolation.rate.exp().ok_or_else(|| {
        let asked = match interpolation.rate {
            Rate::Times(n) => format!("{n}x"),
            Rate::Fps(f) => format!("{f}fps"),
        };
        Error::usage(format!("--interpolate {asked}: 2x, 4x, 8x and 16x are possible"))
    })
}

/// The form of a video after all stages.
pub fn output(plan: &EnhancePlan, info: &VideoInfo, source: &Path) -> Result<Output> {
    let times = 1 << exponent(plan.interpolation.as_ref())?;
    let (height, width) = match &plan.upscaling {
        Some(u) => post::output_size(u.target, info.height, info.width),
        None => (info.height, info.width),
    };
    let rate = info.frame_rate.times(times);
    Ok(Output::like(info, (width, height), rate, Some(source.to_path_buf())))
}

/// What the encoder is asked for.
pub fn options(output: &plan::Output) -> VideoOptions {
    VideoOptions {
        codec: output.codec.clone(),
        crf: output.crf,
        quality: Some(output.compression(true)),
        preset: output.x264_preset.clone(),
        pix_fmt: output.pix_fmt.clone(),
        extra: output.encoder_options.clone(),
        overwrite: output.overwrite,
    }
}

/// Enhances one video; the number of frames written.
pub fn enhance(
    source: &Path,
    target: &Path,
    plan: &EnhancePlan,
    networks: &mut Networks,
    cx: &Context<'_>,
    perf: &mut Perf,
) -> Result<u64> {
    let reader = Reader::open(source)?.with_alpha();
    let info = reader.info().clone();
    if info.variable_rate {
        let name = source.display();
        tracing::warn!("{name}: frames have lengths of their own; the average rate is used throughout");
    }
    let exp = exponent(plan.interpolation.as_ref())?;
    let form = output(plan, &info, source)?;
    let deep = form.bit_depth > 8;
    let mut writer = Writer::create(target, &options(&plan.encoding), &form)?;
    let total = info.frames.map(|n| n.saturating_sub(1) * (1 << exp) + 1);
    let mut stage = Stage::new(cx.progress, format!("enhance {}", source.display()), total, Unit::Frames);
    let frames = reader.map(|f| f.map(|VideoFrame { frame, .. }| frame.planes()));
    let times = through(frames, exp, deep, networks, |frame| {
        writer.write(&frame)?;
        stage.step(1)
    })?;
    let summary = writer.finish()?;
    for left in &summary.left_out {
        tracing::warn!("{}: left out: {left}", source.display());
    }
    for time in times {
        perf.add(&time.name, time.busy.as_secs_f64());
    }
    Ok(summary.frames)
}

/// Frames through interpolation (2^exp for each gap) and upscaling to `take`, each stage on its own thread. `deep`: 16 bits.
pub fn through(
    frames: impl Iterator<Item = Result<Planes>> + Send,
    exp: u32,
    deep: bool,
    networks: &mut Networks,
    take: impl FnMut(Frame) -> Result<()>,
) -> Result<Vec<StageTime>> {
    let cancel: &AtomicBool = stop_flag();
    let interpolate = &mut networks.interpolate;
    let upscale = &mut networks.upscale;
    let mut before: Option<Planes> = None;
    let line = Line::source(cancel, "decode", WAITING, frames).stage(
        "interpolate",
        WAITING,
        move |planes: Option<Planes>, emit: &mut Emit<'_, Planes>| {
            let Some(planes) = planes else { return Ok(()) };
            if let (Some(network), Some(first)) = (interpolate.as_mut(), before.take()) {
                let made = network.between(&first, &planes, exp);
                for between in made? {
                    emit(between)?;
                }
            }
            before = interpolate.is_some().then(|| planes.clone());
            emit(planes)
        },
    );
    let line = line.stage("upscale", WAITING, move |planes: Option<Planes>, emit: &mut Emit<'_, Frame>| {
        let Some(planes) = planes else { return Ok(()) };
        let planes = match upscale.as_mut() {
            Some(upscaler) => upscaler.apply(planes)?,
            None => planes,
        };
        emit(Frame::from_planes(&planes, deep))
    });
    line.sink("encode", take)
}
