//! Warping by optical flow.
//!
//! | CPU | CUDA | portable |
//! |---|---|---|
//! | `crescendo.Warp`, an operator of the runtime module | GridSample in f32 | GridSample in f32 |

use crate::{
    onnx::{dim::Dim, graph::Value, model::Provider, op::Op},
    tensor::DType,
};

impl Value {
    /// Samples `self` [n, c, h, w] at each pixel plus `flow` [n, 2, h, w] (x, then y, in pixels), bilinearly, clamped at the border.
    pub fn warp(&self, flow: &Value) -> Self {
        if self.graph.target().provider == Provider::Cpu {
            return self.graph.node(Op::new("Warp").domain("crescendo"), &[self, flow], self.shape.clone(), self.dtype);
        }
        let [n, _, h, w] = self.nchw();
        // GridSample's coordinates are −1..=1 between the centres of the border pixels (align_corners). They are f32: 16 bits do
        // not resolve single columns beyond 2000 pixels.
        let flow = flow.cast(DType::F32).transpose(&[0, 2, 3, 1]);
        // The last coordinate is taken from the line: an extent is computed on the host, and a cast of it on the device would cost a copy
        // in every run and forbid captured graphs.
        let line = |extent: &Dim| {
            let line = self.graph.range(extent).cast(DType::F32);
            let last = line.slice(0, extent - 1, extent);
            (line, last)
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
