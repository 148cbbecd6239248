//! Scaled dot-product attention.
//!
//! | CPU | CUDA | portable |
//! |---|---|---|
//! | MultiHeadAttention | Attention | MatMul, Softmax, MatMul |
//!
//! A causal mask is an attribute on CPU and CUDA, and a bias in portable graphs.

use crate::onnx::{
    dim::{Dim, show},
    graph::{Graph, Value},
    model::Provider,
    op::Op,
};

/// Options of an attention layer.
#[derive(Clone, Default)]
pub struct Attention {
    /// Added to the scores before the softmax; broadcasts to [n, heads, s, t].
    bias: Option<Value>,
    /// Factor of the scores; `None`: 1/√d.
    scale: Option<f32>,
    /// Whether the operator masks keys after the query.
    causal: bool,
}

impl Attention {
    /// With a bias and a scale.
    pub fn new(bias: Option<Value>, scale: Option<f32>) -> Self {
        Self { bias, scale, causal: false }
    }

    /// Causal attention over a sequence of `s`: a query attends to no later key.
    pub fn causal(g: &Graph, s: &Dim) -> Self {
        if g.target().provider != Provider::Portable {
            return Self { causal: true, ..Self::default() };
        }
        let position = g.range(s);
        let ahead = (position.unsqueeze(0) - position.unsqueeze(1)).clip(0.0, 1.0).cast(g.target().compute);
        Self { bias: Some(ahead * -1e4), ..Self::default() }
    }
}

impl Value {
    /// Features of one head of [n, s, heads·d].
    pub(super) fn head_dim(&self, heads: usize) -> usize {
        let width = self.size(-1);
        if heads == 0 || !width.is_multiple_of(heads) {
            self.graph.error(format!("{}: {heads} heads do not divide {} evenly", self.name, show(&self.shape)));
            return width;
        }
        width / heads
    }

    /// Separates heads: [n, s, heads·d] → [n, heads, s, d].
    fn heads(&self, heads: usize) -> Self {
        let (n, s, d) = (self.dim(0), self.dim(1), self.head_dim(heads));
        self.reshape(&[n, s, heads.into(), d.into()]).transpose(&[0, 2, 1, 3])
    }

    /// Repeats each key or value head for the query heads that share it: [n, t, kv_heads·d] → [n, t, heads·d].
    fn repeat_heads(&self, kv_heads: usize, heads: usize) -> Self {
        if kv_heads == heads {
            return self.clone();
        }
        let (n, t, d) = (self.dim(0), self.dim(1), self.head_dim(kv_heads));
        let each = self.reshape(&[n.clone(), t.clone(), kv_heads.into(), 1.into(), d.into()]);
        Self::concat(&vec![&each; heads / kv_heads], 3).reshape(&[n, t, (heads * d).into()])
    }

    /// Scaled dot-product attention of queries `self` [n, s, heads·d] to keys and values [n, t, kv_heads·d], where groups of query
    /// heads share a key head if kv_heads < heads (arXiv:2305.13245) → [n, s, heads·d].
    pub fn attention(&self, keys: &Value, values: &Value, heads: usize, options: &Attention) -> Self {
        let head_dim = self.head_dim(heads);
        if heads == 0 || !self.size(-1).is_multiple_of(heads) {
            return self.clone();
        }
        let scale = options.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
        let kv_heads = keys.size(-1) / head_dim.max(1);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || kv_heads * head_dim != keys.size(-1) {
            let (queries, keys) = (show(&self.shape), show(&keys.shape));
            self.graph.error(format!("{}: {heads} heads of {queries} do not divide keys {keys} evenly", self.name));
            return self.clone();
        }
        let repeated = |v: &Value| v.repeat_heads(kv_heads, heads);
        let none = || Value { name: String::new(), ..self.clone() };
        let bias = options.bias.clone();
        match self.graph.target().provider {
            Provider::Cpu => {
                let op = Op::new("MultiHeadAttention").domain("com.microsoft");
                let op = op.int("num_heads", heads).float("scale", scale).int("unidirectional", options.causal.into());
                let (skip, gap) = (none(), none());
                let (keys, values) = (repeated(keys), repeated(values));
                let mut inputs = vec![self, &keys, &values];
                if let Some(bias) = &bias {
                    inputs.extend([&skip, &gap, bias]);
                }
                self.graph.node(op, &inputs, self.shape.clone(), self.dtype)
            }
            Provider::Cuda => {
                let op = Op::new("Attention").int("q_num_heads", heads).int("kv_num_heads", kv_heads);
                let op = op.float("scale", scale).int("is_causal", options.causal.into());
                let mut inputs = vec![self, keys, values];
                inputs.extend(&bias);
                self.graph.node(op, &inputs, self.shape.clone(), self.dtype)
            }
            Provider::Portable => {
                let (q, k, v) = (self.heads(heads), repeated(keys).heads(heads), repeated(values).heads(heads));
                let mut scores = q.matmul(&k.transpose(&[0, 1, 3, 2])) * scale;
                if let Some(bias) = &bias {
                    scores = scores + bias;
                }
                let out = scores.softmax().matmul(&v).transpose(&[0, 2, 1, 3]);
                out.reshape(&self.shape)
            }
        }
    }
}
