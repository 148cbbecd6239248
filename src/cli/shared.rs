//! Flags of every subcommand.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::value::{self, Choice};
use crate::{
    plan::RuntimeOptions,
    runtime::{self, DeviceChoice},
    tensor::DType,
};

/// Flags of every subcommand.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shared")]
pub(crate) struct Shared {
    /// YAML, TOML or JSON file of flags, with flag names as keys. The command line overrides it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Verbosity of the log on standard error
    #[arg(long, global = true, value_enum, default_value = "info", value_name = "LEVEL")]
    pub log_level: LogLevel,

    /// Print errors only, no progress
    #[arg(long, global = true)]
    pub quiet: bool,

    /// Print one JSON document to standard output
    ///
    /// Everything else goes to standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// Device of the networks: auto, cpu, cuda, cuda:N or tensorrt
    ///
    /// auto: CUDA if it works, else the CPU
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE", value_parser = value::parsed::<DeviceChoice>)]
    pub device: DeviceChoice,

    /// Floating-point type of transformers, text encoders and noise
    ///
    /// Upscalers compute in f16, with f32 in f32; VAEs and interpolation always in f32. On the CPU, all networks compute in f32
    #[arg(long, alias = "dit-precision", global = true, default_value = "auto", value_name = "TYPE", value_parser = PRECISIONS)]
    pub dtype: Precision,

    /// CPU threads [default: number of cores]
    #[arg(long, global = true, value_name = "N", value_parser = value::positive_to("threads", value::MOST_THREADS))]
    pub threads: Option<usize>,

    /// Memory limit, such as 8GB or 512MiB [default: none]
    #[arg(long, global = true, value_name = "SIZE", value_parser = value::memory)]
    pub memory_limit: Option<u64>,

    /// ONNX Runtime library: the file, or the folder that contains it [default: searched]
    #[arg(long, global = true, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,

    /// Do not access the network (also HF_HUB_OFFLINE=1)
    #[arg(long, global = true)]
    pub offline: bool,
}

impl Shared {
    /// Device, precision and memory.
    pub(crate) fn runtime(&self) -> RuntimeOptions {
        RuntimeOptions {
            engine: runtime::Options {
                device: self.device,
                threads: self.threads,
                memory_limit: self.memory_limit,
                library: self.onnxruntime.clone(),
            },
            dtype: self.dtype,
        }
    }
}

/// `--dtype`. An alias, because clap makes a flag optional whose field has the type `Option`.
type Precision = Option<DType>;

const PRECISIONS: Choice<Precision> = Choice::new(&[
    ("auto", "Chosen per network; noise in the type of the transformer's weights", None),
    ("f32", "32-bit floating point", Some(DType::F32)),
    ("f16", "16-bit floating point", Some(DType::F16)),
    ("bf16", "bfloat16", Some(DType::BF16)),
    ("fp32", "", Some(DType::F32)),
    ("fp16", "", Some(DType::F16)),
]);

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
