//! A checkpoint's tensors by name, and questions about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{Location, Stored, quoted, without_training_prefixes};
use crate::{
    error::{At, Error, Result},
    tensor::DType,
};

/// Layers are numbered; a larger number in a key is something else, or a lie.
const MAX_INDEX: usize = 99_999;

/// What kind of file a checkpoint came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.safetensors`, one file or shards with an index.
    Safetensors,
    /// `torch.save` since 1.6: a zip file.
    TorchZip,
    /// `torch.save` before 1.6: a row of pickles.
    TorchLegacy,
}

impl Container {
    /// The name for messages: `safetensors`, `torch zip`, `torch legacy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "torch zip",
            Self::TorchLegacy => "torch legacy",
        }
    }
}

/// A file as it was when it was opened.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) path: Arc<Path>,
    pub(super) len: u64,
    pub(super) modified: SystemTime,
}

/// A checkpoint's tensors by name. The data stays in its files, mapped; a clone is cheap beside it.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(super) origin: PathBuf,
    pub(super) container: Container,
    pub(super) tensors: BTreeMap<String, Stored>,
    pub(super) wrapper: Option<String>,
    pub(super) skipped: Vec<String>,
    pub(super) files: Vec<Identity>,
}

impl Checkpoint {
    /// Tensors that come from elsewhere than [`Checkpoint::open`], such as a blend of two checkpoints.
    pub fn new(origin: impl Into<PathBuf>, container: Container, tensors: BTreeMap<String, Stored>) -> Self {
        Self { origin: origin.into(), container, tensors, wrapper: None, skipped: vec![], files: vec![] }
    }

    /// The path that was opened, for messages.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// What kind of file it is.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The key of the dictionary the tensors were taken from, `params_ema` say; `None` when they were at the top.
    pub fn wrapper(&self) -> Option<&str> {
        self.wrapper.as_deref()
    }

    /// Entries of a torch file that are not in here: no tensors (`epoch`), or beside the wrapper (`params`).
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

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// Whether there is a tensor of a name.
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

    /// The length of a numbered sequence `prefix.0.…`, `prefix.1.…`: one more than the largest number, whether or not
    /// those before it are there (layers without weights leave gaps); `None` when there is none. An empty prefix asks
    /// for names that begin with a number. Numbers above 99,999 do not count.
    pub fn sequence_len(&self, prefix: &str) -> Option<usize> {
        let numbered = |s: &str| s.parse().ok().filter(|n: &usize| *n <= MAX_INDEX && n.to_string() == s);
        self.segments(prefix).filter_map(numbered).max().map(|n| n + 1)
    }

    /// The distinct next segments of the names under a prefix, sorted as text: with `a.x.w` and `a.y`, `a` has `x` and
    /// `y`. An empty prefix asks for the first segments.
    pub fn children(&self, prefix: &str) -> BTreeSet<&str> {
        self.segments(prefix).collect()
    }

    fn segments<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let under = self.tensors.range(start.clone()..).map_while(move |(name, _)| name.strip_prefix(start.as_str()));
        under.filter_map(|rest| rest.split('.').next())
    }

    /// The same tensors under other names; those for which `name` gives `None` are dropped.
    ///
    /// # Errors
    /// When two names become one.
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

    /// Without the prefixes `module.` and `netG.` of training code, where every name has them.
    #[must_use]
    pub fn unwrapped(mut self) -> Self {
        self.tensors = without_training_prefixes(self.tensors);
        self
    }

    /// The first tensor, by name, that holds a NaN or an infinity. Reads all data.
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

    /// 64 hexadecimal digits that change when a name, a shape, an element type, a place in a file, or a file's path,
    /// length or time of change does: a key for what is made from this checkpoint. Data in files is not read.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for file in &self.files {
            let modified = file.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            text(&format!("{} {} {}", file.path.display(), file.len, modified.as_nanos()));
        }
        for (name, stored) in &self.tensors {
            text(name);
            text(&format!("{} {:?}", stored.dtype.name(), stored.shape));
            match &stored.location {
                Location::File { path, offset, .. } => text(&format!("{offset} {}", path.display())),
                Location::Memory(bytes) => text(&hex(&Sha256::digest(bytes))),
            }
        }
        hex(&hash.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
