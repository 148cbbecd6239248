//! The steps of the line. Each holds what it needs between calls and none knows another.

pub mod denoise;
pub mod grow;
pub mod interpolate;
pub mod refine;
pub mod scene_change;
pub mod text;
pub mod timeline;
pub mod upscale;
pub mod vae;
