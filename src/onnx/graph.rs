//! A graph under construction: inputs, outputs, nodes, weights and constants, and the errors found while it is written.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    rc::Rc,
};

use prost::Message;

use super::{
    dim::{Dim, show},
    model::{Model, Provider, Target},
    op::{Op, Rows},
    proto::{self, Attr, NodeProto, StringEntry, TensorProto, elem_type},
};
use crate::{
    error::{Error, Result},
    tensor::DType,
    weights::{Location, Stored},
};

/// A graph under construction. Clones share it.
#[derive(Clone)]
pub struct Graph(pub(super) Rc<RefCell<Inner>>);

pub(super) struct Inner {
    pub target: Target,
    name: String,
    casts: Vec<NodeProto>,
    pub nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), String>,
    inputs: Vec<proto::ValueInfo>,
    outputs: Vec<proto::ValueInfo>,
    shapes: Vec<proto::ValueInfo>,
    names: HashMap<String, usize>,
    /// Symbolic extents: the input and axis that define them, and the factor there.
    pub symbols: BTreeMap<String, (String, usize, usize)>,
    /// Values that hold an extent, so that each is computed once.
    pub extents: HashMap<Dim, String>,
    /// How the rows of a value depend on those of one input, or of all inputs of its node.
    pub rows: HashMap<String, (Option<String>, Rows)>,
    /// The current scope. Nodes without their own name are named after it.
    pub scope: String,
    errors: Vec<String>,
    parameters: u64,
    weight_bytes: u64,
}

