//! The stages of the pipeline, one file each. A stage holds its state between calls and imports no other stage.

pub mod denoise;
pub mod grow;
pub mod interpolate;
pub mod scene_change;
pub mod text;
pub mod timeline;
pub mod upscale;
pub mod vae;
