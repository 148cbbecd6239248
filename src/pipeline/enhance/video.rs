//! Enhances one video, in one piece or in chunks.

use std::path::Path;

use super::{
    forecast_memory::{self, Clip, NetworkForms, Tiles},
    resume::{Chunks, Identity},
    video_source::VideoSource,
};
use crate::{
    error::{At, Result},
    media::{
        PendingFile,
        video::{
            Summary, VideoInfo, VideoOptions, VideoQuality, VideoSpec, Writer, check_longest, check_rate, chunk,
            short_frames,
        },
    },
    pipeline::{
        context::Context,
        memory,
        postprocess::output_size,
        resume_point::ResumePoint,
        retime::{OutputFrame, Retime},
        stream::{self, Networks, encoder_options},
        timings::Timings,
    },
    plan::{EnhancePlan, Input},
    progress::{Task, Unit},
    tensor::Frame,
};

/// A written output file without its final name.
pub struct PendingOutput {
    /// The file.
    pub file: PendingFile,
    /// Number of frames in it.
    pub frames: u64,
    /// Whether it contains chunks of an earlier run.
    pub resumed: bool,
}

/// Seconds of output above which a video is encoded in chunks by default.
const CHUNK_ABOVE: f64 = 60.0;
/// Seconds per chunk by default.
const CHUNK: f64 = 10.0;

/// One video to enhance.
pub(super) struct VideoJob<'a> {
    plan: &'a EnhancePlan,
    source: VideoSource<'a>,
    retime: Retime,
    deep: bool,
    spec: VideoSpec,
    options: VideoOptions,
    /// Seconds per chunk, if the length or `--chunk` requires chunks.
    chunk: Option<f64>,
    /// Whether `--chunk` was given.
    chunk_given: bool,
}

impl<'a> VideoJob<'a> {
    /// Opens the input and decides the form of the output, the file `output`.
    ///
    /// # Errors
    /// Those of reading the input; a frame rate that the output cannot have.
    pub(super) fn open(input: &'a Input, plan: &'a EnhancePlan, output: &Path) -> Result<Self> {
        let source = VideoSource::open(input, plan, output)?;
        let retime = Retime::new(plan.interpolation.as_ref(), source.timing())?;
        let timing = source.timing();
        let length = (timing.end + timing.last) as f64 * timing.tick.value();
        check_rate(output, retime.rate)?;
        check_longest(output, retime.longest as f64 * retime.tick.value())?;
        if let Some(warning) = short_frames(output, retime.shortest as f64 * retime.tick.value()) {
            tracing::warn!("{warning}");
        }
        let target = |(h, w): (usize, usize)| plan.upscaling.as_ref().map_or((h, w), |u| output_size(u.target, h, w));
        let (spec, deep) = match &source {
            VideoSource::Video { path, info, part, .. } => {
                let spec = VideoSpec { time_range: *part, ..like_source(info, target, &retime, path) };
                let deep = spec.bit_depth > 8;
                (spec, deep)
            }
            VideoSource::Pictures { first_picture, .. } => {
                let (height, width) = target(first_picture.size);
                let bit_depth = if first_picture.deep { 10 } else { 8 };
                let new = VideoSpec::new(width, height, retime.rate);
                (VideoSpec { bit_depth, alpha: first_picture.alpha, time_base: retime.tick, ..new }, first_picture.deep)
            }
        };
        let given = plan.trim.chunk;
        let chunk = given.filter(|s| *s < length).or((given.is_none() && length > CHUNK_ABOVE).then_some(CHUNK));
        let options = encoder_options(&plan.encoding, VideoQuality::VisuallyLossless);
        Ok(Self { plan, source, retime, deep, spec, options, chunk, chunk_given: given.is_some() })
    }

    /// Enhances the video into `file`.
    pub(super) fn run(
        self,
        file: PendingFile,
        networks: &mut Networks,
        cx: &Context<'_>,
        identity: &Identity<'_>,
        timings: &mut Timings,
    ) -> Result<PendingOutput> {
        self.check_memory(networks, cx)?;
        let supported = chunk::supports_chunks(file.target());
        match self.chunk.filter(|_| supported) {
            Some(seconds) => self.in_chunks(seconds, (file, identity), networks, cx, timings),
            None => {
                if self.chunk_given && !supported {
                    let name = file.target().display();
                    tracing::warn!("{name}: --chunk has no effect on animated pictures");
                }
                self.in_one_piece(file, networks, cx, timings)
            }
        }
    }

