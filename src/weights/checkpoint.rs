//! The tensors of a checkpoint by name, and queries on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::{Stored, quoted};
use crate::{
    error::{At, Error, Result},
    tensor::DType,
};

/// The largest number of a layer. Larger numbers in a name are ignored.
const MAX_INDEX: usize = 99_999;

/// The file format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.safetensors`, one file or shards with an index.
    Safetensors,
    /// `torch.save` since 1.6: a zip file.
    TorchZip,
    /// `torch.save` before 1.6: several pickles.
    TorchLegacy,
}

impl Container {
    /// The name in messages: `safetensors`, `torch zip`, `torch legacy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "torch zip",
            Self::TorchLegacy => "torch legacy",
        }
    }
}

/// The tensors of a checkpoint by name. The data stays in memory-mapped files, so a clone copies no data.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(super) origin: PathBuf,
    pub(super) container: Container,
    pub(super) tensors: BTreeMap<String, Stored>,
    pub(super) wrapper: Option<String>,
    pub(super) skipped: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint of given tensors, such as the blend of two checkpoints.
    pub fn new(origin: impl Into<PathBuf>, container: Container, tensors: BTreeMap<String, Stored>) -> Self {
        Self { origin: origin.into(), container, tensors, wrapper: None, skipped: vec![] }
    }

    /// The path that was opened, for messages.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The file format.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The key of the dictionary that has the tensors, such as `params_ema`; `None`: the top dictionary.
    pub fn wrapper(&self) -> Option<&str> {
        self.wrapper.as_deref()
    }

    /// Unused entries of a torch file: those that are no tensors (`epoch`), and those beside the wrapper (`params`).
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored))
    }

    /// The tensor with a name.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Whether a tensor has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Elements of all floating-point tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().filter(|t| t.dtype.is_float()).map(|t| t.elements() as u64).sum()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(Stored::len_bytes).sum()
    }

    /// Number of tensors of each element type.
    pub fn dtypes(&self) -> BTreeMap<DType, usize> {
        self.tensors.values().fold(BTreeMap::new(), |mut counts, t| {
            *counts.entry(t.dtype).or_default() += 1;
            counts
        })
    }

    /// The length of a numbered sequence `prefix.0.…`, `prefix.1.…`: the largest number plus one, even if lower numbers are missing
    /// (layers without weights leave gaps). `None` without any. An empty prefix selects names that begin with a number. Numbers above
    /// 99,999 are ignored.
    pub fn sequence_len(&self, prefix: &str) -> Option<usize> {
        let numbered = |s: &str| s.parse().ok().filter(|n: &usize| *n <= MAX_INDEX && n.to_string() == s);
        self.segments(prefix).filter_map(numbered).max().map(|n| n + 1)
    }

    /// The distinct segments that follow a prefix, sorted as text: with `a.x.w` and `a.y`, those of `a` are `x` and `y`. An empty
    /// prefix selects the first segments.
    pub fn children(&self, prefix: &str) -> BTreeSet<&str> {
        self.segments(prefix).collect()
    }

    fn segments<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let under = self.tensors.range(start.clone()..).map_while(move |(name, _)| name.strip_prefix(start.as_str()));
        under.filter_map(|rest| rest.split('.').next())
    }

    /// Renames all tensors. Drops those for which `name` returns `None`.
    ///
    /// # Errors
    /// Two tensors get the same name.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut from = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (old, stored) in std::mem::take(&mut self.tensors) {
            let Some(new) = name(&old) else { continue };
            if let Some(other) = from.insert(new.clone(), old.clone()) {
                let (other, old, new) = (quoted(&other), quoted(&old), quoted(&new));
                return Err(Error::failed(format!("tensors {other} and {old} would both be named {new}")))
                    .at(self.origin.display());
            }
            tensors.insert(new, stored);
        }
        self.tensors = tensors;
        Ok(self)
    }

    /// The first tensor, by name, that has a NaN or an infinity. Reads all data.
    ///
    /// # Errors
    /// As [`Stored::bytes`].
    pub fn non_finite(&self) -> Result<Option<String>> {
        let tensors: Vec<_> = self.tensors.iter().collect();
        let bad = tensors.par_iter().find_first(|(_, stored)| !matches!(stored.is_finite(), Ok(true)));
        bad.map(|(name, stored)| {
            stored.bytes().at(format!("{}: tensor {}", self.origin.display(), quoted(name)))?;
            Ok((*name).clone())
        })
        .transpose()
    }
}
