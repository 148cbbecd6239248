//! Layers whose best form depends on the target: norms, rotary positions, attention, warping.

use super::{
    dim::{Dim, show},
    graph::{Graph, Op, Provider},
    scope::Scope,
    value::Value,
};
use crate::tensor::DType;

impl Value {
    fn provider(&self) -> Provider {
        self.graph.target().provider
    }

    /// x·sigmoid(x).
    pub fn silu(&self) -> Self {
        match self.provider() {
            Provider::Portable => self * self.sigmoid(),
            _ => self.map(Op::new("QuickGelu").domain("com.microsoft").float("alpha", 1.0)),
        }
    }

    /// x·sigmoid(1.702·x), CLIP's activation.
    pub fn quick_gelu(&self) -> Self {
        match self.provider() {
            Provider::Portable => self * (self * 1.702).sigmoid(),
            _ => self.map(Op::new("QuickGelu").domain("com.microsoft").float("alpha", 1.702)),
        }
    }

    fn ones(&self, n: usize) -> Value {
        self.graph.constant(&vec![1.0; n], &[n], self.dtype)
    }

    /// Layer norm over the last axis without weights.
    pub fn layer_norm(&self, eps: f32) -> Self {
        let scale = self.ones(self.size(-1));
        let op = Op::new("LayerNormalization").float("epsilon", eps);
        self.graph.node(op, &[self, &scale], self.shape.clone(), self.dtype)
    }

    /// RMS norm over the last axis by a weight of its extent: x·rsqrt(mean(x²) + eps)·weight.
    pub fn rms_norm(&self, weight: &Value, eps: f32) -> Self {
        if self.provider() == Provider::Portable {
            let mean = (self * self).mean(&[-1]);
            return self / (mean + eps).sqrt() * weight;
        }
        let op = Op::new("RMSNormalization").float("epsilon", eps);
        self.graph.node(op, &[self, weight], self.shape.clone(), self.dtype)
    }

