//! A video through the line: decode → interpolate → upscale → encode, each on its own thread, joined by bounded queues.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use super::{context::Context, perf::Perf, post};
use crate::{
    error::{Error, Result},
    media::{
        Place, picture,
        queue::{Emit, Line, StageTime},
        video::{Output, Rational, Reader, VideoFrame, VideoInfo, VideoOptions, Writer},
    },
    plan::{self, EnhancePlan, Interpolation, Rate},
    progress::{Stage, Unit, stop_flag},
    stage::interpolate::Planes,
    tensor::Frame,
};

/// Frames that may wait between two stages.
const WAITING: usize = 2;

/// The networks of a run over videos, loaded once; clones share them.
#[derive(Clone)]
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

/// Enhances one video into its place; the file, not yet named, and the number of frames in it.
pub fn enhance(
    source: &Path,
    place: Place,
    plan: &EnhancePlan,
    networks: &mut Networks,
    cx: &Context<'_>,
    perf: &mut Perf,
) -> Result<(Place, u64)> {
    let reader = Reader::open(source)?.with_alpha();
    let info = reader.info().clone();
    if info.variable_rate {
        let name = source.display();
        tracing::warn!("{name}: frames have lengths of their own; the average rate is used throughout");
    }
    let form = output(plan, &info, source)?;
    let writer = Writer::create_in(place, &options(&plan.encoding), &form)?;
    let clip = Clip { name: source, frames: info.frames, deep: form.bit_depth > 8, writer };
    clip.write(reader.map(|f| f.map(|VideoFrame { frame, .. }| frame.planes())), plan, networks, cx, perf)
}

/// Enhances numbered pictures, which are the frames of a video at `plan.fps`; as [`enhance`].
pub fn sequence(
    (pattern, files): (&Path, &[PathBuf]),
    place: Place,
    plan: &EnhancePlan,
    networks: &mut Networks,
    cx: &Context<'_>,
    perf: &mut Perf,
) -> Result<(Place, u64)> {
    let Some(first) = files.first() else { return Err(Error::failed(format!("{}: no picture", pattern.display()))) };
    let first_frame = picture::read(first)?.frame;
    let (height, width, deep) = (first_frame.height, first_frame.width, first_frame.is_deep());
    let alpha = first_frame.channels == 4;
    let (h, w) = plan.upscaling.as_ref().map_or((height, width), |u| post::output_size(u.target, height, width));
    let rate = Rational::of_rate(plan.fps.unwrap_or(25.0)).times(1 << exponent(plan.interpolation.as_ref())?);
    let form = Output { bit_depth: if deep { 10 } else { 8 }, alpha, ..Output::new(w, h, rate) };
    let writer = Writer::create_in(place, &options(&plan.encoding), &form)?;
    let clip = Clip { name: pattern, frames: Some(files.len() as u64), deep, writer };
    let frames = files.iter().map(|file| {
        let frame = picture::read(file)?.frame;
        if (frame.height, frame.width) != (height, width) {
            return Err(Error::failed(format!(
                "{} has {}x{} pixels where {} has {width}x{height}; the frames of a video are of one size",
                file.display(),
                frame.width,
                frame.height,
                first.display()
            )));
        }
        match (alpha, frame.channels) {
            (false, 4) => Err(Error::failed(format!(
                "{} has transparency where {} has none; the frames of a video are of one kind",
                file.display(),
                first.display()
            ))),
            (true, 3) => {
                let mut planes = Planes::ones((4, height, width));
                planes.slice_mut(ndarray::s![..3, .., ..]).assign(&frame.planes());
                Ok(planes)
            }
            _ => Ok(frame.planes()),
        }
    });
    clip.write(frames, plan, networks, cx, perf)
}

/// A video in the making.
struct Clip<'a> {
    name: &'a Path,
    frames: Option<u64>,
    deep: bool,
    writer: Writer,
}

impl Clip<'_> {
    /// All frames through the line and into the file.
    fn write(
        mut self,
        frames: impl Iterator<Item = Result<Planes>> + Send,
        plan: &EnhancePlan,
        networks: &mut Networks,
        cx: &Context<'_>,
        perf: &mut Perf,
    ) -> Result<(Place, u64)> {
        let exp = exponent(plan.interpolation.as_ref())?;
        let name = self.name.display();
        let total = self.frames.map(|n| n.saturating_sub(1) * (1 << exp) + 1);
        let mut stage = Stage::new(cx.progress, format!("enhance {name}"), total, Unit::Frames);
        let times = through(frames, exp, self.deep, networks, |frame| {
            self.writer.write(&frame)?;
            stage.step(1)
        })?;
        let (place, summary) = self.writer.close()?;
        for left in &summary.left_out {
            tracing::warn!("{name}: left out: {left}");
        }
        for time in times {
            perf.add(&time.name, time.busy.as_secs_f64());
        }
        Ok((place, summary.frames))
    }
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
