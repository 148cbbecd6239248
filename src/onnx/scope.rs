//! A place in a checkpoint: it carries the prefix of weights and of node names, and makes the layers that own weights.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    rc::Rc,
};

use super::{
    dim::show,
    graph::{Graph, Model, Op, Provider},
    reach::Seen,
    value::Value,
};
use crate::{
    error::Result,
    tensor::DType,
    weights::{Checkpoint, Stored},
};

/// A place in a checkpoint and in a graph. Clones share both.
#[derive(Clone)]
pub struct Scope {
    graph: Graph,
    weights: Rc<Weights>,
    path: String,
}

struct Weights {
    checkpoint: Checkpoint,
    /// Weights of the same names that are blended in, and the part of `checkpoint`'s own.
    blend: Option<(Checkpoint, f32)>,
    made: RefCell<BTreeMap<String, Value>>,
    ignored: RefCell<BTreeSet<String>>,
}

/// A convolution's form: kernel, stride, padding, groups. By default stride 1, "same" padding for odd kernels, one group.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    out: usize,
    kernel: usize,
    stride: usize,
    /// top, left, bottom, right
    pad: [usize; 4],
    groups: usize,
}

impl Conv {
    /// `out` channels, a square kernel.
    pub fn new(out: usize, kernel: usize) -> Self {
        Self { out, kernel, stride: 1, pad: [kernel / 2; 4], groups: 1 }
    }

    /// The same form with a stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same form with zeros around: top, left, bottom, right.
    pub fn pad(self, pad: [usize; 4]) -> Self {
        Self { pad, ..self }
    }

    /// The same form with channel groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

impl Scope {
    /// The root of a checkpoint, over an empty graph.
    pub fn new(graph: &Graph, checkpoint: &Checkpoint) -> Self {
        Self::over(graph, checkpoint, None)
    }

    /// The root of two checkpoints of one network: every weight is share·own + (1 − share)·other, in the graph, so that the files
    /// stay as they are.
    pub fn blended(graph: &Graph, own: &Checkpoint, other: &Checkpoint, share: f32) -> Self {
        let strange: Vec<&str> = other.names().filter(|n| !own.contains(n)).collect();
        if let Some(first) = strange.first() {
            let (count, origin) = (strange.len(), other.origin().display());
            graph.fault(format!("{origin}: {first} and {count} weights in all are of another network"));
        }
        Self::over(graph, own, Some((other.clone(), share)))
    }

    fn over(graph: &Graph, checkpoint: &Checkpoint, blend: Option<(Checkpoint, f32)>) -> Self {
        let (made, ignored) = (RefCell::default(), RefCell::default());
        let weights = Weights { checkpoint: checkpoint.clone(), blend, made, ignored };
        Self { graph: graph.clone(), weights: Rc::new(weights), path: String::new() }
    }

    /// The place below: `w.at("attn")`, `w.at("blocks").at(3)`.
    pub fn at(&self, segment: impl Display) -> Self {
        Self { path: self.join(&segment.to_string()), ..self.clone() }
    }

    /// The graph that this scope writes to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// `transformer_blocks.3.attn` as the viewer's path `transformer_blocks.3/attn`: an index stays with its list.
    fn place(path: &str) -> String {
        let mut out = String::new();
        for part in path.split('.') {
            let index = part.bytes().all(|b| b.is_ascii_digit());
            out.push_str(if out.is_empty() {
                ""
            } else if index {
                "."
            } else {
                "/"
            });
            out.push_str(part);
        }
        out
    }

    /// A stored tensor at this place, if there is one.
    pub fn stored(&self, name: &str) -> Option<&Stored> {
        self.weights.checkpoint.get(&self.join(name))
    }

    /// Whether the checkpoint has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.stored(name).is_some()
    }

    /// Says that a tensor of the checkpoint is not needed, so that it is not reported as unused.
    pub fn ignore(&self, name: &str) {
        self.weights.ignored.borrow_mut().insert(self.join(name));
    }

    /// Says that every tensor below a prefix of this place is not needed.
    pub fn ignore_below(&self, name: &str) {
        let prefix = format!("{}.", self.join(name));
        let names = self.weights.checkpoint.names().filter(|n| n.starts_with(&prefix));
        self.weights.ignored.borrow_mut().extend(names.map(str::to_string));
    }

    /// A weight that must have this shape. A fault is noted and an empty stand-in returned where it has not.
    pub fn weight(&self, name: &str, shape: &[usize]) -> Value {
        self.weight_as(name, shape, shape)
    }

