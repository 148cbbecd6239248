//! Networks: one file each, mirroring its paper: extents read from the weights, then the forward pass, top to bottom.

pub mod clip;
pub mod decoder_lm;
pub mod embed;
pub mod flux;
pub mod flux2;
pub mod joint;
pub mod qwen_image;
pub mod rife;
pub mod rrdbnet;
pub mod srvgg;
pub mod t5;
pub mod vae_kl;
pub mod vae_wan;
pub mod wan;
pub mod z_image;

use crate::{
    error::{Error, Result},
    weights::Checkpoint,
};

/// No extent of a network is larger.
const MOST: usize = 1 << 24;

/// The shape of a weight that an architecture cannot do without.
fn shape<const N: usize>(c: &Checkpoint, name: &str) -> Result<[usize; N]> {
    let stored = c.get(name).ok_or_else(|| missing(c, name))?;
    if stored.shape.iter().any(|d| !(1..=MOST).contains(d)) {
        let (origin, found) = (c.origin().display(), &stored.shape);
        return Err(Error::failed(format!("{origin}: {name} is {found:?}; its extents must be from 1 to {MOST}")));
    }
    stored
        .shape
        .clone()
        .try_into()
        .map_err(|found| Error::failed(format!("{}: {name} must have {N} axes and is {found:?}", c.origin().display())))
}

/// The number of blocks under a prefix. Single ones may be missing, which the builder reports by name, but not most.
fn count(c: &Checkpoint, prefix: &str) -> Result<usize> {
    let blocks = c.sequence_len(prefix).ok_or_else(|| missing(c, prefix))?;
    let found = c.children(prefix).len();
    if blocks > 2 * found {
        let origin = c.origin().display();
        return Err(Error::failed(format!("{origin}: {prefix} counts to {} and has {found} entries", blocks - 1)));
    }
    Ok(blocks)
}

fn missing(c: &Checkpoint, name: &str) -> Error {
    Error::failed(format!(
        "{}: {name} is missing; the file is of another architecture or incomplete",
        c.origin().display()
    ))
}
