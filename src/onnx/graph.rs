//! A graph in the making: nodes, weights, constants, and the faults found on the way.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    rc::Rc,
};

use prost::Message;

use super::{
    dim::{Dim, show},
    proto::{self, Attr, NodeProto, StringEntry, TensorProto, elem_type},
    reach::Seen,
    value::Value,
};
use crate::{
    error::{Error, Result},
    tensor::DType,
    weights::{Location, Stored},
};

/// The machine a graph is written for; it decides how attention, norms and their kind are lowered, never what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's CPU kernels, with com.microsoft and crescendo operators; computes in f32.
    Cpu,
    /// ONNX Runtime's CUDA kernels, with com.microsoft operators.
    Cuda,
    /// Standard operators only, for other engines.
    Portable,
}

/// Provider and element type of a graph's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Which kernels.
    pub provider: Provider,
    /// What the arithmetic is done in; inputs and outputs are f32 whatever this is.
    pub compute: DType,
}

impl Target {
    /// The CPU in f32, which is all that it computes in.
    pub const CPU: Self = Self { provider: Provider::Cpu, compute: DType::F32 };
}

/// A finished graph: the encoded ModelProto and its door.
#[derive(Debug, Clone)]
pub struct Model {
    /// Encoded ModelProto. External locations are absolute paths without the leading slash.
    pub bytes: Vec<u8>,
    /// The message itself, for writing it elsewhere with other locations.
    pub proto: proto::ModelProto,
    /// Elements of all weights.
    pub parameters: u64,
    /// Bytes of all weights as stored.
    pub weight_bytes: u64,
    /// Number of weights.
    pub weights: usize,
}

impl Model {
    /// Whether most weights are stored in 16 bits.
    pub fn is_half(&self) -> bool {
        self.weight_bytes < 3 * self.parameters
    }
}

/// A graph in the making. Clones share it.
#[derive(Clone)]
pub struct Graph(pub(super) Rc<RefCell<Inner>>);

pub(super) struct Inner {
    pub target: Target,
    name: String,
    casts: Vec<NodeProto>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    constants: HashMap<(i32, Vec<i64>, Vec<u8>), String>,
    inputs: Vec<proto::ValueInfo>,
    outputs: Vec<proto::ValueInfo>,
    shapes: Vec<proto::ValueInfo>,
    names: HashMap<String, usize>,
    symbols: BTreeMap<String, (String, usize, usize)>,
    /// Values that hold an extent, so that each is computed once.
    extents: HashMap<Dim, String>,
    /// Of values whose rows and columns are not their input's: that input, and how they come from it.
    pub(super) seen: HashMap<String, (String, Seen)>,
    metadata: Vec<StringEntry>,
    /// The scope that last made a node: operators on plain values are named after it.
    pub place: String,
    pub faults: Vec<String>,
    parameters: u64,
    weight_bytes: u64,
    weights: usize,
}

impl Inner {
    /// The nodes so far, in order.
    pub(super) fn made(&self) -> &[NodeProto] {
        &self.nodes
    }
}

