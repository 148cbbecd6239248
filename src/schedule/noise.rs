//! `torch.randn` on the CPU, bit for bit: a seed gives the same noise as in torch.
//!
//! Source: ATen `native/cpu/DistributionTemplates.h` and `avx_mathfun.h` (torch 2.15). This is the vectorized path of x86 builds
//! (the same kernel for AVX2 and AVX512). torch's scalar builds call libm instead and differ by up to 2e-6.

use ndarray::{ArrayD, IxDyn};
use serde::Serialize;
use std::f64::consts::PI;

use super::{
    mt19937::Mt19937,
    philox::{Gpu, TorchCuda},
    round_bf16,
};
use crate::{
    error::{Error, Result},
    tensor::DType,
};

/// The version of torch's bf16 stream. Both use the same generator, but give different numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BfStream {
    /// torch since the fix of early 2026: the f32 numbers, rounded (except for the tail, see [`TorchCpu::randn_bf16`]).
    #[default]
    Current,
    /// Earlier versions, such as 2.7 (pytorch issue 166853): 8-bit uniforms and bf16 arithmetic. Values are within ±3.33.
    Old,
}

/// A torch CPU generator: `torch.Generator().manual_seed(seed)`.
#[derive(Debug, Clone)]
pub struct TorchCpu {
    engine: Mt19937,
    /// The second normal of the last scalar pair. As in torch, larger draws do not discard it.
    spare: Option<f64>,
}

impl TorchCpu {
    /// The generator after `manual_seed(seed)`, which uses the low 32 bits of the seed.
    pub fn seeded(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed), spare: None }
    }

    /// `torch.randn(n, dtype=float32)`. The numbers depend on `n`, but not on the shape.
    pub fn randn_f32(&mut self, n: usize) -> Vec<f32> {
        if n < 16 {
            return (0..n).map(|_| self.scalar() as f32).collect();
        }
        self.blocks(n, n, |g| g.uniform_f32(24), box_muller_f32)
    }

    /// `torch.randn(n, dtype=bfloat16)`, widened to f32 without loss.
    ///
    /// Where `n` is no multiple of 16, the last 16 values are drawn again. Before that, [`BfStream::Current`] draws no uniforms for the
    /// values past the last whole block of 16, so the tail differs from that of [`Self::randn_f32`].
    pub fn randn_bf16(&mut self, n: usize, stream: BfStream) -> Vec<f32> {
        let values = match stream {
            _ if n < 16 => (0..n).map(|_| self.scalar() as f32).collect(),
            BfStream::Current => self.blocks(n, n / 16 * 16, |g| g.uniform_f32(24), box_muller_f32),
            BfStream::Old => self.blocks(n, n, |g| g.uniform_f32(8), box_muller_bf16),
        };
        values.into_iter().map(round_bf16).collect()
    }

    /// `n` ≥ 16 values: draws `drawn` uniforms in order and transforms whole blocks of 16 in place. Where `n` is no multiple of 16,
    /// draws and transforms the last 16 values again.
    fn blocks<T: Copy + Default>(
        &mut self,
        n: usize,
        drawn: usize,
        uniform: impl Fn(&mut Mt19937) -> T,
        pair: impl Fn(T, T) -> (T, T),
    ) -> Vec<T> {
        let mut out = vec![T::default(); n];
        out[..drawn].fill_with(|| uniform(&mut self.engine));
        let transform = |block: &mut [T]| {
            for j in 0..8 {
                (block[j], block[j + 8]) = pair(block[j], block[j + 8]);
            }
        };
        out.chunks_exact_mut(16).for_each(transform);
        if !n.is_multiple_of(16) {
            let tail = &mut out[n - 16..];
            tail.fill_with(|| uniform(&mut self.engine));
            transform(tail);
        }
        out
    }

    fn scalar(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (u1, u2) = (self.engine.uniform_f64(), self.engine.uniform_f64());
        let (radius, theta) = ((-2.0 * (-u2).ln_1p()).sqrt(), 2.0 * PI * u1);
        self.spare = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// The random generator to reproduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSource {
    /// torch's CPU stream.
    Cpu(BfStream),
    /// torch's CUDA stream on this GPU.
    Cuda(Gpu),
}

impl Default for NoiseSource {
    fn default() -> Self {
        Self::Cpu(BfStream::Current)
    }
}

