//! The objects of a torch pickle: containers, numbers, text, storages, and tensors as views of storages.
//!
//! Objects live in one arena and refer to each other by index. Sharing is free, cycles are harmless, and neither building nor
//! dropping recurses, whatever the nesting.

use super::quoted;
use crate::{
    error::{Error, Result},
    tensor::DType,
};

/// Longest key of a storage, in bytes. Keys are numbers or addresses.
const MAX_KEY: usize = 100;

/// The index of an object in the arena.
pub(super) type Id = u32;

/// An object of a pickle.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Big(&'a [u8]),
    Text(&'a str),
    /// Floats and byte strings, which no tensor needs.
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

/// The globals that tensors need. All others are rejected.
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
    /// The global with a name.
    ///
    /// # Errors
    /// A global that no tensor needs.
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
                    malformed(&format!("needs {global}; only tensors are supported, get the weights as .safetensors"))
                })?
            }
        })
    }

    /// Calls the global.
    ///
    /// # Errors
    /// Arguments that torch does not write.
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
                    return Err(malformed("has a tensor without a storage"));
                };
                let dtype = match (version, rest) {
                    (3, &[_, _, dtype, ..]) => match objects.node(dtype) {
                        Node::Global(Global::DType(dtype)) => Some(*dtype),
                        _ => return Err(malformed("has a tensor without an element type")),
                    },
                    _ => storage.dtype,
                };
                let dtype = dtype.ok_or_else(|| malformed("has a tensor without an element type"))?;
                let view = View { storage: (**storage).clone(), dtype, offset, size, stride };
                Ok(Called::New(Node::Tensor(Box::new(view))))
            }
            _ => Err(malformed("builds a tensor from invalid parts")),
        }
    }
}

/// The result of a call: a new object, or an existing one.
pub(super) enum Called<'a> {
    New(Node<'a>),
    Same(Id),
}

/// `OrderedDict([(key, value), …])`, as Python 2 wrote it.
fn ordered<'a>(objects: &Objects<'a>, items: Id) -> Result<Node<'a>> {
    let (Node::List(items) | Node::Tuple(items)) = objects.node(items) else {
        return Err(malformed("builds an OrderedDict from an object that is not a list"));
    };
    let pair = |&id: &Id| match objects.node(id) {
        Node::List(p) | Node::Tuple(p) if p.len() == 2 => Ok((p[0], p[1])),
        _ => Err(malformed("builds an OrderedDict from an object that is not a list of pairs")),
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

/// A storage, from its persistent id: elements outside the pickle, found by a key.
#[derive(Debug, Clone)]
pub(super) struct Storage<'a> {
    /// Key of its data in the file.
    pub(super) key: &'a str,
    /// `None`: untyped, in bytes.
    pub(super) dtype: Option<DType>,
    /// Number of elements.
    pub(super) len: u64,
    /// For a legacy view of another storage: its first element.
    pub(super) skip: u64,
    /// For a legacy view: its number of elements.
    pub(super) view_len: Option<u64>,
}

impl<'a> Storage<'a> {
    /// Reads ('storage', type, key, location, elements[, view]); view is None or (key, first element, elements).
    ///
    /// # Errors
    /// Any other persistent id.
    pub(super) fn from_pid(objects: &Objects<'a>, pid: Id) -> Result<Self> {
        let wrong = || malformed("has an invalid storage");
        let Node::Tuple(parts) = objects.node(pid) else { return Err(wrong()) };
        let nodes: Vec<_> = parts.iter().take(7).map(|&id| objects.node(id)).collect();
        let (&Node::Text(kind), Some(rest)) = (*nodes.first().ok_or_else(wrong)?, nodes.get(1..)) else {
            return Err(wrong());
        };
        if kind != "storage" {
            return Err(malformed(&format!("has a {}; only tensors are supported, save the state_dict", quoted(kind))));
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

    /// The bytes of the storage in the file, given those of its key: (start, length).
    pub(super) fn within(&self, (start, len): (usize, usize)) -> Result<(usize, usize)> {
        let refuse = |what: String| Err(Error::failed(format!("storage {} {what}", quoted(self.key))));
        let (elements, unit) = (self.len, self.unit());
        if elements.checked_mul(unit).is_none_or(|want| want > len as u64) {
            return refuse(format!("needs {elements} elements, but the file has {}", len as u64 / unit));
        }
        let Some(view_len) = self.view_len else { return Ok((start, (elements * unit) as usize)) };
        if self.skip.checked_add(view_len).is_none_or(|end| end > elements) {
            return refuse(format!("has {elements} elements, but a view needs {view_len} from {} on", self.skip));
        }
        Ok((start + (self.skip * unit) as usize, (view_len * unit) as usize))
    }
}

/// A tensor: a strided view of a storage.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: DType,
    /// First element.
    pub(super) offset: i64,
    /// Tuple of sizes.
    pub(super) size: Id,
    /// Tuple of strides, in elements.
    pub(super) stride: Id,
}

/// An error about a pickle that is malformed, or does what no checkpoint needs.
pub(super) fn malformed(what: &str) -> Error {
    Error::failed(format!("pickle {what}"))
}
