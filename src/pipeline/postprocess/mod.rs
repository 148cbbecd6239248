//! Stages after decoding: interpolation and upscaling. Their networks are loaded once and shared.

mod interpolator;
mod upscaler;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use interpolator::{Interpolator, Times};
pub(crate) use upscaler::{Upscaler, output_size};

/// The lock, also after a panic of another thread: networks keep no state between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
