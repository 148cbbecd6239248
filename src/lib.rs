//! Crescendo turns prompts, pictures and videos into high-resolution pictures and videos on ONNX Runtime.
//!
//! ```text
//! prompt → text encoders → DiT at level 0 → grow (DCT, rewind) → DiT at level 1 → VAE → RIFE → Real-ESRGAN → encoder
//!                                                                     picture or video file ────┘
//! ```
//!
//! Two halves meet only at an ONNX graph and its signature. **Compile**: [`weights`] → `arch` over [`onnx`] → [`compile`].
//! **Run**: [`runtime`] does the networks; [`schedule`] and [`spectral`] are pure numbers; [`family`] knows each model's
//! conventions; [`stage`]s are steps of the line; [`media`] reads and writes; [`pipeline`] alone knows the order,
//! [`batch`] how many files go through it and which are finished.

pub mod error;
pub mod json_lines;
pub mod progress;
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
