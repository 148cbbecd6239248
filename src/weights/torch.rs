//! From the objects of a torch pickle to tensors: unwraps dictionaries, and finds the bytes of each tensor.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Contents, Data, FileTensor, len_bytes,
    object::{Id, Node, Objects, Storage, View, malformed},
    quoted,
    safetensors::Shape,
    some_of, without_training_prefixes,
};
use crate::error::{At, Error, Result};

/// Keys under which training code stores tensors, best first: averaged weights before raw weights.
const WRAPPERS: [&str; 7] = ["params_ema", "params", "state_dict", "model_state_dict", "params-ema", "model", "net"];
/// torch's own limit is 64.
const MAX_RANK: usize = 64;
/// Limit of the bytes of all gathered tensors beyond the file's length, for expanded views.
const GATHER_SLACK: usize = 16 << 20;

/// A dictionary's objects by name.
type Entries<'a> = BTreeMap<&'a str, Id>;

/// Turns the top object of a pickle into tensors.
pub(super) struct Collector<'m, 'a, F> {
    /// The objects of the pickle.
    pub(super) objects: &'m Objects<'a>,
    /// The whole file.
    pub(super) bytes: &'a [u8],
    /// The data of a storage in the file: (start, length).
    pub(super) locate: F,
}

impl<'a, F: Fn(&Storage<'a>) -> Result<(usize, usize)>> Collector<'_, 'a, F> {
    /// The tensors of the object `top`.
    ///
    /// # Errors
    /// An object that is no dictionary or has no tensors; a tensor that exceeds its storage.
    pub(super) fn collect(&self, top: Id) -> Result<Contents> {
        let Node::Dict(items) = self.objects.node(top) else {
            return Err(Error::failed("is not a dictionary of tensors; save the state_dict"));
        };
        let nameless = items.iter().filter(|(key, _)| !matches!(self.objects.node(*key), Node::Text(_))).count();
        let (wrapper, entries, mut skipped) = self.unwrap(self.by_key(items));
        let mut budget = self.bytes.len() + GATHER_SLACK;
        let mut tensors = BTreeMap::new();
        for (&name, &id) in &entries {
            if let Node::Tensor(view) = self.objects.node(id) {
                let tensor = self.tensor(view, &mut budget).at(format!("tensor {}", quoted(name)))?;
                tensors.insert(name.to_owned(), tensor);
            } else {
                skipped.push(wrapper.map_or(name.to_owned(), |w| format!("{w}.{name}")));
            }
        }
        if tensors.is_empty() {
            let keys = some_of(entries.keys().copied());
            let keys = if keys.is_empty() { "none".into() } else { keys };
            return Err(Error::failed(format!("has no tensors under a known key; its keys: {keys}")));
        }
        if nameless > 0 {
            skipped.push(format!("({nameless} entries whose keys are not text)"));
        }
        let wrapper = wrapper.map(str::to_owned);
        Ok(Contents { tensors: without_training_prefixes(tensors), wrapper, skipped })
    }

    /// The wrapper, its entries, and the keys beside it. Without a wrapper: the top entries.
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

    /// The entries with text keys. As in Python, the last of several with the same key counts.
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

    fn tensor(&self, view: &View<'a>, budget: &mut usize) -> Result<FileTensor> {
        let (shape, strides) = (self.dims(view.size)?, self.dims(view.stride)?);
        let (dtype, unit) = (view.dtype, view.dtype.size());
        let outside = || {
            let (shape, key) = (Shape(&shape), quoted(view.storage.key));
            Error::failed(format!("shape {shape} of {} exceeds its storage {key}", dtype.name()))
        };
        let (start, len) = view.storage.within((self.locate)(&view.storage)?)?;
        let total = len_bytes(dtype, &shape).filter(|_| shape.len() == strides.len()).ok_or_else(outside)?;
        if total == 0 {
            return Ok(FileTensor { dtype, shape, data: Data::Gathered(Arc::new([])) });
        }
        let first = usize::try_from(view.offset).map_err(|_| outside())?;
        let last = shape.iter().zip(&strides).try_fold(first, |at, (d, s)| at.checked_add((d - 1).checked_mul(*s)?));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(unit));
        if end.is_none_or(|end| end > len) {
            return Err(outside());
        }
        let at = start + first * unit;
        if is_contiguous(&shape, &strides) {
            return Ok(FileTensor { dtype, shape, data: Data::At(at as u64) });
        }
        *budget = budget
            .checked_sub(total)
            .ok_or_else(|| Error::failed(format!("shape {} needs more bytes than the file has", Shape(&shape))))?;
        let data = Data::Gathered(gather(&self.bytes[at..], unit, &shape, &strides).into());
        Ok(FileTensor { dtype, shape, data })
    }

    fn dims(&self, id: Id) -> Result<Vec<usize>> {
        let (Node::Tuple(ids) | Node::List(ids)) = self.objects.node(id) else {
            return Err(malformed("has a shape that is not a tuple"));
        };
        if ids.len() > MAX_RANK {
            return Err(malformed(&format!("has a shape of {} axes; torch allows at most {MAX_RANK}", ids.len())));
        }
        let dim = |&id: &Id| match *self.objects.node(id) {
            Node::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let dims = ids.iter().map(dim).collect::<Option<_>>();
        dims.ok_or_else(|| malformed("has a shape that is not of non-negative integers"))
    }
}

/// Whether strides are row-major. The stride of an axis of size 1 is ignored.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d;
        fits
    })
}

/// Copies the elements of a strided view, which begins at the first byte, in row-major order. No axis has size 0.
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
