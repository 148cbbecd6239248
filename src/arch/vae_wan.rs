//! AutoencoderKLWan and AutoencoderKLQwenImage, the causal video autoencoder of Wan 2.1 (arXiv:2503.20314 §4.1) that Qwen-Image uses
//! for single pictures, as diffusers 0.42.1 `models/autoencoders/autoencoder_kl_wan.py`.
//!
//! Frames are values of their own: a convolution over time sees a frame's neighbours as channels, so that it is a 2-D one by the
//! stored weight, and no more than a few frames are in memory at once. What a convolution wants of earlier frames goes out of one
//! call and into the next, in the order of the convolutions.

use std::cell::Cell;

use serde::Deserialize;

use super::{count, shape};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Conv, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Whether levels are bridged (Wan 2.2); must not be.
    #[serde(default)]
    pub is_residual: bool,
    /// Pixels of a patch before the network (Wan 2.2); must be absent.
    #[serde(default)]
    pub patch_size: Option<usize>,
}

/// Which frames a graph is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// One picture alone.
    Only,
    /// The first of a video: what later ones want of it is given out.
    First,
    /// Those that follow: what they want of earlier ones is given in.
    Later,
}

/// How much of the decoder a graph holds. In two graphs, the one that is wide works on one picture at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All of it: latents → pictures.
    Whole,
    /// To where a latent frame has become all its pictures: latents → features.
    Features,
    /// From there on: features → picture.
    Pictures,
}

/// The network's extents; either half can be built alone.
#[derive(Debug, Clone)]
pub struct VaeWan {
    /// Channels of a latent.
    pub latent: usize,
    /// Resolution levels; a picture is 2^(levels−1) times its latent.
    pub levels: usize,
    /// Pictures per latent frame, from the second on.
    pub times: usize,
}

impl VaeWan {
    /// Reads the extents from the weights.
    pub fn detect(config: &Config, c: &Checkpoint) -> Result<Self> {
        let [_, latent, _, _, _] = shape(c, "decoder.conv_in.weight")?;
        let levels = count(c, "decoder.up_blocks")?;
        let origin = c.origin().display();
        if levels > 8 {
            return Err(Error::failed(format!("{origin}: {levels} levels; Wan 2.1's autoencoder has at most 8")));
        }
        if config.is_residual || config.patch_size.is_some() {
            return Err(Error::failed(format!(
                "{origin}: is_residual or patch_size is set, as in Wan 2.2, whose autoencoder is not known; 2.1's is"
            )));
        }
        let over_time =
            |half: &str| c.names().filter(|n| n.starts_with(half) && n.ends_with(".time_conv.weight")).count();
        let (doubled, halved) = (over_time("decoder."), over_time("encoder."));
        if doubled != halved || doubled >= levels {
            let found = format!("the encoder halves time {halved} times, the decoder doubles it {doubled} times");
            return Err(Error::failed(format!("{origin}: {found}; a time_conv.weight is missing or too many")));
        }
        Ok(Self { latent, levels, times: 1 << doubled })
    }

    /// Picture pixels per latent pixel, each way.
    pub fn factor(&self) -> usize {
        1 << (self.levels - 1)
    }

    /// Bytes of values per picture pixel at the peak of decoding and of encoding, about: a handful of maps at full resolution; of a
    /// video, also the two frames that each convolution keeps and the one that it gives. Measured with Wan 2.1's extents.
    pub fn pixel_bytes(&self, c: &Checkpoint, video: bool) -> Result<[usize; 2]> {
        let mut kept = 0;
        let mut channels = 0;
        for level in 0..self.levels {
            let block = format!("decoder.up_blocks.{level}.resnets");
            [channels, _, _, _, _] = shape(c, &format!("{block}.0.conv2.weight"))?;
            let convolutions = 2 * count(c, &block)? + if level == 0 { 5 } else { 0 };
            kept += (convolutions * channels) >> (2 * (self.levels - 1 - level));
        }
        let kept = if video { 4 * 3 * (kept + channels) } else { 0 };
        Ok([kept + 4 * 8 * channels; 2])
    }

    /// Input `latents` [1, latent, h, w], one un-scaled frame; output `picture` [1, 3, h·factor, w·factor] in about −1..=1.
    pub fn build_picture_decoder(&self, w: &Scope) {
        self.build_decoder(w, Frames::Only, Depth::Whole);
    }

    /// Input `picture` [1, 3, h·factor, w·factor] in −1..=1; outputs `mean` and `logvar` [1, latent, h, w], not yet scaled.
    pub fn build_picture_encoder(&self, w: &Scope) {
        self.build_encoder(w, Frames::Only);
    }

