//! The order of the stages: the only place that knows it.
//!
//! ```text
//! generate: prompts → text encoders → [ DiT at level k → grow ]* → VAE → RIFE → Real-ESRGAN → files
//! enhance:  files ──────────────────────────────────────────────────────→ RIFE → Real-ESRGAN → files
//! --refine: pictures → [ Real-ESRGAN → ]? VAE → [ grow → DiT in tiles ]* → VAE → files
//! ```
//!
//! `enhance` does one file here; which files, and how many at a time, [`batch`](crate::batch) knows.
//!
//! One network is loaded at a time, except for those that a stream runs through; each is freed before the next is loaded.

mod context;
mod diagnose;
mod enhance;
mod export;
mod generate;
mod inspect;
mod pass;
mod postprocess;
mod prompts;
mod report;
mod retime;
mod timings;
mod vae;

pub use context::Context;
pub use enhance::{Enhancer, Identity, PendingOutput, chunks_of, make_folder_of, outlook, refuse, sizes};
pub use export::export;
pub use generate::{generate, plan_generate};
pub use inspect::{Libraries, inspect, libraries};
pub use report::*;
pub use timings::{StageSeconds, Timings};
