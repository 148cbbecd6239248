//! Matrix products, linear layers and embedding tables.
//!
//! | | CPU, CUDA | portable |
//! |---|---|---|
//! | linear layer | FusedMatMul on the stored [out, in] weight | Transpose, MatMul |

use super::arithmetic::broadcast;
use crate::onnx::{
    graph::{Value, mismatch},
    model::Provider,
    op::Op,
    scope::Scope,
};

impl Value {
    /// Matrix product over the last two axes, the others broadcast.
    pub fn matmul(&self, other: &Self) -> Self {
        let (a, b) = (self.rank(), other.rank());
        if a < 2 || b < 2 || self.shape[a - 1] != other.shape[b - 2] {
            self.graph.error(mismatch(&format!("{}: matrix product", self.name), &self.shape, &other.shape));
            return self.clone();
        }
        let mut shape = broadcast(&self.shape[..a - 2], &other.shape[..b - 2]).unwrap_or_default();
        shape.extend([self.shape[a - 2].clone(), other.shape[b - 1].clone()]);
        self.graph.node(Op::new("MatMul"), &[self, other], shape, self.dtype)
    }
}

impl Scope {
    /// x·Wᵀ + b over the last axis; W [out, in], b `[out]`.
    pub(crate) fn linear(&self, name: &str, x: &Value, out: usize) -> Value {
        let y = self.linear_no_bias(name, x, out);
        let bias = self.at(name).weight("bias", &[out]);
        let sum = self.op("Add", &format!("{name}.Add"));
        self.graph().node(sum, &[&y, &bias], y.shape().to_vec(), y.dtype)
    }

    /// x·Wᵀ over the last axis; W [out, in].
    pub(crate) fn linear_no_bias(&self, name: &str, x: &Value, out: usize) -> Value {
        let weight = self.at(name).weight("weight", &[out, x.size(-1)]);
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = out.into();
        }
        if self.graph().target().provider == Provider::Portable {
            let weight = weight.transpose(&[1, 0]);
            return self.graph().node(self.op("MatMul", name), &[x, &weight], shape, x.dtype);
        }
        // The weight stays [out, in]: a folded Transpose would double its memory.
        let op = self.op("FusedMatMul", name).domain("com.microsoft").int("transB", 1);
        self.graph().node(op, &[x, &weight], shape, x.dtype)
    }

    /// Looks up rows of an embedding table [rows, width] by ids [n, s], i64 → [n, s, width].
    pub(crate) fn embedding(&self, name: &str, ids: &Value, width: usize) -> Value {
        let compute = self.graph().target().compute;
        let table = self.at(name);
        let (rows, dtype) =
            table.stored("weight").map_or((1, compute), |s| (s.shape.first().copied().unwrap_or(1), s.dtype));
        // The gathered rows are cast, not the table: a language model's has gigabytes, of which a prompt reads kilobytes.
        let table = self.graph().in_type(dtype, || table.weight("weight", &[rows, width]));
        self.named(name, || table.gather(ids).cast(compute))
    }
}
