//! The order of the stages. No other module knows it.
//!
//! ```text
//! generate: prompts → text encoders → [ DiT at level k → grow ]* → VAE → RIFE → Real-ESRGAN → files
//! enhance:  files ──────────────────────────────────────────────────────→ RIFE → Real-ESRGAN → files
//! --refine: pictures → [ Real-ESRGAN → ]? VAE → [ grow → DiT in tiles ]* → VAE → files
//! ```
//!
//! [`generate`](fn@generate) and [`Enhancer`] are in separate folders and share the other files. One network is loaded at a
//! time, except for those of a stream, and each is freed before the next is loaded.

mod components;
mod context;
mod diagnose;
mod enhance;
mod export;
mod folders;
mod generate;
mod inspect;
mod interpolation;
mod memory;
mod orientation;
mod pass;
mod postprocess;
mod prompts;
mod report;
mod resume_point;
mod retime;
mod stream;
mod timings;
mod vae;

pub use context::Context;
pub use enhance::{
    Enhancer, Identity, MemoryForecast, OUTPUT_JOURNAL, PendingOutput, check_enhance, chunk_folder, refine_forecast,
    remove_chunks, sizes,
};
pub use export::export;
pub use folders::create_folder_of;
pub use generate::{generate, plan_generate};
pub use inspect::{Libraries, inspect, libraries};
pub use report::*;
pub use timings::Timings;
