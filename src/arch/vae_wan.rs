//! AutoencoderKLWan and AutoencoderKLQwenImage, the causal video autoencoder of Wan 2.1 (arXiv:2503.20314 §4.1) that Qwen-Image uses
//! for single pictures, as diffusers 0.42.1 `models/autoencoders/autoencoder_kl_wan.py`.
//!
//! Frames are the batch axis: a convolution over time sees its neighbours as channels, so that it is a 2-D one by the stored
//! weight. What a convolution wants of earlier frames goes out of one call and into the next, in the order of the convolutions.

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
        let doubles = |l: &usize| c.contains(&format!("decoder.up_blocks.{l}.upsamplers.0.time_conv.weight"));
        let times = 1 << (0..levels).filter(doubles).count();
        Ok(Self { latent, levels, times })
    }

    /// Picture pixels per latent pixel, each way.
    pub fn factor(&self) -> usize {
        1 << (self.levels - 1)
    }

    /// Input `latents` [1, latent, h, w], one un-scaled frame; output `picture` [1, 3, h·factor, w·factor] in about −1..=1.
    pub fn build_picture_decoder(&self, w: &Scope) {
        self.build_decoder(w, Frames::Only);
    }

    /// Input `picture` [1, 3, h·factor, w·factor] in −1..=1; outputs `mean` and `logvar` [1, latent, h, w], not yet scaled.
    pub fn build_picture_encoder(&self, w: &Scope) {
        self.build_encoder(w, Frames::Only);
    }

    /// Input `latents` [1, latent, h, w], one un-scaled frame; output `picture` [p, 3, h·factor, w·factor] in about −1..=1, p = 1
    /// for the first frame and `times` for each later one. Of a video, outputs `next.0`, `next.1`, … are the inputs `cache.0`, …
    /// of the frame after.
    pub fn build_decoder(&self, w: &Scope, frames: Frames) {
        w.ignore_below("encoder");
        w.ignore_below("quant_conv");
        let net = Stream::new(frames);
        let shape = [1.into(), self.latent.into(), Dim::symbol("h"), Dim::symbol("w")];
        let x = w.graph().input("latents", &shape, DType::F32);
        let x = net.conv(w, "post_quant_conv", &x, self.latent);
        let w = &w.at("decoder");
        let x = net.conv(w, "conv_in", &x, out_channels(w, "conv_in"));
        let mut x = net.middle(&w.at("mid_block"), &x);
        for level in 0..self.levels {
            let w = w.at("up_blocks").at(level);
            x = net.resnets(&w, x);
            let w = w.at("upsamplers.0");
            if w.has("time_conv.weight") {
                x = net.double(&w, &x);
            }
            if w.has("resample.1.weight") {
                x = w.conv2d("resample.1", &x.upsample_nearest(2), out_channels(&w, "resample.1"), 3);
            }
        }
        w.graph().output("picture", &net.head(w, &x));
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
        let mut x = net.conv(w, "conv_in", &picture, out_channels(w, "conv_in"));
        for i in 0..w.count("down_blocks") {
            let w = w.at("down_blocks").at(i);
            if !w.has("resample.1.weight") {
                x = net.resnet(&w, &x);
                continue;
            }
            // Zeros right and below only, as the reference pads.
            x = w.conv("resample.1", &x, Conv::new(x.size(1), 3).stride(2).pad([0, 0, 1, 1]));
            if w.has("time_conv.weight") {
                x = net.halve(&w, &x);
            }
        }
        let x = net.head(w, &net.middle(&w.at("mid_block"), &x));
        let moments = net.conv(&root, "quant_conv", &x, 2 * self.latent);
        let [mean, logvar] = moments.split(1, [self.latent; 2]);
        w.graph().output("mean", &mean);
        w.graph().output("logvar", &logvar.clip(-30.0, 20.0));
    }
}

/// A network over some frames, with the caches met so far.
struct Stream {
    frames: Frames,
    caches: Cell<usize>,
}

impl Stream {
    fn new(frames: Frames) -> Self {
        Self { frames, caches: Cell::new(0) }
    }

    /// Frames before those of `x`, as they were given out: `kept` of them, in the form of `x`.
    fn before(&self, x: &Value, kept: usize) -> Value {
        let [_, c, h, w] = [0, 1, 2, 3].map(|a| x.dim(a));
        x.graph().input(&format!("cache.{}", self.caches.get()), &[kept.into(), c, h, w], DType::F32)
    }

    /// Gives out what the next call shall have.
    fn keep(&self, last: &Value) {
        last.graph().output(&format!("next.{}", self.caches.get()), last);
        self.caches.set(self.caches.get() + 1);
    }

