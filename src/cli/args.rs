//! The command line as typed. Each subcommand's flags are in its own file.

use clap::{Parser, Subcommand};

use super::{
    enhance::EnhanceArgs,
    generate::GenerateArgs,
    shared::Shared,
    tools::{ExportArgs, InspectArgs, ModelsCommand},
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