impl Graph {
    /// An empty graph with a name for viewers.
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
            seen: HashMap::new(),
            metadata: vec![],
            place: String::new(),
            faults: vec![],
            parameters: 0,
            weight_bytes: 0,
            weights: 0,
        })))
    }

    /// What the graph is written for.
    pub fn target(&self) -> Target {
        self.0.borrow().target
    }

    /// What `make` appends computes in `dtype`, with weights of it, whatever the graph computes in elsewhere.
    pub(super) fn in_type<T>(&self, dtype: DType, make: impl FnOnce() -> T) -> T {
        let compute = std::mem::replace(&mut self.0.borrow_mut().target.compute, dtype);
        let made = make();
        self.0.borrow_mut().target.compute = compute;
        made
    }

    /// A graph input. Floating inputs arrive as f32 and are cast to the compute type. `shape`'s symbols become known to the graph.
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

    /// A graph input that stays f32 whatever the graph computes in: times and positions.
    pub fn input_f32(&self, name: &str, shape: &[Dim]) -> Value {
        self.in_f32(|| self.input(name, shape, DType::F32))
    }

    /// What `make` appends computes in f32, with f32 weights, whatever the graph computes in elsewhere.
    pub fn in_f32<T>(&self, make: impl FnOnce() -> T) -> T {
        self.in_type(DType::F32, make)
    }

    /// 0, 1, … extent−1 as i64 `[extent]`.
    pub fn range(&self, extent: &Dim) -> Value {
        let (zero, one) = (self.integers(&[0], &[]), self.integers(&[1], &[]));
        let end = self.extent(extent).reshape(&[]);
        self.node(Op::new("Range"), &[&zero, &end, &one], vec![extent.clone()], DType::I64)
    }

    /// A graph output, cast to f32 where it is floating.
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
        g.outputs.push(value_info(name, &value.shape, value.dtype));
    }

    /// A key and value kept in the model's metadata.
    pub fn metadata(&self, key: &str, value: impl ToString) {
        self.0.borrow_mut().metadata.push(StringEntry { key: key.into(), value: value.to_string() });
    }

    /// Notes a fault; all of them are reported together by [`Graph::finish`].
    pub fn fault(&self, what: impl Into<String>) {
        self.0.borrow_mut().faults.push(what.into());
    }

    /// Sets the place that names the operators to come.
    pub(super) fn enter(&self, place: &str) {
        self.0.borrow_mut().place = place.to_string();
    }

    /// A constant of the given element type and shape from f32 values.
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

    /// A weight as an initializer that points into the checkpoint's file, cast to the compute type where it is stored in another.
    pub(super) fn weight(&self, name: &str, stored: &Stored) -> Value {
        {
            let mut g = self.0.borrow_mut();
            g.parameters += stored.elements() as u64;
            g.weight_bytes += stored.len_bytes();
            g.weights += 1;
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
        // The casts stand first in the node list: with folding bounded, ONNX Runtime then frees each one after its use.
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
            None if g.place.is_empty() => format!("/{}", op.kind),
            None => format!("/{}/{}", g.place, op.kind),
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
        }
        outputs.into_iter().zip(shapes).map(|(name, shape)| Value { graph: self.clone(), name, shape, dtype }).collect()
    }

    /// An extent as a one-element i64 value, computed from the inputs' shapes where it is symbolic.
    pub(super) fn extent(&self, dim: &Dim) -> Value {
        if let Some(n) = dim.known() {
            return self.integers(&[n as i64], &[1]);
        }
        let computed = |name| Value { graph: self.clone(), name, shape: vec![1.into()], dtype: DType::I64 };
        if let Some(name) = self.0.borrow().extents.get(dim) {
            return computed(name.clone());
        }
        let place = std::mem::replace(&mut self.0.borrow_mut().place, "extents".into());
        let value = self.computed_extent(dim);
        let mut g = self.0.borrow_mut();
        g.place = place;
        g.extents.insert(dim.clone(), value.name.clone());
        computed(value.name)
    }

    fn computed_extent(&self, dim: &Dim) -> Value {
        let mut total: Option<Value> = None;
        for (symbols, coefficient) in dim.terms() {
            let mut term = (coefficient != 1 || symbols.is_empty()).then(|| self.integers(&[coefficient], &[1]));
            for symbol in symbols {
                let lone = Dim::symbol(symbol);
                let value = if lone == *dim { self.symbol(symbol) } else { self.extent(&lone) };
                term = Some(term.map_or(value.clone(), |t| t * &value));
            }
            total = match (total, term) {
                (Some(sum), Some(term)) => Some(sum + term),
                (sum, term) => sum.or(term),
            };
        }
        total.unwrap_or_else(|| self.integers(&[0], &[1]))
    }

    fn symbol(&self, symbol: &str) -> Value {
        let Some((input, axis, factor)) = self.0.borrow().symbols.get(symbol).cloned() else {
            self.fault(format!("the extent {symbol} is not an input's"));
            return self.integers(&[1], &[1]);
        };
        let source = Value { graph: self.clone(), name: input, shape: vec![], dtype: DType::I64 };
        let axis = axis as i64;
        let op = Op::new("Shape").attr("start", Attr::Int(axis)).attr("end", Attr::Int(axis + 1));
        let extent = self.node(op, &[&source], vec![1.into()], DType::I64);
        if factor == 1 { extent } else { &extent / &self.integers(&[factor as i64], &[1]) }
    }

    /// The finished model, or every fault found, in one error.
    pub fn finish(self) -> Result<Model> {
        let mut g = self.0.borrow_mut();
        if !g.faults.is_empty() {
            return Err(Error::failed(faults(&g.faults)));
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
                ..Default::default()
            }),
            opset_import,
            metadata_props: std::mem::take(&mut g.metadata),
        };
        Ok(Model {
            bytes: proto.encode_to_vec(),
            proto,
            parameters: g.parameters,
            weight_bytes: g.weight_bytes,
            weights: g.weights,
        })
    }
}

/// All faults in one sentence, each once: the first twelve in full, then how many more.
fn faults(all: &[String]) -> String {
    let mut seen = BTreeSet::new();
    let all: Vec<&str> = all.iter().map(String::as_str).filter(|f| seen.insert(*f)).collect();
    let shown = all.iter().take(12).copied().collect::<Vec<_>>().join("; ");
    match all.len() {
        0..=12 => shown,
        n => format!("{shown}; and {} more", n - 12),
    }
}

/// A node's operator before it has a name.
pub(super) struct Op {
    kind: &'static str,
    domain: &'static str,
    name: Option<String>,
    attrs: Vec<(&'static str, Attr)>,
}

impl Op {
    pub fn new(kind: &'static str) -> Self {
        Self { kind, domain: "", name: None, attrs: vec![] }
    }

    pub fn domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub fn attr(mut self, name: &'static str, value: Attr) -> Self {
        self.attrs.push((name, value));
        self
    }

    pub fn int(self, name: &'static str, value: usize) -> Self {
        self.attr(name, Attr::Int(value as i64))
    }

    pub fn ints(self, name: &'static str, values: &[usize]) -> Self {
        self.attr(name, Attr::Ints(values.iter().map(|&v| v as i64).collect()))
    }

    pub fn float(self, name: &'static str, value: f32) -> Self {
        self.attr(name, Attr::Float(value))
    }

    pub fn text(self, name: &'static str, value: &'static str) -> Self {
        self.attr(name, Attr::Str(value))
    }
}

/// External data entries: the path without its leading slash (the session's folder is `/`), offset and length.
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

/// `place: what of [a] and [b]`, for faults about shapes.
pub(super) fn mismatch(what: &str, a: &[Dim], b: &[Dim]) -> String {
    format!("{what} of {} and {}", show(a), show(b))
}
