//! Normalisation layers.
//!
//! | | CPU, CUDA | portable |
//! |---|---|---|
//! | RMS norm | RMSNormalization | arithmetic |
//! | layer norm | LayerNormalization | the same |
//! | group norm | arithmetic, in f32 | the same |

use crate::{
    onnx::{dim::show, graph::Value, model::Provider, op::Op, scope::Scope},
    tensor::DType,
};

impl Value {
    /// A vector of `n` ones.
    fn ones(&self, n: usize) -> Value {
        self.graph.constant(&vec![1.0; n], &[n], self.dtype)
    }

    /// Layer norm over the last axis without weights.
    pub fn layer_norm(&self, eps: f32) -> Self {
        let scale = self.ones(self.size(-1));
        let op = Op::new("LayerNormalization").float("epsilon", eps);
        self.graph.node(op, &[self, &scale], self.shape.clone(), self.dtype)
    }

    /// RMS norm over the last axis with a weight of its extent: x·rsqrt(mean(x²) + eps)·weight.
    pub fn rms_norm(&self, weight: &Value, eps: f32) -> Self {
        if self.graph.target().provider == Provider::Portable {
            let mean = (self * self).mean(&[-1]);
            return self / (mean + eps).sqrt() * weight;
        }
        let op = Op::new("RMSNormalization").float("epsilon", eps);
        self.graph.node(op, &[self, weight], self.shape.clone(), self.dtype)
    }
}

impl Scope {
    /// Layer norm over the last axis with weight and bias.
    pub(crate) fn layer_norm(&self, name: &str, x: &Value, eps: f32) -> Value {
        let n = x.size(-1);
        let (weight, bias) = (self.at(name).weight("weight", &[n]), self.at(name).weight("bias", &[n]));
        self.named(name, || {
            let op = Op::new("LayerNormalization").float("epsilon", eps);
            self.graph().node(op, &[x, &weight, &bias], x.shape().to_vec(), x.dtype)
        })
    }

    /// RMS norm over the last axis with weight.
    pub(crate) fn rms_norm(&self, name: &str, x: &Value, eps: f32) -> Value {
        let weight = self.at(name).weight("weight", &[x.size(-1)]);
        self.named(name, || x.rms_norm(&weight, eps))
    }

    /// RMS norm of each head of [n, s, heads·d] with one weight of extent d.
    pub(crate) fn head_norm(&self, name: &str, x: &Value, heads: usize, eps: f32) -> Value {
        let head_dim = x.head_dim(heads);
        let weight = self.at(name).weight("weight", &[head_dim]);
        self.named(name, || {
            let split = x.reshape(&[x.dim(0), x.dim(1), heads.into(), head_dim.into()]);
            split.rms_norm(&weight, eps).reshape(x.shape())
        })
    }

    /// Group norm of [n, c, h, w] (arXiv:1803.08494) with weight and bias per channel, statistics in f32.
    pub(crate) fn group_norm(&self, name: &str, x: &Value, groups: usize, eps: f32) -> Value {
        let c = x.size(1);
        let [n, _, h, w] = x.nchw();
        let (weight, bias) = (self.at(name).weight("weight", &[c]), self.at(name).weight("bias", &[c]));
        let per_channel = |v: &Value| v.reshape(&[c.into(), 1.into(), 1.into()]);
        if groups == 0 || !c.is_multiple_of(groups) {
            self.graph().error(format!("{}: {groups} groups do not divide {} evenly", x.name, show(x.shape())));
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
