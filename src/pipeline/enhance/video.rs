//! A video through the line: decode → interpolate → upscale → encode, each on its own thread, joined by bounded queues.

use std::{path::Path, sync::atomic::AtomicBool};

use crate::pipeline::{
    context::Context,
    enhance::resume::{Chunks, Identity},
    enhance::video_source::VideoSource,
    postprocess,
    retime::{OutputFrame, ResumePoint, Retime, SourceFrame},
    timings::Timings,
};
use crate::{
    error::Result,
    media::{
        PendingFile,
        queue::{Emit, Line, StageTime},
        video::{Summary, VideoInfo, VideoOptions, VideoSpec, Writer, chunk},
    },
    plan::{self, EnhancePlan, Input},
    progress::{Task, Unit, stop_flag},
    stage::interpolate::Planes,
    tensor::Frame,
};

/// Frames that may wait between two stages.
const WAITING: usize = 2;

/// The networks of a run over videos, loaded once; clones share them.
#[derive(Clone)]
pub struct Networks {
    /// Between frames.
    pub interpolate: Option<postprocess::Interpolator>,
    /// Larger frames.
    pub upscale: Option<postprocess::Upscaler>,
}

/// The form of a video after all stages.
pub fn output(plan: &EnhancePlan, info: &VideoInfo, pacing: &Retime, source: &Path) -> VideoSpec {
    let (height, width) = match &plan.upscaling {
        Some(u) => postprocess::output_size(u.target, info.height, info.width),
        None => (info.height, info.width),
    };
    let mut output = VideoSpec::like(info, (width, height), pacing.rate, Some(source.to_path_buf()));
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

/// What was made: a file that is not named yet.
pub struct PendingOutput {
    /// Where it is.
    pub place: PendingFile,
    /// Frames in it.
    pub frames: u64,
    /// Whether chunks of an earlier run are in it.
    pub resumed: bool,
}

/// Seconds of the source above which a video is made in chunks, and seconds of each, where nothing was asked for.
const LONG: f64 = 60.0;
const CHUNK: f64 = 10.0;

/// A video to be made.
struct Clip<'a> {
    material: VideoSource<'a>,
    pacing: Retime,
    deep: bool,
    form: VideoSpec,
}

