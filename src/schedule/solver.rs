//! Solvers of the flow ODE dx/dσ = v.

use ndarray::{ArrayD, Zip};

use super::round_bf16;
use crate::tensor::DType;

/// A solver with its history.
pub trait Solver {
    /// The name in metadata, as the A1111 web interface writes samplers: `Euler`.
    fn name(&self) -> &'static str;

    /// One step: from `x` at σ = `sigmas[i]`, with the velocity `v` there, to σ = `sigmas[i + 1]`. `x` and `v` have the same shape.
    /// `sigmas` is the whole schedule with its final 0.
    fn step(&mut self, x: ArrayD<f32>, v: &ArrayD<f32>, sigmas: &[f32], i: usize) -> ArrayD<f32>;

    /// Clears the history. Required where the latent's size or the schedule changes between two steps.
    fn reset(&mut self);
}

/// One Euler step: x + (σᵢ₊₁ − σᵢ)·v.
pub fn euler_step(mut x: ArrayD<f32>, v: &ArrayD<f32>, sigma: f32, next: f32) -> ArrayD<f32> {
    let dt = next - sigma;
    x.zip_mut_with(v, |x, &v| *x += dt * v);
    x
}

/// Adds noise to a latent: (1−σ)·data + σ·noise. Both have the same shape. For runs that start from a picture or clip.
pub fn scale_noise(mut data: ArrayD<f32>, noise: &ArrayD<f32>, sigma: f32) -> ArrayD<f32> {
    data.zip_mut_with(noise, |x, &n| *x = sigma * n + (1.0 - sigma) * *x);
    data
}

/// Rounds every value to `dtype` (bf16 or f16). f32 is unchanged.
fn round_to(x: &mut ArrayD<f32>, dtype: DType) {
    if dtype != DType::F32 {
        x.mapv_inplace(|v| round_value(v, dtype));
    }
}

fn round_value(v: f32, dtype: DType) -> f32 {
    match dtype {
        DType::BF16 => round_bf16(v),
        DType::F16 => half::f16::from_f32(v).to_f32(),
        _ => v,
    }
}

/// The solver of diffusers' `FlowMatchEulerDiscreteScheduler`. It has no history.
#[derive(Debug, Clone, Copy)]
pub struct Euler {
    /// The element type of the network's output, and so of the latents between steps: f32, bf16 or f16. By torch's type promotion
    /// σᵢ₊₁ − σᵢ and its product with v are also rounded to it; only the sum is computed in f32.
    pub latents: DType,
}

impl Solver for Euler {
    fn name(&self) -> &'static str {
        "Euler"
    }

    fn step(&mut self, mut x: ArrayD<f32>, v: &ArrayD<f32>, sigmas: &[f32], i: usize) -> ArrayD<f32> {
        if self.latents == DType::F32 {
            return euler_step(x, v, sigmas[i], sigmas[i + 1]);
        }
        let dt = round_value(sigmas[i + 1] - sigmas[i], self.latents);
        let mut product = v.mapv(|v| dt * v);
        round_to(&mut product, self.latents);
        x += &product;
        round_to(&mut x, self.latents);
        x
    }

    fn reset(&mut self) {}
}

/// UniPC-2 with B(h) = e^h − 1 on data predictions (arXiv 2302.04867), as diffusers' `UniPCMultistepScheduler` runs it
/// for flow models: α = 1−σ, λ = ln α − ln σ.
#[derive(Debug, Clone, Default)]
pub struct UniPc {
    /// The data predictions of the last two steps, newest last, each from the sample before correction.
    data: Vec<ArrayD<f32>>,
    /// The corrected sample of the last step, and the order of its predictor.
    last: Option<(ArrayD<f32>, usize)>,
}

