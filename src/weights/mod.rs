//! Checkpoints: tensors by name, read from headers and mapped, never copied.
//!
//! ```text
//! path ── open.rs ──┬─ safetensors.rs ───────────────────────┐
//!                   ├─ torch_zip.rs ─── zip.rs ──┐           ├─ Contents ── Checkpoint
//!                   └─ torch_legacy.rs ──────────┴─ torch.rs ┘
//!                                                  pickle.rs
//! ```
//!
//! The readers work on bytes and know nothing of files, so they can be fuzzed; [`Checkpoint::open`] maps the files.
//! Nothing of a pickle is executed: the machine in `pickle.rs` builds containers, numbers and tensors, and refuses every
//! other global by name.

mod checkpoint;
mod object;
mod open;
mod pickle;
pub mod safetensors;
mod stored;
mod torch;
pub mod torch_legacy;
pub mod torch_zip;
mod zip;

use std::{collections::BTreeMap, sync::Arc};

pub use checkpoint::{Checkpoint, Container};
pub use stored::{Location, Stored};

use crate::tensor::DType;

/// What a reader found in one file's bytes.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Extent>,
    /// The key of the outermost dictionary that held the tensors (`params_ema`), if they were not at the top.
    pub wrapper: Option<String>,
    /// Entries that are not tensors (`epoch`), or were passed over for the wrapper (`params`).
    pub skipped: Vec<String>,
}

/// One tensor within one file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// How elements are stored.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Where the contiguous, little-endian, row-major elements are.
    pub data: Data,
}

/// Where an [`Extent`]'s elements are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In the file, from this byte on.
    At(u64),
    /// The file stores them in another order: gathered here.
    Gathered(Arc<[u8]>),
}

/// Bytes of a tensor; `None` when the product does not fit.
fn len_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d)).filter(|&n| isize::try_from(n).is_ok())
}

/// A name from a file for a message: quoted, one line, cut at 120 characters.
fn quoted(name: &str) -> String {
    let mut shown: String = name.chars().take(120).flat_map(char::escape_debug).collect();
    if name.chars().nth(120).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A few names for a message: `a`, `b`, `c` and 12 more.
fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(4).map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
    if names.len() > 4 { format!("{shown} and {} more", names.len() - 4) } else { shown }
}

/// Tensors without the prefixes of training wrappers (`module.`, `netG.`) that every name carries.
fn without_training_prefixes<T>(mut tensors: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let common = |t: &BTreeMap<String, T>| {
        ["module.", "netG."]
            .into_iter()
            .find(|p| !t.is_empty() && t.keys().all(|k| k.len() > p.len() && k.starts_with(p)))
    };
    while let Some(prefix) = common(&tensors) {
        tensors = tensors.into_iter().map(|(k, v)| (k[prefix.len()..].to_owned(), v)).collect();
    }
    tensors
}