    /// A weight that must have the shape `shape`, seen as `seen`: the same bytes under other extents. One form per graph.
    pub fn weight_as(&self, name: &str, shape: &[usize], seen: &[usize]) -> Value {
        let full = self.join(name);
        let stand_in = || Value {
            graph: self.graph.clone(),
            name: full.clone(),
            shape: seen.iter().map(|&d| d.into()).collect(),
            dtype: self.graph.target().compute,
        };
        let Some(stored) = self.weights.checkpoint.get(&full) else {
            self.graph.fault(format!("{full} {shape:?} is missing"));
            return stand_in();
        };
        if stored.shape != shape {
            self.graph.fault(format!("{full} must be {shape:?} and is {:?}", stored.shape));
            self.ignore(name);
            return stand_in();
        }
        if !stored.dtype.is_float() {
            self.graph.fault(format!("{full} must be floating and is {}", stored.dtype.name()));
            self.ignore(name);
            return stand_in();
        }
        if let Some(value) = self.weights.made.borrow().get(&full) {
            return value.clone();
        }
        let value = self.graph.weight(&full, &Stored { shape: seen.to_vec(), ..stored.clone() });
        let value = match &self.weights.blend {
            Some((other, share)) => self.blend(&full, value, other, *share, seen),
            None => value,
        };
        self.weights.made.borrow_mut().insert(full, value.clone());
        value
    }

    fn blend(&self, full: &str, own: Value, other: &Checkpoint, share: f32, seen: &[usize]) -> Value {
        let stored = other.get(full).filter(|s| s.elements() == seen.iter().product::<usize>() && s.dtype.is_float());
        let Some(stored) = stored else {
            self.graph.fault(format!(
                "{}: {full} {seen:?} is missing; the two are not one network",
                other.origin().display()
            ));
            return own;
        };
        let other = self.graph.weight(&format!("{full}.other"), &Stored { shape: seen.to_vec(), ..stored.clone() });
        own * share + other * (1.0 - share)
    }

    /// A weight in f32 whatever the graph computes in.
    pub fn weight_f32(&self, name: &str, shape: &[usize]) -> Value {
        self.weight(name, shape).cast(DType::F32)
    }

    /// Makes the operators to come on plain values carry this place's name.
    pub fn enter(&self) {
        self.graph.enter(&Self::place(&self.path));
    }

    /// What `make` appends is named after the place `name` below this one.
    pub(super) fn named(&self, name: &str, make: impl FnOnce() -> Value) -> Value {
        self.at(name).enter();
        let value = make();
        self.enter();
        value
    }

    fn op(&self, kind: &'static str, name: &str) -> Op {
        self.enter();
        Op::new(kind).named(Self::place(&self.join(name)))
    }

    /// x·Wᵀ + b over the last axis; W [out, in], b `[out]`.
    pub fn linear(&self, name: &str, x: &Value, out: usize) -> Value {
        let y = self.linear_no_bias(name, x, out);
        let bias = self.at(name).weight("bias", &[out]);
        let sum = self.op("Add", &format!("{name}.Add"));
        self.graph.node(sum, &[&y, &bias], y.shape().to_vec(), y.dtype)
    }

