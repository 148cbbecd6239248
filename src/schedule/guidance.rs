//! Guidance: how the predictions with and without the prompt become one velocity. All forms compute in f32.

use ndarray::{ArrayD, Axis};

/// A family's guidance. `pos` is the prediction with the prompt, `neg` the one with the negative prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance {
    /// One call, nothing to combine: distilled models (FLUX.1-schnell, klein, Z-Image-Turbo).
    None,
    /// One call; the scale is an input of the network (FLUX.1-dev 3.5, FLUX.2-dev 4.0).
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
        /// No guidance once 1 − σ exceeds this; 1 never truncates.
        truncation: f32,
        /// c > 0: the L2 norm of the result, over all of an item's elements, is capped at c times that of `pos`.
        normalization: Option<f32>,
    },
    /// Qwen-Image's true CFG: neg + s·(pos − neg), then every token is scaled to the norm that it has in `pos`.
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

    /// The scale as it is asked for, for people to read; 1 where there is no guidance.
    pub fn scale(&self) -> f32 {
        match *self {
            Self::None => 1.0,
            Self::Embedded(scale)
            | Self::Cfg { scale, .. }
            | Self::TokenNorm { scale }
            | Self::ZImage { scale, .. } => scale,
        }
    }

    /// Whether the step at `sigma` needs the negative prompt's prediction too.
    pub fn needs_negative(&self, sigma: f32) -> bool {
        match *self {
            Self::None | Self::Embedded(_) => false,
            Self::Cfg { scale, .. } | Self::TokenNorm { scale } => scale > 1.0,
            Self::ZImage { scale, truncation, .. } => scale > 0.0 && 1.0 - sigma <= truncation,
        }
    }

    /// The guided velocity. Both have the network's output shape: items first; for [`Self::TokenNorm`] packed tokens
    /// `[n, tokens, features]`, because the norm is over the last axis. Where [`Self::needs_negative`] is false this is
    /// not called and the positive prediction is the velocity.
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
