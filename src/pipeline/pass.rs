//! One pass through the transformer: noise, or a noised latent, → a finished latent, through the levels of a ladder.
//!
//! A run of `generate` is one pass. A refinement pass of `enhance --refine` is one pass with a single level.

use ndarray::ArrayD;

use crate::{
    error::{At, Result},
    family::Family,
    schedule::{NoiseSource, scale_noise},
    spectral::{Growth, Level},
    stage::{
        denoise::{Velocity, denoise},
        grow::Grow,
    },
    tensor::DType,
};

/// The parameters of a pass.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// The family of the latents.
    pub family: &'a dyn Family,
    /// σ of every step of the whole schedule, and 0.
    pub sigmas: &'a [f32],
    /// The levels to run. The first one begins with the first step.
    pub levels: &'a [Level],
    /// How latents grow from level to level.
    pub growth: Growth,
    /// The random stream of the noise.
    pub source: NoiseSource,
    /// The type that noise is drawn in.
    pub noise: DType,
}

/// Receives intermediate latents by name: `noise` as drawn, `latents.N` after step N of the schedule. An error stops the pass.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&str, &ArrayD<f32>) -> Result<()>;

impl Pass<'_> {
    /// Denoises, and grows the latent between levels.
    ///
    /// `shape`: of the finished latent, [1, c, h, w] or [1, c, t, h, w]. `start`: a clean latent of the first level's size; it becomes
    /// (1 − σ)·start + σ·noise at that level's σ. `None`: the pass starts from noise.
    pub(super) fn run(
        &self,
        velocity: Velocity<'_>,
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
            x = denoise(x, &sigmas, steps, solver.as_mut(), velocity, &mut after).at("denoise")?;
        }
        Ok(x)
    }
}
