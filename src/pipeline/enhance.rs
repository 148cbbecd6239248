//! One picture or video → a larger, smoother one; which and how many is for [`batch`](crate::batch) to say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    answer::SizeRow,
    chunks::Identity,
    context::Context,
    material,
    pace::Pacing,
    perf::Perf,
    post::{self, Interpolator, Upscaler},
    video::{self, Made, Networks},
};
use crate::{
    error::{Error, Result},
    media::{
        Kind, Place, picture,
        picture::{Format, Picture, PictureOptions},
        sniff,
        video::{Timing, probe},
    },
    plan::{EnhancePlan, Source},
    tensor::Frame,
};

/// The loaded networks of a plan. Clones share them, so that several threads may work on items of their own.
#[derive(Clone)]
pub struct Enhancer<'a> {
    plan: &'a EnhancePlan,
    cx: &'a Context<'a>,
    networks: Networks,
}

impl<'a> Enhancer<'a> {
    /// Loads the networks.
    pub fn load(plan: &'a EnhancePlan, cx: &'a Context<'a>) -> Result<Self> {
        let networks = Networks {
            interpolate: plan.interpolation.as_ref().map(|i| Interpolator::load(i, cx)).transpose()?,
            upscale: plan.upscaling.as_ref().map(|u| Upscaler::load(u, cx)).transpose()?,
        };
        Ok(Self { plan, cx, networks })
    }

    /// Makes one item into its place. `identity`: what tells whether an earlier run may be gone on with.
    pub fn make(&mut self, source: &Source, place: Place, identity: &Identity<'_>, perf: &mut Perf) -> Result<Made> {
        if let Source::File(path) = source
            && let Kind::Picture(format) = sniff(path)?
        {
            let (place, frames) = self.picture(path, format, place, perf)?;
            return Ok(Made { place, frames, resumed: false });
        }
        video::enhance(source, place, self.plan, &mut self.networks, self.cx, (identity, perf))
    }

    fn picture(&mut self, input: &Path, format: Format, mut place: Place, perf: &mut Perf) -> Result<(Place, u64)> {
        if self.plan.interpolation.is_some() && self.plan.upscaling.is_none() {
            let name = input.display();
            return Err(Error::failed(format!(
                "{name} is a picture ({}), between which there is nothing to interpolate",
                format.name()
            )));
        }
        if self.plan.cut.start.is_some() || self.plan.cut.end.is_some() {
            let name = input.display();
            return Err(Error::failed(format!("{name} is a picture, which has no part; leave out --start and --end")));
        }
        let written = Format::of_name(place.target())?;
        let read = perf.time("decode", || picture::read(input))?;
        for left in &read.left_out {
            tracing::warn!("{}: left out: {left}", input.display());
        }
        let deep = read.frame.is_deep();
        let planes = read.frame.planes();
        let planes = match &mut self.networks.upscale {
            Some(upscaler) => perf.time("upscale", || upscaler.apply(planes))?,
            None => planes,
        };
        let (quality, verify) = (self.plan.encoding.compression(false), self.plan.encoding.verify);
        let options = PictureOptions { quality, verify, ..PictureOptions::default() };
        let enlarged = Picture { frame: Frame::from_planes(&planes, deep), ..read };
        for left in enlarged.not_held(written) {
            tracing::warn!("{}: left out: {left}", input.display());
        }
        perf.time("encode", || picture::write_in(&mut place, &enlarged, written, &options))?;
        Ok((place, 1))
    }
}

/// An error for flags that are understood and not built.
pub fn refuse(plan: &EnhancePlan) -> Result<()> {
    let files = plan.jobs.iter().any(|job| matches!(job.source, Source::File(_)));
    if let Some(fps) = plan.fps.filter(|_| files) {
        return Err(Error::usage(format!(
            "--fps {fps}: another rate for a video's frames would let its sound run away; --interpolate {fps}fps makes frames at that rate"
        )));
    }
    let rows = [(plan.refine.is_some(), "--refine")];
    let asked: Vec<&str> = rows.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    if asked.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("{}: this version cannot do it yet; leave it out", asked.join(", "))))
}

/// Makes the folder of a file that is to be written.
pub fn make_folder_of(output: &Path) -> Result<()> {
    let Some(folder) = output.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, &e))
}

/// The form of an input, then after each stage, from the heads of files. Pictures have no rate.
pub fn sizes(plan: &EnhancePlan, source: &Source) -> Result<Vec<SizeRow>> {
    match source {
        Source::File(path) => match sniff(path)? {
            Kind::Picture(_) => picture::size(path).map(|(width, height)| picture_sizes(plan, height, width)),
            Kind::Video => {
                let info = probe(path)?;
                let whole = plan.cut.start.is_none() && plan.cut.end.is_none();
                let timing = match plan.interpolation {
                    // Headers are enough where frames stay as they are.
                    None if whole => Timing::at_rate(info.frame_rate, info.frames.unwrap_or(0)),
                    _ => material::timing(path, &plan.cut)?.0,
                };
                video_sizes(plan, (info.height, info.width), &timing)
            }
        },
        Source::Sequence { pattern, files } => {
            let (files, timing) = material::pictures(pattern, files, plan)?;
            let first = files.first().map_or_else(PathBuf::new, Clone::clone);
            let (width, height) = picture::size(&first)?;
            video_sizes(plan, (height, width), &timing)
        }
    }
}

fn picture_sizes(plan: &EnhancePlan, height: usize, width: usize) -> Vec<SizeRow> {
    let row = |stage: &str, (height, width): (usize, usize)| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: 1,
        fps: None,
    };
    let mut sizes = vec![row("decode", (height, width))];
    sizes.extend(plan.upscaling.as_ref().map(|u| row("upscale", post::output_size(u.target, height, width))));
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
        let pacing = Pacing::new(plan.interpolation.as_ref(), timing)?;
        (count, rate) = (pacing.frames, pacing.rate.value());
        sizes.push(row("interpolate", size, count, rate));
    }
    if let Some(u) = &plan.upscaling {
        sizes.push(row("upscale", post::output_size(u.target, size.0, size.1), count, rate));
    }
    Ok(sizes)
}