    /// x·Wᵀ over the last axis; W [out, in].
    pub fn linear_no_bias(&self, name: &str, x: &Value, out: usize) -> Value {
        let weight = self.at(name).weight("weight", &[out, x.size(-1)]);
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out.into();
        }
        if self.graph.target().provider == Provider::Portable {
            let weight = weight.transpose(&[1, 0]);
            return self.graph.node(self.op("MatMul", name), &[x, &weight], shape, x.dtype);
        }
        // The raw [out, in] weight: a folded Transpose would double the memory.
        let op = self.op("FusedMatMul", name).domain("com.microsoft").int("transB", 1);
        self.graph.node(op, &[x, &weight], shape, x.dtype)
    }

    /// A 3×3-like convolution with bias, stride 1, "same" padding: [n, c, h, w] → [n, out, h, w].
    pub fn conv2d(&self, name: &str, x: &Value, out: usize, kernel: usize) -> Value {
        self.conv(name, x, Conv::new(out, kernel))
    }

    /// The same without bias.
    pub fn conv2d_no_bias(&self, name: &str, x: &Value, out: usize, kernel: usize) -> Value {
        self.convolve(name, x, Conv::new(out, kernel), None)
    }

    /// A convolution with bias: [n, c, h, w] → [n, out, h', w'].
    pub fn conv(&self, name: &str, x: &Value, form: Conv) -> Value {
        let bias = self.at(name).weight("bias", &[form.out]);
        self.convolve(name, x, form, Some(bias))
    }

    /// A convolution with bias by a kernel [out, c, k, k] made from this place's weight.
    pub fn conv_by(&self, name: &str, x: &Value, kernel: &Value, form: Conv) -> Value {
        let bias = self.at(name).weight("bias", &[form.out]);
        self.convolve_by(name, x, kernel, form, Some(bias))
    }

    fn convolve(&self, name: &str, x: &Value, form: Conv, bias: Option<Value>) -> Value {
        let Conv { out, kernel, groups, .. } = form;
        let weight = self.at(name).weight("weight", &[out, x.size(1) / groups.max(1), kernel, kernel]);
        self.convolve_by(name, x, &weight, form, bias)
    }

    fn convolve_by(&self, name: &str, x: &Value, weight: &Value, form: Conv, bias: Option<Value>) -> Value {
        let [n, _, h, w] = x.nchw();
        let Conv { out, kernel, stride, pad, groups } = form;
        let extent = |d: &super::Dim, pads: usize| &(&(d + pads) - kernel).div_floor(stride) + 1;
        let shape = vec![n, out.into(), extent(&h, pad[0] + pad[2]), extent(&w, pad[1] + pad[3])];
        let op = self
            .op("Conv", name)
            .ints("kernel_shape", &[kernel; 2])
            .ints("strides", &[stride; 2])
            .ints("pads", &pad)
            .int("group", groups);
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(&bias).collect();
        let made = self.graph.node(op, &inputs, shape, x.dtype);
        // Where rows and columns are padded differently, both are covered.
        let (before, least) = (pad[0].max(pad[1]), pad[0].min(pad[1]));
        self.graph.sees(&made, x, Seen::Kernel { kernel: kernel + before - least, stride, before });
        made
    }

    /// A transposed convolution, kernel 4, stride 2, padding 1, with bias: [n, c, h, w] → [n, out, 2h, 2w].
    pub fn conv_transpose2x(&self, name: &str, x: &Value, out: usize) -> Value {
        let [n, _, h, w] = x.nchw();
        let weight = self.at(name).weight("weight", &[x.size(1), out, 4, 4]);
        let bias = self.at(name).weight("bias", &[out]);
        let op = self.op("ConvTranspose", name).ints("strides", &[2; 2]).ints("pads", &[1; 4]);
        self.graph.node(op, &[x, &weight, &bias], vec![n, out.into(), &h * 2, &w * 2], x.dtype)
    }

    /// One learned slope per channel of [n, c, h, w]; the weight is `[c]`.
    pub fn prelu(&self, name: &str, x: &Value) -> Value {
        let channels = x.size(1);
        let slope = self.at(name).weight("weight", &[channels]).reshape(&[channels.into(), 1.into(), 1.into()]);
        self.graph.node(self.op("PRelu", name), &[x, &slope], x.shape().to_vec(), x.dtype)
    }

    /// Rows of an embedding table [rows, width] by i64 ids [n, s] → [n, s, width].
    pub fn embedding(&self, name: &str, ids: &Value, width: usize) -> Value {
        let compute = self.graph.target().compute;
        let table = self.at(name);
        let (rows, dtype) =
            table.stored("weight").map_or((1, compute), |s| (s.shape.first().copied().unwrap_or(1), s.dtype));
        // Rows are cast, not the table: a language model's has gigabytes, of which a prompt reads kilobytes.
        let table = self.graph.in_type(dtype, || table.weight("weight", &[rows, width]));
        self.named(name, || table.gather(ids).cast(compute))
    }

    /// The length of a numbered sequence at this place, as the checkpoint has it.
    pub fn count(&self, name: &str) -> usize {
        let full = self.join(name);
        let found = self.weights.checkpoint.children(&full).len();
        self.weights.checkpoint.sequence_len(&full).unwrap_or(0).min(2 * found)
    }

    /// The finished model. Missing, misshapen and unused weights are reported together.
    pub fn finish(self) -> Result<Model> {
        let made = self.weights.made.borrow();
        let ignored = self.weights.ignored.borrow();
        let unused: Vec<&str> =
            self.weights.checkpoint.names().filter(|n| !made.contains_key(*n) && !ignored.contains(*n)).collect();
        for name in unused {
            let shape = self.weights.checkpoint.get(name).map(|s| s.shape.clone()).unwrap_or_default();
            self.graph.fault(format!("{name} {shape:?} is not used by this architecture"));
        }
        let origin = self.weights.checkpoint.origin().display().to_string();
        drop((made, ignored));
        self.graph.clone().finish().map_err(|e| e.at(origin))
    }

    /// A shape for a message.
    pub fn describe(value: &Value) -> String {
        show(value.shape())
    }
}
