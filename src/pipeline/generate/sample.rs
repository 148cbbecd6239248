//! One pass through the transformer: noise, or a noised latent, to a finished latent, through the levels of a ladder.
//!
//! It knows nothing of a plan: a run of `generate` is one pass, and a refinement of a picture is another.

use ndarray::ArrayD;

use crate::{
    error::{At, Result},
    family::Family,
    schedule::{NoiseSource, scale_noise},
    spectral::{Growth, Level},
    stage::{denoise::Denoiser, grow::Grow},
    tensor::DType,
};

/// The numbers of a pass.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Whose latents these are.
    pub family: &'a dyn Family,
    /// σ of every step of the whole schedule, and 0.
    pub sigmas: &'a [f32],
    /// What is run, from the first level's first step on.
    pub levels: &'a [Level],
    /// How latents grow from level to level.
    pub growth: Growth,
    /// Whose random stream is reproduced.
    pub source: NoiseSource,
    /// The type that noise is drawn in.
    pub noise: DType,
}

/// Sees what a pass makes, by name: `noise` as drawn, `latents.N` after step N of the schedule. It may stop the pass.
pub type Watch<'a> = &'a mut dyn FnMut(&str, &ArrayD<f32>) -> Result<()>;

impl Pass<'_> {
    /// Steps and growth by turns. `shape`: that of the finished latent, [1, c, h, w] or [1, c, t, h, w]. `start`: a picture's latent of
    /// the first level's size, which then starts as (1 − σ)·start + σ·noise at that level's σ; without one, noise is the start.
    pub fn run(
        &self,
        denoiser: &mut Denoiser<'_>,
        shape: &[usize],
        start: Option<&ArrayD<f32>>,
        seed: u64,
        watch: Watch<'_>,
    ) -> Result<ArrayD<f32>> {
        let (mut shape, axes) = (shape.to_vec(), shape.len());
        (shape[axes - 2], shape[axes - 1]) = (self.levels[0].height, self.levels[0].width);
        let mut x = self.source.seeded(seed).randn(&shape, self.noise)?;
        watch("noise", &x)?;
        if let Some(start) = start {
            x = scale_noise(start.clone(), &x, self.levels[0].sigma_start);
        }
        let grow = Grow { growth: self.growth, noise: self.source, seed };
        let mut solver = self.family.solver();
        for (k, level) in self.levels.iter().enumerate() {
            if k > 0 {
                (x, _) = grow.apply(&x, self.levels[k - 1].sigma_end, k, (level.height, level.width))?;
                solver.reset();
            }
            let sigmas = level.sigmas(self.sigmas);
            let mut after = |i: usize, x: &ArrayD<f32>| watch(&format!("latents.{i}"), x);
            let steps = level.first_step..level.end_step;
            x = denoiser.run(x, &sigmas, steps, solver.as_mut(), &mut after).at("denoise")?;
        }
        Ok(x)
    }
}
