//! ONNX Runtime: sessions, providers, memory; the sole user of `ort`.
//!
//! ```text
//! Options → Engine::start (library found and loaded, device settled) → Engine::load → Network::run
//! ```
//!
//! **Threads.** A network computes on its own pool of [`Options::threads`] threads, by default the physical cores that affinity
//! and cgroup leave to this process; nodes run one after another. Idle pools sleep within milliseconds, so networks that take
//! turns cost each other nothing. Networks that run *at the same time* must be loaded with [`Load::shares_cores`], which
//! turns off busy waiting. Denormals are flushed to zero on the pool's threads.
//!
//! **Memory.** Weights named by external data stay mapped from their files; weights of matrix products are packed into one
//! more copy unless [`Load::mapped_weights`] is set. Everything a network allocated is given back when it is dropped.
//!
//! **Nothing leaves the machine**: `ORT_DISABLE_TELEMETRY=1` is set before the library is loaded.

mod cores;
mod cuda_graph;
mod device;
mod doctor;
mod library;
mod memory;
mod network;
mod ort_error;
mod ort_value;
mod warp;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

pub use cores::threads_available;
pub use doctor::{Description, ProviderState, describe};
pub use library::{WANTED, silence_telemetry};
pub use memory::{anonymous_memory, available_memory, memory_budget, peak_memory, return_free_memory};
pub use network::{Held, Input, Network, Signature};
pub use ort_error::finite;

use serde::Serialize;

use crate::error::{Error, Result};
use library::Library;

/// What the command line asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Options {
    /// `--device`: where networks shall run.
    pub device: DeviceChoice,
    /// `--threads`: threads inside one operator; by default [`threads_available`].
    pub threads: Option<usize>,
    /// `--memory-limit`, bytes. CUDA: the most the arena of one network may take. CPU: arenas are shrunk after every run.
    pub memory_limit: Option<u64>,
    /// `--onnxruntime`: the library itself or the folder that holds it.
    pub library: Option<PathBuf>,
}

/// `--device {auto,cpu,cuda,cuda:N,tensorrt,tensorrt:N}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// CUDA where it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of that index.
    Cuda(i32),
    /// TensorRT on the NVIDIA GPU of that index; what it cannot take runs on CUDA.
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

/// Where networks really run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of that index.
    Cuda(i32),
    /// TensorRT on the NVIDIA GPU of that index.
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

/// How one network is loaded; `Load::default()` is right for weights that fit into memory.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// CPU: casts of bf16 or f16 weights to f32 are done in every run instead of once, so the weights stay mapped. Wants all
    /// Cast nodes of weights first in the graph. Costs 13 % at 2048 rows, 35 % at 256.
    pub bounded_casts: bool,
    /// CPU: weights of matrix products are not packed into a second copy. Costs 9–14 %.
    pub mapped_weights: bool,
    /// Every run has the same shapes: activations are planned as one block. With varying shapes that would keep a block for each.
    pub fixed_shapes: bool,
    /// CUDA only, without effect elsewhere: each combination of input shapes is captured once and replayed.
    pub cuda_graph: bool,
    /// CUDA, TensorRT: a node that the device cannot run is an error instead of a node on the CPU.
    pub device_only: bool,
    /// CUDA, TensorRT: matrix products and convolutions of f32 may round their inputs to 10 bits of mantissa.
    pub tf32: bool,
    /// Other networks run at the same time: threads without work sleep at once instead of waiting busily.
    pub shares_cores: bool,
    /// CPU: no arena: what a run no longer needs goes back to the system at once. For few and large values, where an arena's
    /// rounding and gaps cost more memory than new pages cost time.
    pub no_arena: bool,
    /// Free memory of the arena, except its first block, is given back at the end of every run (what a run's outputs took: of
    /// the next one); for networks that run rarely or with ever other shapes. Implied by [`Options::memory_limit`].
    pub shrink: bool,
}

/// The loaded library and the settled device. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    library: &'static Library,
    device: Device,
    threads: usize,
    memory_limit: Option<u64>,
}

impl Engine {
    /// Loads the library (once per process) and settles the device by running a small graph on it.
    ///
    /// # Errors
    /// No library of a fitting version; a device that was asked for does not work; another library is loaded already.
    pub fn start(options: &Options) -> Result<Self> {
        let wants_gpu = options.device != DeviceChoice::Cpu;
        let library = library::open(options.library.as_deref(), wants_gpu)?;
        let device = match options.device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => device::prove(library, Device::Cuda(index))?,
            DeviceChoice::TensorRt(index) => device::prove(library, Device::TensorRt(index))?,
            DeviceChoice::Auto => device::prove(library, Device::Cuda(0)).unwrap_or_else(|cause| {
                tracing::debug!("no GPU: {cause}");
                Device::Cpu
            }),
        };
        let threads = options.threads.unwrap_or_else(threads_available).max(1);
        tracing::debug!("{}", library.path.display());
        tracing::info!("ONNX Runtime {} on {device}, {threads} threads", library.version);
        Ok(Self(Arc::new(Inner { library, device, threads, memory_limit: options.memory_limit })))
    }

    /// Where networks run.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// The library's version: `1.31.1`.
    pub fn version(&self) -> &str {
        &self.0.library.version
    }

    /// Where the library was found.
    pub fn library(&self) -> &Path {
        &self.0.library.path
    }

    /// Threads inside one operator.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Loads an encoded `ModelProto`. `name` stands in messages: `transformer`. External data locations are absolute paths
    /// without the leading slash.
    ///
    /// # Errors
    /// What ONNX Runtime has against the graph, in one sentence that begins with `name`.
    pub fn load(&self, name: &str, model: &[u8], how: &Load) -> Result<Network> {
        let _alone = device::loading();
        let session = device::builder(&self.0, self.0.device, how)
            .and_then(|b| Ok(b.with_config_entry("session.model_external_initializers_file_folder_path", "/")?))
            .and_then(|mut b| b.commit_from_memory(model))
            .map_err(|e| ort_error::explain(name, &e))?;
        Network::new(name, session, self.network_kind(how))
    }

    /// Loads an `.onnx` file made elsewhere; its external data lies in its own folder.
    ///
    /// # Errors
    /// What ONNX Runtime has against the file, in one sentence that begins with `name`.
    pub fn load_file(&self, name: &str, path: &Path, how: &Load) -> Result<Network> {
        std::fs::File::open(path).map_err(|e| Error::io("reading", path, &e).at(name))?;
        let _alone = device::loading();
        let session = device::builder(&self.0, self.0.device, how)
            .and_then(|mut b| b.commit_from_file(path))
            .map_err(|e| ort_error::explain(name, &e).at(path.display()))?;
        Network::new(name, session, self.network_kind(how))
    }

    fn network_kind(&self, how: &Load) -> network::Kind {
        network::Kind {
            device: self.0.device,
            cuda_graph: how.cuda_graph,
            // Without an arena there is nothing to shrink, and asking for it is an error.
            shrink: (how.shrink || self.0.memory_limit.is_some()) && !how.no_arena,
        }
    }
}
