//! IFNet of RIFE 4.0 to 4.26 (arXiv:2011.06294), as Practical-RIFE's `train_log/IFNet_HDv3.py` of each version.
//!
//! Blocks refine the optical flow from coarse to fine. One builder covers all versions; the shapes determine the version. The last
//! layer of a block, flow, mask and blend are always f32: in bf16 a flow of 100 pixels has a resolution of half a pixel.

use super::{
    architecture::{Architecture, ConfigChecks, Interpolator, NetworkKind},
    shared::dimensions::{missing, shape},
};
use crate::{
    error::{Error, Result},
    onnx::{Conv, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// RIFE.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "IFNet (RIFE)",
    classes: &[],
    detect: |c| c.contains("block0.conv0.0.0.weight"),
    config: ConfigChecks::new(&[]),
    network: NetworkKind::Interpolator {
        models: "RIFE 4.0 to 4.26 (flownet.pkl)",
        open: |c| Ok(Box::new(Rife::new(c)?)),
    },
};

/// Dimensions of the network.
struct Rife {
    /// Channels of each block, coarse to fine.
    widths: Vec<usize>,
    /// Output channels of a block: 4 flow, 1 mask, the rest features.
    outputs: usize,
    /// Feature encoder of a frame; `None` before 4.7.
    encoder: Option<Encoder>,
    /// Whether a block takes the features of the previous one.
    feedback: bool,
    groups: usize,
    /// Downscaling of each block at flow scale 1.
    scales: Vec<f32>,
    body: Body,
}

/// Layers inside a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// 4.0 and 4.1: eight convolutions with PReLU, one residual around all.
    Prelu,
    /// 4.2 to 4.4: eight convolutions.
    Plain,
    /// 4.5 and later: a residual around each convolution, a pixel shuffle at the end.
    Residual,
}

/// In 4.0 and 4.1: if the second block changes the flow by more than this in both directions, in pixels, the flow is estimated at
/// half the resolution instead.
const LARGE_MOTION: f32 = 32.0;

struct Encoder {
    layers: Vec<String>,
    hidden: usize,
    features: usize,
    activated: bool,
}

/// Outputs of a block: flow and mask in f32, and features.
struct State {
    flow: Value,
    mask: Value,
    features: Option<Value>,
}

/// Inputs of all blocks: the frames in f32, their features if any, and the time as a plane.
struct Inputs {
    frames: [Value; 2],
    features: [Option<Value>; 2],
    time: Value,
}

impl Rife {
    fn new(c: &Checkpoint) -> Result<Self> {
        let blocks = (0..).take_while(|i| c.contains(&format!("block{i}.conv0.0.0.weight"))).count();
        let body = match () {
            () if c.contains("block0.lastconv.0.weight") => Body::Residual,
            () if c.contains("block0.convblock.0.1.weight") => Body::Prelu,
            () if c.contains("block0.lastconv.weight") => Body::Plain,
            () => return Err(missing(c, "block0.lastconv.0.weight")),
        };
        if blocks != 4 && blocks != 5 {
            return Err(missing(c, &format!("block{blocks}.conv0.0.0.weight")));
        }
        let width = |i| shape(c, &format!("block{i}.conv0.1.0.weight")).map(|[width, _, _, _]| width);
        let widths = (0..blocks).map(width).collect::<Result<Vec<_>>>()?;
        let (last, inner, per_output) = match body {
            Body::Residual => ("block0.lastconv.0.weight", "block0.convblock.0.conv.weight", 4),
            _ => ("block0.lastconv.weight", "block0.convblock.0.0.weight", 1),
        };
        let [_, last_channels, _, _] = shape(c, last)?;
        let [_, later, _, _] = shape(c, "block1.conv0.0.0.weight")?;
        let [_, group, _, _] = shape(c, inner)?;
        let encoder = Encoder::new(c)?;
        let outputs = last_channels / per_output;
        // Warped frames and their features, time, mask and flow. Further channels are the features of the previous block.
        let without_feedback = 6 + 2 * encoder.as_ref().map_or(0, |e| e.features) + 1 + 1 + 4;
        let scales = match widths.last() {
            Some(24) if blocks == 5 => vec![32.0, 16.0, 8.0, 4.0, 1.0],
            _ if blocks == 5 => vec![16.0, 8.0, 4.0, 2.0, 1.0],
            _ => vec![8.0, 4.0, 2.0, 1.0],
        };
        let groups = widths[0] / group.max(1);
        let known: &[usize] = if body == Body::Residual { &[5, 6, 13] } else { &[5] };
        if groups * group != widths[0] || !known.contains(&outputs) || outputs * per_output != last_channels {
            let origin = c.origin().display();
            let found =
                format!("{group} of {} channels per group, {last_channels} channels at the end of a block", widths[0]);
            return Err(Error::failed(format!("{origin}: {found}; no known RIFE version has these")));
        }
        Ok(Self { widths, outputs, encoder, feedback: later > without_feedback, groups, scales, body })
    }

