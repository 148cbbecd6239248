//! Dimensions of a network, read from the shapes of its weights.

use crate::{
    error::{Error, Result},
    onnx::Scope,
    weights::Checkpoint,
};

/// Largest accepted extent of a weight.
const MAX_EXTENT: usize = 1 << 24;

/// Channels of an input or output of a convolution in ONNX Runtime's blocked layout (MLAS's NCHWc, AVX-512), which pads them.
pub(crate) fn blocked(channels: usize) -> usize {
    const BLOCK: usize = 16;
    channels.next_multiple_of(BLOCK)
}

/// Shape of a required weight.
///
/// # Errors
/// The weight is missing, has another number of axes, or an extent outside 1..=2²⁴.
pub(crate) fn shape<const N: usize>(c: &Checkpoint, name: &str) -> Result<[usize; N]> {
    let stored = c.get(name).ok_or_else(|| missing(c, name))?;
    if stored.shape.iter().any(|d| !(1..=MAX_EXTENT).contains(d)) {
        let (origin, found) = (c.origin().display(), &stored.shape);
        return Err(Error::failed(format!("{origin}: {name} is {found:?}; extents must be from 1 to {MAX_EXTENT}")));
    }
    stored
        .shape
        .clone()
        .try_into()
        .map_err(|found| Error::failed(format!("{}: {name} must have {N} axes and is {found:?}", c.origin().display())))
}

/// Length of the list of blocks under a prefix. The builder reports single missing blocks by name.
///
/// # Errors
/// No block, or more than half of them are missing.
pub(crate) fn count(c: &Checkpoint, prefix: &str) -> Result<usize> {
    let blocks = c.sequence_len(prefix).ok_or_else(|| missing(c, prefix))?;
    let found = c.children(prefix).len();
    if blocks > 2 * found {
        let origin = c.origin().display();
        return Err(Error::failed(format!("{origin}: {prefix} counts to {} and has {found} entries", blocks - 1)));
    }
    Ok(blocks)
}

/// The error for a missing weight.
pub(crate) fn missing(c: &Checkpoint, name: &str) -> Error {
    let origin = c.origin().display();
    Error::failed(format!("{origin}: {name} is missing; the file is incomplete or has another architecture"))
}

/// Checks that the head dimension is even, for rotary positions, and divides the hidden size.
pub(crate) fn check_heads(c: &Checkpoint, hidden_size: usize, head_dim: usize) -> Result<()> {
    if head_dim >= 2 && head_dim.is_multiple_of(2) && hidden_size.is_multiple_of(head_dim) {
        return Ok(());
    }
    let origin = c.origin().display();
    Err(Error::failed(format!(
        "{origin}: hidden size {hidden_size}, head dim {head_dim}; the head dim must be even and divide the hidden size"
    )))
}

/// Output channels of a convolution, from its weight or bias; 1 where both are missing, which the builder then reports.
pub(crate) fn out_channels(w: &Scope, name: &str) -> usize {
    let stored = |part| w.at(name).stored(part)?.shape.first().copied();
    stored("weight").or_else(|| stored("bias")).unwrap_or(1)
}

/// Memory in bytes of the decoder's weights in f32.
pub(crate) fn decoder_bytes(c: &Checkpoint) -> usize {
    let decoder = c.names().filter(|name| name.starts_with("decoder.")).filter_map(|name| c.get(name));
    decoder.map(|stored| 4 * stored.shape.iter().product::<usize>()).sum()
}