    /// Checks that the video fits into memory before anything is decoded, and leaves to other stages what they hold.
    fn check_memory(&self, networks: &mut Networks, cx: &Context<'_>) -> Result<()> {
        let (plan, forms, size) = (self.plan, forecast_memory::loaded(networks), self.source.size());
        let channels = if self.spec.alpha { 4 } else { 3 };
        let clip = Clip { size, frames: self.retime.frames, channels, deep: self.deep };
        let smallest = forecast_memory::video(clip, plan, &forms, Tiles::Smallest);
        memory::check(&smallest, cx.options.engine.memory_limit).at(self.source.name().display())?;
        if let Some(upscaler) = &mut networks.upscale {
            let without = NetworkForms { upscale: None, ..forms.clone() };
            let target = upscaler.form().output_size(size);
            upscaler.reserve(forecast_memory::streams(clip, target, plan, &without).bytes());
        }
        Ok(())
    }

    fn in_one_piece(
        self,
        file: PendingFile,
        networks: &mut Networks,
        cx: &Context<'_>,
        timings: &mut Timings,
    ) -> Result<PendingOutput> {
        let mut writer = Writer::create_in(file, &self.options, &self.spec)?;
        let name = self.source.name().display();
        let mut task = Task::new(cx.progress, format!("enhance {name}"), Some(self.retime.frames), Unit::Frames);
        let write = |OutputFrame { frame, pts, duration, .. }: OutputFrame<Frame>| {
            writer.write_at(&frame, pts, duration)?;
            task.step(1)
        };
        stream::run(self.source.frames()?, self.retime, self.deep, networks, timings, write)?;
        let (file, summary) = writer.close()?;
        warn_left_out(&name, &summary);
        Ok(PendingOutput { file, frames: summary.frames, resumed: false })
    }

    /// As [`VideoJob::in_one_piece`], in chunks. Resumes after the chunks of an earlier run.
    fn in_chunks(
        self,
        seconds: f64,
        (file, identity): (PendingFile, &Identity<'_>),
        networks: &mut Networks,
        cx: &Context<'_>,
        timings: &mut Timings,
    ) -> Result<PendingOutput> {
        let file = chunk::dry_run(file, &self.options, &self.spec)?;
        let name = self.source.name().display();
        let fits = |point: &ResumePoint| self.retime.can_resume_at(point, self.source.timing());
        let mut chunks = Chunks::open(file.target(), (&self.options, &self.spec), identity, &fits)?;
        let (resumed, frames) = (chunks.count() > 0, chunks.frames());
        if resumed {
            tracing::info!("{name}: resumes after {} finished chunks ({frames} frames)", chunks.count());
        }
        let mut task = Task::new(cx.progress, format!("enhance {name}"), Some(self.retime.frames), Unit::Frames);
        task.step(frames)?;
        if let Some(point) = chunks.next().map(Option::<&ResumePoint>::cloned) {
            let retime = self.retime.in_chunks(seconds);
            let (retime, frames) = match point {
                None => (retime, self.source.frames()?),
                Some(point) => {
                    let (anchor, frames) = timings.time("seek", || self.source.frames_from(&point))?;
                    (retime.resume_at(point, anchor), frames)
                }
            };
            let streamed = stream::run(frames, retime, self.deep, networks, timings, |item| {
                chunks.write(item)?;
                task.step(1)
            });
            let streamed = streamed.and_then(|()| timings.time("encode", || chunks.finish()).map(|_| ()));
            streamed.inspect_err(|_| chunks.warn_remaining())?;
        }
        let finished = chunks.finish()?;
        timings.add("journal", chunks.seconds);
        let joined = timings.time("join", || chunk::join(file, &self.options, &self.spec, &finished));
        let (file, summary) = joined.inspect_err(|_| chunks.warn_remaining())?;
        warn_left_out(&name, &summary);
        Ok(PendingOutput { file, frames: summary.frames, resumed })
    }
}

/// The output of a video file: as the source, with the target size and the output times.
fn like_source(
    info: &VideoInfo,
    target: impl Fn((usize, usize)) -> (usize, usize),
    retime: &Retime,
    path: &Path,
) -> VideoSpec {
    let size = target((info.height, info.width));
    let like = VideoSpec::like(info, (size.1, size.0), retime.rate, Some(path.to_path_buf()));
    VideoSpec { time_base: retime.tick, ..like }
}

/// Warns of what the output does not contain.
fn warn_left_out(name: &impl std::fmt::Display, summary: &Summary) {
    for left in &summary.left_out {
        tracing::warn!("{name}: left out: {left}");
    }
}