    /// Input `latents` [1, latent, h, w], one un-scaled frame; output `picture` [p, 3, h·factor, w·factor] in about −1..=1, p = 1
    /// for the first frame and `times` for each later one. Of a video, outputs `next.0`, `next.1`, … are the inputs `cache.0`, …
    /// of the frame after.
    ///
    /// In two graphs: outputs `features.0`, … `features.p−1` of the first are each the input `features` of the second, whose
    /// `picture` is [1, 3, h·factor, w·factor]. What a call already has is then not given out again: a cache without its own
    /// `next` takes what the cache after it held, or zeros where nothing came before.
    pub fn build_decoder(&self, w: &Scope, frames: Frames, depth: Depth) {
        w.ignore_below("encoder");
        w.ignore_below("quant_conv");
        let net = Stream { moving: depth != Depth::Whole, ..Stream::new(frames) };
        let root = w;
        let w = &w.at("decoder");
        // Levels of the first graph, the last of them to the middle of its upsampler.
        let cut = (0..self.levels).rev().find(|l| w.at("up_blocks").at(l).has("upsamplers.0.time_conv.weight"));
        let cut = cut.map_or(0, |level| level + 1);
        let entry = |name: &str, channels: usize, times: usize| {
            let shape = [1.into(), channels.into(), &Dim::symbol("h") * times, &Dim::symbol("w") * times];
            w.graph().input(name, &shape, DType::F32)
        };
        let mut x = if depth == Depth::Pictures {
            ["post_quant_conv", "decoder.conv_in", "decoder.mid_block"].iter().for_each(|part| root.ignore_below(part));
            let channels = match cut.checked_sub(1) {
                Some(last) => out_channels(&w.at("up_blocks").at(last).at("resnets").at(0), "conv2"),
                None => out_channels(w, "conv_in"),
            };
            vec![entry("features", channels, 1 << cut.saturating_sub(1))]
        } else {
            let x = net.conv(root, "post_quant_conv", &[entry("latents", self.latent, 1)], self.latent);
            net.middle(&w.at("mid_block"), &net.conv(w, "conv_in", &x, out_channels(w, "conv_in")))
        };
        for level in 0..self.levels {
            let w = w.at("up_blocks").at(level);
            let up = w.at("upsamplers.0");
            match (depth, level < cut) {
                (Depth::Pictures, true) => {
                    w.ignore_below("resnets");
                    up.ignore_below("time_conv");
                }
                (Depth::Features, false) => ["resnets", "upsamplers"].iter().for_each(|part| w.ignore_below(part)),
                _ => {
                    x = net.resnets(&w, x);
                    if up.has("time_conv.weight") {
                        x = net.double(&up, &x);
                    }
                }
            }
            // The wider half of an upsampler belongs to the second graph, where there is one.
            let mine = match depth {
                Depth::Whole => true,
                Depth::Features => level + 1 < cut,
                Depth::Pictures => level + 1 >= cut,
            };
            if up.has("resample.1.weight") && mine {
                let out = out_channels(&up, "resample.1");
                x = each(&x, |x| up.conv2d("resample.1", &x.upsample_nearest(2), out, 3));
            } else {
                up.ignore_below("resample");
            }
        }
        if depth == Depth::Features {
            w.ignore_below("norm_out");
            w.ignore_below("conv_out");
            x.iter().enumerate().for_each(|(i, x)| w.graph().output(&format!("features.{i}"), x));
        } else {
            w.graph().output("picture", &together(&net.head(w, &x)));
        }
    }

