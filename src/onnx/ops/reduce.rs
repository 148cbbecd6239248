//! Reductions along axes.

use crate::onnx::{graph::Value, op::Op, proto::Attr};

impl Value {
    /// Mean over axes, which become extent 1.
    pub fn mean(&self, axes: &[isize]) -> Self {
        let mut shape = self.shape.clone();
        let axes: Vec<i64> = axes.iter().filter_map(|&a| self.axis(a).map(|a| a as i64)).collect();
        for &a in &axes {
            shape[a as usize] = 1.into();
        }
        let axes = self.graph.integers(&axes, &[axes.len()]);
        self.graph.node(Op::new("ReduceMean").int("keepdims", 1), &[self, &axes], shape, self.dtype)
    }

    /// Largest magnitude over all axes but the first, which become extent 1.
    pub fn max_magnitude(&self) -> Self {
        let mut shape = self.shape.clone();
        shape.iter_mut().skip(1).for_each(|d| *d = 1.into());
        let axes: Vec<i64> = (1..shape.len() as i64).collect();
        let axes = self.graph.integers(&axes, &[axes.len()]);
        let magnitudes = self.map(Op::pointwise("Abs"));
        self.graph.node(Op::new("ReduceMax").int("keepdims", 1), &[&magnitudes, &axes], shape, self.dtype)
    }

    /// Softmax over the last axis.
    pub fn softmax(&self) -> Self {
        self.map(Op::new("Softmax").attr("axis", Attr::Int(-1)))
    }
}
