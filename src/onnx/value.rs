//! A value in a graph: arithmetic and shape operators, with shapes inferred as they are written.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{
    dim::{Dim, show},
    graph::{Graph, Op, mismatch},
    proto::{Attr, elem_type},
    reach::Seen,
};
use crate::tensor::DType;

/// A value that a node will compute.
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

    /// An extent that must be a number; a symbolic one is a fault of the graph.
    pub fn size(&self, axis: isize) -> usize {
        let dim = self.dim(axis);
        dim.known().unwrap_or_else(|| {
            self.graph.fault(format!("{}: axis {axis} of {} must be known", self.name, show(&self.shape)));
            1
        })
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// An axis counted from the front; none, and a fault, where there is none such.
    fn axis(&self, axis: isize) -> Option<usize> {
        let at = if axis < 0 { self.rank().checked_add_signed(axis) } else { usize::try_from(axis).ok() };
        let at = at.filter(|&at| at < self.rank());
        if at.is_none() {
            self.graph.fault(format!("{}: {} has no axis {axis}", self.name, show(&self.shape)));
        }
        at
    }

    /// A one-input operator that keeps shape and type.
    pub(super) fn map(&self, op: Op) -> Self {
        self.graph.node(op, &[self], self.shape.clone(), self.dtype)
    }

    fn scalar(&self, value: f32) -> Self {
        match self.dtype {
            DType::I64 => self.graph.integers(&[value as i64], &[1]),
            dtype => self.graph.constant(&[value], &[], dtype),
        }
    }

    fn binary(&self, kind: &'static str, other: &Self) -> Self {
        let shape = broadcast(&self.shape, &other.shape).unwrap_or_else(|| {
            self.graph.fault(mismatch(&format!("{}: {kind}", self.name), &self.shape, &other.shape));
            self.shape.clone()
        });
        self.graph.node(Op::new(kind), &[self, other], shape, self.dtype)
    }

    /// The value in another element type.
    pub fn cast(&self, dtype: DType) -> Self {
        if self.dtype == dtype {
            return self.clone();
        }
        let op = Op::new("Cast").attr("to", Attr::Int(elem_type(dtype).into()));
        self.graph.node(op, &[self], self.shape.clone(), dtype)
    }

    /// max(x, slope·x).
    pub fn leaky_relu(&self, slope: f32) -> Self {
        self.map(Op::new("LeakyRelu").float("alpha", slope))
    }

    /// 1/(1+e⁻ˣ).
    pub fn sigmoid(&self) -> Self {
        self.map(Op::new("Sigmoid"))
    }

    /// Hyperbolic tangent.
    pub fn tanh(&self) -> Self {
        self.map(Op::new("Tanh"))
    }

    /// Square root.
    pub fn sqrt(&self) -> Self {
        self.map(Op::new("Sqrt"))
    }

    /// Cosine.
    pub fn cos(&self) -> Self {
        self.map(Op::new("Cos"))
    }

    /// Sine.
    pub fn sin(&self) -> Self {
        self.map(Op::new("Sin"))
    }

    /// GELU in its tanh approximation (arXiv:1606.08415).
    pub fn gelu_tanh(&self) -> Self {
        self.map(Op::new("Gelu").text("approximate", "tanh"))
    }

    /// GELU, exact.
    pub fn gelu(&self) -> Self {
        self.map(Op::new("Gelu").text("approximate", "none"))
    }

    /// Softmax over the last axis.
    pub fn softmax(&self) -> Self {
        self.map(Op::new("Softmax").attr("axis", Attr::Int(-1)))
    }

    /// Clamped to low..=high.
    pub fn clip(&self, low: f32, high: f32) -> Self {
        let (low, high) = (self.scalar(low), self.scalar(high));
        self.graph.node(Op::new("Clip"), &[self, &low, &high], self.shape.clone(), self.dtype)
    }

    /// Mean over axes, kept as extent 1.
    pub fn mean(&self, axes: &[isize]) -> Self {
        let mut shape = self.shape.clone();
        let axes: Vec<i64> = axes.iter().filter_map(|&a| self.axis(a).map(|a| a as i64)).collect();
        for &a in &axes {
            shape[a as usize] = 1.into();
        }
        let axes = self.graph.integers(&axes, &[axes.len()]);
        self.graph.node(Op::new("ReduceMean").int("keepdims", 1), &[self, &axes], shape, self.dtype)
    }

    /// The greatest magnitude over all axes but the first, kept as extent 1.
    pub fn max_magnitude(&self) -> Self {
        let mut shape = self.shape.clone();
        shape.iter_mut().skip(1).for_each(|d| *d = 1.into());
        let axes: Vec<i64> = (1..shape.len() as i64).collect();
        let axes = self.graph.integers(&axes, &[axes.len()]);
        let magnitudes = self.map(Op::new("Abs"));
        self.graph.node(Op::new("ReduceMax").int("keepdims", 1), &[&magnitudes, &axes], shape, self.dtype)
    }

    /// `then` where this is above `limit`, else `otherwise`, which have one shape that this broadcasts to.
    pub fn if_above(&self, limit: f32, then: &Self, otherwise: &Self) -> Self {
        let limit = self.scalar(limit);
        let above = self.graph.node(Op::new("Greater"), &[self, &limit], self.shape.clone(), DType::Bool);
        self.graph.node(Op::new("Where"), &[&above, then, otherwise], then.shape.clone(), then.dtype)
    }

    /// Matrix product over the last two axes, the others broadcast.
    pub fn matmul(&self, other: &Self) -> Self {
        let (a, b) = (self.rank(), other.rank());
        if a < 2 || b < 2 || self.shape[a - 1] != other.shape[b - 2] {
            self.graph.fault(mismatch(&format!("{}: matrix product", self.name), &self.shape, &other.shape));
            return self.clone();
        }
        let mut shape = broadcast(&self.shape[..a - 2], &other.shape[..b - 2]).unwrap_or_default();
        shape.extend([self.shape[a - 2].clone(), other.shape[b - 1].clone()]);
        self.graph.node(Op::new("MatMul"), &[self, other], shape, self.dtype)
    }

    /// Axes in another order.
    pub fn transpose(&self, order: &[usize]) -> Self {
        let shape = order.iter().map(|&a| self.dim(a as isize)).collect();
        self.graph.node(Op::new("Transpose").ints("perm", order), &[self], shape, self.dtype)
    }

    /// The same elements in another shape. Extents that the runtime cannot infer are computed from the inputs' shapes.
    pub fn reshape(&self, to: &[Dim]) -> Self {
        let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |a, d| &a * d);
        if product(&self.shape) != product(to) {
            self.graph.fault(mismatch(&format!("{}: reshape", self.name), &self.shape, to));
        }
        let kept = |i: usize| self.shape.get(i) == Some(&to[i]);
        let open: Vec<usize> = (0..to.len()).filter(|&i| to[i].known().is_none() && !kept(i)).collect();
        let target = if open.len() <= 1 {
            let extents: Vec<i64> = (0..to.len())
                .map(|i| match to[i].known() {
                    Some(n) => n as i64,
                    None if kept(i) => 0,
                    None => -1,
                })
                .collect();
            self.graph.integers(&extents, &[to.len()])
        } else {
            let parts: Vec<Value> = to.iter().map(|d| self.graph.extent(d)).collect();
            Self::concat(&parts.iter().collect::<Vec<_>>(), 0)
        };
        self.graph.node(Op::new("Reshape"), &[self, &target], to.to_vec(), self.dtype)
    }

    /// A new axis of extent 1.
    pub fn unsqueeze(&self, axis: usize) -> Self {
        let mut shape = self.shape.clone();
        shape.insert(axis.min(shape.len()), 1.into());
        let axes = self.graph.integers(&[axis as i64], &[1]);
        self.graph.node(Op::new("Unsqueeze"), &[self, &axes], shape, self.dtype)
    }

    /// An axis of extent 1 removed.
    pub fn squeeze(&self, axis: usize) -> Self {
        let mut shape = self.shape.clone();
        if shape.get(axis) != Some(&1.into()) {
            self.graph.fault(format!("{}: axis {axis} of {} is not of extent 1", self.name, show(&shape)));
            return self.clone();
        }
        shape.remove(axis);
        let axes = self.graph.integers(&[axis as i64], &[1]);
        self.graph.node(Op::new("Squeeze"), &[self, &axes], shape, self.dtype)
    }

    /// Repeated along axes of extent 1 until it has the given shape.
    pub fn expand(&self, to: &[Dim]) -> Self {
        let parts: Vec<Value> = to.iter().map(|d| self.graph.extent(d)).collect();
        let target = Self::concat(&parts.iter().collect::<Vec<_>>(), 0);
        self.graph.node(Op::new("Expand"), &[self, &target], to.to_vec(), self.dtype)
    }

    /// Values one after the other along an axis.
    pub fn concat(values: &[&Self], axis: isize) -> Self {
        let first = values[0];
        let Some(at) = first.axis(axis) else { return first.clone() };
        let mut shape = first.shape.clone();
        for v in &values[1..] {
            let same = v.rank() == shape.len() && (0..shape.len()).all(|i| i == at || shape[i] == v.shape[i]);
            if !same {
                first.graph.fault(mismatch(&format!("{}: concat", first.name), &first.shape, &v.shape));
                return first.clone();
            }
            shape[at] = &shape[at] + &v.shape[at];
        }
        first.graph.node(Op::new("Concat").int("axis", at), values, shape, first.dtype)
    }

    /// Elements `from..to` of an axis; either end may be symbolic.
    pub fn slice(&self, axis: isize, from: impl Into<Dim>, to: impl Into<Dim>) -> Self {
        let (from, to) = (from.into(), to.into());
        let Some(at) = self.axis(axis) else { return self.clone() };
        let mut shape = self.shape.clone();
        if to.known().zip(shape[at].known()).is_some_and(|(to, extent)| to > extent) {
            self.graph.fault(format!("{}: no elements {from}..{to} on axis {axis} of {}", self.name, show(&shape)));
        }
        shape[at] = &to - &from;
        let (from, to) = (self.graph.extent(&from), self.graph.extent(&to));
        let axes = self.graph.integers(&[at as i64], &[1]);
        self.graph.node(Op::new("Slice"), &[self, &from, &to, &axes], shape, self.dtype)
    }

    /// Parts of given sizes along an axis.
    pub fn split<const N: usize>(&self, axis: isize, sizes: [usize; N]) -> [Self; N] {
        let total: usize = sizes.iter().sum();
        let Some(at) = self.axis(axis) else { return sizes.map(|_| self.clone()) };
        if self.shape[at].known() != Some(total) {
            let wanted = format!("{}: split of {} into {sizes:?}", self.name, show(&self.shape));
            self.graph.fault(wanted);
        }
        let shapes = sizes.map(|n| {
            let mut shape = self.shape.clone();
            shape[at] = n.into();
            shape
        });
        let lengths = self.graph.integers(&sizes.map(|n| n as i64), &[N]);
        let op = Op::new("Split").int("axis", at);
        let parts = self.graph.nodes(op, &[self, &lengths], shapes.into(), self.dtype);
        parts.try_into().unwrap_or_else(|_| unreachable!("one output per size"))
    }

    /// `N` equal parts of the last axis.
    pub fn chunk<const N: usize>(&self) -> [Self; N] {
        self.split(-1, [self.size(-1) / N; N])
    }

    /// Rows `indices` of axis 0: [n, …] by [shape of indices] → [shape of indices, …].
    pub fn gather(&self, indices: &Self) -> Self {
        let shape = indices.shape.iter().chain(self.shape.iter().skip(1)).cloned().collect();
        self.graph.node(Op::new("Gather").int("axis", 0), &[self, indices], shape, self.dtype)
    }

    /// One row of each item: [n, s, d] at `rows` `[n]`, i64 → [n, d].
    pub fn gather_rows(&self, rows: &Self) -> Self {
        let shape = vec![self.dim(0), self.dim(2)];
        self.graph.node(Op::new("GatherND").int("batch_dims", 1), &[self, &rows.unsqueeze(1)], shape, self.dtype)
    }

    /// [n, c, h, w] → [n, c, h·times, w·times], each pixel repeated.
    pub fn upsample_nearest(&self, times: usize) -> Self {
        let op = Op::new("Resize")
            .text("mode", "nearest")
            .text("coordinate_transformation_mode", "asymmetric")
            .text("nearest_mode", "floor");
        self.seen_as(Seen::Enlarged(times), self.resize(op, times as f32))
    }

    /// [n, c, h, w] → [n, c, h·factor, w·factor], bilinear with half-pixel centres (torch's align_corners=False). `factor` is a
    /// whole number or one over it.
    pub fn resize_bilinear(&self, factor: f32) -> Self {
        if factor == 1.0 {
            return self.clone();
        }
        let op = Op::new("Resize").text("mode", "linear").text("coordinate_transformation_mode", "half_pixel");
        self.resize(op, factor)
    }

    fn resize(&self, op: Op, factor: f32) -> Self {
        let scaled = |d: &Dim| if factor >= 1.0 { d * factor as usize } else { d.div_floor((1.0 / factor) as usize) };
        let [n, c, h, w] = self.nchw();
        let shape = vec![n, c, scaled(&h), scaled(&w)];
        let scales = self.graph.constant(&[1.0, 1.0, factor, factor], &[4], DType::F32);
        let none = Value { name: String::new(), ..scales.clone() };
        self.graph.node(op, &[self, &none, &scales], shape, self.dtype)
    }

    /// [n, c·s², h, w] → [n, c, h·s, w·s] (arXiv:1609.05158).
    pub fn pixel_shuffle(&self, s: usize) -> Self {
        let [n, c, h, w] = self.nchw();
        let shape = vec![n, c.div_floor(s * s), &h * s, &w * s];
        let op = Op::new("DepthToSpace").int("blocksize", s).text("mode", "CRD");
        self.seen_as(Seen::Enlarged(s), self.graph.node(op, &[self], shape, self.dtype))
    }

    /// [n, c, h·s, w·s] → [n, c·s², h, w], the inverse of [`Value::pixel_shuffle`].
    pub fn pixel_unshuffle(&self, s: usize) -> Self {
        if s == 1 {
            return self.clone();
        }
        let [n, c, h, w] = self.nchw();
        let (h, w) = (h.div_floor(s), w.div_floor(s));
        let blocks = self.reshape(&[n.clone(), c.clone(), h.clone(), s.into(), w.clone(), s.into()]);
        self.seen_as(Seen::Blocks(s), blocks.transpose(&[0, 1, 3, 5, 2, 4]).reshape(&[n, &c * (s * s), h, w]))
    }

    /// Notes how the rows and columns of `made` come from this value's.
    fn seen_as(&self, seen: Seen, made: Self) -> Self {
        self.graph.sees(&made, self, seen);
        made
    }

    pub(super) fn nchw(&self) -> [Dim; 4] {
        self.shape.clone().try_into().unwrap_or_else(|_| {
            self.graph.fault(format!("{}: {} must be [n, c, h, w]", self.name, show(&self.shape)));
            [1, 1, 1, 1].map(Dim::from)
        })
    }
}