    /// The frame between, with the flow estimated at `1/coarser` of the resolution, and the flow change of the second block.
    fn refine(&self, w: &Scope, shared: &Inputs, coarser: f32) -> (Value, Value) {
        let compute = w.graph().target().compute;
        let [first, second] = &shared.frames;
        let reduced = |frames: [Value; 2]| frames.map(|x| x.cast(compute));
        let mut inputs = reduced(shared.frames.clone()).to_vec();
        inputs.extend(shared.features.iter().flatten().cloned());
        inputs.push(shared.time.clone());
        let mut state = self.block(&w.at("block0"), 0, &inputs, None, self.scales[0] * coarser);
        let mut change = state.flow.clone();
        for (i, &s) in self.scales.iter().enumerate().skip(1) {
            let w = w.at(format!("block{i}"));
            w.enter();
            let flows: [Value; 2] = state.flow.split(1, [2, 2]);
            let mut inputs = reduced([first.warp(&flows[0]), second.warp(&flows[1])]).to_vec();
            inputs.extend(shared.features.iter().zip(&flows).filter_map(|(f, flow)| Some(f.as_ref()?.warp(flow))));
            inputs.extend([shared.time.clone(), state.mask.cast(compute)]);
            inputs.extend(state.features.clone());
            let found = self.block(&w, i, &inputs, Some(&state.flow), s * coarser);
            if i == 1 {
                change = found.flow.clone();
            }
            // Up to 4.6 masks are summed; with an encoder each block replaces the mask.
            let mask = if self.encoder.is_none() { state.mask + found.mask } else { found.mask };
            state = State { flow: state.flow + found.flow, mask, features: found.features };
        }
        let [to_first, to_second] = state.flow.split(1, [2, 2]);
        let mask = state.mask.sigmoid();
        (first.warp(&to_first) * &mask + second.warp(&to_second) * (-mask + 1.0), change)
    }

