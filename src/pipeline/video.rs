//! A video through the line: decode → interpolate → upscale → encode, each on its own thread, joined by bounded queues.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use super::{
    context::Context,
    pace::{Pacing, Timed},
    perf::Perf,
    post,
};
use crate::{
    error::{Error, Result},
    media::{
        Place, picture,
        queue::{Emit, Line, StageTime},
        video::{Output, Rational, Reader, Timing, VideoInfo, VideoOptions, Writer},
    },
    plan::{self, EnhancePlan},
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
        verify: output.verify,
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
    let timing = Timing::read(source)?;
    let pacing = Pacing::new(plan.interpolation.as_ref(), &timing)?;
    let form = output(plan, &info, &pacing, source);
    let writer = Writer::create_in(place, &options(&plan.encoding), &form)?;
    let clip = Clip { name: source, pacing, deep: form.bit_depth > 8, writer };
    let mut clock = timing.clock(&info);
    let frames = reader.map(move |frame| {
        let frame = frame?;
        let pts = clock.position(&frame);
        Ok(Timed { frame: frame.frame.planes(), pts, duration: timing.last })
    });
    clip.write(frames, networks, cx, perf)
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
    let like = Like::of(first)?;
    let (height, width) =
        plan.upscaling.as_ref().map_or(like.size, |u| post::output_size(u.target, like.size.0, like.size.1));
    let timing = Timing::at_rate(Rational::of_rate(plan.fps.unwrap_or(25.0)), files.len() as u64);
    let pacing = Pacing::new(plan.interpolation.as_ref(), &timing)?;
    let bit_depth = if like.deep { 10 } else { 8 };
    let form =
        Output { bit_depth, alpha: like.alpha, time_base: pacing.tick, ..Output::new(width, height, pacing.rate) };
    let writer = Writer::create_in(place, &options(&plan.encoding), &form)?;
    let clip = Clip { name: pattern, pacing, deep: like.deep, writer };
    let frames = (0..).zip(files).map(|(pts, file)| Ok(Timed { frame: like.read(file)?, pts, duration: 1 }));
    clip.write(frames, networks, cx, perf)
}

/// What the first of numbered pictures is, and all others must be.
struct Like<'a> {
    first: &'a Path,
    /// (height, width)
    size: (usize, usize),
    deep: bool,
    alpha: bool,
}

impl<'a> Like<'a> {
    fn of(first: &'a Path) -> Result<Self> {
        let frame = picture::read(first)?.frame;
        Ok(Self { first, size: (frame.height, frame.width), deep: frame.is_deep(), alpha: frame.channels == 4 })
    }

    fn read(&self, file: &Path) -> Result<Planes> {
        let frame = picture::read(file)?.frame;
        let (place, first, (height, width)) = (file.display(), self.first.display(), self.size);
        if (frame.height, frame.width) != (height, width) {
            let (w, h) = (frame.width, frame.height);
            return Err(Error::failed(format!(
                "{place} has {w}x{h} pixels where {first} has {width}x{height}; the frames of a video are of one size"
            )));
        }
        match (self.alpha, frame.channels) {
            (false, 4) => Err(Error::failed(format!(
                "{place} has transparency where {first} has none; the frames of a video are of one kind"
            ))),
            (true, 3) => {
                let mut planes = Planes::ones((4, height, width));
                planes.slice_mut(ndarray::s![..3, .., ..]).assign(&frame.planes());
                Ok(planes)
            }
            _ => Ok(frame.planes()),
        }
    }
}

/// A video in the making.
struct Clip<'a> {
    name: &'a Path,
    pacing: Pacing,
    deep: bool,
    writer: Writer,
}

impl Clip<'_> {
    /// All frames through the line and into the file.
    fn write(
        mut self,
        frames: impl Iterator<Item = Result<Timed<Planes>>> + Send,
        networks: &mut Networks,
        cx: &Context<'_>,
        perf: &mut Perf,
    ) -> Result<(Place, u64)> {
        let name = self.name.display();
        let mut stage = Stage::new(cx.progress, format!("enhance {name}"), Some(self.pacing.frames), Unit::Frames);
        let times = through(frames, self.pacing, self.deep, networks, |Timed { frame, pts, duration }| {
            self.writer.write_at(&frame, pts, duration)?;
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
