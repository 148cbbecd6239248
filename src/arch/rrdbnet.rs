//! RRDBNet, the generator of ESRGAN (arXiv:1809.00219 §3.1) and Real-ESRGAN (arXiv:2107.10833), as BasicSR
//! `archs/rrdbnet_arch.py`; x8 as ai-forever/Real-ESRGAN's; the extra 1×1 convolution of ESRGAN+ (arXiv:2001.08073).

use super::{
    architecture::{Architecture, ConfigChecks, NetworkKind, Upscaler},
    shared::dimensions::{blocked, count, shape},
};
use crate::{
    error::{Error, Result},
    onnx::{Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// RRDBNet, with any of its three naming schemes of tensors.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "RRDBNet",
    classes: &[],
    detect: |c| {
        ["body.0.rdb1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight", "RRDB_trunk.0.RDB1.conv1.weight"]
            .iter()
            .any(|n| c.contains(n))
    },
    config: ConfigChecks::new(&[]),
    network: NetworkKind::Upscaler {
        models: "RRDBNet (ESRGAN, Real-ESRGAN)",
        canonical,
        open: |c| Ok(Box::new(Rrdb::new(c)?)),
    },
};

/// Dimensions of the network.
struct Rrdb {
    /// Output pixels per input pixel, each way: 1, 2, 4 or 8.
    scale: usize,
    /// Side of the pixel blocks that the first layer takes as channels: 1, 2 or 4.
    unshuffle: usize,
    /// Residual-in-residual blocks.
    blocks: usize,
    features: usize,
    growth: usize,
    upsamplings: usize,
    /// Whether dense blocks have ESRGAN+'s extra convolutions.
    plus: bool,
}

impl Rrdb {
    /// Reads the dimensions from a [`canonical`] checkpoint.
    fn new(c: &Checkpoint) -> Result<Self> {
        let [features, inputs, _, _] = shape(c, "conv_first.weight")?;
        let [growth, _, _, _] = shape(c, "body.0.rdb1.conv1.weight")?;
        let blocks = count(c, "body")?;
        let up = |k: &usize| ["weight", "bias"].iter().any(|part| c.contains(&format!("conv_up{k}.{part}")));
        let upsamplings = (1..=9).filter(up).max().unwrap_or(0);
        if upsamplings > 3 {
            let origin = c.origin().display();
            return Err(Error::failed(format!(
                "{origin}: {upsamplings} upsampling layers; at most 3 (x8) are supported"
            )));
        }
        let unshuffle = match inputs {
            3 => 1,
            12 => 2,
            48 => 4,
            _ => {
                let origin = c.origin().display();
                let expected = "3, 12 or 48 (RGB, or its 2×2 or 4×4 blocks)";
                return Err(Error::failed(format!("{origin}: conv_first has {inputs} inputs; expected {expected}")));
            }
        };
        if (1 << upsamplings) < unshuffle {
            let origin = c.origin().display();
            return Err(Error::failed(format!(
                "{origin}: {upsamplings} upsampling layers cannot undo {unshuffle}×{unshuffle} blocks"
            )));
        }
        let plus = c.contains("body.0.rdb1.conv1x1.weight");
        Ok(Self { scale: (1 << upsamplings) / unshuffle, unshuffle, blocks, features, growth, upsamplings, plus })
    }

    fn rrdb(&self, w: &Scope, x: &Value) -> Value {
        let out = ["rdb1", "rdb2", "rdb3"].iter().fold(x.clone(), |x, name| self.dense(&w.at(name), &x));
        out * 0.2 + x
    }

    /// Dense block: each convolution takes the outputs of all previous ones.
    fn dense(&self, w: &Scope, x: &Value) -> Value {
        let conv = |k: usize, inputs: &[&Value]| {
            w.conv2d(&format!("conv{k}"), &Value::concat(inputs, 1), self.growth, 3).leaky_relu(0.2)
        };
        let x1 = w.conv2d("conv1", x, self.growth, 3).leaky_relu(0.2);
        let mut x2 = conv(2, &[x, &x1]);
        if self.plus {
            x2 = x2 + w.conv2d_no_bias("conv1x1", x, self.growth, 1);
        }
        let x3 = conv(3, &[x, &x1, &x2]);
        let mut x4 = conv(4, &[x, &x1, &x2, &x3]);
        if self.plus {
            x4 = x4 + &x2;
        }
        let all = Value::concat(&[x, &x1, &x2, &x3, &x4], 1);
        w.conv2d("conv5", &all, self.features, 3) * 0.2 + x
    }
}

impl Upscaler for Rrdb {
    fn scale(&self) -> usize {
        self.scale
    }

    fn multiple(&self) -> usize {
        self.unshuffle
    }

    fn depth(&self) -> usize {
        self.blocks
    }

    /// Input and output of a convolution at the output's resolution, or the maps of a dense block.
    fn pixel_bytes(&self) -> usize {
        let out = 2 * blocked(self.features) * self.scale * self.scale;
        let dense = (3 * blocked(self.features) + 8 * blocked(self.growth)) / (self.unshuffle * self.unshuffle);
        4 * out.max(dense)
    }

    fn build(&self, w: &Scope) {
        let g = w.graph();
        let u = self.unshuffle;
        let shape = [Dim::symbol("n"), 3.into(), &Dim::symbol("h") * u, &Dim::symbol("w") * u];
        let picture = g.input("picture", &shape, DType::F32);
        let first = w.conv2d("conv_first", &picture.pixel_unshuffle(u), self.features, 3);
        let body = (0..self.blocks).fold(first.clone(), |x, i| self.rrdb(&w.at("body").at(i), &x));
        let mut x = first + w.conv2d("conv_body", &body, self.features, 3);
        for k in 1..=self.upsamplings {
            x = w.conv2d(&format!("conv_up{k}"), &x.upsample_nearest(2), self.features, 3).leaky_relu(0.2);
        }
        let x = w.conv2d("conv_hr", &x, self.features, 3).leaky_relu(0.2);
        g.output("enlarged", &w.conv2d("conv_last", &x, 3, 3));
    }
}

/// The checkpoint with BasicSR's current tensor names. Older names: ESRGAN's first release (`model.1.sub.0.RDB1.conv1.0`, layers
/// numbered consecutively) and BSRGAN/RealSR (`RRDB_trunk.0.RDB1.conv1`).
fn canonical(c: Checkpoint) -> Result<Checkpoint> {
    if c.contains("RRDB_trunk.0.RDB1.conv1.weight") {
        let names =
            [("RRDB_trunk.", "body."), ("trunk_conv.", "conv_body."), ("HRconv.", "conv_hr."), ("upconv", "conv_up")];
        return c.renamed(|name| {
            let found = names.iter().find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)));
            Some(found.unwrap_or_else(|| name.to_string()).replace(".RDB", ".rdb"))
        });
    }
    if !c.contains("model.1.sub.0.RDB1.conv1.0.weight") {
        return Ok(c);
    }
    let last = c.names().filter_map(|n| n.split('.').nth(1)?.parse::<usize>().ok()).max().unwrap_or(0);
    let trunk = c.sequence_len("model.1.sub").unwrap_or(1) - 1;
    c.renamed(|name| Some(old_name(name, last, trunk).unwrap_or_else(|| name.to_string())))
}

/// `model.1.sub.3.RDB2.conv1.0.weight` → `body.3.rdb2.conv1.weight`. `last`: index of the last layer; `trunk`: index of the
/// convolution that ends the trunk.
fn old_name(name: &str, last: usize, trunk: usize) -> Option<String> {
    let rest = name.strip_prefix("model.")?;
    let (layer, rest) = rest.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    if layer == 1 {
        let (block, rest) = rest.strip_prefix("sub.")?.split_once('.')?;
        if block.parse() == Ok(trunk) {
            return Some(format!("conv_body.{rest}"));
        }
        let rest = rest.replace("RDB", "rdb").replace(".0.weight", ".weight").replace(".0.bias", ".bias");
        return Some(format!("body.{block}.{rest}"));
    }
    Some(match layer {
        0 => format!("conv_first.{rest}"),
        _ if layer == last => format!("conv_last.{rest}"),
        _ if last.checked_sub(2) == Some(layer) => format!("conv_hr.{rest}"),
        _ if layer.is_multiple_of(3) => format!("conv_up{}.{rest}", layer / 3),
        _ => return None,
    })
}