impl Graph {
    /// An empty graph. Viewers show the name.
    pub fn new(name: &str, target: Target) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            target,
            name: name.into(),
            casts: vec![],
            nodes: vec![],
            initializers: vec![],
            constants: HashMap::new(),
            inputs: vec![],
            outputs: vec![],
            shapes: vec![],
            names: HashMap::new(),
            symbols: BTreeMap::new(),
            extents: HashMap::new(),
            rows: HashMap::new(),
            scope: String::new(),
            errors: vec![],
            parameters: 0,
            weight_bytes: 0,
        })))
    }

    /// Provider and compute type.
    pub fn target(&self) -> Target {
        self.0.borrow().target
    }

    /// Nodes and weights that `make` appends are in `dtype` instead of the compute type.
    pub(super) fn in_type<T>(&self, dtype: DType, make: impl FnOnce() -> T) -> T {
        let compute = std::mem::replace(&mut self.0.borrow_mut().target.compute, dtype);
        let made = make();
        self.0.borrow_mut().target.compute = compute;
        made
    }

    /// A graph input. Floating-point inputs are f32 and are cast to the compute type. The input defines the symbols in `shape`.
    pub fn input(&self, name: &str, shape: &[Dim], dtype: DType) -> Value {
        {
            let mut g = self.0.borrow_mut();
            for (axis, dim) in shape.iter().enumerate() {
                if let Some((symbol, factor)) = dim.as_multiple() {
                    g.symbols.entry(symbol.to_string()).or_insert((name.to_string(), axis, factor));
                }
            }
            g.inputs.push(value_info(name, shape, dtype));
            g.names.insert(name.to_string(), 1);
        }
        let value = Value { graph: self.clone(), name: name.into(), shape: shape.to_vec(), dtype };
        if dtype.is_float() { value.cast(self.target().compute) } else { value }
    }

    /// A graph input that stays f32 in every compute type: times and positions.
    pub fn input_f32(&self, name: &str, shape: &[Dim]) -> Value {
        self.in_f32(|| self.input(name, shape, DType::F32))
    }

    /// Nodes and weights that `make` appends are in f32 instead of the compute type.
    pub fn in_f32<T>(&self, make: impl FnOnce() -> T) -> T {
        self.in_type(DType::F32, make)
    }

    /// A graph output. Floating-point outputs are cast to f32.
    pub fn output(&self, name: &str, value: &Value) {
        let value = if value.dtype.is_float() { value.cast(DType::F32) } else { value.clone() };
        let mut g = self.0.borrow_mut();
        g.nodes.push(NodeProto {
            input: vec![value.name.clone()],
            output: vec![name.into()],
            name: format!("/{name}"),
            op_type: "Identity".into(),
            ..Default::default()
        });
        g.rows.insert(name.into(), (None, Rows::Same));
        g.outputs.push(value_info(name, &value.shape, value.dtype));
    }

    /// Records an error. [`Graph::finish`] reports all of them together.
    pub fn error(&self, what: impl Into<String>) {
        self.0.borrow_mut().errors.push(what.into());
    }

    /// Records how the rows and columns of `value` depend on those of `input`, for a layer of several nodes.
    pub(super) fn set_rows(&self, value: &Value, input: &Value, rows: Rows) {
        self.0.borrow_mut().rows.insert(value.name.clone(), (Some(input.name.clone()), rows));
    }

    /// Names the next nodes after `scope`.
    pub(super) fn enter(&self, scope: &str) {
        self.0.borrow_mut().scope = scope.to_string();
    }

    /// A constant of f32 values in the given element type and shape.
    pub fn constant(&self, values: &[f32], shape: &[usize], dtype: DType) -> Value {
        let bytes: Vec<u8> = match dtype {
            DType::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let dtype = if dtype.is_float() && dtype.size() == 2 { dtype } else { DType::F32 };
        self.raw_constant(bytes, shape, dtype)
    }

    /// An i64 constant.
    pub fn integers(&self, values: &[i64], shape: &[usize]) -> Value {
        self.raw_constant(values.iter().flat_map(|v| v.to_le_bytes()).collect(), shape, DType::I64)
    }

    fn raw_constant(&self, bytes: Vec<u8>, shape: &[usize], dtype: DType) -> Value {
        let mut g = self.0.borrow_mut();
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let key = (elem_type(dtype), dims.clone(), bytes);
        let fresh = format!("constant_{}", g.constants.len());
        let name = g.constants.entry(key.clone()).or_insert(fresh.clone()).clone();
        if name == fresh {
            g.initializers.push(TensorProto {
                dims,
                data_type: key.0,
                name: fresh,
                raw_data: Some(key.2),
                ..Default::default()
            });
        }
        Value { graph: self.clone(), name, shape: shape.iter().map(|&d| d.into()).collect(), dtype }
    }

    /// A weight as an initializer that points into the checkpoint's file, cast to the compute type if stored in another.
    pub(super) fn weight(&self, name: &str, stored: &Stored) -> Value {
        {
            let mut g = self.0.borrow_mut();
            g.parameters += stored.elements() as u64;
            g.weight_bytes += stored.len_bytes();
            let mut tensor = TensorProto {
                dims: stored.shape.iter().map(|&d| d as i64).collect(),
                data_type: elem_type(stored.dtype),
                name: name.into(),
                ..Default::default()
            };
            match &stored.location {
                Location::Memory(bytes) => tensor.raw_data = Some(bytes.to_vec()),
                Location::File { path, offset, .. } => {
                    tensor.data_location = Some(1);
                    tensor.external_data = external(path, *offset, stored.len_bytes());
                }
            }
            g.initializers.push(tensor);
        }
        let shape = stored.shape.iter().map(|&d| d.into()).collect();
        let value = Value { graph: self.clone(), name: name.into(), shape, dtype: stored.dtype };
        let compute = self.target().compute;
        if !stored.dtype.is_float() || stored.dtype == compute {
            return value;
        }
        // Casts precede all other nodes: with bounded constant folding, ONNX Runtime then frees each after its use.
        let cast = format!("{name}.{}", compute.name());
        self.0.borrow_mut().casts.push(NodeProto {
            input: vec![name.into()],
            output: vec![cast.clone()],
            name: format!("/{name}/Cast"),
            op_type: "Cast".into(),
            attribute: vec![Attr::Int(elem_type(compute).into()).named("to")],
            ..Default::default()
        });
        Value { name: cast, dtype: compute, ..value }
    }

    /// Appends a node; one output of the given shape and type.
    pub(super) fn node(&self, op: Op, inputs: &[&Value], shape: Vec<Dim>, dtype: DType) -> Value {
        self.nodes(op, inputs, vec![shape], dtype).remove(0)
    }

    /// Appends a node with several outputs of one type.
    pub(super) fn nodes(&self, op: Op, inputs: &[&Value], shapes: Vec<Vec<Dim>>, dtype: DType) -> Vec<Value> {
        let mut g = self.0.borrow_mut();
        let base = match &op.name {
            Some(name) => format!("/{name}"),
            None if g.scope.is_empty() => format!("/{}", op.kind),
            None => format!("/{}/{}", g.scope, op.kind),
        };
        let count = g.names.entry(base.clone()).or_default();
        let name = if *count == 0 { base.clone() } else { format!("{base}_{count}") };
        *count += 1;
        let outputs: Vec<String> = match shapes.len() {
            1 => vec![name.clone()],
            n => (0..n).map(|i| format!("{name}:{i}")).collect(),
        };
        g.nodes.push(NodeProto {
            input: inputs.iter().map(|v| v.name.clone()).collect(),
            output: outputs.clone(),
            name,
            op_type: op.kind.into(),
            attribute: op.attrs.into_iter().map(|(k, a)| a.named(k)).collect(),
            domain: op.domain.into(),
        });
        for (output, shape) in outputs.iter().zip(&shapes) {
            g.shapes.push(value_info(output, shape, dtype));
            g.rows.insert(output.clone(), (None, op.rows));
        }
        outputs.into_iter().zip(shapes).map(|(name, shape)| Value { graph: self.clone(), name, shape, dtype }).collect()
    }

    /// The finished model.
    ///
    /// # Errors
    /// All recorded errors, in one message.
    pub fn finish(self) -> Result<Model> {
        let mut g = self.0.borrow_mut();
        if !g.errors.is_empty() {
            return Err(Error::failed(summary(&g.errors)));
        }
        let nodes: Vec<NodeProto> =
            std::mem::take(&mut g.casts).into_iter().chain(std::mem::take(&mut g.nodes)).collect();
        let opset = |domain: &str, version| proto::OperatorSetId { domain: domain.into(), version };
        let portable = g.target.provider == Provider::Portable;
        let foreign: BTreeSet<&str> = nodes.iter().map(|n| n.domain.as_str()).filter(|d| !d.is_empty()).collect();
        let mut opset_import = vec![opset("", if portable { 20 } else { 23 })];
        opset_import.extend(foreign.into_iter().map(|domain| opset(domain, 1)));
        let proto = proto::ModelProto {
            ir_version: if portable { 9 } else { 11 },
            producer_name: "crescendo".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(proto::GraphProto {
                node: nodes,
                name: g.name.clone(),
                initializer: std::mem::take(&mut g.initializers),
                input: std::mem::take(&mut g.inputs),
                output: std::mem::take(&mut g.outputs),
                value_info: std::mem::take(&mut g.shapes),
            }),
            opset_import,
        };
        Ok(Model { bytes: proto.encode_to_vec(), proto, parameters: g.parameters, weight_bytes: g.weight_bytes })
    }
}