impl Solver for UniPc {
    fn name(&self) -> &'static str {
        "UniPC"
    }

    fn step(&mut self, x: ArrayD<f32>, v: &ArrayD<f32>, sigmas: &[f32], i: usize) -> ArrayD<f32> {
        let mut data = x.clone();
        data.zip_mut_with(v, |x, &v| *x -= sigmas[i] * v);
        let x = match self.last.take() {
            Some((last, order)) => self.correct(last, &data, order, &sigmas[..=i]),
            None => x,
        };
        if self.data.len() == 2 {
            self.data.remove(0);
        }
        self.data.push(data);
        let order = self.data.len().min(sigmas.len() - 1 - i);
        let next = self.predict(x.clone(), order, &sigmas[..i + 2]);
        self.last = Some((x, order));
        next
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl UniPc {
    /// The predictor (UniP): from `x` at the second-to-last σ of `sigmas` to the last.
    fn predict(&self, x: ArrayD<f32>, order: usize, sigmas: &[f32]) -> ArrayD<f32> {
        let step = Interval::last(sigmas);
        let m0 = &self.data[self.data.len() - 1];
        let mut x = step.base(x, m0);
        if order == 2 {
            let weight = (step.alpha * step.phi * 0.5 / step.ratio) as f32;
            Zip::from(&mut x).and(&self.data[0]).and(m0).for_each(|x, m1, m0| *x -= weight * (m1 - m0));
        }
        x
    }

    /// The corrector (UniC): repeats the previous step from its sample `last`, now with the data prediction `data` at its end.
    fn correct(&self, last: ArrayD<f32>, data: &ArrayD<f32>, order: usize, sigmas: &[f32]) -> ArrayD<f32> {
        let step = Interval::last(sigmas);
        let m0 = &self.data[self.data.len() - 1];
        let mut x = step.base(last, m0);
        let scale = step.alpha * step.phi;
        let (older, newest) = if order == 2 { step.corrector() } else { (0.0, 0.5) };
        let newest = (scale * newest) as f32;
        Zip::from(&mut x).and(data).and(m0).for_each(|x, mt, m0| *x -= newest * (mt - m0));
        if order == 2 {
            let older = (scale * older / step.ratio) as f32;
            Zip::from(&mut x).and(&self.data[0]).and(m0).for_each(|x, m1, m0| *x -= older * (m1 - m0));
        }
        x
    }
}

/// The last interval of a schedule, from σ₀ to σ.
struct Interval {
    alpha: f64,
    /// σ/σ₀.
    decay: f64,
    /// −h, h = λ − λ₀.
    minus_h: f64,
    /// e^(−h) − 1.
    phi: f64,
    /// (λ₋₁ − λ₀)/h; infinite without an earlier σ.
    ratio: f64,
}

impl Interval {
    fn last(sigmas: &[f32]) -> Self {
        let sigma = |back: usize| f64::from(sigmas[sigmas.len() - 1 - back]);
        let lambda = |s: f64| (1.0 - s).ln() - s.ln();
        let h = lambda(sigma(0)) - lambda(sigma(1));
        let ratio = if sigmas.len() > 2 { (lambda(sigma(2)) - lambda(sigma(1))) / h } else { f64::INFINITY };
        Self { alpha: 1.0 - sigma(0), decay: sigma(0) / sigma(1), minus_h: -h, phi: (-h).exp_m1(), ratio }
    }

    /// σ/σ₀·x − α·φ·m0: the exact solution for a constant data prediction.
    fn base(&self, mut x: ArrayD<f32>, m0: &ArrayD<f32>) -> ArrayD<f32> {
        let (decay, pull) = (self.decay as f32, (self.alpha * self.phi) as f32);
        x.zip_mut_with(m0, |x, &m| *x = decay * *x - pull * m);
        x
    }

    /// ρ of the order-2 corrector: the solution of [[1, 1], [r, 1]]·ρ = [k1/φ, 2·k2/φ].
    fn corrector(&self) -> (f64, f64) {
        let k1 = self.phi / self.minus_h - 1.0;
        let k2 = k1 / self.minus_h - 0.5;
        let (b1, b2) = (k1 / self.phi, 2.0 * k2 / self.phi);
        let older = (b2 - b1) / (self.ratio - 1.0);
        (older, b1 - older)
    }
}
