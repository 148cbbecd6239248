//! The command line as typed. Each subcommand's flags are in its own file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    enhance::EnhanceArgs,
    generate::GenerateArgs,
    plan::{Device, Precision, RuntimeOptions},
    tools::{ExportArgs, InspectArgs, ModelsCommand},
    value,
};

/// Prompts, pictures and videos in; high-resolution pictures and videos out.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "crescendo",
    version,
    about,
    max_term_width = 120,
    propagate_version = true,
    args_override_self = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every subcommand.
    #[command(flatten)]
    pub shared: Shared,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make pictures or videos from prompts
    #[command(allow_negative_numbers = true)]
    Generate(Box<GenerateArgs>),
    /// Interpolate, upscale or refine pictures and videos
    #[command(allow_negative_numbers = true)]
    Enhance(Box<EnhanceArgs>),
    /// Write a checkpoint's networks as ONNX graphs
    Export(ExportArgs),
    /// Say what a checkpoint or graph is
    Inspect(InspectArgs),
    /// Say what a call would do, without loading weights
    Plan {
        /// The call.
        #[command(subcommand)]
        command: Planned,
    },
    /// List, download and remove models
    Models {
        /// What to do with them.
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Say what this machine has: ONNX Runtime, devices, FFmpeg, cache, disk
    Doctor,
    /// Write a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The calls that can be planned.
#[derive(Debug, Clone, Subcommand)]
pub enum Planned {
    /// What `generate` would do
    #[command(allow_negative_numbers = true)]
    Generate(Box<GenerateArgs>),
    /// What `enhance` would do
    #[command(allow_negative_numbers = true)]
    Enhance(Box<EnhanceArgs>),
}

/// Flags of every subcommand.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shared")]
pub struct Shared {
    /// Flags in a YAML, TOML or JSON file, keys as flag names; flags on the command line win
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How much is told on standard error
    #[arg(long, global = true, value_enum, default_value = "info", value_name = "LEVEL")]
    pub log_level: LogLevel,

    /// Tell errors only, no progress
    #[arg(long, global = true)]
    pub quiet: bool,

    /// One JSON document on standard output; everything else on standard error
    #[arg(long, global = true)]
    pub json: bool,

    /// Where networks run: auto, cpu, cuda, cuda:N, tensorrt
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE", value_parser = device)]
    pub device: Device,

    /// What networks compute in
    #[arg(long, alias = "dit-precision", global = true, value_enum, default_value = "auto", value_name = "TYPE")]
    pub dtype: Precision,

    /// Threads of the CPU [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = value::positive("threads"))]
    pub threads: Option<usize>,

    /// Most memory to use, such as 8GB or 512MiB
    #[arg(long, global = true, value_name = "SIZE", value_parser = value::memory)]
    pub memory_limit: Option<u64>,

    /// The ONNX Runtime library to load
    #[arg(long, global = true, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,

    /// Never use the network (also HF_HUB_OFFLINE=1)
    #[arg(long, global = true)]
    pub offline: bool,
}

impl Shared {
    /// The part that networks need.
    pub fn runtime(&self) -> RuntimeOptions {
        RuntimeOptions {
            device: self.device,
            dtype: self.dtype,
            threads: self.threads,
            memory_limit: self.memory_limit,
            onnxruntime: self.onnxruntime.clone(),
            offline: self.offline,
        }
    }
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn device(typed: &str) -> Result<Device, String> {
    match typed {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        "tensorrt" => Ok(Device::TensorRt),
        _ => typed.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Device::Cuda).ok_or_else(|| {
            format!("device must be one of auto, cpu, cuda, cuda:N, tensorrt, got {}", value::shown(typed))
        }),
    }
}