/// Numpy's broadcasting; none where the extents do not fit.
fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let offset = long.len() - short.len();
    let one = Dim::from(1);
    let fit = |i: usize| {
        let x = &long[i];
        let Some(y) = i.checked_sub(offset).map(|j| &short[j]) else { return Some(x.clone()) };
        match (x == &one, y == &one) {
            (true, _) => Some(y.clone()),
            (_, true) => Some(x.clone()),
            _ => (x == y).then(|| x.clone()),
        }
    };
    (0..long.len()).map(fit).collect()
}

macro_rules! operator {
    ($($trait:ident $method:ident $kind:literal),*) => {$(
        impl $trait<&Value> for &Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary($kind, other)
            }
        }
        impl $trait<Value> for &Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary($kind, &other)
            }
        }
        impl $trait<&Value> for Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary($kind, other)
            }
        }
        impl $trait<Value> for Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary($kind, &other)
            }
        }
        impl $trait<f32> for &Value {
            type Output = Value;
            fn $method(self, other: f32) -> Value {
                self.binary($kind, &self.scalar(other))
            }
        }
        impl $trait<f32> for Value {
            type Output = Value;
            fn $method(self, other: f32) -> Value {
                self.binary($kind, &self.scalar(other))
            }
        }
    )*};
}

operator!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");

impl Neg for &Value {
    type Output = Value;
    fn neg(self) -> Value {
        self.map(Op::new("Neg"))
    }
}

impl Neg for Value {
    type Output = Value;
    fn neg(self) -> Value {
        -&self
    }
}
