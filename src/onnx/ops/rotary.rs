//! Rotary position embedding.
//!
//! | CPU, CUDA | portable |
//! |---|---|
//! | RotaryEmbedding | Split, arithmetic, Concat |

use crate::onnx::{dim::Dim, graph::Value, model::Provider, op::Op};

/// Rotary tables in the target's layout, shared by all blocks.
#[derive(Clone)]
pub struct Rotary {
    cos: Value,
    sin: Value,
    /// Pairs are (x[2i], x[2i+1]), else (x[i], x[i+d/2]).
    interleaved: bool,
}

impl Rotary {
    /// Pairs (`x[2i]`, x[2i+1]). `cos`, `sin`: [s, d/2], for `batch` sequences.
    pub fn new(cos: &Value, sin: &Value, batch: &Dim) -> Self {
        let layout = |v: &Value| match v.graph.target().provider {
            Provider::Portable => v.unsqueeze(1),
            _ => v.unsqueeze(0).expand(&[batch.clone(), v.dim(0), v.dim(1)]),
        };
        Self { cos: layout(cos), sin: layout(sin), interleaved: true }
    }

    /// As [`Rotary::new`] with pairs (`x[i]`, x[i+d/2]), the halves of a head.
    pub fn halves(cos: &Value, sin: &Value, batch: &Dim) -> Self {
        Self { interleaved: false, ..Self::new(cos, sin, batch) }
    }
}

impl Value {
    /// Rotates the pairs of each head of [n, s, heads·d] (arXiv:2104.09864).
    pub fn rope(&self, heads: usize, Rotary { cos, sin, interleaved }: &Rotary) -> Self {
        let (n, s, width) = (self.dim(0), self.dim(1), self.size(2));
        let half = self.head_dim(heads) / 2;
        if self.graph.target().provider == Provider::Portable {
            let (pair, split) = if *interleaved { (4, [half, 2]) } else { (3, [2, half]) };
            let [inner, outer] = split.map(Dim::from);
            let pairs = self.reshape(&[n.clone(), s.clone(), heads.into(), inner, outer]);
            let [a, b] = pairs.split(pair as isize, [1, 1]).map(|v| v.squeeze(pair));
            let (x, y) = (&a * cos - &b * sin, &a * sin + &b * cos);
            let pairs = Self::concat(&[&x.unsqueeze(pair), &y.unsqueeze(pair)], pair as isize);
            return pairs.reshape(&[n, s, width.into()]);
        }
        let op = Op::new("RotaryEmbedding").int("interleaved", (*interleaved).into()).int("num_heads", heads);
        self.graph.node(op, &[self, cos, sin], self.shape.clone(), self.dtype)
    }
}