impl NoiseSource {
    /// A generator after `manual_seed(seed)`.
    pub fn seeded(self, seed: u64) -> Noise {
        match self {
            Self::Cpu(bf) => Noise::Cpu(TorchCpu::seeded(seed), bf),
            Self::Cuda(gpu) => Noise::Cuda(TorchCuda::seeded(seed, gpu)),
        }
    }
}

/// A seeded generator.
#[derive(Debug, Clone)]
pub enum Noise {
    /// torch's CPU stream.
    Cpu(TorchCpu, BfStream),
    /// torch's CUDA stream.
    Cuda(TorchCuda),
}

impl Noise {
    /// `torch.randn(shape, dtype=dtype)` as f32; `dtype` is f32 or bf16.
    pub fn randn(&mut self, shape: &[usize], dtype: DType) -> Result<ArrayD<f32>> {
        let n = shape.iter().product();
        let values = match (self, dtype) {
            (Self::Cpu(g, _), DType::F32) => g.randn_f32(n),
            (Self::Cpu(g, stream), DType::BF16) => g.randn_bf16(n, *stream),
            (Self::Cuda(g), DType::F32) => g.randn_f32(n),
            (Self::Cuda(g), DType::BF16) => g.randn_bf16(n),
            (_, other) => {
                return Err(Error::failed(format!("noise in {}: unsupported; use f32 or bf16", other.name())));
            }
        };
        ArrayD::from_shape_vec(IxDyn(shape), values)
            .map_err(|e| Error::failed(format!("noise of shape {shape:?}: {e}")))
    }
}

fn box_muller_f32(u1: f32, u2: f32) -> (f32, f32) {
    let radius = (-2.0 * log(1.0 - u1)).sqrt();
    let (sin, cos) = sincos((2.0 * PI) as f32 * u2);
    (radius * cos, radius * sin)
}

/// Every intermediate value is a bf16, except for 2π·u2, which is computed in f64.
fn box_muller_bf16(u1: f32, u2: f32) -> (f32, f32) {
    let r = round_bf16;
    let radius = r(r(-2.0 * r(r(1.0 - u1).ln())).sqrt());
    let theta = r((2.0 * PI * f64::from(u2)) as f32);
    (r(radius * r(theta.cos())), r(radius * r(theta.sin())))
}

/// Cephes `logf` for x in (0, 1], with the fused multiply-adds that the compiler emits in torch's x86 builds.
#[allow(clippy::excessive_precision)]
fn log(x: f32) -> f32 {
    const P: [f32; 8] = [
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ];
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mut e = ((bits >> 23) as i32 - 127) as f32 + 1.0;
    let mut x = f32::from_bits((bits & 0x807f_ffff) | 0.5f32.to_bits());
    if x < std::f32::consts::FRAC_1_SQRT_2 {
        e -= 1.0;
        x = (x - 1.0) + x;
    } else {
        x -= 1.0;
    }
    let z = x * x;
    let mut y = P.iter().fold(7.0376836292e-2f32, |y, &p| y.mul_add(x, p)) * x;
    y = y.mul_add(z, e * -2.12194440e-4);
    y = (-z).mul_add(0.5, y);
    e.mul_add(0.693359375, x + y)
}

/// Cephes `sincosf` for x ≥ 0, with the same fused multiply-adds.
#[allow(clippy::excessive_precision)]
fn sincos(x: f32) -> (f32, f32) {
    let j = ((x * 1.27323954473516f32) as i32 + 1) & !1;
    let y = j as f32;
    let x =
        [-0.78515625f32, -2.4187564849853515625e-4, -3.77489497744594108e-8].iter().fold(x, |x, &d| y.mul_add(d, x));
    let z = x * x;
    let mut c = 2.443315711809948e-5f32.mul_add(z, -1.388731625493765e-3);
    c = c.mul_add(z, 4.166664568298827e-2) * z;
    c = c.mul_add(z, -(z * 0.5)) + 1.0;
    let mut s = (-1.9515295891e-4f32).mul_add(z, 8.3321608736e-3);
    s = s.mul_add(z, -1.6666654611e-1) * z;
    s = s.mul_add(x, x);
    let (sin, cos) = if j & 2 != 0 { (c, s) } else { (s, c) };
    (if j & 4 != 0 { -sin } else { sin }, if (j - 2) & 4 != 0 { cos } else { -cos })
}
