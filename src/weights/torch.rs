//! What torch puts into a pickle: tensors as views of storages, and dictionaries of them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Contents, Data, Extent, len_bytes,
    pickle::{Id, Machine, Node, malformed},
    quoted,
    safetensors::Shape,
    some_of, without_training_prefixes,
};
use crate::{
    error::{At, Error, Result},
    tensor::DType,
};

/// Keys under which training code puts its tensors, best first: averaged weights before raw ones.
const WRAPPERS: [&str; 7] = ["params_ema", "params", "state_dict", "model_state_dict", "params-ema", "model", "net"];
/// torch's own limit is 64.
const MAX_RANK: usize = 64;
/// Keys are numbers or addresses.
const MAX_KEY: usize = 100;
/// What all gathered tensors of a file may take beyond the file's length: room for expanded views.
const GATHER_SLACK: usize = 16 << 20;

/// The globals a tensor is made of. There are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Size,
    /// `_rebuild_tensor`, `_v2`, `_v3`.
    Tensor(u8),
    Parameter,
    Storage(DType),
    UntypedStorage,
    DType(DType),
}

impl Global {
    /// The global that a pickle names.
    ///
    /// # Errors
    /// When a tensor does not need it.
    pub(super) fn named(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor") => Self::Tensor(1),
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor(2),
            ("torch._utils", "_rebuild_tensor_v3") => Self::Tensor(3),
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch" | "torch.storage", "UntypedStorage") => Self::UntypedStorage,
            _ => {
                let storage = || storage_dtype(name).filter(|_| matches!(module, "torch" | "torch.cuda"));
                let dtype = || dtype(name).filter(|_| module == "torch");
                let known = storage().map(Self::Storage).or_else(|| dtype().map(Self::DType));
                known.ok_or_else(|| {
                    let global = quoted(&format!("{module}.{name}"));
                    malformed(&format!("wants {global}; only tensors are read, get the weights as .safetensors"))
                })?
            }
        })
    }

    /// What calling the global gives.
    ///
    /// # Errors
    /// When the arguments are not those that torch writes.
    pub(super) fn call<'a>(self, pickle: &Machine<'a>, args: &[Id]) -> Result<Called<'a>> {
        match (self, args) {
            (Self::OrderedDict, []) => Ok(Called::New(Node::Dict(vec![]))),
            (Self::OrderedDict, &[items]) => ordered(pickle, items).map(Called::New),
            (Self::Size, &[dims]) if matches!(pickle.node(dims), Node::Tuple(_)) => Ok(Called::Same(dims)),
            (Self::Parameter, &[tensor, ..]) if matches!(pickle.node(tensor), Node::Tensor(_)) => {
                Ok(Called::Same(tensor))
            }
            (Self::Tensor(version), &[storage, offset, size, stride, ref rest @ ..]) => {
                let (Node::Storage(storage), &Node::Int(offset)) = (pickle.node(storage), pickle.node(offset)) else {
                    return Err(malformed("holds a tensor without a storage"));
                };
                let dtype = match (version, rest) {
                    (3, &[_, _, dtype, ..]) => match pickle.node(dtype) {
                        Node::Global(Global::DType(dtype)) => Some(*dtype),
                        _ => return Err(malformed("holds a tensor without an element type")),
                    },
                    _ => storage.dtype,
                };
                let dtype = dtype.ok_or_else(|| malformed("holds a tensor without an element type"))?;
                let view = View { storage: (**storage).clone(), dtype, offset, size, stride };
                Ok(Called::New(Node::Tensor(Box::new(view))))
            }
            _ => Err(malformed("builds a tensor from other parts than torch writes")),
        }
    }
}

/// What a call gives: a new object, or one that was there.
pub(super) enum Called<'a> {
    New(Node<'a>),
    Same(Id),
}

/// `OrderedDict([(key, value), …])`, as Python 2 wrote it.
fn ordered<'a>(pickle: &Machine<'a>, items: Id) -> Result<Node<'a>> {
    let (Node::List(items) | Node::Tuple(items)) = pickle.node(items) else {
        return Err(malformed("builds an OrderedDict from something that is no list"));
    };
    let pair = |&id: &Id| match pickle.node(id) {
        Node::List(p) | Node::Tuple(p) if p.len() == 2 => Ok((p[0], p[1])),
        _ => Err(malformed("builds an OrderedDict from something that is no list of pairs")),
    };
    items.iter().map(pair).collect::<Result<_>>().map(Node::Dict)
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float64" => DType::F64,
        "float32" => DType::F32,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "float8_e4m3fn" => DType::F8E4M3,
        "float8_e5m2" => DType::F8E5M2,
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

fn storage_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "DoubleStorage" => DType::F64,
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "BoolStorage" => DType::Bool,
        _ => return None,
    })
}

/// A storage as a pickle names it (persistent id): elements that lie outside the pickle, under a key.
#[derive(Debug, Clone)]
pub(super) struct Storage<'a> {
    /// Key of its data in the container.
    pub(super) key: &'a str,
    /// `None`: untyped, counted in bytes.
    pub(super) dtype: Option<DType>,
    /// Elements.
    pub(super) len: u64,
    /// A legacy view of another storage: elements before it.
    pub(super) skip: u64,
    /// Elements of the view, where it is one.
    pub(super) view_len: Option<u64>,
}

