//! SRVGGNetCompact, Real-ESRGAN's small network, as its `archs/srvgg_arch.py`: convolutions and PReLUs, one pixel shuffle, added
//! to the picture upsampled by nearest neighbour.

use super::{
    architecture::{Architecture, ConfigChecks, NetworkKind, Upscaler},
    shared::dimensions::{blocked, count, shape},
};
use crate::{
    error::{Error, Result},
    onnx::{Dim, Scope},
    tensor::DType,
    weights::Checkpoint,
};

/// SRVGGNetCompact.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "SRVGGNetCompact",
    classes: &[],
    detect: |c| {
        let axes = |n: &str| c.get(n).map(|s| s.shape.len());
        axes("body.0.weight") == Some(4) && axes("body.1.weight") == Some(1)
    },
    config: ConfigChecks::new(&[]),
    network: NetworkKind::Upscaler {
        models: "SRVGGNetCompact (realesr-general, realesr-animevideo)",
        canonical: Ok,
        open: |c| Ok(Box::new(Srvgg::new(c)?)),
    },
};

/// Dimensions of the network.
struct Srvgg {
    scale: usize,
    /// Convolutions between the first and the last.
    depth: usize,
    features: usize,
}

impl Srvgg {
    fn new(c: &Checkpoint) -> Result<Self> {
        let [features, inputs, _, _] = shape(c, "body.0.weight")?;
        let layers = count(c, "body")?;
        let [outputs] = shape(c, &format!("body.{}.bias", layers - 1))?;
        let scale = (outputs as f64 / 3.0).sqrt().round() as usize;
        if inputs != 3 || outputs != 3 * scale * scale || layers.is_multiple_of(2) {
            let found = format!("{inputs} inputs, {outputs} outputs, {layers} layers");
            let origin = c.origin().display();
            let expected = "3 inputs, 3·scale² outputs and an odd number of layers";
            return Err(Error::failed(format!("{origin}: {found}; an SRVGGNetCompact has {expected}")));
        }
        Ok(Self { scale, depth: (layers - 3) / 2, features })
    }
}

impl Upscaler for Srvgg {
    fn scale(&self) -> usize {
        self.scale
    }

    fn depth(&self) -> usize {
        self.depth
    }

    /// The maps around an activation and, beside them, half again the output (the arena's gaps are too small for it; measured at 1 and
    /// 12 megapixels), or the input of the last convolution and its output in two layouts.
    fn pixel_bytes(&self) -> usize {
        let output = 3 * self.scale * self.scale;
        4 * (3 * self.features + output * 3 / 2).max(blocked(self.features) + 2 * output)
    }

    fn build(&self, w: &Scope) {
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
