//! A video through the line: decode → interpolate → upscale → encode, each on its own thread, joined by bounded queues.

use std::{path::Path, sync::atomic::AtomicBool};

use super::{
    context::Context,
    pace::{Pacing, Timed},
    perf::Perf,
    post,
};
use crate::{
    error::Result,
    media::{
        queue::{Emit, Line, StageTime},
        video::{Output, Reader, Timing, VideoInfo, VideoOptions, Writer},
    },
    plan::{self, EnhancePlan},
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

/// The form of a video after all stages.
pub fn output(plan: &EnhancePlan, info: &VideoInfo, pacing: &Pacing, source: &Path) -> Output {
    let (height, width) = match &plan.upscaling {
        Some(u) => post::output_size(u.target, info.height, info.width),
        None => (info.height, info.width),
    };
    let mut output = Output::like(info, (width, height), pacing.rate, Some(source.to_path_buf()));
    output.time_base = pacing.tick;
    output
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
    let timing = Timing::read(source)?;
    let pacing = Pacing::new(plan.interpolation.as_ref(), &timing)?;
    let form = output(plan, &info, &pacing, source);
    let deep = form.bit_depth > 8;
    let mut writer = Writer::create(target, &options(&plan.encoding), &form)?;
    let title = format!("enhance {}", source.display());
    let mut stage = Stage::new(cx.progress, title, Some(pacing.frames), Unit::Frames);
    let mut clock = timing.clock(&info);
    let frames = reader.map(move |frame| {
        let frame = frame?;
        let pts = clock.position(&frame);
        Ok(Timed { frame: frame.frame.planes(), pts, duration: timing.last })
    });
    let times = through(frames, pacing, deep, networks, |Timed { frame, pts, duration }| {
        writer.write_at(&frame, pts, duration)?;
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

/// Frames at the source's times through interpolation and upscaling to `take` at the output's times, each stage on its own
/// thread. `deep`: 16 bits.
pub fn through(
    frames: impl Iterator<Item = Result<Timed<Planes>>> + Send,
    pacing: Pacing,
    deep: bool,
    networks: &mut Networks,
    take: impl FnMut(Timed<Frame>) -> Result<()>,
) -> Result<Vec<StageTime>> {
    let cancel: &AtomicBool = stop_flag();
    let mut interpolating = pacing.stage(networks.interpolate.as_mut());
    let upscale = &mut networks.upscale;
    let line = Line::source(cancel, "decode", WAITING, frames);
    let line = line.stage("interpolate", WAITING, move |item, emit: &mut Emit<'_, _>| interpolating.step(item, emit));
    let line = line.stage("upscale", WAITING, move |item: Option<Timed<Planes>>, emit: &mut Emit<'_, Timed<Frame>>| {
        let Some(Timed { frame, pts, duration }) = item else { return Ok(()) };
        let planes = match upscale.as_mut() {
            Some(upscaler) => upscaler.apply(frame)?,
            None => frame,
        };
        emit(Timed { frame: Frame::from_planes(&planes, deep), pts, duration })
    });
    line.sink("encode", take)
}
