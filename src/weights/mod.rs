//! Checkpoints: tensors by name, from memory-mapped files. Data is not copied.
//!
//! ```text
//! path ── open.rs ──┬─ safetensors.rs ───────────────────────┐
//!                   ├─ torch_zip.rs ─── zip.rs ──┐           ├─ Contents ── Checkpoint
//!                   └─ torch_legacy.rs ──────────┴─ torch.rs ┘
//!                                                  pickle.rs, object.rs
//! ```
//!
//! The readers take bytes, so they can be fuzzed; [`Checkpoint::open`] maps the files.
//! No pickle is executed: the machine in `pickle.rs` builds containers, numbers and tensors, and rejects all other globals by
//! name.

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

/// The contents of one file.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Tensors by name.
    pub tensors: BTreeMap<String, FileTensor>,
    /// The key of the dictionary that has the tensors (`params_ema`); `None`: the top dictionary.
    pub wrapper: Option<String>,
    /// Entries that are no tensors (`epoch`), and those beside the wrapper (`params`).
    pub skipped: Vec<String>,
}

/// A tensor within the bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTensor {
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost axis first.
    pub shape: Vec<usize>,
    /// The elements: contiguous, little-endian, row-major.
    pub data: Data,
}

/// The elements of a [`FileTensor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In the file, at this byte offset.
    At(u64),
    /// Copied into row-major order, because the file has another.
    Gathered(Arc<[u8]>),
}

/// Bytes of a tensor; `None` if they exceed `isize`.
fn len_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d)).filter(|&n| isize::try_from(n).is_ok())
}

/// A name from a file, for messages: quoted, on one line, at most 120 characters.
fn quoted(name: &str) -> String {
    let mut shown: String = name.chars().take(120).flat_map(char::escape_debug).collect();
    if name.chars().nth(120).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The first names, for messages: `a`, `b`, `c` and 12 more.
fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(4).map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
    if names.len() > 4 { format!("{shown} and {} more", names.len() - 4) } else { shown }
}

/// Removes prefixes of training wrappers (`module.`, `netG.`) that all names have.
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
