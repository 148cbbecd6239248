//! Sizes of an input after each stage, from its header.

use std::path::PathBuf;

use super::{
    refine_config::{pass_sizes, video_error},
    video_source,
};
use crate::{
    error::Result,
    media::{
        FileType, picture, sniff,
        video::{Timing, probe},
    },
    pipeline::{postprocess::output_size, report::SizeRow, retime::Retime},
    plan::{EnhancePlan, Input},
};

/// Size, frames and rate of an input, then after each stage, from file headers. Pictures have no rate.
pub fn sizes(plan: &EnhancePlan, input: &Input) -> Result<Vec<SizeRow>> {
    match input {
        Input::File(path) => match sniff(path)? {
            FileType::Picture(_) => picture::size(path).map(|(width, height)| picture_sizes(plan, (height, width))),
            FileType::Video if plan.refine.is_some() => Err(video_error(path)),
            FileType::Video => {
                let info = probe(path)?;
                let whole = plan.trim.start.is_none() && plan.trim.end.is_none();
                let timing = match plan.interpolation {
                    // Without interpolation, the header is enough.
                    None if whole => Timing::at_rate(info.frame_rate, info.frames.unwrap_or(0)),
                    _ => video_source::timing(path, &plan.trim)?.0,
                };
                video_sizes(plan, (info.height, info.width), &timing)
            }
        },
        Input::Sequence { .. } if plan.refine.is_some() => Err(video_error(input.name())),
        Input::Sequence { pattern, files } => {
            let (files, timing) = video_source::pictures(pattern, files, plan)?;
            let first = files.first().map_or_else(PathBuf::new, Clone::clone);
            let (width, height) = picture::size(&first)?;
            video_sizes(plan, (height, width), &timing)
        }
    }
}

/// The sizes of a picture after each stage.
pub(super) fn picture_sizes(plan: &EnhancePlan, size: (usize, usize)) -> Vec<SizeRow> {
    let row = |stage: &str, (height, width): (usize, usize)| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: 1,
        fps: None,
    };
    let mut sizes = vec![row("decode", size)];
    let target = plan.upscaling.as_ref().map(|u| output_size(u.target, size.0, size.1));
    let Some(refine) = &plan.refine else {
        sizes.extend(target.map(|target| row("upscale", target)));
        return sizes;
    };
    let target = target.unwrap_or(size);
    let passes = pass_sizes(&refine.stages, size, target);
    sizes.extend(passes.iter().enumerate().map(|(k, &size)| row(&format!("refine {}", k + 1), size)));
    sizes.extend(passes.last().filter(|last| **last != target).map(|_| row("fit", target)));
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
        let retime = Retime::new(plan.interpolation.as_ref(), timing)?;
        (count, rate) = (retime.frames, retime.rate.value());
        sizes.push(row("interpolate", size, count, rate));
    }
    if let Some(u) = &plan.upscaling {
        sizes.push(row("upscale", output_size(u.target, size.0, size.1), count, rate));
    }
    Ok(sizes)
}
