//! Which of torch's random streams is reproduced.

use serde::Serialize;

/// A stream of normal numbers, as torch draws it after `manual_seed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Generator {
    /// torch's CPU generator (mt19937).
    Cpu {
        /// Whose bf16 numbers.
        torch: Torch,
    },
    /// torch's CUDA generator (Philox), whose numbers depend on the device that draws them.
    Cuda(Gpu),
}

/// `--generator-torch`: which torch drew bf16 noise on the CPU; f32 noise is the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Torch {
    /// Since the repair of early 2026 (pytorch issue 166853): the f32 numbers, rounded.
    Current,
    /// Before it: uniforms of 8 bits.
    Old,
}

/// What a CUDA device's numbers depend on: how many threads it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Multiprocessors.
    pub sms: usize,
    /// Threads that one multiprocessor holds.
    pub threads_per_sm: usize,
}

impl Gpu {
    /// H100 (SXM) and H200.
    pub const HOPPER: Self = Self { sms: 132, threads_per_sm: 2048 };

    /// Devices by name, from NVIDIA's data sheets and the CUDA programming guide's table of compute capabilities.
    pub const KNOWN: [(&'static str, Self); 9] = [
        ("a100", Self { sms: 108, threads_per_sm: 2048 }),
        ("a6000", Self { sms: 84, threads_per_sm: 1536 }),
        ("b200", Self { sms: 148, threads_per_sm: 2048 }),
        ("h100", Self::HOPPER),
        ("h200", Self::HOPPER),
        ("l40s", Self { sms: 142, threads_per_sm: 1536 }),
        ("rtx3090", Self { sms: 82, threads_per_sm: 1536 }),
        ("rtx4090", Self { sms: 128, threads_per_sm: 1536 }),
        ("rtx5090", Self { sms: 170, threads_per_sm: 1536 }),
    ];
}
