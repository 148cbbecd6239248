//! A latent from one resolution level to the next.

use ndarray::ArrayD;

use crate::{
    error::Result,
    schedule::noise::NoiseSource,
    spectral::growth::{Transform, grow},
    tensor::DType,
};

/// How latents grow.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// The basis that is expanded.
    pub transform: Transform,
    /// Whether the noise level is rewound to what the grown latent holds.
    pub rewind: bool,
    /// Whose random stream fills the new frequencies.
    pub noise: NoiseSource,
    /// Seed of the whole picture; stage k draws with seed + 10000·k.
    pub seed: u64,
}

impl Growth {
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
        let noise = self.noise.seeded(self.seed + 10_000 * stage as u64).randn(&shape, DType::F32)?;
        grow(self.transform, latent, to, sigma, &noise, self.rewind)
    }
}
