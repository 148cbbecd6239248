//! Stages after decoding: interpolation and upscaling. Their networks are loaded once and shared.

mod interpolator;
mod upscale_form;
mod upscaler;

pub(crate) use interpolator::{Interpolator, Times};
pub(crate) use upscale_form::{UpscaleForm, output_size};
pub(crate) use upscaler::{Upscaler, to_luma};
