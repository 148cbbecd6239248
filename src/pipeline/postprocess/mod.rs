//! Stages after decoding: interpolation and upscaling. Their networks are loaded once and shared.

mod interpolator;
mod upscaler;

pub(crate) use interpolator::{Interpolator, Times};
pub(crate) use upscaler::{Upscaler, check_memory, output_size};
