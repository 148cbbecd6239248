//! Reshaping, slicing, concatenation and gathering.

use crate::onnx::{
    dim::{Dim, show},
    graph::{Value, mismatch},
    op::{Op, Rows},
};

impl Value {
    /// Permutes the axes.
    pub fn transpose(&self, order: &[usize]) -> Self {
        let shape = order.iter().map(|&a| self.dim(a as isize)).collect();
        self.graph.node(Op::new("Transpose").ints("perm", order), &[self], shape, self.dtype)
    }

    /// The same elements in another shape. Extents that the runtime cannot infer are computed from the shapes of the inputs.
    pub fn reshape(&self, to: &[Dim]) -> Self {
        let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |a, d| &a * d);
        if product(&self.shape) != product(to) {
            self.graph.error(mismatch(&format!("{}: reshape", self.name), &self.shape, to));
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

    /// Inserts an axis of extent 1.
    pub fn unsqueeze(&self, axis: usize) -> Self {
        let mut shape = self.shape.clone();
        shape.insert(axis.min(shape.len()), 1.into());
        let axes = self.graph.integers(&[axis as i64], &[1]);
        self.graph.node(Op::new("Unsqueeze"), &[self, &axes], shape, self.dtype)
    }

    /// Removes an axis of extent 1.
    pub fn squeeze(&self, axis: usize) -> Self {
        let mut shape = self.shape.clone();
        if shape.get(axis) != Some(&1.into()) {
            self.graph.error(format!("{}: axis {axis} of {} is not of extent 1", self.name, show(&shape)));
            return self.clone();
        }
        shape.remove(axis);
        let axes = self.graph.integers(&[axis as i64], &[1]);
        self.graph.node(Op::new("Squeeze"), &[self, &axes], shape, self.dtype)
    }

    /// Repeats along axes of extent 1 to the given shape.
    pub fn expand(&self, to: &[Dim]) -> Self {
        let parts: Vec<Value> = to.iter().map(|d| self.graph.extent(d)).collect();
        let target = Self::concat(&parts.iter().collect::<Vec<_>>(), 0);
        self.graph.node(Op::new("Expand"), &[self, &target], to.to_vec(), self.dtype)
    }

    /// Concatenates values along an axis.
    pub fn concat(values: &[&Self], axis: isize) -> Self {
        let first = values[0];
        let Some(at) = first.axis(axis) else { return first.clone() };
        let mut shape = first.shape.clone();
        for v in &values[1..] {
            let same = v.rank() == shape.len() && (0..shape.len()).all(|i| i == at || shape[i] == v.shape[i]);
            if !same {
                first.graph.error(mismatch(&format!("{}: concat", first.name), &first.shape, &v.shape));
                return first.clone();
            }
            shape[at] = &shape[at] + &v.shape[at];
        }
        let rows = if at + 2 < shape.len() { Rows::Same } else { Rows::All };
        first.graph.node(Op::new("Concat").int("axis", at).rows(rows), values, shape, first.dtype)
    }

    /// Elements `from..to` of an axis. Both bounds may be symbolic.
    pub fn slice(&self, axis: isize, from: impl Into<Dim>, to: impl Into<Dim>) -> Self {
        let (from, to) = (from.into(), to.into());
        let Some(at) = self.axis(axis) else { return self.clone() };
        let mut shape = self.shape.clone();
        if to.known().zip(shape[at].known()).is_some_and(|(to, extent)| to > extent) {
            self.graph.error(format!("{}: no elements {from}..{to} on axis {axis} of {}", self.name, show(&shape)));
        }
        shape[at] = &to - &from;
        let (from, to) = (self.graph.extent(&from), self.graph.extent(&to));
        let axes = self.graph.integers(&[at as i64], &[1]);
        self.graph.node(Op::new("Slice"), &[self, &from, &to, &axes], shape, self.dtype)
    }

    /// Splits an axis into parts of the given sizes.
    pub fn split<const N: usize>(&self, axis: isize, sizes: [usize; N]) -> [Self; N] {
        let total: usize = sizes.iter().sum();
        let Some(at) = self.axis(axis) else { return sizes.map(|_| self.clone()) };
        if self.shape[at].known() != Some(total) {
            self.graph.error(format!("{}: split of {} into {sizes:?}", self.name, show(&self.shape)));
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
}
