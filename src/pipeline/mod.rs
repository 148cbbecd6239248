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

mod answer;
mod blame;
mod chunks;
mod context;
mod enhance;
mod export;
mod generate;
mod inspect;
mod material;
mod pace;
mod perf;
mod post;
mod prompts;
mod refine;
mod resolved;
mod sample;
mod start;
mod vae;
mod video;

pub use answer::*;
pub use chunks::{Identity, folder_of as chunks_of};
pub use context::Context;
pub use enhance::{Enhancer, make_folder_of, refuse, sizes};
pub use export::export;
pub use generate::generate;
pub use inspect::{Libraries, inspect, libraries};
pub use perf::{Perf, StageSeconds};
pub use refine::outlook;
pub use resolved::{Resolved, plan_generate};
pub use video::Made;
