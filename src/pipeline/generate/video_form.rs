//! Size, length and rate of a generated video.

use crate::{
    error::Result,
    media::video::{Rational, Timing},
    pipeline::{postprocess::output_size, retime::Retime},
    plan::GeneratePlan,
};

/// A video after interpolation and upscaling.
pub(super) struct VideoForm {
    /// The times of its frames.
    pub retime: Retime,
    /// (height, width) of a frame.
    pub size: (usize, usize),
    /// Number of frames.
    pub frames: usize,
    /// Frames per second.
    pub rate: Rational,
}

impl VideoForm {
    /// The output of a plan for `frames` decoded frames of (height, width) pixels at `fps` frames per second.
    pub(super) fn new(plan: &GeneratePlan, (height, width): (usize, usize), frames: usize, fps: f64) -> Result<Self> {
        let size = match &plan.upscaling {
            Some(u) => output_size(u.target, height, width),
            None => (height, width),
        };
        let rate = Rational::of_rate(fps);
        let retime = Retime::new(plan.interpolation.as_ref(), &Timing::at_rate(rate, frames as u64))?;
        Ok(Self { size, frames: retime.frames as usize, rate: retime.rate, retime })
    }
}