impl<'a> Storage<'a> {
    /// Reads ('storage', type, key, location, elements[, view]); view is None or (key, first element, elements).
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn from_pid(pickle: &Machine<'a>, pid: Id) -> Result<Self> {
        let wrong = || malformed("holds a storage that is not as torch writes it");
        let Node::Tuple(parts) = pickle.node(pid) else { return Err(wrong()) };
        let nodes: Vec<_> = parts.iter().take(7).map(|&id| pickle.node(id)).collect();
        let (&Node::Text(kind), Some(rest)) = (*nodes.first().ok_or_else(wrong)?, nodes.get(1..)) else {
            return Err(wrong());
        };
        if kind != "storage" {
            return Err(malformed(&format!("holds a {}; only tensors are read, save the state_dict", quoted(kind))));
        }
        let [Node::Global(global), Node::Text(key), _, Node::Int(len), view @ ..] = rest else { return Err(wrong()) };
        if key.len() > MAX_KEY {
            return Err(wrong());
        }
        let dtype = match global {
            Global::Storage(dtype) => Some(*dtype),
            Global::UntypedStorage => None,
            _ => return Err(wrong()),
        };
        let whole = |n: i64| u64::try_from(n).map_err(|_| wrong());
        let mut storage = Self { key, dtype, len: whole(*len)?, skip: 0, view_len: None };
        match view {
            [] | [Node::None] => {}
            [Node::Tuple(view)] if view.len() == 3 => {
                let (&Node::Int(skip), &Node::Int(len)) = (pickle.node(view[1]), pickle.node(view[2])) else {
                    return Err(wrong());
                };
                (storage.skip, storage.view_len) = (whole(skip)?, Some(whole(len)?));
            }
            _ => return Err(wrong()),
        }
        Ok(storage)
    }

    /// Bytes of one element.
    pub(super) fn unit(&self) -> u64 {
        self.dtype.map_or(1, DType::size) as u64
    }

    /// The bytes of the file that the storage is, given those that its key has: (start, length).
    fn within(&self, (start, len): (usize, usize)) -> Result<(usize, usize)> {
        let refuse = |what: String| Err(Error::failed(format!("storage {} {what}", quoted(self.key))));
        let (elements, unit) = (self.len, self.unit());
        if elements.checked_mul(unit).is_none_or(|want| want > len as u64) {
            return refuse(format!("is said to have {elements} elements; the file has {}", len as u64 / unit));
        }
        let Some(view_len) = self.view_len else { return Ok((start, (elements * unit) as usize)) };
        if self.skip.checked_add(view_len).is_none_or(|end| end > elements) {
            return refuse(format!("has {elements} elements; {view_len} from {} on are wanted", self.skip));
        }
        Ok((start + (self.skip * unit) as usize, (view_len * unit) as usize))
    }
}

/// A tensor as a pickle holds it: a strided view of a storage.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    storage: Storage<'a>,
    dtype: DType,
    /// First element.
    offset: i64,
    /// Tuple of extents.
    size: Id,
    /// Tuple of strides, in elements.
    stride: Id,
}

/// A dictionary's objects by name.
type Entries<'a> = BTreeMap<&'a str, Id>;

/// Turns a pickle's top object into tensors: unwraps, strips prefixes, finds every tensor's bytes.
pub(super) struct Collector<'m, 'a, F> {
    /// The pickle that was run.
    pub(super) pickle: &'m Machine<'a>,
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
        let Node::Dict(items) = self.pickle.node(top) else {
            return Err(Error::failed("holds no dictionary of tensors; save the state_dict"));
        };
        let nameless = items.iter().filter(|(key, _)| !matches!(self.pickle.node(*key), Node::Text(_))).count();
        let (wrapper, entries, mut skipped) = self.unwrap(self.by_key(items));
        let mut budget = self.bytes.len() + GATHER_SLACK;
        let mut tensors = BTreeMap::new();
        for (&name, &id) in &entries {
            if let Node::Tensor(view) = self.pickle.node(id) {
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
        let inner = |key: &str| match self.pickle.node(*top.get(key)?) {
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
        let named = |&(key, value): &(Id, Id)| match *self.pickle.node(key) {
            Node::Text(key) => Some((key, value)),
            _ => None,
        };
        items.iter().filter_map(named).collect()
    }

    fn is_tensor(&self, id: Id) -> bool {
        matches!(self.pickle.node(id), Node::Tensor(_))
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
        let (Node::Tuple(ids) | Node::List(ids)) = self.pickle.node(id) else {
            return Err(malformed("holds a shape that is no tuple"));
        };
        if ids.len() > MAX_RANK {
            return Err(malformed(&format!("holds a shape of {} dimensions; torch has at most {MAX_RANK}", ids.len())));
        }
        let dim = |&id: &Id| match *self.pickle.node(id) {
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