    /// One block at 1/s of the resolution. The features of the last block are unused.
    fn block(&self, w: &Scope, i: usize, inputs: &[Value], flow: Option<&Value>, s: f32) -> State {
        w.enter();
        let (g, c) = (w.graph(), self.widths[i]);
        let compute = g.target().compute;
        let mut x = Value::concat(&inputs.iter().collect::<Vec<_>>(), 1).resize_bilinear(1.0 / s);
        if let Some(flow) = flow {
            x = Value::concat(&[&x, &(flow.resize_bilinear(1.0 / s) * (1.0 / s)).cast(compute)], 1);
        }
        let active = |name: &str, x: Value| match self.body {
            Body::Prelu => w.prelu(&format!("{name}.1"), &x),
            _ => x.leaky_relu(0.2),
        };
        for (name, out) in [("conv0.0", c / 2), ("conv0.1", c)] {
            x = active(name, w.conv(&format!("{name}.0"), &x, Conv::new(out, 3).stride(2)));
        }
        let before = x.clone();
        for k in 0..8 {
            let name = format!("convblock.{k}");
            x = match self.body {
                Body::Residual => {
                    let w = w.at(&name);
                    let beta = w.weight("beta", &[1, c, 1, 1]);
                    (w.conv("conv", &x, Conv::new(c, 3).groups(self.groups)) * beta + &x).leaky_relu(0.2)
                }
                _ => active(&name, w.conv(&format!("{name}.0"), &x, Conv::new(c, 3))),
            };
        }
        if self.body == Body::Prelu {
            x = x + before;
        }
        let (out, s) = g.in_f32(|| match self.body {
            Body::Residual => {
                (w.conv_transpose2x("lastconv.0", &x.cast(DType::F32), 4 * self.outputs).pixel_shuffle(2), s)
            }
            _ => (w.conv_transpose2x("lastconv", &x.cast(DType::F32), self.outputs), 2.0 * s),
        });
        let [flow, mask] = [(0, 4), (4, 5)].map(|(from, to)| out.slice(1, from, to).resize_bilinear(s));
        let has_next = self.feedback && i + 1 < self.widths.len();
        let features = has_next.then(|| out.slice(1, 5, self.outputs).cast(compute).resize_bilinear(s));
        State { flow: flow * s, mask, features }
    }
}

impl Interpolator for Rife {
    /// 32, 64 or 128 at flow scale 1 and above, more below.
    ///
    /// # Errors
    /// A flow scale other than 0.25, 0.5, 1, 2 and 4: the resolutions of the blocks are then not integers.
    fn multiple(&self, scale: f32) -> Result<usize> {
        if ![0.25, 0.5, 1.0, 2.0, 4.0].contains(&scale) {
            return Err(Error::usage(format!("flow scale {scale}: RIFE supports 0.25, 0.5, 1, 2 and 4")));
        }
        // 4.0 and 4.1 may run again at half the resolution.
        let coarsest = self.scales[0] * if self.body == Body::Prelu { 8.0 } else { 4.0 };
        Ok(coarsest.max(coarsest / scale) as usize)
    }

    /// Full-resolution maps of a block: the parts of its input, their concatenation and its reduced copy, with those of the block
    /// before; and the last block's feature maps, at half the resolution.
    fn pixel_bytes(&self) -> usize {
        const INPUT_MAPS: usize = 6;
        let features = self.encoder.as_ref().map_or(0, |e| e.features);
        let inputs = 6 + 2 * features + 1 + 1 + 4 + if self.feedback { self.outputs - 5 } else { 0 };
        4 * (INPUT_MAPS * inputs + 3 * self.widths.last().copied().unwrap_or(0) / 4)
    }

