//! The subcommands. The flags of each are in their own file.

use clap::{Parser, Subcommand};

use super::{
    enhance::EnhanceArgs,
    generate::GenerateArgs,
    shared::Shared,
    tools::{ExportArgs, InspectArgs, ModelsCommand},
};

/// The command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "crescendo",
    version,
    about,
    max_term_width = 120,
    propagate_version = true,
    args_override_self = true
)]
pub(crate) struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// Flags of every subcommand.
    #[command(flatten)]
    pub shared: Shared,
}

/// A subcommand.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Generate pictures or videos from prompts
    #[command(allow_negative_numbers = true)]
    Generate(Box<GenerateArgs>),
    /// Interpolate, upscale or refine pictures and videos
    #[command(allow_negative_numbers = true)]
    Enhance(Box<EnhanceArgs>),
    /// Write a checkpoint's networks as ONNX graphs
    Export(ExportArgs),
    /// Show architecture, parameters and type of a checkpoint or graph
    Inspect(InspectArgs),
    /// Show what a generate or enhance call would do, without loading weights
    Plan {
        /// The call to plan.
        #[command(subcommand)]
        command: Planned,
    },
    /// List, download and remove models
    Models {
        /// The action.
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Show ONNX Runtime, devices, FFmpeg codecs, model cache and disks of this machine
    Doctor {
        /// List all encoders and decoders of FFmpeg
        #[arg(long)]
        codecs: bool,
    },
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// A call to plan.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Planned {
    /// Show size, steps, memory and disk space of a generate call
    #[command(allow_negative_numbers = true)]
    Generate(Box<GenerateArgs>),
    /// Show outputs, memory, disk space and time of an enhance call
    #[command(allow_negative_numbers = true)]
    Enhance(Box<EnhanceArgs>),
}
