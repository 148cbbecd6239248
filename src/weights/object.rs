//! The objects of a torch pickle: containers, numbers, text, storages, and tensors as views of storages.
//!
//! Objects live in one arena and refer to each other by index. Sharing is free, cycles are harmless, and neither building nor
//! dropping recurses, whatever the nesting.

use super::quoted;
use crate::{
    error::{Error, Result},
    tensor::DType,
};

/// Keys are numbers or addresses.
const MAX_KEY: usize = 100;

/// The index of an object in the arena.
pub(super) type Id = u32;

/// An object.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number past 64 bits, little-endian two's complement.
    Big(&'a [u8]),
    Text(&'a str),
    /// Floats and byte strings: nothing that a tensor is made of.
    Opaque,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
}

/// All objects of a stream of pickles, by index.
#[derive(Debug, Default)]
pub(super) struct Objects<'a>(Vec<Node<'a>>);

impl<'a> Objects<'a> {
    /// The object at an index.
    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        &self.0[id as usize]
    }

    /// The object at an index, to add items to it.
    pub(super) fn node_mut(&mut self, id: Id) -> &mut Node<'a> {
        &mut self.0[id as usize]
    }

    /// Adds an object.
    pub(super) fn add(&mut self, node: Node<'a>) -> Id {
        self.0.push(node);
        (self.0.len() - 1) as Id
    }

    /// The number of objects.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All storages.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.0.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }
}

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
    pub(super) fn call<'a>(self, objects: &Objects<'a>, args: &[Id]) -> Result<Called<'a>> {
        match (self, args) {
            (Self::OrderedDict, []) => Ok(Called::New(Node::Dict(vec![]))),
            (Self::OrderedDict, &[items]) => ordered(objects, items).map(Called::New),
            (Self::Size, &[dims]) if matches!(objects.node(dims), Node::Tuple(_)) => Ok(Called::Same(dims)),
            (Self::Parameter, &[tensor, ..]) if matches!(objects.node(tensor), Node::Tensor(_)) => {
                Ok(Called::Same(tensor))
            }
            (Self::Tensor(version), &[storage, offset, size, stride, ref rest @ ..]) => {
                let (Node::Storage(storage), &Node::Int(offset)) = (objects.node(storage), objects.node(offset)) else {
                    return Err(malformed("holds a tensor without a storage"));
                };
                let dtype = match (version, rest) {
                    (3, &[_, _, dtype, ..]) => match objects.node(dtype) {
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
fn ordered<'a>(objects: &Objects<'a>, items: Id) -> Result<Node<'a>> {
    let (Node::List(items) | Node::Tuple(items)) = objects.node(items) else {
        return Err(malformed("builds an OrderedDict from something that is no list"));
    };
    let pair = |&id: &Id| match objects.node(id) {
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
    pub(super) fn from_pid(objects: &Objects<'a>, pid: Id) -> Result<Self> {
        let wrong = || malformed("holds a storage that is not as torch writes it");
        let Node::Tuple(parts) = objects.node(pid) else { return Err(wrong()) };
        let nodes: Vec<_> = parts.iter().take(7).map(|&id| objects.node(id)).collect();
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
                let (&Node::Int(skip), &Node::Int(len)) = (objects.node(view[1]), objects.node(view[2])) else {
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
    pub(super) fn within(&self, (start, len): (usize, usize)) -> Result<(usize, usize)> {
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
    pub(super) storage: Storage<'a>,
    pub(super) dtype: DType,
    /// First element.
    pub(super) offset: i64,
    /// Tuple of extents.
    pub(super) size: Id,
    /// Tuple of strides, in elements.
    pub(super) stride: Id,
}

/// A pickle that Python would not read either, or that does what no checkpoint does.
pub(super) fn malformed(what: &str) -> Error {
    Error::failed(format!("pickle {what}"))
}
