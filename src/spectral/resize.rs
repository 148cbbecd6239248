//! Resizing of a clean latent in the DCT domain.

use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use super::dct::{Dct, plane_size};
use crate::error::{Error, Result};

/// Resizes a clean latent (σ = 0) from [.., h, w] to [.., h', w']. Each axis may become larger or smaller.
///
/// The orthonormal DCT-II coefficients are cropped or zero-padded, and multiplied by √(h'w'/(hw)), which keeps the amplitude of a
/// smooth signal. Upscaling equals [`Growth::grow`](super::Growth::grow) with rewind at σ = 0 (arXiv 2605.18736 eq. 5 and 6);
/// downscaling is its inverse. Computed in f64.
///
/// # Errors
/// A size of zero.
pub fn resized(x: &ArrayD<f32>, to: (usize, usize)) -> Result<ArrayD<f32>> {
    let from = plane_size(x);
    if x.ndim() < 2 || from.0 * from.1 * to.0 * to.1 == 0 {
        return Err(Error::failed(format!("a latent {:?} cannot be resized to {}x{}", x.shape(), to.0, to.1)));
    }
    if from == to {
        return Ok(x.clone());
    }
    let mut shape = x.shape().to_vec();
    let axes = shape.len();
    (shape[axes - 2], shape[axes - 1]) = to;
    let mut out = ArrayD::zeros(IxDyn(&shape));
    let (old, new) = (Dct::new(from.0, from.1), Dct::new(to.0, to.1));
    let gain = ((to.0 * to.1) as f64 / (from.0 * from.1) as f64).sqrt();
    let columns = from.1.min(to.1);
    if let (Some(x), Some(out)) = (x.as_standard_layout().as_slice(), out.as_slice_mut()) {
        out.par_chunks_exact_mut(to.0 * to.1).zip(x.par_chunks_exact(from.0 * from.1)).for_each(|(out, x)| {
            let mut before: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let mut after = vec![0.0; out.len()];
            old.forward(&mut before);
            for (after, before) in after.chunks_exact_mut(to.1).zip(before.chunks_exact(from.1)) {
                after[..columns].copy_from_slice(&before[..columns]);
            }
            new.inverse(&mut after);
            out.iter_mut().zip(after).for_each(|(to, v)| *to = (v * gain) as f32);
        });
    }
    Ok(out)
}
