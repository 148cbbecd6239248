//! Guidance: combines the predictions with the prompt and with the negative prompt into one velocity. Computed in f32.

use ndarray::{ArrayD, Axis};

/// A form of guidance. `pos` is the prediction with the prompt, `neg` that with the negative prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance {
    /// No guidance, one call per step: distilled models (FLUX.1-schnell, klein, Z-Image-Turbo).
    None,
    /// The scale is an input of the network, one call per step (FLUX.1-dev 3.5, FLUX.2-dev 4.0).
    Embedded(f32),
    /// Classifier-free guidance (arXiv 2207.12598), neg + s·(pos − neg): Wan, true CFG on FLUX.1.
    Cfg {
        /// s; 1 is no guidance.
        scale: f32,
        /// A guidance scale that is also an input of the network: true CFG on FLUX.1-dev.
        embedded: Option<f32>,
    },
    /// Z-Image: pos + s·(pos − neg), so s is one less than the usual scale.
    ZImage {
        /// s; 0 is no guidance.
        scale: f32,
        /// No guidance where 1 − σ exceeds this. 1: guidance at every step.
        truncation: f32,
        /// c > 0: limits the L2 norm of the result, over all elements of an item, to c times that of `pos`.
        normalization: Option<f32>,
    },
    /// Qwen-Image's true CFG: neg + s·(pos − neg), then each token is scaled to its norm in `pos`.
    TokenNorm {
        /// s; 1 is no guidance.
        scale: f32,
    },
}

impl Guidance {
    /// The network's guidance input, where it has one.
    pub fn embedded(&self) -> Option<f32> {
        match *self {
            Self::Embedded(scale) => Some(scale),
            Self::Cfg { embedded, .. } => embedded,
            _ => None,
        }
    }

    /// The requested scale, for metadata; 1 without guidance.
    pub fn scale(&self) -> f32 {
        match *self {
            Self::None => 1.0,
            Self::Embedded(scale)
            | Self::Cfg { scale, .. }
            | Self::TokenNorm { scale }
            | Self::ZImage { scale, .. } => scale,
        }
    }

    /// Whether the step at `sigma` also needs the prediction with the negative prompt.
    pub fn needs_negative(&self, sigma: f32) -> bool {
        match *self {
            Self::None | Self::Embedded(_) => false,
            Self::Cfg { scale, .. } | Self::TokenNorm { scale } => scale > 1.0,
            Self::ZImage { scale, truncation, .. } => scale > 0.0 && 1.0 - sigma <= truncation,
        }
    }

    /// The guided velocity. `pos` and `neg` have the network's output shape [n, ..]. For [`Self::TokenNorm`] they are packed tokens
    /// [n, tokens, features], because the norm is over the last axis. Where [`Self::needs_negative`] is false, the velocity is
    /// `pos`, and this function is not called.
    pub fn combine(&self, pos: &ArrayD<f32>, neg: &ArrayD<f32>) -> ArrayD<f32> {
        match *self {
            Self::None | Self::Embedded(_) => pos.clone(),
            Self::Cfg { scale, .. } => extrapolate(neg, pos, neg, scale),
            Self::ZImage { scale, normalization, .. } => {
                let mut out = extrapolate(pos, pos, neg, scale);
                if let Some(cap) = normalization.filter(|&c| c > 0.0) {
                    cap_norm(&mut out, pos, cap);
                }
                out
            }
            Self::TokenNorm { scale } => {
                let mut out = extrapolate(neg, pos, neg, scale);
                match_norms(&mut out, pos);
                out
            }
        }
    }
}

/// from + s·(pos − neg).
fn extrapolate(from: &ArrayD<f32>, pos: &ArrayD<f32>, neg: &ArrayD<f32>, scale: f32) -> ArrayD<f32> {
    let mut out = pos - neg;
    out.zip_mut_with(from, |d, &from| *d = from + scale * *d);
    out
}

fn cap_norm(out: &mut ArrayD<f32>, pos: &ArrayD<f32>, cap: f32) {
    for (mut item, pos) in out.axis_iter_mut(Axis(0)).zip(pos.axis_iter(Axis(0))) {
        let (had, limit) = (norm(item.iter()), norm(pos.iter()) * cap);
        if had > limit {
            item.mapv_inplace(|v| v * (limit / had));
        }
    }
}

fn match_norms(out: &mut ArrayD<f32>, pos: &ArrayD<f32>) {
    let last = Axis(out.ndim() - 1);
    for (mut token, pos) in out.lanes_mut(last).into_iter().zip(pos.lanes(last)) {
        let had = norm(token.iter());
        if had > 0.0 {
            let factor = norm(pos.iter()) / had;
            token.mapv_inplace(|v| v * factor);
        }
    }
}

fn norm<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32
}
