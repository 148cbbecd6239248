//! Resizing and pixel shuffles.

use crate::{
    onnx::{
        dim::Dim,
        graph::Value,
        op::{Op, Rows},
    },
    tensor::DType,
};

impl Value {
    /// Nearest-neighbour upsampling: [n, c, h, w] → [n, c, h·times, w·times].
    pub fn upsample_nearest(&self, times: usize) -> Self {
        let op = Op::new("Resize")
            .text("mode", "nearest")
            .text("coordinate_transformation_mode", "asymmetric")
            .text("nearest_mode", "floor");
        self.resize(op.rows(Rows::Upsampled(times)), times as f32)
    }

    /// Bilinear resizing with half-pixel centres (torch's align_corners=False): [n, c, h, w] → [n, c, h·factor, w·factor]. `factor` is
    /// an integer or its inverse.
    pub fn resize_bilinear(&self, factor: f32) -> Self {
        if factor == 1.0 {
            return self.clone();
        }
        let op = Op::new("Resize").text("mode", "linear").text("coordinate_transformation_mode", "half_pixel");
        self.resize(op, factor)
    }

    fn resize(&self, op: Op, factor: f32) -> Self {
        let scaled = |d: &Dim| if factor >= 1.0 { d * factor as usize } else { d.div_floor((1.0 / factor) as usize) };
        let [n, c, h, w] = self.nchw();
        let shape = vec![n, c, scaled(&h), scaled(&w)];
        let scales = self.graph.constant(&[1.0, 1.0, factor, factor], &[4], DType::F32);
        let none = Value { name: String::new(), ..scales.clone() };
        self.graph.node(op, &[self, &none, &scales], shape, self.dtype)
    }

    /// Pixel shuffle (arXiv:1609.05158): [n, c·s², h, w] → [n, c, h·s, w·s].
    pub fn pixel_shuffle(&self, s: usize) -> Self {
        let [n, c, h, w] = self.nchw();
        let shape = vec![n, c.div_floor(s * s), &h * s, &w * s];
        let op = Op::new("DepthToSpace").int("blocksize", s).text("mode", "CRD").rows(Rows::Upsampled(s));
        self.graph.node(op, &[self], shape, self.dtype)
    }

    /// Inverse of [`Value::pixel_shuffle`]: [n, c, h·s, w·s] → [n, c·s², h, w].
    pub fn pixel_unshuffle(&self, s: usize) -> Self {
        if s == 1 {
            return self.clone();
        }
        let [n, c, h, w] = self.nchw();
        let (h, w) = (h.div_floor(s), w.div_floor(s));
        let blocks = self.reshape(&[n.clone(), c.clone(), h.clone(), s.into(), w.clone(), s.into()]);
        let channels = blocks.transpose(&[0, 1, 3, 5, 2, 4]).reshape(&[n, &c * (s * s), h, w]);
        self.graph.set_rows(&channels, self, Rows::Blocks(s));
        channels
    }
}
