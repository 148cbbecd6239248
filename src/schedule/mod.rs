//! Noise schedules, solvers, guidance and torch's random streams. Pure arithmetic, tested against torch and diffusers, bit for bit
//! where possible.
//!
//! The models are flow-matching models: x = (1−σ)·data + σ·noise, with σ from 1 (noise) to 0 (data). The network predicts the
//! velocity v = noise − data at a σ.
//!
//! - `sigmas`: σ of each step. Points are spread evenly over (0, 1] and then shifted towards 1. The shift is static, or depends on
//!   the number of image tokens through mu. A schedule of n steps has n + 1 values; the last is 0.
//! - `solver`: one step of dx/dσ = v from σᵢ to σᵢ₊₁, by Euler or UniPC.
//! - `guidance`: one velocity from the predictions with the prompt and with the negative prompt.
//! - `noise`, `philox`, `mt19937`: `torch.randn` of CPU and CUDA, so that a seed gives the same noise as in torch.
//!
//! A run from a picture or clip skips the first steps: [`first_step`], [`first_step_of_video`] and [`scale_noise`].

mod guidance;
mod mt19937;
mod noise;
mod philox;
mod sigmas;
mod solver;

pub use guidance::Guidance;
pub use noise::{BfStream, Noise, NoiseSource, TorchCpu};
pub use philox::{Gpu, TorchCuda};
pub use sigmas::{Class, FlowMatch, Spacing, empirical_mu, first_step, first_step_of_video};
pub use solver::{Euler, Solver, UniPc, euler_step, scale_noise};

/// The nearest bf16 value, ties to even.
fn round_bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}
