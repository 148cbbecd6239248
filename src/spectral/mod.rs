//! Spectral progressive diffusion (arXiv 2605.18736): transforms, growth, activation times, the ladder of levels.
//!
//! A latent is denoised small while only its low frequencies stand above the noise, then grown: its spectrum is
//! embedded in a larger one whose new frequencies are filled with noise of the strength of the moment.

pub mod activation;
pub mod dct;
mod fft;
pub mod growth;
pub mod ladder;
mod resize;

pub use activation::Spectrum;
pub use growth::{Growth, Mode, Transform};
pub use ladder::{Ladder, Level, Scale, Scales, from_step, split};
pub use resize::resized;
