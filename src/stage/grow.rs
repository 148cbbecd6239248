//! A latent from one resolution level to the next.

use ndarray::ArrayD;

use crate::{error::Result, schedule::noise::NoiseSource, spectral::Growth, tensor::DType};

/// What growth needs at every level.
#[derive(Debug, Clone, Copy)]
pub struct Grow {
    /// Basis and rewind.
    pub growth: Growth,
    /// Whose random stream fills the new frequencies.
    pub noise: NoiseSource,
    /// Seed of the whole picture; stage k draws with seed + 10000·k.
    pub seed: u64,
}

impl Grow {
    /// `latent` at noise level `sigma` after stage `stage` (from 1) → rows × columns of `to`, and its noise level.
    pub fn apply(
        &self,
        latent: &ArrayD<f32>,
        sigma: f32,
        stage: usize,
        to: (usize, usize),
    ) -> Result<(ArrayD<f32>, f32)> {
        let mut shape = latent.shape().to_vec();
        let axes = shape.len();
        (shape[axes - 2], shape[axes - 1]) = to;
        let seed = self.seed.wrapping_add(10_000 * stage as u64);
        let noise = self.noise.seeded(seed).randn(&shape, DType::F32)?;
        self.growth.grow(latent, &noise, sigma)
    }
}
