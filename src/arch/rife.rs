//! IFNet of RIFE 4.5 to 4.26 (arXiv:2011.06294), as Practical-RIFE's `train_log/IFNet_HDv3.py` of each version.
//!
//! Blocks refine the flow from coarse to fine; one builder covers all versions, told apart by shapes alone.

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
}

#[derive(Debug, Clone)]
struct Encoder {
    layers: Vec<String>,
    hidden: usize,
    features: usize,
    activated: bool,
}

/// Flow, mask and features after a block.
struct State {
    flow: Value,
    mask: Value,
    features: Option<Value>,
}

/// Whether the names are those of an IFNet.
pub fn is(c: &Checkpoint) -> bool {
    c.contains("block0.conv0.0.0.weight")
}

impl Rife {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
        let blocks = (0..).take_while(|i| c.contains(&format!("block{i}.conv0.0.0.weight"))).count();
        if !c.contains("block0.lastconv.0.weight") {
            let found = if c.contains("block0.lastconv.weight") { "RIFE 4.0 to 4.4" } else { "no known RIFE" };
            let origin = c.origin().display();
            return Err(Error::failed(format!("{origin}: {found}; versions 4.5 to 4.26 are supported")));
        }
        if blocks != 4 && blocks != 5 {
            return Err(missing(c, &format!("block{blocks}.conv0.0.0.weight")));
        }
        let width = |i| shape(c, &format!("block{i}.conv0.1.0.weight")).map(|[width, _, _, _]| width);
        let widths = (0..blocks).map(width).collect::<Result<Vec<_>>>()?;
        let [_, shuffled, _, _] = shape(c, "block0.lastconv.0.weight")?;
        let [_, later, _, _] = shape(c, "block1.conv0.0.0.weight")?;
        let [_, within, _, _] = shape(c, "block0.convblock.0.conv.weight")?;
        let encoder = Encoder::detect(c)?;
        let outputs = shuffled / 4;
        // Warped pictures and their features, time, mask, flow; what is more are the features of the block before.
        let plain = 6 + 2 * encoder.as_ref().map_or(0, |e| e.features) + 1 + 1 + 4;
        let scales = match widths.last() {
            Some(24) if blocks == 5 => vec![32.0, 16.0, 8.0, 4.0, 1.0],
            _ if blocks == 5 => vec![16.0, 8.0, 4.0, 2.0, 1.0],
            _ => vec![8.0, 4.0, 2.0, 1.0],
        };
        let groups = widths[0] / within;
        if groups * within != widths[0] || ![5, 6, 13].contains(&outputs) || outputs * 4 != shuffled {
            let origin = c.origin().display();
            let found =
                format!("{within} of {} channels in a convolution, {shuffled} at the end of a block", widths[0]);
            return Err(Error::failed(format!("{origin}: {found}; no known RIFE has these")));
        }
        Ok(Self { widths, outputs, encoder, feedback: later > plain, groups, scales })
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
        let coarsest = self.scales[0] * 4.0;
        Ok(coarsest.max(coarsest / scale) as usize)
    }

    /// The version's row of the table in docs, as far as shapes tell.
    pub fn version(&self) -> &'static str {
        let features = self.encoder.as_ref().map_or(0, |e| e.features);
        match (self.widths.as_slice(), self.outputs, features) {
            ([192, 128, 96, 64], 5, 0) => "4.5",
            ([192, 128, 96, 64], 6, 0) => "4.6",
            ([192, 128, 96, 64], 6, 4) => "4.7–4.9",
            ([192, 128, 96, 64], 6, 8) if self.groups == 2 => "4.14.lite",
            ([192, 128, 96, 64], 6, 8) => "4.10–4.19, 4.24",
            ([128, 96, 64, 48], 6, 4) => "4.12–4.17.lite",
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
        let (first, second) = (g.input("first", &shape, DType::F32), g.input("second", &shape, DType::F32));
        let time = g.input("time", std::slice::from_ref(&n), DType::F32);
        let time = time.reshape(&[n.clone(), 1.into(), 1.into(), 1.into()]).expand(&[n, 1.into(), h, width]);
        // Training left further networks in some files.
        for extra in ["caltime", "teacher", "block_tea"] {
            w.ignore_below(extra);
        }

        let encode = |x: &Value| self.encoder.as_ref().map(|e| e.build(&w.at("encode"), x));
        let features = [encode(&first), encode(&second)];
        let mut state: Option<State> = None;
        for (i, &s) in self.scales.iter().enumerate() {
            let w = w.at(format!("block{i}"));
            w.enter();
            state = Some(match state {
                None => {
                    let mut seen = vec![&first, &second];
                    seen.extend(features.iter().flatten());
                    seen.push(&time);
                    self.block(&w, i, &Value::concat(&seen, 1), None, s / scale)
                }
                Some(before) => {
                    let [to_first, to_second] = before.flow.split(1, [2, 2]);
                    let flows = [to_first, to_second];
                    let mut seen = vec![first.warp(&flows[0]), second.warp(&flows[1])];
                    seen.extend(features.iter().zip(&flows).filter_map(|(f, flow)| Some(f.as_ref()?.warp(flow))));
                    seen.extend([time.clone(), before.mask.clone()]);
                    seen.extend(before.features.clone());
                    let seen = Value::concat(&seen.iter().collect::<Vec<_>>(), 1);
                    let found = self.block(&w, i, &seen, Some(&before.flow), s / scale);
                    // Up to 4.6 masks add up; with an encoder each block gives its own.
                    let mask = if self.encoder.is_none() { before.mask + found.mask } else { found.mask };
                    State { flow: before.flow + found.flow, mask, features: found.features }
                }
            });
        }
        let Some(State { flow, mask, .. }) = state else { return Ok(()) };
        let [to_first, to_second] = flow.split(1, [2, 2]);
        let mask = mask.sigmoid();
        let between = first.warp(&to_first) * &mask + second.warp(&to_second) * (-mask + 1.0);
        g.output("between", &between);
        Ok(())
    }

    /// One refinement at 1/s of the resolution. The last block's features go nowhere.
    fn block(&self, w: &Scope, i: usize, x: &Value, flow: Option<&Value>, s: f32) -> State {
        let c = self.widths[i];
        let mut x = x.resize_bilinear(1.0 / s);
        if let Some(flow) = flow {
            x = Value::concat(&[&x, &(flow.resize_bilinear(1.0 / s) * (1.0 / s))], 1);
        }
        let down = |name: &str, x: &Value, out| w.conv(name, x, Conv::new(out, 3).stride(2)).leaky_relu(0.2);
        let mut x = down("conv0.1.0", &down("conv0.0.0", &x, c / 2), c);
        for k in 0..8 {
            let w = w.at("convblock").at(k);
            let beta = w.weight("beta", &[1, c, 1, 1]);
            x = (w.conv("conv", &x, Conv::new(c, 3).groups(self.groups)) * beta + &x).leaky_relu(0.2);
        }
        let out = w.conv_transpose2x("lastconv.0", &x, 4 * self.outputs).pixel_shuffle(2).resize_bilinear(s);
        let [flow, mask] = [(0, 4), (4, 5)].map(|(from, to)| out.slice(1, from, to));
        let features = (self.feedback && i + 1 < self.widths.len()).then(|| out.slice(1, 5, self.outputs));
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
