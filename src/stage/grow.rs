//! Grows a latent from one resolution level to the next.

use ndarray::ArrayD;

use crate::{error::Result, schedule::NoiseSource, spectral::Growth, tensor::DType};

/// Parameters of growth, the same at every level.
#[derive(Debug, Clone, Copy)]
pub struct Grow {
    /// Transform and rewind.
    pub growth: Growth,
    /// The random stream of the new coefficients.
    pub noise: NoiseSource,
    /// Seed of the output. The noise of level k has the seed `seed` + 10000·k.
    pub seed: u64,
}

impl Grow {
    /// Grows a `latent` at noise level `sigma` to the rows × columns of level `level` (from 1). Returns it with its noise level.
    pub fn apply(
        &self,
        latent: &ArrayD<f32>,
        sigma: f32,
        level: usize,
        size: (usize, usize),
    ) -> Result<(ArrayD<f32>, f32)> {
        let mut shape = latent.shape().to_vec();
        let axes = shape.len();
        (shape[axes - 2], shape[axes - 1]) = size;
        let seed = self.seed.wrapping_add(10_000 * level as u64);
        let noise = self.noise.seeded(seed).randn(&shape, DType::F32)?;
        self.growth.grow(latent, &noise, sigma)
    }
}