/// Enhances one video into its place.
pub fn enhance(
    source: &Input,
    place: PendingFile,
    plan: &EnhancePlan,
    networks: &mut Networks,
    cx: &Context<'_>,
    (identity, perf): (&Identity<'_>, &mut Timings),
) -> Result<PendingOutput> {
    let material = match source {
        Input::File(path) => VideoSource::video(path, plan)?,
        Input::Sequence { pattern, files } => VideoSource::pictures(pattern, files, plan)?,
    };
    let pacing = Retime::new(plan.interpolation.as_ref(), material.timing())?;
    let (form, deep) = match &material {
        VideoSource::Video { path, info, part, .. } => {
            let form = VideoSpec { time_range: *part, ..output(plan, info, &pacing, path) };
            let deep = form.bit_depth > 8;
            (form, deep)
        }
        VideoSource::Pictures { like, .. } => {
            let (h, w) = plan
                .upscaling
                .as_ref()
                .map_or(like.size, |u| postprocess::output_size(u.target, like.size.0, like.size.1));
            let bit_depth = if like.deep { 10 } else { 8 };
            let new = VideoSpec::new(w, h, pacing.rate);
            (VideoSpec { bit_depth, alpha: like.alpha, time_base: pacing.tick, ..new }, like.deep)
        }
    };
    let timing = material.timing();
    let length = (timing.end + timing.last) as f64 * timing.tick.value();
    let seconds =
        plan.trim.chunk.filter(|s| *s < length).or((plan.trim.chunk.is_none() && length > LONG).then_some(CHUNK));
    let clip = Clip { material, pacing, deep, form };
    match seconds {
        Some(seconds) if chunk::supports_chunks(place.target()) => {
            clip.in_chunks(seconds, place, plan, networks, cx, (identity, perf))
        }
        _ => {
            if plan.trim.chunk.is_some() && !chunk::supports_chunks(place.target()) {
                let name = place.target().display();
                tracing::warn!("{name}: animated pictures are made in one piece, whatever --chunk says");
            }
            clip.at_once(place, plan, networks, cx, perf)
        }
    }
}

impl Clip<'_> {
    /// All frames through the line and into the file.
    fn at_once(
        self,
        place: PendingFile,
        plan: &EnhancePlan,
        networks: &mut Networks,
        cx: &Context<'_>,
        perf: &mut Timings,
    ) -> Result<PendingOutput> {
        let mut writer = Writer::create_in(place, &options(&plan.encoding), &self.form)?;
        let name = self.material.name().display();
        let mut task = Task::new(cx.progress, format!("enhance {name}"), Some(self.pacing.frames), Unit::Frames);
        let take = |OutputFrame { frame, pts, duration, .. }: OutputFrame<Frame>| {
            writer.write_at(&frame, pts, duration)?;
            task.step(1)
        };
        let times = through(self.material.frames()?, self.pacing, self.deep, networks, take)?;
        let (place, summary) = writer.close()?;
        times.iter().for_each(|time| perf.add(&time.name, time.busy.as_secs_f64()));
        told(&name, &summary);
        Ok(PendingOutput { place, frames: summary.frames, resumed: false })
    }

    /// As [`Clip::at_once`] by way of chunks, going on where an earlier run was stopped.
    fn in_chunks(
        self,
        seconds: f64,
        place: PendingFile,
        plan: &EnhancePlan,
        networks: &mut Networks,
        cx: &Context<'_>,
        (identity, perf): (&Identity<'_>, &mut Timings),
    ) -> Result<PendingOutput> {
        let options = options(&plan.encoding);
        let place = chunk::dry_run(place, &options, &self.form)?;
        let name = self.material.name().display();
        let mut chunks = Chunks::open(place.target(), &options, &self.form, identity)?;
        let (resumed, frames) = (chunks.count() > 0, chunks.frames());
        if resumed {
            tracing::info!("{name}: goes on after {} finished chunks ({frames} frames)", chunks.count());
        }
        let mut task = Task::new(cx.progress, format!("enhance {name}"), Some(self.pacing.frames), Unit::Frames);
        task.step(frames)?;
        if let Some(mark) = chunks.next().map(Option::<&ResumePoint>::cloned) {
            let pacing = self.pacing.in_chunks(seconds);
            let (pacing, frames) = match mark {
                None => (pacing, self.material.frames()?),
                Some(mark) => {
                    let (anchor, frames) = perf.time("seek", || self.material.go_on(&mark))?;
                    (pacing.go_on(mark, anchor), frames)
                }
            };
            let made = through(frames, pacing, self.deep, networks, |item| {
                chunks.write(item)?;
                task.step(1)
            });
            let made = made.and_then(|times| perf.time("encode", || chunks.finish()).map(|_| times));
            let times = made.inspect_err(|_| chunks.kept())?;
            times.iter().for_each(|time| perf.add(&time.name, time.busy.as_secs_f64()));
        }
        let finished = chunks.finish()?;
        perf.add("journal", chunks.seconds);
        let joined = perf.time("join", || chunk::join(place, &options, &self.form, &finished));
        let (place, summary) = joined.inspect_err(|_| chunks.kept())?;
        told(&name, &summary);
        Ok(PendingOutput { place, frames: summary.frames, resumed })
    }
}

/// Says what of the source is not in the result.
fn told(name: &impl std::fmt::Display, summary: &Summary) {
    for left in &summary.left_out {
        tracing::warn!("{name}: left out: {left}");
    }
}

/// Frames at the source's times through interpolation and upscaling to `take` at the output's times, each stage on its own
/// thread. `deep`: 16 bits.
pub fn through(
    frames: impl Iterator<Item = Result<SourceFrame>> + Send,
    pacing: Retime,
    deep: bool,
    networks: &mut Networks,
    take: impl FnMut(OutputFrame<Frame>) -> Result<()>,
) -> Result<Vec<StageTime>> {
    let cancel: &AtomicBool = stop_flag();
    let mut interpolating = pacing.stage(networks.interpolate.as_mut());
    let upscale = &mut networks.upscale;
    let line = Line::source(cancel, "decode", WAITING, frames);
    let line = line.stage("interpolate", WAITING, move |item, emit: &mut Emit<'_, _>| interpolating.step(item, emit));
    let line = line.stage(
        "upscale",
        WAITING,
        move |item: Option<OutputFrame<Planes>>, emit: &mut Emit<'_, OutputFrame<Frame>>| {
            let Some(OutputFrame { frame, pts, duration, mark }) = item else { return Ok(()) };
            let planes = match upscale.as_mut() {
                Some(upscaler) => upscaler.apply(frame)?,
                None => frame,
            };
            emit(OutputFrame { frame: Frame::from_planes(&planes, deep), pts, duration, mark })
        },
    );
    line.sink("encode", take)
}