    /// Rotates the pairs of each head (arXiv:2104.09864) as the tables say. `self`: [n, s, heads·d].
    pub fn rope(&self, heads: usize, Rotary { cos, sin, interleaved }: &Rotary) -> Self {
        let (n, s, width) = (self.dim(0), self.dim(1), self.size(2));
        let half = self.head_width(heads) / 2;
        if self.provider() == Provider::Portable {
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

    /// Features of one head of [n, s, heads·d].
    fn head_width(&self, heads: usize) -> usize {
        let width = self.size(-1);
        if heads == 0 || !width.is_multiple_of(heads) {
            self.graph.fault(format!("{}: {heads} heads do not share {} evenly", self.name, show(&self.shape)));
            return width;
        }
        width / heads
    }

    /// Splits heads: [n, s, heads·d] → [n, heads, s, d].
    fn heads(&self, heads: usize) -> Self {
        let (n, s, d) = (self.dim(0), self.dim(1), self.head_width(heads));
        self.reshape(&[n, s, heads.into(), d.into()]).transpose(&[0, 2, 1, 3])
    }

    /// [n, t, shared·d] → [n, t, heads·d], each head repeated for the queries that share it.
    fn shared_heads(&self, shared: usize, heads: usize) -> Self {
        if shared == heads {
            return self.clone();
        }
        let (n, t, d) = (self.dim(0), self.dim(1), self.head_width(shared));
        let each = self.reshape(&[n.clone(), t.clone(), shared.into(), 1.into(), d.into()]);
        Self::concat(&vec![&each; heads / shared], 3).reshape(&[n, t, (heads * d).into()])
    }

    /// Scaled dot-product attention. `self` (queries): [n, s, heads·d]; keys, values: [n, t, heads·d], or fewer heads that
    /// groups of queries share (arXiv:2305.13245); `bias`, added to the scores before the softmax: broadcasts to
    /// [n, heads, s, t]; `scale`: by default 1/√d. → [n, s, heads·d]
    pub fn attention(&self, keys: &Value, values: &Value, heads: usize, how: &Attention) -> Self {
        let width = self.head_width(heads);
        let scale = how.scale.unwrap_or(1.0 / (width as f32).sqrt());
        let shared = keys.size(-1) / width.max(1);
        if heads == 0 || shared == 0 || !heads.is_multiple_of(shared) || shared * width != keys.size(-1) {
            let (queries, keys) = (show(&self.shape), show(&keys.shape));
            self.graph.fault(format!("{}: {heads} heads of {queries} do not share keys {keys} evenly", self.name));
            return self.clone();
        }
        let spread = |v: &Value| v.shared_heads(shared, heads);
        let none = || Value { name: String::new(), ..self.clone() };
        let bias = how.bias.clone();
        match self.provider() {
            Provider::Cpu => {
                let op = Op::new("MultiHeadAttention").domain("com.microsoft");
                let op = op.int("num_heads", heads).float("scale", scale).int("unidirectional", how.causal.into());
                let (skip, gap) = (none(), none());
                let (keys, values) = (spread(keys), spread(values));
                let mut inputs = vec![self, &keys, &values];
                if let Some(bias) = &bias {
                    inputs.extend([&skip, &gap, bias]);
                }
                self.graph.node(op, &inputs, self.shape.clone(), self.dtype)
            }
            Provider::Cuda => {
                let op = Op::new("Attention").int("q_num_heads", heads).int("kv_num_heads", shared);
                let op = op.float("scale", scale).int("is_causal", how.causal.into());
                let mut inputs = vec![self, keys, values];
                inputs.extend(&bias);
                self.graph.node(op, &inputs, self.shape.clone(), self.dtype)
            }
            Provider::Portable => {
                let (q, k, v) = (self.heads(heads), spread(keys).heads(heads), spread(values).heads(heads));
                let mut scores = q.matmul(&k.transpose(&[0, 1, 3, 2])) * scale;
                if let Some(bias) = &bias {
                    scores = scores + bias;
                }
                let out = scores.softmax().matmul(&v).transpose(&[0, 2, 1, 3]);
                out.reshape(&self.shape)
            }
        }
    }

    /// Samples `self` [n, c, h, w] at each pixel plus `flow` [n, 2, h, w] (x, then y, in pixels), bilinearly, clamped at the border.
    pub fn warp(&self, flow: &Value) -> Self {
        if self.provider() == Provider::Cpu {
            return self.graph.node(Op::new("Warp").domain("crescendo"), &[self, flow], self.shape.clone(), self.dtype);
        }
        let [n, _, h, w] = self.nchw();
        // grid_sample's coordinates run over -1..=1 between the centres of the border pixels (align_corners); in f32,
        // because reduced precision cannot tell neighbouring columns apart beyond 2000 pixels.
        let flow = flow.cast(DType::F32).transpose(&[0, 2, 3, 1]);
        let line = |extent: &Dim| {
            let last = self.graph.extent(extent).cast(DType::F32) - 1.0;
            (self.graph.range(extent).cast(DType::F32), last)
        };
        let ((xs, right), (ys, bottom)) = (line(&w), line(&h));
        let [dx, dy] = flow.split(-1, [1, 1]).map(|v| v.squeeze(3));
        let x = (dx + xs.reshape(&[1.into(), 1.into(), w.clone()])) / right * 2.0 - 1.0;
        let y = (dy + ys.reshape(&[1.into(), h.clone(), 1.into()])) / bottom * 2.0 - 1.0;
        let grid = Self::concat(&[&x.unsqueeze(3), &y.unsqueeze(3)], -1);
        let op = Op::new("GridSample").text("mode", "linear").text("padding_mode", "border").int("align_corners", 1);
        let image = self.cast(DType::F32);
        let shape = vec![n, self.dim(1), h, w];
        self.graph.node(op, &[&image, &grid], shape, DType::F32).cast(self.dtype)
    }
}

/// How attention differs from the plain form.
#[derive(Clone, Default)]
pub struct Attention {
    /// Added to the scores; broadcasts to [n, heads, s, t].
    pub bias: Option<Value>,
    /// In place of 1/√d.
    pub scale: Option<f32>,
    /// Whether the operator itself hides keys after the query.
    causal: bool,
}

impl Attention {
    /// With scores biased and scaled in the given way; scale 1/√d where none is given.
    pub fn new(bias: Option<Value>, scale: Option<f32>) -> Self {
        Self { bias, scale, causal: false }
    }

    /// No query of a sequence of `s` sees the keys after it.
    pub fn causal(g: &Graph, s: &Dim) -> Self {
        if g.target().provider != Provider::Portable {
            return Self { causal: true, ..Self::default() };
        }
        let position = g.range(s);
        let ahead = (position.unsqueeze(0) - position.unsqueeze(1)).clip(0.0, 1.0).cast(g.target().compute);
        Self { bias: Some(ahead * -1e4), ..Self::default() }
    }
}

/// Rotary tables in the form that the target wants, made once for all blocks.
#[derive(Clone)]
pub struct Rotary {
    cos: Value,
    sin: Value,
    /// Whether a pair is (x[2i], x[2i+1]) or (x[i], x[i+d/2]).
    interleaved: bool,
}

impl Rotary {
    /// Pairs (`x[2i]`, x[2i+1]). `cos`, `sin`: [s, d/2], for `batch` sequences.
    pub fn new(cos: &Value, sin: &Value, batch: &Dim) -> Self {
        let form = |v: &Value| match v.provider() {
            Provider::Portable => v.unsqueeze(1),
            _ => v.unsqueeze(0).expand(&[batch.clone(), v.dim(0), v.dim(1)]),
        };
        Self { cos: form(cos), sin: form(sin), interleaved: true }
    }

    /// Pairs (`x[i]`, x[i+d/2]), the halves of a head, otherwise as [`Rotary::new`].
    pub fn halves(cos: &Value, sin: &Value, batch: &Dim) -> Self {
        Self { interleaved: false, ..Self::new(cos, sin, batch) }
    }
}

impl Scope {
    /// Layer norm over the last axis with weight and bias.
    pub fn layer_norm(&self, name: &str, x: &Value, eps: f32) -> Value {
        let n = x.size(-1);
        let (weight, bias) = (self.at(name).weight("weight", &[n]), self.at(name).weight("bias", &[n]));
        self.named(name, || {
            let op = Op::new("LayerNormalization").float("epsilon", eps);
            self.graph().node(op, &[x, &weight, &bias], x.shape().to_vec(), x.dtype)
        })
    }

    /// RMS norm over the last axis by this place's `name.weight`.
    pub fn rms_norm(&self, name: &str, x: &Value, eps: f32) -> Value {
        let weight = self.at(name).weight("weight", &[x.size(-1)]);
        self.named(name, || x.rms_norm(&weight, eps))
    }

    /// RMS norm of each head of [n, s, heads·d] by one weight of extent d.
    pub fn head_norm(&self, name: &str, x: &Value, heads: usize, eps: f32) -> Value {
        let width = x.head_width(heads);
        let weight = self.at(name).weight("weight", &[width]);
        self.named(name, || {
            let split = x.reshape(&[x.dim(0), x.dim(1), heads.into(), width.into()]);
            split.rms_norm(&weight, eps).reshape(x.shape())
        })
    }

    /// Group norm of [n, c, h, w] (arXiv:1803.08494) with weight and bias per channel, statistics in f32.
    pub fn group_norm(&self, name: &str, x: &Value, groups: usize, eps: f32) -> Value {
        let c = x.size(1);
        let [n, _, h, w] = x.nchw();
        let (weight, bias) = (self.at(name).weight("weight", &[c]), self.at(name).weight("bias", &[c]));
        let per_channel = |v: &Value| v.reshape(&[c.into(), 1.into(), 1.into()]);
        if groups == 0 || !c.is_multiple_of(groups) {
            self.graph().fault(format!("{}: {groups} groups do not share {} evenly", x.name, show(x.shape())));
            return x.clone();
        }
        let area = &(&h * &w) * (c / groups);
        self.named(name, || {
            let grouped = x.reshape(&[n, groups.into(), area]).cast(DType::F32);
            let centred = &grouped - grouped.mean(&[-1]);
            let variance = (&centred * &centred).mean(&[-1]);
            let y = (centred / (variance + eps).sqrt()).cast(x.dtype).reshape(x.shape());
            y * per_channel(&weight) + per_channel(&bias)
        })
    }
}
