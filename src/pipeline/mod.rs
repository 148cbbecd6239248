//! The order of the stages: the only place that knows it.
//!
//! ```text
//! generate: prompts → text encoders → [ DiT at level k → grow ]* → VAE → RIFE → Real-ESRGAN → files
//! enhance:  files ──────────────────────────────────────────────────────→ RIFE → Real-ESRGAN → files
//! ```
//!
//! One network is loaded at a time, except for those that a stream runs through; each is freed before the next is loaded.

mod context;
// mod enhance;
mod export;
mod generate;
mod inspect;
mod post;
mod report;
mod resolved;

pub use context::{Context, Observer, Silent};
// pub use enhance::{Enhanced, enhance, plan_enhance};
pub use export::{ExportPlan, Exported, GraphTarget, export};
pub use generate::{Made, generate};
pub use inspect::{Inspection, inspect};
pub use report::{Perf, StageSeconds};
pub use resolved::{Component, GenerateReport, PlannedStage, Resolved, plan_generate};
