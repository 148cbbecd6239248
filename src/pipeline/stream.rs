//! Streams frames through interpolation and upscaling, for decoded files and for decoded latents.
//!
//! decode → interpolate → upscale → encode run on one thread each, joined by bounded queues ([`media::queue`](crate::media::queue)).
//! Memory does not grow with the length of the video. If a stage fails, its error is reported, not the errors that follow from it.
//! Ctrl-C stops every stage after its current frame.

use super::{
    context::Context,
    interpolation,
    postprocess::{Interpolator, Upscaler},
    retime::{OutputFrame, Retime, SourceFrame},
    timings::Timings,
};
use crate::{
    error::Result,
    media::{
        queue::{Chain, Emit},
        video::{VideoOptions, VideoQuality},
    },
    plan::{Interpolation, Output, Upscaling},
    progress::stop_flag,
    stage::interpolate::Planes,
    tensor::Frame,
};

/// Frames that may wait between two stages.
const QUEUE: usize = 2;

/// The networks of the stages, loaded once. Clones share them.
#[derive(Clone)]
pub(crate) struct Networks {
    pub interpolate: Option<Interpolator>,
    pub upscale: Option<Upscaler>,
}

impl Networks {
    /// Loads the networks of a plan.
    pub(super) fn load(
        interpolation: Option<&Interpolation>,
        upscaling: Option<&Upscaling>,
        cx: &Context<'_>,
    ) -> Result<Self> {
        Ok(Self {
            interpolate: interpolation.map(|i| Interpolator::load(i, cx)).transpose()?,
            upscale: upscaling.map(|u| Upscaler::load(u, cx)).transpose()?,
        })
    }
}

/// The encoder options of a plan. `default`: the quality if none is given.
pub(crate) fn encoder_options(output: &Output, default: VideoQuality) -> VideoOptions {
    VideoOptions {
        codec: output.codec.clone(),
        crf: output.crf,
        quality: output.compression.map_or(default, VideoQuality::Scale),
        preset: output.x264_preset.clone(),
        pix_fmt: output.pix_fmt.clone(),
        extra: output.encoder_options.clone(),
        overwrite: output.overwrite,
        verify: output.verify,
    }
}

/// Runs source frames through all stages and hands the output frames to `write`. With `deep`, output frames have 16 bits per
/// sample. Adds the busy time of every stage to `timings`.
pub(crate) fn run(
    frames: impl Iterator<Item = Result<SourceFrame>> + Send,
    retime: Retime,
    deep: bool,
    networks: &mut Networks,
    timings: &mut Timings,
    write: impl FnMut(OutputFrame<Frame>) -> Result<()>,
) -> Result<()> {
    let mut interpolation = interpolation::InterpolationStage::new(retime, networks.interpolate.as_mut());
    let upscaler = &mut networks.upscale;
    let mut upscale = move |item: Option<OutputFrame<Planes>>, emit: &mut Emit<'_, OutputFrame<Frame>>| {
        let Some(OutputFrame { frame, pts, duration, resume_point }) = item else { return Ok(()) };
        let planes = match upscaler.as_mut() {
            Some(upscaler) => upscaler.apply(frame)?,
            None => frame,
        };
        emit(OutputFrame { frame: Frame::from_planes(&planes, deep)?, pts, duration, resume_point })
    };
    let times = Chain::source(stop_flag(), "decode", QUEUE, frames)
        .stage("interpolate", QUEUE, move |item, emit: &mut Emit<'_, _>| interpolation.step(item, emit))
        .stage("upscale", QUEUE, move |item, emit: &mut Emit<'_, _>| upscale(item, emit))
        .sink("encode", write)?;
    times.iter().for_each(|time| timings.add(&time.name, time.busy.as_secs_f64()));
    Ok(())
}
