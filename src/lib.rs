//! Crescendo turns prompts, pictures and videos into high-resolution pictures and videos on ONNX Runtime.
//!
//! ```text
//! prompt → text encoders → DiT at level 0 → grow (DCT, rewind) → DiT at level 1 → VAE → RIFE → Real-ESRGAN → encoder
//!                                                                     picture or video file ────┘
//! ```
//!
//! The crate has two halves, which meet only at an ONNX graph and its signature.
//!
//! - **Compile**: [`weights`] reads a checkpoint, `arch` builds its networks with [`onnx`], [`compile`] writes the graphs.
//! - **Run**: [`runtime`] runs networks. [`schedule`] and [`spectral`] compute noise schedules and growth. [`family`] has the
//!   conventions of each model family. [`stage`] has the steps, [`media`] reads and writes files, [`pipeline`] connects the
//!   steps, [`batch`] processes several files.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod allocator;
pub mod error;
pub mod files;
pub mod json_lines;
pub mod progress;
pub mod stdio;
pub mod sync;
pub mod tensor;
pub mod tiling;

pub mod catalog;
pub mod hub;

mod arch;
pub mod compile;
pub mod onnx;
pub mod weights;

pub mod family;
pub mod media;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod runtime;
pub mod schedule;
pub mod spectral;
pub mod stage;

pub mod batch;
pub mod cli;

pub use error::{Error, Result};
