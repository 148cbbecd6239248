//! One picture or video → a larger, smoother one; which and how many is for [`batch`](crate::batch) to say.

mod refine;
mod resume;
mod video;
mod video_source;

pub use refine::outlook;
pub use resume::{Identity, folder_of as chunks_of};
pub use video::PendingOutput;
pub(super) use video::{Networks, options, through};

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use self::refine::{Refinement, Refiner, Turn};
use crate::pipeline::{
    context::Context,
    postprocess::{self, Interpolator, Upscaler},
    report::SizeRow,
    retime::Retime,
    timings::Timings,
};
use crate::{
    error::{Error, Result},
    media::{
        FileType, PendingFile, PictureFormat, picture,
        picture::{Picture, PictureOptions},
        sniff,
        video::{Timing, probe},
    },
    plan::{EnhancePlan, Input},
    sync::lock,
    tensor::Frame,
};

/// The loaded networks of a plan. Clones share them, so that several threads may work on items of their own.
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
        let networks = Networks {
            interpolate: plan.interpolation.as_ref().map(|i| Interpolator::load(i, cx)).transpose()?,
            upscale: plan.upscaling.as_ref().map(|u| Upscaler::load(u, cx)).transpose()?,
        };
        let refiner = Refinement::new(plan)?.map(|settings| Refiner::load(settings, cx)).transpose()?;
        Ok(Self { plan, cx, networks, refiner: refiner.map(|r| Arc::new(Mutex::new(r))) })
    }

    /// Makes one item into its place. `identity`: what tells whether an earlier run may be gone on with.
    pub fn make(
        &mut self,
        source: &Input,
        place: PendingFile,
        identity: &Identity<'_>,
        perf: &mut Timings,
    ) -> Result<PendingOutput> {
        if let Input::File(path) = source
            && let FileType::Picture(format) = sniff(path)?
        {
            let (place, frames) = self.picture(path, format, place, perf)?;
            return Ok(PendingOutput { place, frames, resumed: false });
        }
        if self.refiner.is_some() {
            return Err(still(source.name()));
        }
        video::enhance(source, place, self.plan, &mut self.networks, self.cx, (identity, perf))
    }

    fn picture(
        &mut self,
        input: &Path,
        format: PictureFormat,
        mut place: PendingFile,
        perf: &mut Timings,
    ) -> Result<(PendingFile, u64)> {
        if self.plan.interpolation.is_some() && self.plan.upscaling.is_none() && self.refiner.is_none() {
            let name = input.display();
            return Err(Error::failed(format!(
                "{name} is a picture ({}), between which there is nothing to interpolate",
                format.name()
            )));
        }
        if self.plan.trim.start.is_some() || self.plan.trim.end.is_some() {
            let name = input.display();
            return Err(Error::failed(format!("{name} is a picture, which has no part; leave out --start and --end")));
        }
        let written = PictureFormat::of_name(place.target())?;
        let mut read = perf.time("decode", || picture::read(input))?;
        for left in &read.left_out {
            tracing::warn!("{}: left out: {left}", input.display());
        }
        let deep = read.frame.is_deep();
        let planes = read.frame.planes();
        let planes = match (&self.refiner, &mut self.networks.upscale) {
            (Some(refiner), upscaler) => {
                let mut refiner = lock(&refiner);
                let size = (read.frame.height, read.frame.width);
                for warning in refiner.settings.warnings(size) {
                    tracing::warn!("{}: {warning}", input.display());
                }
                let turn = Turn(read.orientation());
                if written == PictureFormat::Png {
                    refiner.settings.parameters(size).sign_picture(&mut read);
                }
                perf.time("refine", || refiner.apply(planes, upscaler.as_mut(), turn))?
            }
            (None, Some(upscaler)) => perf.time("upscale", || upscaler.apply(planes))?,
            (None, None) => planes,
        };
        let (quality, verify) = (self.plan.encoding.compression(false), self.plan.encoding.verify);
        let options = PictureOptions { quality, verify, ..PictureOptions::default() };
        let enlarged = Picture { frame: Frame::from_planes(&planes, deep), ..read };
        for left in enlarged.unsupported_by(written) {
            tracing::warn!("{}: left out: {left}", input.display());
        }
        perf.time("encode", || picture::write_in(&mut place, &enlarged, written, &options))?;
        Ok((place, 1))
    }
}

