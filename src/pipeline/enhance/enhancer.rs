//! The networks of an enhance plan, and the checks of a plan.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use super::{
    picture::{PictureNetworks, enhance_picture},
    refine::Refiner,
    refine_config::{RefineConfig, video_error},
    resume::Identity,
    video::{PendingOutput, VideoJob},
};
use crate::{
    error::{Error, Result},
    media::{FileType, PendingFile, PictureFormat, sniff},
    pipeline::{context::Context, stream::Networks, timings::Timings},
    plan::{EnhancePlan, Input, Job, Uses, check_enhance_effects},
    sync::lock,
};

/// The loaded networks of a plan. Clones share them, so that several threads can process different inputs.
#[derive(Clone)]
pub struct Enhancer<'a> {
    plan: &'a EnhancePlan,
    cx: &'a Context<'a>,
    networks: Networks,
    refiner: Option<Arc<Mutex<Refiner<'a>>>>,
}

impl<'a> Enhancer<'a> {
    /// Loads the networks.
    pub fn load(plan: &'a EnhancePlan, cx: &'a Context<'a>) -> Result<Self> {
        let networks = Networks::load(plan.interpolation.as_ref(), plan.upscaling.as_ref(), cx)?;
        let refiner = RefineConfig::new(plan)?.map(|config| Refiner::load(config, cx)).transpose()?;
        Ok(Self { plan, cx, networks, refiner: refiner.map(|r| Arc::new(Mutex::new(r))) })
    }

    /// Enhances one input into `file`. `identity` decides whether chunks of an earlier run can be used.
    pub fn enhance(
        &mut self,
        input: &Input,
        file: PendingFile,
        identity: &Identity<'_>,
        timings: &mut Timings,
    ) -> Result<PendingOutput> {
        if let Input::File(path) = input
            && let FileType::Picture(format) = sniff(path)?
        {
            return self.enhance_picture(path, format, file, timings);
        }
        if self.refiner.is_some() {
            return Err(video_error(input.name()));
        }
        VideoJob::open(input, self.plan, file.target())?.run(file, &mut self.networks, self.cx, identity, timings)
    }

    fn enhance_picture(
        &mut self,
        input: &Path,
        format: PictureFormat,
        file: PendingFile,
        timings: &mut Timings,
    ) -> Result<PendingOutput> {
        let (plan, name) = (self.plan, input.display());
        if plan.interpolation.is_some() && plan.upscaling.is_none() && self.refiner.is_none() {
            let format = format.name();
            return Err(Error::failed(format!("{name} is a picture ({format}), which cannot be interpolated")));
        }
        if plan.trim.start.is_some() || plan.trim.end.is_some() {
            return Err(Error::failed(format!(
                "{name} is a picture, which has no duration; leave out --start and --end"
            )));
        }
        let mut refiner = self.refiner.as_ref().map(|r| lock(r));
        let upscaler = self.networks.upscale.as_mut();
        let networks = PictureNetworks { refiner: refiner.as_deref_mut(), upscaler };
        let file = enhance_picture(input, file, plan, networks, timings)?;
        Ok(PendingOutput { file, frames: 1, resumed: false })
    }
}

/// Whether an input is a single picture. Animations are videos, and so is what cannot be read yet.
fn is_picture(job: &Job) -> bool {
    match &job.input {
        Input::File(path) => path.is_file() && matches!(sniff(path), Ok(FileType::Picture(_))),
        Input::Sequence { .. } => false,
    }
}

/// Checks a plan before any weight is read.
///
/// # Errors
/// Combinations of flags that are not supported, and options that the refinement model does not support.
pub fn check_enhance(plan: &EnhancePlan) -> Result<()> {
    if let (Some(_), [only]) = (&plan.refine, plan.jobs.as_slice()) {
        let video = match &only.input {
            Input::File(path) => matches!(sniff(path), Ok(FileType::Video)),
            Input::Sequence { .. } => true,
        };
        if video {
            return Err(video_error(only.input.name()));
        }
    }
    let refinement = RefineConfig::new(plan)?;
    let (negative_prompt, guidance_scale) = refinement.as_ref().map_or((false, false), RefineConfig::check);
    let lossy = |job: &Job| PictureFormat::of_name(&job.output).is_ok_and(PictureFormat::is_lossy);
    let uses = Uses {
        negative_prompt,
        guidance_scale,
        upscaling_network: plan.upscaling.as_ref().is_some_and(|u| u.model.is_some()),
        refinement: refinement.is_some(),
        videos: !plan.jobs.iter().all(is_picture),
        lossy_pictures: plan.jobs.iter().any(lossy),
        files: true,
        crf: plan.encoding.crf.is_some(),
        ..Uses::default()
    };
    check_enhance_effects(plan, &uses)?;
    let files = plan.jobs.iter().any(|job| matches!(job.input, Input::File(_)));
    if let Some(fps) = plan.fps.filter(|_| files) {
        return Err(Error::usage(format!(
            "--fps {fps}: it is the rate of numbered pictures; on a video it would break audio sync. \
             --interpolate {fps}fps makes frames at that rate"
        )));
    }
    Ok(())
}