    /// Input `picture` [p, 3, h·factor, w·factor] in −1..=1, p = 1 for the first and `times` later; outputs `mean` and `logvar`
    /// [1, latent, h, w], not yet scaled, and `next.0`, … as in [`VaeWan::build_decoder`].
    pub fn build_encoder(&self, w: &Scope, frames: Frames) {
        w.ignore_below("decoder");
        w.ignore_below("post_quant_conv");
        let net = Stream::new(frames);
        let pictures = if frames == Frames::Later { self.times } else { 1 };
        let side = |s: &str| &Dim::symbol(s) * self.factor();
        let picture = w.graph().input("picture", &[pictures.into(), 3.into(), side("h"), side("w")], DType::F32);
        let root = w.clone();
        let w = &w.at("encoder");
        let x: Vec<Value> = match pictures {
            1 => vec![picture],
            n => (0..n).map(|i| picture.slice(0, i, i + 1)).collect(),
        };
        let mut x = net.conv(w, "conv_in", &x, out_channels(w, "conv_in"));
        for i in 0..w.count("down_blocks") {
            let w = w.at("down_blocks").at(i);
            if !w.has("resample.1.weight") {
                x = net.resnet(&w, &x);
                continue;
            }
            // Zeros right and below only, as the reference pads.
            let form = Conv::new(out_channels(&w, "resample.1"), 3).stride(2).pad([0, 0, 1, 1]);
            x = each(&x, |x| w.conv("resample.1", x, form));
            if w.has("time_conv.weight") {
                x = net.halve(&w, &x);
            }
        }
        let x = net.head(w, &net.middle(&w.at("mid_block"), &x));
        let moments = together(&net.conv(&root, "quant_conv", &x, 2 * self.latent));
        let [mean, logvar] = moments.split(1, [self.latent; 2]);
        w.graph().output("mean", &mean);
        w.graph().output("logvar", &logvar.clip(-30.0, 20.0));
    }
}

/// The same for every frame.
fn each(x: &[Value], make: impl Fn(&Value) -> Value) -> Vec<Value> {
    x.iter().map(make).collect()
}

/// Frames as one batch.
fn together(x: &[Value]) -> Value {
    if x.len() == 1 { x[0].clone() } else { Value::concat(&x.iter().collect::<Vec<_>>(), 0) }
}

/// A network over some frames, with the caches met so far.
struct Stream {
    frames: Frames,
    caches: Cell<usize>,
    /// Caches move up by themselves: only what is new is given out.
    moving: bool,
}

impl Stream {
    fn new(frames: Frames) -> Self {
        Self { frames, caches: Cell::new(0), moving: false }
    }

    /// The `kept` frames before those of `x`, then `x`; the last `kept` of them are given out for the next call.
    fn behind(&self, x: &[Value], kept: usize) -> Vec<Value> {
        let first = &x[0];
        let from = self.caches.get();
        let cache = |i| first.graph().input(&format!("cache.{i}"), first.shape(), DType::F32);
        let all: Vec<Value> = (from..from + kept).map(cache).chain(x.iter().cloned()).collect();
        for (i, frame) in all.iter().enumerate().skip(all.len() - kept) {
            if self.moving && i < kept { self.pass() } else { self.keep(frame) }
        }
        all
    }

    /// Leaves a cache to move up.
    fn pass(&self) {
        self.caches.set(self.caches.get() + 1);
    }

    /// Gives out that nothing came before the first frame.
    fn keep_nothing(&self, like: &Value) {
        if self.moving { self.pass() } else { self.keep(&(like * 0.0)) }
    }

    /// Gives out what the next call shall have.
    fn keep(&self, frame: &Value) {
        frame.graph().output(&format!("next.{}", self.caches.get()), frame);
        self.caches.set(self.caches.get() + 1);
    }

    /// A causal convolution: kernels of three frames see the frame and the two before it, zeros before the first.
    fn conv(&self, w: &Scope, name: &str, x: &[Value], out: usize) -> Vec<Value> {
        let c = x[0].size(1);
        let weight = w.at(name);
        weight.enter();
        if weight.stored("weight").is_some_and(|s| s.shape.ends_with(&[1, 1, 1])) {
            let kernel = weight.weight_as("weight", &[out, c, 1, 1, 1], &[out, c, 1, 1]);
            return each(x, |x| w.conv_by(name, x, &kernel, Conv::new(out, 1)));
        }
        let (whole, form) = ([out, c, 3, 3, 3], Conv::new(out, 3));
        if self.frames == Frames::Later {
            let kernel = weight.weight_as("weight", &whole, &[out, 3 * c, 3, 3]);
            return each(&windows(&self.behind(x, 2), 1), |x| w.conv_by(name, x, &kernel, form));
        }
        if self.frames == Frames::First {
            self.keep_nothing(&x[0]);
            self.keep(&x[0]);
        }
        // Before the first frame are zeros, so that only the kernel's last third counts.
        let kernel = weight.weight("weight", &whole).slice(2, 2, 3).squeeze(2);
        each(x, |x| w.conv_by(name, x, &kernel, form))
    }

    /// Twice the frames; the first of a video stays alone, and is not seen by the second.
    fn double(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        w.at("time_conv").enter();
        if self.frames != Frames::Later {
            w.ignore_below("time_conv");
            if self.frames == Frames::First {
                self.keep_nothing(&x[0]);
                self.keep(&(&x[0] * 0.0));
            }
            return x.to_vec();
        }
        let channels = x[0].size(1);
        let pairs = self.over_time(w, &windows(&self.behind(x, 2), 1), 2 * channels);
        pairs.iter().flat_map(|pair| pair.split(1, [channels; 2])).collect()
    }

