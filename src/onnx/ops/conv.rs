//! Convolutions.

use crate::onnx::{dim::Dim, graph::Value, op::Rows, scope::Scope};

/// Parameters of a convolution. Defaults: stride 1, padding that keeps the size for odd kernels, one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    out: usize,
    kernel: usize,
    stride: usize,
    /// top, left, bottom, right
    pad: [usize; 4],
    groups: usize,
}

impl Conv {
    /// `out` channels, a square kernel.
    pub(crate) fn new(out: usize, kernel: usize) -> Self {
        Self { out, kernel, stride: 1, pad: [kernel / 2; 4], groups: 1 }
    }

    /// With a stride.
    pub(crate) fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With zero padding: top, left, bottom, right.
    pub(crate) fn pad(self, pad: [usize; 4]) -> Self {
        Self { pad, ..self }
    }

    /// With channel groups.
    pub(crate) fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

impl Scope {
    /// A convolution with bias, stride 1 and padding that keeps the size: [n, c, h, w] → [n, out, h, w].
    pub(crate) fn conv2d(&self, name: &str, x: &Value, out: usize, kernel: usize) -> Value {
        self.conv(name, x, Conv::new(out, kernel))
    }

    /// [`Scope::conv2d`] without bias.
    pub(crate) fn conv2d_no_bias(&self, name: &str, x: &Value, out: usize, kernel: usize) -> Value {
        self.convolve(name, x, Conv::new(out, kernel), None)
    }

    /// A convolution with bias: [n, c, h, w] → [n, out, h', w'].
    pub(crate) fn conv(&self, name: &str, x: &Value, options: Conv) -> Value {
        let bias = self.at(name).weight("bias", &[options.out]);
        self.convolve(name, x, options, Some(bias))
    }

    /// A convolution with bias and a computed kernel [out, c, k, k].
    pub(crate) fn conv_by(&self, name: &str, x: &Value, kernel: &Value, options: Conv) -> Value {
        let bias = self.at(name).weight("bias", &[options.out]);
        self.convolve_by(name, x, kernel, options, Some(bias))
    }

    fn convolve(&self, name: &str, x: &Value, options: Conv, bias: Option<Value>) -> Value {
        let Conv { out, kernel, groups, .. } = options;
        let weight = self.at(name).weight("weight", &[out, x.size(1) / groups.max(1), kernel, kernel]);
        self.convolve_by(name, x, &weight, options, bias)
    }

    fn convolve_by(&self, name: &str, x: &Value, weight: &Value, options: Conv, bias: Option<Value>) -> Value {
        let [n, _, h, w] = x.nchw();
        let Conv { out, kernel, stride, pad, groups } = options;
        let extent = |d: &Dim, pads: usize| &(&(d + pads) - kernel).div_floor(stride) + 1;
        let shape = vec![n, out.into(), extent(&h, pad[0] + pad[2]), extent(&w, pad[1] + pad[3])];
        // If rows and columns have different padding, the window covers both.
        let (before, least) = (pad[0].max(pad[1]), pad[0].min(pad[1]));
        let rows = Rows::Window { kernel: kernel + before - least, stride, before };
        let op = self
            .op("Conv", name)
            .ints("kernel_shape", &[kernel; 2])
            .ints("strides", &[stride; 2])
            .ints("pads", &pad)
            .int("group", groups)
            .rows(rows);
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(&bias).collect();
        self.graph().node(op, &inputs, shape, x.dtype)
    }

    /// A transposed convolution, kernel 4, stride 2, padding 1, with bias: [n, c, h, w] → [n, out, 2h, 2w].
    pub(crate) fn conv_transpose2x(&self, name: &str, x: &Value, out: usize) -> Value {
        let [n, _, h, w] = x.nchw();
        let weight = self.at(name).weight("weight", &[x.size(1), out, 4, 4]);
        let bias = self.at(name).weight("bias", &[out]);
        let op = self.op("ConvTranspose", name).ints("strides", &[2; 2]).ints("pads", &[1; 4]);
        self.graph().node(op, &[x, &weight, &bias], vec![n, out.into(), &h * 2, &w * 2], x.dtype)
    }
}
