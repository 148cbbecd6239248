//! What torch puts into a pickle: tensors as views of storages, and dictionaries of them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Contents, Data, Extent, len_bytes,
    object::{Id, Node, Objects, Storage, View, malformed},
    quoted,
    safetensors::Shape,
    some_of, without_training_prefixes,
};
use crate::error::{At, Error, Result};

/// Keys under which training code puts its tensors, best first: averaged weights before raw ones.
const WRAPPERS: [&str; 7] = ["params_ema", "params", "state_dict", "model_state_dict", "params-ema", "model", "net"];
/// torch's own limit is 64.
const MAX_RANK: usize = 64;
/// What all gathered tensors of a file may take beyond the file's length: room for expanded views.
const GATHER_SLACK: usize = 16 << 20;

/// A dictionary's objects by name.
type Entries<'a> = BTreeMap<&'a str, Id>;

/// Turns a pickle's top object into tensors: unwraps, strips prefixes, finds every tensor's bytes.
pub(super) struct Collector<'m, 'a, F> {
    /// The objects of the pickle.
    pub(super) objects: &'m Objects<'a>,
    /// The whole file.
    pub(super) bytes: &'a [u8],
    /// Where a storage's data lies in the file: (start, length).
    pub(super) locate: F,
}

impl<'a, F: Fn(&Storage<'a>) -> Result<(usize, usize)>> Collector<'_, 'a, F> {
    /// The tensors of the object `top`.
    ///
    /// # Errors
    /// When it is no dictionary, holds no tensor, or a tensor is not within its storage.
    pub(super) fn collect(&self, top: Id) -> Result<Contents> {
        let Node::Dict(items) = self.objects.node(top) else {
            return Err(Error::failed("holds no dictionary of tensors; save the state_dict"));
        };
        let nameless = items.iter().filter(|(key, _)| !matches!(self.objects.node(*key), Node::Text(_))).count();
        let (wrapper, entries, mut skipped) = self.unwrap(self.by_key(items));
        let mut budget = self.bytes.len() + GATHER_SLACK;
        let mut tensors = BTreeMap::new();
        for (&name, &id) in &entries {
            if let Node::Tensor(view) = self.objects.node(id) {
                let extent = self.extent(view, &mut budget).at(format!("tensor {}", quoted(name)))?;
                tensors.insert(name.to_owned(), extent);
            } else {
                skipped.push(wrapper.map_or(name.to_owned(), |w| format!("{w}.{name}")));
            }
        }
        if tensors.is_empty() {
            let keys = some_of(entries.keys().copied());
            let keys = if keys.is_empty() { "no keys at all".into() } else { keys };
            return Err(Error::failed(format!("holds no tensors under any key that is known; it has {keys}")));
        }
        if nameless > 0 {
            skipped.push(format!("({nameless} entries whose keys are not text)"));
        }
        let wrapper = wrapper.map(str::to_owned);
        Ok(Contents { tensors: without_training_prefixes(tensors), wrapper, skipped })
    }

    /// The wrapper, the entries under it, and the keys beside it; or the entries as they are.
    fn unwrap(&self, top: Entries<'a>) -> (Option<&'static str>, Entries<'a>, Vec<String>) {
        let inner = |key: &str| match self.objects.node(*top.get(key)?) {
            Node::Dict(items) => Some(self.by_key(items)).filter(|d| d.values().any(|&id| self.is_tensor(id))),
            _ => None,
        };
        match WRAPPERS.into_iter().find_map(|key| Some((key, inner(key)?))) {
            Some((wrapper, entries)) => {
                let beside = top.into_keys().filter(|k| *k != wrapper).map(str::to_owned).collect();
                (Some(wrapper), entries, beside)
            }
            None => (None, top, vec![]),
        }
    }

    /// A dictionary's entries that have text for a key; as in Python the last of one name counts.
    fn by_key(&self, items: &[(Id, Id)]) -> Entries<'a> {
        let named = |&(key, value): &(Id, Id)| match *self.objects.node(key) {
            Node::Text(key) => Some((key, value)),
            _ => None,
        };
        items.iter().filter_map(named).collect()
    }

    fn is_tensor(&self, id: Id) -> bool {
        matches!(self.objects.node(id), Node::Tensor(_))
    }

    fn extent(&self, view: &View<'a>, budget: &mut usize) -> Result<Extent> {
        let (shape, strides) = (self.dims(view.size)?, self.dims(view.stride)?);
        let (dtype, unit) = (view.dtype, view.dtype.size());
        let outside = || {
            let (shape, key) = (Shape(&shape), quoted(view.storage.key));
            Error::failed(format!("shape {shape} of {} does not lie within its storage {key}", dtype.name()))
        };
        let (start, len) = view.storage.within((self.locate)(&view.storage)?)?;
        let total = len_bytes(dtype, &shape).filter(|_| shape.len() == strides.len()).ok_or_else(outside)?;
        if total == 0 {
            return Ok(Extent { dtype, shape, data: Data::Gathered(Arc::new([])) });
        }
        let first = usize::try_from(view.offset).map_err(|_| outside())?;
        let reach = shape.iter().zip(&strides).try_fold(first, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?));
        let end = reach.and_then(|last| last.checked_add(1)?.checked_mul(unit));
        if end.is_none_or(|end| end > len) {
            return Err(outside());
        }
        let at = start + first * unit;
        if is_contiguous(&shape, &strides) {
            return Ok(Extent { dtype, shape, data: Data::At(at as u64) });
        }
        *budget = budget.checked_sub(total).ok_or_else(|| {
            Error::failed(format!("shape {} takes more bytes than the whole file holds", Shape(&shape)))
        })?;
        let data = Data::Gathered(gather(&self.bytes[at..], unit, &shape, &strides).into());
        Ok(Extent { dtype, shape, data })
    }

    fn dims(&self, id: Id) -> Result<Vec<usize>> {
        let (Node::Tuple(ids) | Node::List(ids)) = self.objects.node(id) else {
            return Err(malformed("holds a shape that is no tuple"));
        };
        if ids.len() > MAX_RANK {
            return Err(malformed(&format!("holds a shape of {} dimensions; torch has at most {MAX_RANK}", ids.len())));
        }
        let dim = |&id: &Id| match *self.objects.node(id) {
            Node::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let dims = ids.iter().map(dim).collect::<Option<_>>();
        dims.ok_or_else(|| malformed("holds a shape that is not of whole numbers"))
    }
}

/// Whether strides are those of row-major order; the stride of an extent of 1 does not matter.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

/// The elements of a strided view, from its first byte on, in row-major order. Every extent is at least 1.
fn gather(bytes: &[u8], unit: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let total: usize = shape.iter().product();
    let mut out = Vec::with_capacity(total * unit);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..total {
        out.extend_from_slice(&bytes[at * unit..][..unit]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}