    /// Half the frames; the first of a video stays alone, and is seen by the second.
    fn halve(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        w.at("time_conv").enter();
        if self.frames != Frames::Later {
            w.ignore_below("time_conv");
            if self.frames == Frames::First {
                self.keep(&x[0]);
            }
            return x.to_vec();
        }
        self.over_time(w, &windows(&self.behind(x, 1), 2), x[0].size(1))
    }

    /// A convolution over three frames and one pixel.
    fn over_time(&self, w: &Scope, windows: &[Value], out: usize) -> Vec<Value> {
        let seen = windows[0].size(1);
        let kernel = w.at("time_conv").weight_as("weight", &[out, seen / 3, 3, 1, 1], &[out, seen, 1, 1]);
        each(windows, |x| w.conv_by("time_conv", x, &kernel, Conv::new(out, 1)))
    }

    fn middle(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        let resnets = w.at("resnets");
        let x = self.resnet(&resnets.at(0), x);
        self.resnet(&resnets.at(1), &each(&x, |x| attention(&w.at("attentions.0"), x)))
    }

    fn resnets(&self, w: &Scope, mut x: Vec<Value>) -> Vec<Value> {
        for i in 0..w.count("resnets") {
            x = self.resnet(&w.at("resnets").at(i), &x);
        }
        x
    }

    fn resnet(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        let out = out_channels(w, "conv1");
        let bridge = w.has("conv_shortcut.weight");
        let shortcut = if bridge { self.conv(w, "conv_shortcut", x, out) } else { x.to_vec() };
        let h = self.conv(w, "conv1", &each(x, |x| norm(w, "norm1", x, 3).silu()), out);
        let h = self.conv(w, "conv2", &each(&h, |h| norm(w, "norm2", h, 3).silu()), out);
        h.iter().zip(&shortcut).map(|(h, x)| h + x).collect()
    }

    fn head(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        let h = each(x, |x| norm(w, "norm_out", x, 3).silu());
        self.conv(w, "conv_out", &h, out_channels(w, "conv_out"))
    }
}

/// Every `step`th window of three frames [1, c, h, w] as channels [1, 3c, h, w], in the order of a stored kernel.
fn windows(all: &[Value], step: usize) -> Vec<Value> {
    let deep: Vec<Value> = each(all, |x| x.unsqueeze(2));
    let window = |taps: &[Value]| {
        let [n, c, h, w] = [0, 1, 2, 3].map(|a| all[0].dim(a));
        Value::concat(&[&taps[0], &taps[1], &taps[2]], 2).reshape(&[n, &c * 3, h, w])
    };
    deep.windows(3).step_by(step).map(window).collect()
}

/// x/max(‖x‖, 10⁻¹²)·√c·gamma over the channels of [1, c, h, w]; `axes`: those of gamma after the first.
fn norm(w: &Scope, name: &str, x: &Value, axes: usize) -> Value {
    let c = x.size(1);
    let stored: Vec<usize> = std::iter::once(c).chain(std::iter::repeat_n(1, axes)).collect();
    let w = w.at(name);
    w.enter();
    let length = (x * x).mean(&[1]).sqrt().clip(1e-12 / (c as f32).sqrt(), f32::MAX);
    x / length * w.weight_as("gamma", &stored, &[c, 1, 1])
}

/// One head over all pixels of a frame.
fn attention(w: &Scope, x: &Value) -> Value {
    let [n, c, h, width] = [0, 1, 2, 3].map(|a| x.dim(a));
    let dim = x.size(1);
    let all = w.conv2d("to_qkv", &norm(w, "norm", x, 2), 3 * dim, 1);
    w.enter();
    let tokens = |v: Value| v.reshape(&[n.clone(), c.clone(), &h * &width]).transpose(&[0, 2, 1]);
    let [q, k, v] = all.split(1, [dim; 3]).map(tokens);
    let mixed = q.attention(&k, &v, 1, &Attention::default()).transpose(&[0, 2, 1]);
    x + w.conv2d("proj", &mixed.reshape(&[n, c, h, width]), dim, 1)
}

/// Output channels of a convolution, as stored.
fn out_channels(w: &Scope, name: &str) -> usize {
    let stored = |part| w.at(name).stored(part)?.shape.first().copied();
    stored("weight").or_else(|| stored("bias")).unwrap_or(1)
}
