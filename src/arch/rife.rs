//! IFNet of RIFE 4.0 to 4.26 (arXiv:2011.06294), as Practical-RIFE's `train_log/IFNet_HDv3.py` of each version.
//!
//! Blocks refine the flow from coarse to fine; one builder covers all versions, told apart by shapes alone. Whatever the graph
//! computes in, a block's last layer, flow, mask and blend are f32: bf16 holds a flow of 100 pixels to half a pixel only.

use super::{missing, shape};
use crate::{
    error::{Error, Result},
    onnx::{Conv, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// The network's extents.
#[derive(Debug, Clone)]
pub struct Rife {
    /// Channels of each block, coarse to fine.
    widths: Vec<usize>,
    /// What a block gives: 4 flow, 1 mask, the rest features.
    outputs: usize,
    /// Features of one picture; none before 4.7.
    encoder: Option<Encoder>,
    /// Whether a block sees the features of the one before.
    feedback: bool,
    groups: usize,
    /// Downscaling of each block at full scale.
    scales: Vec<f32>,
    body: Body,
}

/// The inside of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// 4.0 and 4.1: eight convolutions with PReLU and one residual around them.
    Prelu,
    /// 4.2 to 4.4: eight convolutions.
    Plain,
    /// From 4.5 on: a residual around each convolution, and a pixel shuffle at the end.
    Residual,
}

/// In 4.0 and 4.1, flow (pixels, in both directions) of the second block above which all is sought again at half the resolution.
const FAR: f32 = 32.0;

#[derive(Debug, Clone)]
struct Encoder {
    layers: Vec<String>,
    hidden: usize,
    features: usize,
    activated: bool,
}

/// Flow and mask in f32, and features, after a block.
struct State {
    flow: Value,
    mask: Value,
    features: Option<Value>,
}

/// What the blocks see: the pictures in f32, their features where there are any, and the time as a plane.
struct Seen {
    pictures: [Value; 2],
    features: [Option<Value>; 2],
    time: Value,
}

/// Whether the names are those of an IFNet.
pub fn is(c: &Checkpoint) -> bool {
    c.contains("block0.conv0.0.0.weight")
}

impl Rife {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
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
        let (last, inner, each) = match body {
            Body::Residual => ("block0.lastconv.0.weight", "block0.convblock.0.conv.weight", 4),
            _ => ("block0.lastconv.weight", "block0.convblock.0.0.weight", 1),
        };
        let [_, ends, _, _] = shape(c, last)?;
        let [_, later, _, _] = shape(c, "block1.conv0.0.0.weight")?;
        let [_, within, _, _] = shape(c, inner)?;
        let encoder = Encoder::detect(c)?;
        let outputs = ends / each;
        // Warped pictures and their features, time, mask, flow; what is more are the features of the block before.
        let plain = 6 + 2 * encoder.as_ref().map_or(0, |e| e.features) + 1 + 1 + 4;
        let scales = match widths.last() {
            Some(24) if blocks == 5 => vec![32.0, 16.0, 8.0, 4.0, 1.0],
            _ if blocks == 5 => vec![16.0, 8.0, 4.0, 2.0, 1.0],
            _ => vec![8.0, 4.0, 2.0, 1.0],
        };
        let groups = widths[0] / within.max(1);
        let known: &[usize] = if body == Body::Residual { &[5, 6, 13] } else { &[5] };
        if groups * within != widths[0] || !known.contains(&outputs) || outputs * each != ends {
            let origin = c.origin().display();
            let found = format!("{within} of {} channels in a convolution, {ends} at the end of a block", widths[0]);
            return Err(Error::failed(format!("{origin}: {found}; no known RIFE has these")));
        }
        Ok(Self { widths, outputs, encoder, feedback: later > plain, groups, scales, body })
    }

    /// Rows and columns must be multiples of this at a flow scale: 32, 64 or 128, more where the scale is below 1.
    ///
    /// # Errors
    /// A scale at which blocks do not meet: other than ¼, ½, 1, 2 and 4.
    pub fn multiple(&self, scale: f32) -> Result<usize> {
        if ![0.25, 0.5, 1.0, 2.0, 4.0].contains(&scale) {
            return Err(Error::usage(format!(
                "flow scale {scale}: RIFE's blocks fit together at 0.25, 0.5, 1, 2 and 4"
            )));
        }
        // What may be sought again at half the resolution must fit there too.
        let coarsest = self.scales[0] * if self.body == Body::Prelu { 8.0 } else { 4.0 };
        Ok(coarsest.max(coarsest / scale) as usize)
    }

    /// The version's row of the table in docs, as far as shapes tell.
    pub fn version(&self) -> &'static str {
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

    /// Inputs `first`, `second` [n, 3, h, w] in 0..=1, h and w multiples of [`Rife::multiple`], `time` `[n]` in 0..=1; output
    /// `between` [n, 3, h, w], not clamped. `scale`: of the resolution that flow is sought at, one that [`Rife::multiple`] takes.
    pub fn build(&self, w: &Scope, scale: f32) -> Result<()> {
        let g = w.graph();
        let m = self.multiple(scale)?;
        let (n, h, width) = (Dim::symbol("n"), &Dim::symbol("h") * m, &Dim::symbol("w") * m);
        let shape = [n.clone(), 3.into(), h.clone(), width.clone()];
        let pictures = ["first", "second"].map(|name| g.input_f32(name, &shape));
        let time = g.input("time", std::slice::from_ref(&n), DType::F32);
        let time = time.reshape(&[n.clone(), 1.into(), 1.into(), 1.into()]).expand(&[n, 1.into(), h, width]);
        // Training left further networks in some files.
        for extra in ["caltime", "teacher", "block_tea"] {
            w.ignore_below(extra);
        }
        let encode = |x: &Value| self.encoder.as_ref().map(|e| e.build(&w.at("encode"), &x.cast(g.target().compute)));
        let features = [encode(&pictures[0]), encode(&pictures[1])];
        let seen = Seen { pictures, features, time };
        let (between, moved) = self.refine(w, &seen, 1.0 / scale);
        if self.body != Body::Prelu {
            g.output("between", &between);
            return Ok(());
        }
        // Both are computed, as a graph has no cheap way not to; the second costs a quarter of the first.
        let (coarse, _) = self.refine(w, &seen, 2.0 / scale);
        let [to_first, to_second] = moved.split(1, [2, 2]).map(|flow| flow.greatest());
        let between = to_first.above(FAR, &to_second.above(FAR, &coarse, &between), &between);
        g.output("between", &between);
        Ok(())
    }

    /// The picture between at `1/coarser` of the resolution, and what the second block added to the flow.
    fn refine(&self, w: &Scope, seen: &Seen, coarser: f32) -> (Value, Value) {
        let compute = w.graph().target().compute;
        let [first, second] = &seen.pictures;
        let small = |pictures: [Value; 2]| pictures.map(|x| x.cast(compute));
        let mut inputs = small(seen.pictures.clone()).to_vec();
        inputs.extend(seen.features.iter().flatten().cloned());
        inputs.push(seen.time.clone());
        let mut state = self.block(&w.at("block0"), 0, &inputs, None, self.scales[0] * coarser);
        let mut moved = state.flow.clone();
        for (i, &s) in self.scales.iter().enumerate().skip(1) {
            let w = w.at(format!("block{i}"));
            w.enter();
            let flows: [Value; 2] = state.flow.split(1, [2, 2]);
            let mut inputs = small([first.warp(&flows[0]), second.warp(&flows[1])]).to_vec();
            inputs.extend(seen.features.iter().zip(&flows).filter_map(|(f, flow)| Some(f.as_ref()?.warp(flow))));
            inputs.extend([seen.time.clone(), state.mask.cast(compute)]);
            inputs.extend(state.features.clone());
            let found = self.block(&w, i, &inputs, Some(&state.flow), s * coarser);
            if i == 1 {
                moved = found.flow.clone();
            }
            // Up to 4.6 masks add up; with an encoder each block gives its own.
            let mask = if self.encoder.is_none() { state.mask + found.mask } else { found.mask };
            state = State { flow: state.flow + found.flow, mask, features: found.features };
        }
        let [to_first, to_second] = state.flow.split(1, [2, 2]);
        let mask = state.mask.sigmoid();
        (first.warp(&to_first) * &mask + second.warp(&to_second) * (-mask + 1.0), moved)
    }

    /// One refinement at 1/s of the resolution. The last block's features go nowhere.
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
        let further = self.feedback && i + 1 < self.widths.len();
        let features = further.then(|| out.slice(1, 5, self.outputs).cast(compute).resize_bilinear(s));
        State { flow: flow * s, mask, features }
    }
}

impl Encoder {
    fn detect(c: &Checkpoint) -> Result<Option<Self>> {
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
    fn build(&self, w: &Scope, picture: &Value) -> Value {
        let activate = |x: Value| if self.activated { x.leaky_relu(0.2) } else { x };
        let (last, convs) = self.layers.split_last().map_or(("", &[][..]), |(l, c)| (l.as_str(), c));
        let x = convs.iter().enumerate().fold(picture.clone(), |x, (i, name)| {
            let stride = if i == 0 { 2 } else { 1 };
            activate(w.conv(name, &x, Conv::new(self.hidden, 3).stride(stride)))
        });
        w.conv_transpose2x(last, &x, self.features)
    }
}