    /// A causal convolution: kernels of three frames see the frame and the two before it, zeros before the first.
    fn conv(&self, w: &Scope, name: &str, x: &Value, out: usize) -> Value {
        let c = x.size(1);
        let stored = w.at(name).stored("weight").map(|s| s.shape.clone()).unwrap_or_default();
        let (depth, k) = if stored.len() == 5 { (stored[2], stored[3]) } else { (3, 3) };
        let form = Conv::new(out, k);
        if depth == 1 {
            let kernel = w.at(name).weight_as("weight", &[out, c, 1, k, k], &[out, c, k, k]);
            return w.conv_by(name, x, &kernel, form);
        }
        let whole = [out, c, 3, k, k];
        if self.frames == Frames::Later {
            let all = Value::concat(&[&self.before(x, 2), x], 0);
            let frames = x.size(0);
            self.keep(&all.slice(0, frames, frames + 2));
            let kernel = w.at(name).weight_as("weight", &whole, &[out, 3 * c, k, k]);
            return w.conv_by(name, &windows(&all, frames, 1), &kernel, form);
        }
        w.at(name).enter();
        if self.frames == Frames::First {
            self.keep(&Value::concat(&[&(x * 0.0), x], 0));
        }
        // Before the first frame are zeros, so that only the kernel's last third counts.
        let kernel = w.at(name).weight("weight", &whole).slice(2, 2, 3).squeeze(2);
        w.conv_by(name, x, &kernel, form)
    }

    /// Twice the frames; the first of a video stays alone, and is not seen by the second.
    fn double(&self, w: &Scope, x: &Value) -> Value {
        let [_, c, h, width] = [0, 1, 2, 3].map(|a| x.dim(a));
        let (channels, frames) = (x.size(1), x.size(0));
        if self.frames != Frames::Later {
            w.ignore_below("time_conv");
            w.enter();
            if self.frames == Frames::First {
                let zeros = x * 0.0;
                self.keep(&Value::concat(&[&zeros, &zeros], 0));
            }
            return x.clone();
        }
        let all = Value::concat(&[&self.before(x, 2), x], 0);
        self.keep(&all.slice(0, frames, frames + 2));
        let form = Conv::new(2 * channels, 1);
        let both = w.conv_by("time_conv", &windows(&all, frames, 1), &time_kernel(w, 2 * channels, channels), form);
        both.reshape(&[(2 * frames).into(), c, h, width])
    }

    /// Half the frames; the first of a video stays alone, and is seen by the second.
    fn halve(&self, w: &Scope, x: &Value) -> Value {
        let (channels, frames) = (x.size(1), x.size(0));
        if self.frames != Frames::Later {
            w.ignore_below("time_conv");
            if self.frames == Frames::First {
                self.keep(x);
            }
            return x.clone();
        }
        let all = Value::concat(&[&self.before(x, 1), x], 0);
        self.keep(&all.slice(0, frames, frames + 1));
        let form = Conv::new(channels, 1);
        w.conv_by("time_conv", &windows(&all, frames / 2, 2), &time_kernel(w, channels, channels), form)
    }

    fn middle(&self, w: &Scope, x: &Value) -> Value {
        let resnets = w.at("resnets");
        let x = self.resnet(&resnets.at(0), x);
        self.resnet(&resnets.at(1), &attention(&w.at("attentions.0"), &x))
    }

    fn resnets(&self, w: &Scope, mut x: Value) -> Value {
        for i in 0..w.count("resnets") {
            x = self.resnet(&w.at("resnets").at(i), &x);
        }
        x
    }

    fn resnet(&self, w: &Scope, x: &Value) -> Value {
        let out = out_channels(w, "conv1");
        let shortcut = if w.has("conv_shortcut.weight") { self.conv(w, "conv_shortcut", x, out) } else { x.clone() };
        let h = self.conv(w, "conv1", &norm(w, "norm1", x, 3).silu(), out);
        self.conv(w, "conv2", &norm(w, "norm2", &h, 3).silu(), out) + shortcut
    }

    fn head(&self, w: &Scope, x: &Value) -> Value {
        self.conv(w, "conv_out", &norm(w, "norm_out", x, 3).silu(), out_channels(w, "conv_out"))
    }
}

/// `count` windows of three frames of [f, c, h, w], `step` apart, as [count, 3c, h, w] in the order of a stored kernel.
fn windows(all: &Value, count: usize, step: usize) -> Value {
    let [_, c, h, w] = [0, 1, 2, 3].map(|a| all.dim(a));
    let tap = |k: usize| {
        let frames: Vec<Value> = match step {
            1 => vec![all.slice(0, k, k + count)],
            _ => (0..count).map(|i| all.slice(0, k + i * step, k + i * step + 1)).collect(),
        };
        let tap =
            if frames.len() == 1 { frames[0].clone() } else { Value::concat(&frames.iter().collect::<Vec<_>>(), 0) };
        tap.unsqueeze(2)
    };
    let taps = [tap(0), tap(1), tap(2)];
    Value::concat(&[&taps[0], &taps[1], &taps[2]], 2).reshape(&[count.into(), &c * 3, h, w])
}

/// A kernel over three frames and one pixel, for [`windows`].
fn time_kernel(w: &Scope, out: usize, channels: usize) -> Value {
    w.at("time_conv").weight_as("weight", &[out, channels, 3, 1, 1], &[out, 3 * channels, 1, 1])
}

/// x/max(‖x‖, 10⁻¹²)·√c·gamma over the channels of [f, c, h, w]; `axes`: those of gamma after the first.
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
