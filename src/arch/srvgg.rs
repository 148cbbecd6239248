//! SRVGGNetCompact, Real-ESRGAN's small network, as its `archs/srvgg_arch.py`: convolutions and PReLUs, one pixel shuffle, added
//! to the picture enlarged by repetition.

use super::{count, shape};
use crate::{
    error::{Error, Result},
    onnx::{Dim, Scope},
    tensor::DType,
    weights::Checkpoint,
};

/// The network's extents.
#[derive(Debug, Clone)]
pub struct Srvgg {
    /// Output pixels per input pixel, each way.
    pub scale: usize,
    /// Convolutions between the first and the last.
    pub depth: usize,
    features: usize,
}

/// Whether the names are those of an SRVGGNetCompact.
pub fn is(c: &Checkpoint) -> bool {
    let axes = |n: &str| c.get(n).map(|s| s.shape.len());
    axes("body.0.weight") == Some(4) && axes("body.1.weight") == Some(1)
}

impl Srvgg {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
        let [features, inputs, _, _] = shape(c, "body.0.weight")?;
        let layers = count(c, "body")?;
        let [outputs] = shape(c, &format!("body.{}.bias", layers - 1))?;
        let scale = (outputs as f64 / 3.0).sqrt().round() as usize;
        if inputs != 3 || outputs != 3 * scale * scale || layers.is_multiple_of(2) {
            let found = format!("{inputs} inputs, {outputs} outputs, {layers} layers");
            let origin = c.origin().display();
            let wanted = "3 inputs, 3·scale² outputs and an odd number of layers";
            return Err(Error::failed(format!("{origin}: an SRVGGNetCompact has {wanted}; this has {found}")));
        }
        Ok(Self { scale, depth: (layers - 3) / 2, features })
    }

    /// Bytes of activations per input pixel at the peak, about.
    pub fn pixel_bytes(&self) -> usize {
        4 * (3 * self.features).max(9 * self.scale * self.scale)
    }

    /// Input `picture` [n, 3, h, w] in 0..=1; output `enlarged` [n, 3, h·scale, w·scale], not clamped.
    pub fn build(&self, w: &Scope) {
        let g = w.graph();
        let shape = [Dim::symbol("n"), 3.into(), Dim::symbol("h"), Dim::symbol("w")];
        let picture = g.input("picture", &shape, DType::F32);
        let w = &w.at("body");
        let mut x = picture.clone();
        for i in 0..=self.depth {
            x = w.conv2d(&(2 * i).to_string(), &x, self.features, 3);
            x = w.prelu(&(2 * i + 1).to_string(), &x);
        }
        let x = w.conv2d(&(2 * self.depth + 2).to_string(), &x, 3 * self.scale * self.scale, 3);
        g.output("enlarged", &(x.pixel_shuffle(self.scale) + picture.upsample_nearest(self.scale)));
    }
}
