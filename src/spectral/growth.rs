//! Spectral growth of a latent between two steps (arXiv 2605.18736 eq. 5 and 6).
//!
//! The coefficients of the orthonormal spectrum are copied into the larger spectrum. White noise keeps its standard deviation, and
//! the amplitude of a smooth signal is divided by r = √(H'W'/(HW)): (1−σ)·s + σ·n becomes (1−σ)/r·s + σ·n.
//!
//! Rewind multiplies the result by κ = r/(1+(r−1)σ). It is then again a point of the flow-matching path, (1−σ')·s + σ'·n with
//! σ' = κσ > σ. In odds: σ'/(1−σ') = r·σ/(1−σ). For r = 2 these are the published formulas κ = 2/(1+σ) and σ' = 2σ/(1+σ).

use ndarray::ArrayD;
use rayon::prelude::*;
use serde::Serialize;

use super::{
    dct::{Dct, plane_size},
    fft::FourierGrowth,
};
use crate::error::{Error, Result};

/// The transform of the growth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// DCT-II, for any ratio.
    #[default]
    Dct,
    /// Haar wavelet: the latent is the low band, and the three detail bands are noise. Requires a ratio of exactly 2 on both
    /// axes.
    Dwt,
    /// Fourier, for any ratio. It differs from the paper's code, whose noise spectrum is not Hermitian and which drops the imaginary
    /// part, and with it half of the latent's highest frequency. Here the noise is real, and the highest frequency is split
    /// between its two signs.
    Fft,
}

/// `--progressive-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No growth: all steps at full size.
    #[default]
    Fullres,
    /// Growth without rewind.
    Dct,
    /// Growth with rewind: scaled by κ, at σ' = κσ.
    DctRewind,
}

/// r = √(H'W'/(HW)) of a growth from (H, W) to (H', W').
pub(super) fn ratio(from: (usize, usize), to: (usize, usize)) -> f64 {
    ((to.0 * to.1) as f64 / (from.0 * from.1) as f64).sqrt()
}

/// κ = r/(1+(r−1)σ).
pub(super) fn kappa(sigma: f32, ratio: f64) -> f64 {
    ratio / (1.0 + (ratio - 1.0) * f64::from(sigma))
}

/// σ' = κσ.
pub(super) fn rewound(sigma: f32, ratio: f64) -> f32 {
    (f64::from(sigma) * kappa(sigma, ratio)) as f32
}

/// How a latent grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Growth {
    /// The basis.
    pub transform: Transform,
    /// Whether the result is scaled by κ and σ is raised to κσ.
    pub rewind: bool,
}

impl Growth {
    /// Grows `x` [.., h, w] to the size of `noise` [.., h', w']. Returns it with its new σ.
    ///
    /// `sigma`: the latent's σ. `noise`: standard normal, f32, of the target's size (torch's stream with the seed + 10000·k for the
    /// k-th growth); its low frequencies are unused. The leading axes (items, channels, frames) must be equal.
    ///
    /// # Errors
    /// Different leading axes, a smaller target, and a ratio that the transform does not support.
    pub fn grow(&self, x: &ArrayD<f32>, noise: &ArrayD<f32>, sigma: f32) -> Result<(ArrayD<f32>, f32)> {
        let (from, to) = (plane_size(x), plane_size(noise));
        let leading = |a: &ArrayD<f32>| a.shape()[..a.ndim().saturating_sub(2)].to_vec();
        if x.ndim() < 2 || x.ndim() != noise.ndim() || leading(x) != leading(noise) {
            return Err(Error::failed(format!(
                "growing a latent {:?}: the noise must have the same leading axes, got {:?}",
                x.shape(),
                noise.shape()
            )));
        }
        self.check(from, to)?;
        let (scale, next) = if self.rewind {
            let r = ratio(from, to);
            (kappa(sigma, r), rewound(sigma, r))
        } else {
            (1.0, sigma)
        };
        let (x, mut out) = (x.as_standard_layout(), noise.as_standard_layout().into_owned());
        if let (Some(x), Some(out)) = (x.as_slice(), out.as_slice_mut().filter(|o| !o.is_empty())) {
            out.par_iter_mut().for_each(|n| *n *= sigma);
            self.grow_planes(x, from, out, to, scale);
        }
        Ok((out, next))
    }