/// Why a video is not refined.
fn still(name: &Path) -> Error {
    let why = "is a video, and refinement is of single pictures: it draws every one anew by itself, so frames would not agree";
    Error::usage(format!("{} {why}; leave --refine out", name.display()))
}

/// An error for flags that are understood and not built, and for what a model cannot do, before any weight is read.
pub fn refuse(plan: &EnhancePlan) -> Result<()> {
    if let (Some(_), [only]) = (&plan.refine, plan.jobs.as_slice()) {
        let video = match &only.input {
            Input::File(path) => matches!(sniff(path), Ok(FileType::Video)),
            Input::Sequence { .. } => true,
        };
        if video {
            return Err(still(only.input.name()));
        }
    }
    Refinement::new(plan)?;
    let files = plan.jobs.iter().any(|job| matches!(job.input, Input::File(_)));
    if let Some(fps) = plan.fps.filter(|_| files) {
        return Err(Error::usage(format!(
            "--fps {fps}: another rate for a video's frames would let its sound run away; --interpolate {fps}fps makes frames at that rate"
        )));
    }
    Ok(())
}

/// Makes the folder of a file that is to be written.
pub fn make_folder_of(output: &Path) -> Result<()> {
    let Some(folder) = output.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, &e))
}

/// The form of an input, then after each stage, from the heads of files. Pictures have no rate.
pub fn sizes(plan: &EnhancePlan, source: &Input) -> Result<Vec<SizeRow>> {
    match source {
        Input::File(path) => match sniff(path)? {
            FileType::Picture(_) => picture::size(path).map(|(width, height)| picture_sizes(plan, (height, width))),
            FileType::Video if plan.refine.is_some() => Err(still(path)),
            FileType::Video => {
                let info = probe(path)?;
                let whole = plan.trim.start.is_none() && plan.trim.end.is_none();
                let timing = match plan.interpolation {
                    // Headers are enough where frames stay as they are.
                    None if whole => Timing::at_rate(info.frame_rate, info.frames.unwrap_or(0)),
                    _ => video_source::timing(path, &plan.trim)?.0,
                };
                video_sizes(plan, (info.height, info.width), &timing)
            }
        },
        Input::Sequence { .. } if plan.refine.is_some() => Err(still(source.name())),
        Input::Sequence { pattern, files } => {
            let (files, timing) = video_source::pictures(pattern, files, plan)?;
            let first = files.first().map_or_else(PathBuf::new, Clone::clone);
            let (width, height) = picture::size(&first)?;
            video_sizes(plan, (height, width), &timing)
        }
    }
}

fn picture_sizes(plan: &EnhancePlan, size: (usize, usize)) -> Vec<SizeRow> {
    let row = |stage: &str, (height, width): (usize, usize)| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: 1,
        fps: None,
    };
    let mut sizes = vec![row("decode", size)];
    let target = plan.upscaling.as_ref().map(|u| postprocess::output_size(u.target, size.0, size.1));
    let Some(refine) = &plan.refine else {
        sizes.extend(target.map(|target| row("upscale", target)));
        return sizes;
    };
    let target = target.unwrap_or(size);
    let stages = refine::stages(&refine.stages, size, target);
    sizes.extend(stages.iter().enumerate().map(|(k, &size)| row(&format!("refine {}", k + 1), size)));
    sizes.extend(stages.last().filter(|last| **last != target).map(|_| row("fit", target)));
    sizes
}

fn video_sizes(plan: &EnhancePlan, size: (usize, usize), timing: &Timing) -> Result<Vec<SizeRow>> {
    let row = |stage: &str, (height, width): (usize, usize), frames: u64, fps: f64| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames,
        fps: Some(fps),
    };
    let (mut count, mut rate) = (timing.frames, timing.rate.value());
    let mut sizes = vec![row("decode", size, count, rate)];
    if plan.interpolation.is_some() {
        let pacing = Retime::new(plan.interpolation.as_ref(), timing)?;
        (count, rate) = (pacing.frames, pacing.rate.value());
        sizes.push(row("interpolate", size, count, rate));
    }
    if let Some(u) = &plan.upscaling {
        sizes.push(row("upscale", postprocess::output_size(u.target, size.0, size.1), count, rate));
    }
    Ok(sizes)
}