    fn version(&self) -> &'static str {
        let features = self.encoder.as_ref().map_or(0, |e| e.features);
        let newer = self.encoder.as_ref().is_some_and(|e| e.layers[0] == "cnn0");
        match (self.widths.as_slice(), self.outputs, features) {
            ([192, 128, 96, 64], 5, 0) if self.body == Body::Prelu => "4.0–4.1",
            ([192, 128, 96, 64], 5, 0) if self.body == Body::Plain => "4.2–4.4",
            ([192, 128, 96, 64], 5, 0) => "4.5",
            ([192, 128, 96, 64], 6, 0) => "4.6",
            ([192, 128, 96, 64], 6, 4) => "4.7–4.9",
            ([192, 128, 96, 64], 6, 8) if self.groups == 2 => "4.14.lite",
            ([192, 128, 96, 64], 6, 8) if newer => "4.13–4.15, 4.17–4.19, 4.24",
            ([192, 128, 96, 64], 6, 8) => "4.10–4.12",
            ([128, 96, 64, 48], 6, 4) if newer => "4.15.lite–4.17.lite",
            ([128, 96, 64, 48], 6, 4) => "4.12.lite–4.13.lite",
            ([384, 192, 96, 48], 6, 8) => "4.20",
            ([256, 192, 96, 48], 13, 8) => "4.21–4.23",
            ([192, 128, 64, 32], 13, 4) => "4.22.lite",
            ([192, 128, 96, 64, 32], 13, 4) => "4.25–4.26",
            ([192, 128, 96, 64, 24], 13, 4) => "4.25.lite",
            ([384, 256, 192, 128, 64], 13, 4) => "4.25.heavy",
            ([192, 128, 96, 64, 32], 13, 16) => "4.26.heavy",
            _ => "4.x, of unusual widths",
        }
    }

    fn build(&self, w: &Scope, scale: f32) -> Result<()> {
        let g = w.graph();
        let m = self.multiple(scale)?;
        let (n, h, width) = (Dim::symbol("n"), &Dim::symbol("h") * m, &Dim::symbol("w") * m);
        let shape = [n.clone(), 3.into(), h.clone(), width.clone()];
        let frames = ["first", "second"].map(|name| g.input_f32(name, &shape));
        let time = g.input("time", std::slice::from_ref(&n), DType::F32);
        let time = time.reshape(&[n.clone(), 1.into(), 1.into(), 1.into()]).expand(&[n, 1.into(), h, width]);
        // Some files contain networks used only in training.
        for extra in ["caltime", "teacher", "block_tea"] {
            w.ignore_below(extra);
        }
        let encode = |x: &Value| self.encoder.as_ref().map(|e| e.build(&w.at("encode"), &x.cast(g.target().compute)));
        let features = [encode(&frames[0]), encode(&frames[1])];
        let inputs = Inputs { frames, features, time };
        let (between, change) = self.refine(w, &inputs, 1.0 / scale);
        if self.body != Body::Prelu {
            g.output("between", &between);
            return Ok(());
        }
        // Both are computed, because a branch in the graph costs more; the second costs a quarter of the first.
        let (coarse, _) = self.refine(w, &inputs, 2.0 / scale);
        let [to_first, to_second] = change.split(1, [2, 2]).map(|flow| flow.max_magnitude());
        let between = to_first.if_above(LARGE_MOTION, &to_second.if_above(LARGE_MOTION, &coarse, &between), &between);
        g.output("between", &between);
        Ok(())
    }
}

impl Encoder {
    /// `None` where the weights have no encoder.
    fn new(c: &Checkpoint) -> Result<Option<Self>> {
        let names = |f: &dyn Fn(usize) -> String, n| (0..n).map(f).collect::<Vec<_>>();
        let (layers, activated) = if c.contains("encode.cnn0.weight") {
            (names(&|i| format!("cnn{i}"), 4), true)
        } else if c.contains("encode.6.weight") {
            (names(&|i| (2 * i).to_string(), 4), true)
        } else if c.contains("encode.0.weight") {
            (names(&|i| i.to_string(), 2), false)
        } else {
            return Ok(None);
        };
        let [hidden, _, _, _] = shape(c, &format!("encode.{}.weight", layers[0]))?;
        let [_, features, _, _] = shape(c, &format!("encode.{}.weight", layers[layers.len() - 1]))?;
        Ok(Some(Self { layers, hidden, features, activated }))
    }

    /// [n, 3, h, w] → [n, features, h, w].
    fn build(&self, w: &Scope, frame: &Value) -> Value {
        let activate = |x: Value| if self.activated { x.leaky_relu(0.2) } else { x };
        let (last, convs) = self.layers.split_last().map_or(("", &[][..]), |(l, c)| (l.as_str(), c));
        let x = convs.iter().enumerate().fold(frame.clone(), |x, (i, name)| {
            let stride = if i == 0 { 2 } else { 1 };
            activate(w.conv(name, &x, Conv::new(self.hidden, 3).stride(stride)))
        });
        w.conv_transpose2x(last, &x, self.features)
    }
}
