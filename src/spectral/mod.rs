//! Spectral progressive diffusion (arXiv 2605.18736): the first steps run at a low resolution.
//!
//! The power of a latent falls with frequency, and at a high σ noise hides all but the low frequencies. These fit a smaller latent,
//! which costs less. A run is therefore a ladder of levels, smallest first:
//!
//! 1. The first level starts from noise of its size.
//! 2. A level ends where σ falls to the activation time of its highest frequency: from there, higher frequencies matter
//!    (`activation`, `ladder`).
//! 3. The latent grows to the size of the next level (`growth`): its spectrum becomes the low frequencies of the larger spectrum, and
//!    the new frequencies are σ·noise. The noise is torch's stream with the seed + 10000·k for the k-th growth.
//! 4. With rewind, the result is scaled so that it is again a point of the flow-matching path, at a higher σ. The solver restarts.
//!
//! Sizes are multiples of the transformer's patch. A run that starts from a picture skips the levels before its first step, and
//! begins with the picture's latent at the size of the first remaining level ([`from_step`], [`resized`]).

mod activation;
mod dct;
mod fft;
mod growth;
mod ladder;
mod resize;

pub use activation::Spectrum;
pub use growth::{Growth, Mode, Transform};
pub use ladder::{Ladder, Level, Scale, Scales, check_delta, from_step, split};
pub use resize::resized;