/// All errors in one message, each once: the first twelve in full, then the number of the others.
fn summary(all: &[String]) -> String {
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = all.iter().map(String::as_str).filter(|f| seen.insert(*f)).collect();
    let shown = all.iter().take(12).copied().collect::<Vec<_>>().join("; ");
    match all.len() {
        0..=12 => shown,
        n => format!("{shown}; and {} more", n - 12),
    }
}

/// A value that a node computes.
#[derive(Clone)]
pub struct Value {
    pub(super) graph: Graph,
    pub(super) name: String,
    pub(super) shape: Vec<Dim>,
    pub(super) dtype: DType,
}

impl Value {
    /// The graph that the value belongs to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[Dim] {
        &self.shape
    }

    /// The extent of an axis; negative axes count from the end.
    pub fn dim(&self, axis: isize) -> Dim {
        self.axis(axis).map_or_else(|| 1.into(), |at| self.shape[at].clone())
    }

    /// The extent of an axis as a number. A symbolic one is an error.
    pub fn size(&self, axis: isize) -> usize {
        let dim = self.dim(axis);
        dim.known().unwrap_or_else(|| {
            self.graph.error(format!("{}: axis {axis} of {} must be known", self.name, show(&self.shape)));
            1
        })
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// An axis counted from the front. `None`, and an error, if it does not exist.
    pub(super) fn axis(&self, axis: isize) -> Option<usize> {
        let at = if axis < 0 { self.rank().checked_add_signed(axis) } else { usize::try_from(axis).ok() };
        let at = at.filter(|&at| at < self.rank());
        if at.is_none() {
            self.graph.error(format!("{}: {} has no axis {axis}", self.name, show(&self.shape)));
        }
        at
    }

    /// The four extents of a picture or feature map.
    pub(super) fn nchw(&self) -> [Dim; 4] {
        self.shape.clone().try_into().unwrap_or_else(|_| {
            self.graph.error(format!("{}: {} must be [n, c, h, w]", self.name, show(&self.shape)));
            [1, 1, 1, 1].map(Dim::from)
        })
    }

    /// A one-input operator that keeps shape and type.
    pub(super) fn map(&self, op: Op) -> Self {
        self.graph.node(op, &[self], self.shape.clone(), self.dtype)
    }
}

/// External data entries: the path without its leading slash (the session's root is `/`), offset and length.
fn external(path: &Path, offset: u64, length: u64) -> Vec<StringEntry> {
    let location = path.to_string_lossy().trim_start_matches('/').to_string();
    [("location", location), ("offset", offset.to_string()), ("length", length.to_string())]
        .map(|(key, value)| StringEntry { key: key.into(), value })
        .into()
}

fn value_info(name: &str, shape: &[Dim], dtype: DType) -> proto::ValueInfo {
    let dim = |d: &Dim| proto::DimProto {
        value: Some(match d.known() {
            Some(n) => proto::DimValue::Value(n as i64),
            None => proto::DimValue::Param(d.to_string()),
        }),
    };
    let shape = proto::ShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = proto::TensorType { elem_type: elem_type(dtype), shape: Some(shape) };
    proto::ValueInfo { name: name.into(), kind: Some(proto::TypeProto { tensor: Some(tensor) }) }
}

/// `what of [a] and [b]`, for errors about shapes.
pub(super) fn mismatch(what: &str, a: &[Dim], b: &[Dim]) -> String {
    format!("{what} of {} and {}", show(a), show(b))
}
