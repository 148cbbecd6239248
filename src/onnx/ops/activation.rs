//! Activations and other functions of single elements.
//!
//! | | CPU, CUDA | portable |
//! |---|---|---|
//! | SiLU, quick GELU | QuickGelu | x·Sigmoid(a·x) |

use crate::onnx::{
    graph::Value,
    model::Provider,
    op::{Op, Rows},
    scope::Scope,
};

impl Value {
    /// max(x, slope·x).
    pub fn leaky_relu(&self, slope: f32) -> Self {
        self.map(Op::pointwise("LeakyRelu").float("alpha", slope))
    }

    /// 1/(1+e⁻ˣ).
    pub fn sigmoid(&self) -> Self {
        self.map(Op::pointwise("Sigmoid"))
    }

    /// Hyperbolic tangent.
    pub fn tanh(&self) -> Self {
        self.map(Op::pointwise("Tanh"))
    }

    /// Square root.
    pub fn sqrt(&self) -> Self {
        self.map(Op::pointwise("Sqrt"))
    }

    /// Cosine.
    pub fn cos(&self) -> Self {
        self.map(Op::pointwise("Cos"))
    }

    /// Sine.
    pub fn sin(&self) -> Self {
        self.map(Op::pointwise("Sin"))
    }

    /// GELU in its tanh approximation (arXiv:1606.08415).
    pub fn gelu_tanh(&self) -> Self {
        self.map(Op::pointwise("Gelu").text("approximate", "tanh"))
    }

    /// GELU with the error function.
    pub fn gelu(&self) -> Self {
        self.map(Op::pointwise("Gelu").text("approximate", "none"))
    }

    /// Clamped to low..=high.
    pub fn clip(&self, low: f32, high: f32) -> Self {
        let (low, high) = (self.scalar(low), self.scalar(high));
        self.graph.node(Op::pointwise("Clip"), &[self, &low, &high], self.shape.clone(), self.dtype)
    }

    /// x·sigmoid(x).
    pub fn silu(&self) -> Self {
        match self.graph.target().provider {
            Provider::Portable => self * self.sigmoid(),
            _ => self.map(Op::pointwise("QuickGelu").domain("com.microsoft").float("alpha", 1.0)),
        }
    }

    /// x·sigmoid(1.702·x), CLIP's activation.
    pub fn quick_gelu(&self) -> Self {
        match self.graph.target().provider {
            Provider::Portable => self * (self * 1.702).sigmoid(),
            _ => self.map(Op::pointwise("QuickGelu").domain("com.microsoft").float("alpha", 1.702)),
        }
    }
}

impl Scope {
    /// One learned slope per channel of [n, c, h, w]; the weight is `[c]`.
    pub(crate) fn prelu(&self, name: &str, x: &Value) -> Value {
        let channels = x.size(1);
        let slope = self.at(name).weight("weight", &[channels]).reshape(&[channels.into(), 1.into(), 1.into()]);
        self.graph().node(self.op("PRelu", name).rows(Rows::Same), &[x, &slope], x.shape().to_vec(), x.dtype)
    }
}
