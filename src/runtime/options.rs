//! What a caller chooses: device, threads, memory limit, and how each network is loaded.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Serialize;

use crate::error::{Error, Result};

/// Settings of the whole process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Options {
    /// `--device`.
    pub device: DeviceChoice,
    /// `--threads`: threads within one operator. `None`: [`super::threads_available`].
    pub threads: Option<usize>,
    /// `--memory-limit`, bytes. CUDA: limit of one network's arena. CPU: arenas are shrunk after every run.
    pub memory_limit: Option<u64>,
    /// `--onnxruntime`: the library file or its folder.
    pub library: Option<PathBuf>,
}

/// `--device {auto,cpu,cuda,cuda:N,tensorrt,tensorrt:N}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// CUDA if it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(i32),
    /// TensorRT on the NVIDIA GPU with this index; unsupported nodes run on CUDA.
    TensorRt(i32),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let (kind, index) =
            s.split_once(':').map_or((s, Ok(0)), |(kind, index)| (kind, index.parse::<u16>().map(i32::from)));
        match (kind, index) {
            ("auto", Ok(_)) if s == "auto" => Ok(Self::Auto),
            ("cpu", Ok(_)) if s == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(index)) => Ok(Self::Cuda(index)),
            ("tensorrt", Ok(index)) => Ok(Self::TensorRt(index)),
            _ => Err(Error::usage(format!("device must be one of auto, cpu, cuda, cuda:N, tensorrt, got '{s}'"))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => Device::Cpu.fmt(f),
            Self::Cuda(index) => Device::Cuda(*index).fmt(f),
            Self::TensorRt(index) => Device::TensorRt(*index).fmt(f),
        }
    }
}

/// The device that networks run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(i32),
    /// TensorRT on the NVIDIA GPU with this index.
    TensorRt(i32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::TensorRt(index) => write!(f, "tensorrt:{index}"),
        }
    }
}

/// How one network is loaded. The default suits weights that fit into memory.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// CPU: cast bf16 or f16 weights to f32 in every run instead of once, so that the weights stay mapped. Requires all Cast
    /// nodes of weights at the start of the graph. Costs 13 % at 2048 rows, 35 % at 256.
    pub bounded_casts: bool,
    /// CPU: do not pack matrix product weights into a second copy. Costs 9–14 %.
    pub mapped_weights: bool,
    /// Every run has the same shapes: plan activations as one block. With varying shapes this keeps one block per shape.
    pub fixed_shapes: bool,
    /// CUDA only: capture each combination of input shapes once and replay it.
    pub cuda_graph: bool,
    /// CUDA, TensorRT: a node that the device does not support is an error instead of running on the CPU.
    pub device_only: bool,
    /// CUDA, TensorRT: f32 matrix products and convolutions may round inputs to TF32 (10 bits of mantissa).
    pub tf32: bool,
    /// Other networks run concurrently: idle threads sleep at once instead of spinning.
    pub shares_cores: bool,
    /// CPU: no arena. Freed values return to the system at once. For few large values, where the arena's rounding and gaps
    /// cost more memory than new pages cost time.
    pub no_arena: bool,
    /// Release free arena memory, except the first block, after every run (memory of a run's outputs: after the next run).
    /// For networks that run rarely or with varying shapes. [`Options::memory_limit`] implies it.
    pub shrink: bool,
}