    /// Checks a growth between two sizes of planes, before anything is computed.
    pub fn check(&self, from: (usize, usize), to: (usize, usize)) -> Result<()> {
        let size = |(h, w): (usize, usize)| format!("{h}x{w}");
        if from.0 * from.1 == 0 || to.0 < from.0 || to.1 < from.1 {
            return Err(Error::failed(format!("a latent cannot grow from {} to {}", size(from), size(to))));
        }
        if self.transform == Transform::Dwt && to != (2 * from.0, 2 * from.1) {
            return Err(Error::usage(format!(
                "progressive_transform 'dwt' needs each level twice the one before, got {} to {}; use 'dct' or 'fft'",
                size(from),
                size(to)
            )));
        }
        Ok(())
    }

    /// `out` holds σ·noise and receives the grown planes.
    fn grow_planes(&self, x: &[f32], from: (usize, usize), out: &mut [f32], to: (usize, usize), scale: f64) {
        let pairs = out.par_chunks_exact_mut(to.0 * to.1).zip(x.par_chunks_exact(from.0 * from.1));
        let put =
            |out: &mut [f32], grown: Vec<f64>| out.iter_mut().zip(grown).for_each(|(o, v)| *o = (v * scale) as f32);
        match self.transform {
            Transform::Dct => {
                let (small, large) = (Dct::new(from.0, from.1), Dct::new(to.0, to.1));
                pairs.for_each(|(out, x)| {
                    let grown = dct_plane(x, out, &small, &large, (from.1, to.1));
                    put(out, grown);
                });
            }
            Transform::Fft => {
                let fourier = FourierGrowth::new(from, to);
                pairs.for_each(|(out, x)| {
                    let grown = fourier.grow(x, out);
                    put(out, grown);
                });
            }
            Transform::Dwt => pairs.for_each(|(out, x)| {
                let grown = haar_plane(x, out, from);
                put(out, grown);
            }),
        }
    }
}

/// Copies the coefficients of `x` into the top left corner of those of `noise`. `widths`: of the small and the large plane.
fn dct_plane(x: &[f32], noise: &[f32], small: &Dct, large: &Dct, widths: (usize, usize)) -> Vec<f64> {
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (mut low, mut high) = (wide(x), wide(noise));
    small.forward(&mut low);
    for (high, low) in high.chunks_exact_mut(widths.1).zip(low.chunks_exact(widths.0)) {
        high[..widths.0].copy_from_slice(low);
    }
    large.inverse(&mut high);
    high
}

/// Inverse Haar step. The detail bands are quadrants of `noise`, in the places of their frequencies in a DCT: vertical detail at the
/// bottom left, horizontal at the top right, diagonal at the bottom right.
fn haar_plane(x: &[f32], noise: &[f32], (h, w): (usize, usize)) -> Vec<f64> {
    let mut out = vec![0.0; 4 * h * w];
    let at = |row: usize, column: usize| row * 2 * w + column;
    for row in 0..h {
        for column in 0..w {
            let low = f64::from(x[row * w + column]);
            let [down, across, both] =
                [(row + h, column), (row, column + w), (row + h, column + w)].map(|(r, c)| f64::from(noise[at(r, c)]));
            for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (sy, sx) = (1.0 - 2.0 * dy as f64, 1.0 - 2.0 * dx as f64);
                out[at(2 * row + dy, 2 * column + dx)] = (low + sy * down + sx * across + sy * sx * both) / 2.0;
            }
        }
    }
    out
}
