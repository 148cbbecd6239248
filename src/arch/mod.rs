//! Networks: one file each, mirroring its paper: extents read from the weights, then the forward pass, top to bottom.

pub mod clip;
pub mod embed;
pub mod flux;
pub mod rife;
pub mod rrdbnet;
pub mod srvgg;
pub mod t5;
pub mod vae_kl;

use crate::{
    error::{Error, Result},
    weights::Checkpoint,
};

/// The shape of a weight that an architecture cannot do without.
fn shape<const N: usize>(c: &Checkpoint, name: &str) -> Result<[usize; N]> {
    let stored = c.get(name).ok_or_else(|| missing(c, name))?;
    stored
        .shape
        .clone()
        .try_into()
        .map_err(|found| Error::failed(format!("{}: {name} must have {N} axes and is {found:?}", c.origin().display())))
}

fn missing(c: &Checkpoint, name: &str) -> Error {
    Error::failed(format!(
        "{}: {name} is missing; the file is of another architecture or incomplete",
        c.origin().display()
    ))
}
