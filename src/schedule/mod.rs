//! Noise schedules, solvers, guidance and torch's random streams: pure numbers, judged bit for bit against torch and
//! diffusers where that is possible.
//!
//! σ runs from 1 (noise) to 0 (data) along the straight path x = (1−σ)·data + σ·noise; the networks predict the
//! velocity v = noise − data.

pub mod guidance;
mod mt19937;
pub mod noise;
pub mod philox;
pub mod sigmas;
pub mod solver;

pub use guidance::Guidance;
pub use noise::{BfStream, Noise, NoiseSource, TorchCpu};
pub use philox::{Gpu, TorchCuda};
pub use sigmas::{FlowMatch, Spacing, empirical_mu, first_step, first_step_of_video};
pub use solver::{Euler, Solver, UniPc, euler_step, scale_noise};

/// The nearest bf16 value, ties to even.
fn round_bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}
