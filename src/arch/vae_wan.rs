//! AutoencoderKLWan and AutoencoderKLQwenImage: the causal video VAE of Wan 2.1 (arXiv:2503.20314 §4.1), which Qwen-Image uses for
//! single pictures, as diffusers 0.42.1 `models/autoencoders/autoencoder_kl_wan.py`.
//!
//! Each frame is a separate value. A convolution over time takes the neighbouring frames as channels, which makes it a 2-D
//! convolution with the stored weight, so only a few frames are in memory at once. The frames that a convolution needs from the
//! previous call are its caches: inputs `cache.0`, `cache.1`, … and outputs `next.0`, `next.1`, …, in the order of the convolutions.
//!
//! The decoder can be built as one graph or as two. The trunk turns one latent frame into features, one per picture; the head
//! turns the features of one picture into that picture. The head has the full resolution, and its activations are those of one
//! picture only. In two graphs a cache that only moves up by one frame has no output: the caller moves it.

use std::cell::Cell;

use serde::Deserialize;

use super::{
    architecture::{Architecture, Autoencoder, Component, ConfigChecks, Fact::Extent, NetworkKind, Subgraph, VaeSpec},
    shared::dimensions::{blocked, count, decoder_bytes, out_channels, shape},
};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Conv, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// Wan 2.1's VAE.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "AutoencoderKLWan",
    classes: &["AutoencoderKLWan", PICTURE_CLASS],
    detect: |c| c.contains("decoder.up_blocks.0.upsamplers.0.time_conv.weight"),
    config: ConfigChecks::new(&[
        ("base_dim", Extent("decoder.conv_out.weight", 1)),
        ("z_dim", Extent("decoder.conv_in.weight", 1)),
    ]),
    network: NetworkKind::Autoencoder(|c| Ok(Box::new(VaeWan::new(c)?))),
};

/// The class for single pictures.
const PICTURE_CLASS: &str = "AutoencoderKLQwenImage";
/// Side and overlap of the reference's tiles in picture pixels.
const TILE: (usize, usize) = (256, 64);
/// Full-resolution feature maps at the peak. Measured with Wan 2.1's dimensions.
const FEATURE_MAPS: usize = 8;
/// Those of them that are inputs or outputs of a convolution.
const BLOCKED_MAPS: usize = 2;

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    /// Shortcuts across levels (Wan 2.2); must be false.
    #[serde(default)]
    is_residual: bool,
    /// Side of the patches before the network (Wan 2.2); must be absent.
    #[serde(default)]
    patch_size: Option<usize>,
}

/// Which temporal caches a graph has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TemporalCache {
    /// None: a single picture.
    None,
    /// Outputs: the first frame of a video.
    Write,
    /// Inputs and outputs: the frames after the first.
    ReadWrite,
}

/// Which part of the decoder a graph has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderPart {
    /// Latents → pictures.
    Full,
    /// Latents → features, up to the point where a latent frame has become all its pictures.
    Trunk,
    /// Features → picture.
    Head,
}

/// Dimensions of the network.
struct VaeWan {
    /// Whether it is for videos.
    video: bool,
    latent_channels: usize,
    /// Resolution levels; a picture is 2^(levels−1) times its latent.
    levels: usize,
    /// Pictures per latent frame after the first.
    temporal_factor: usize,
}

impl VaeWan {
    fn new(component: &Component<'_>) -> Result<Self> {
        let (config, c): (Config, _) = (component.config()?, component.weights);
        let [_, latent_channels, _, _, _] = shape(c, "decoder.conv_in.weight")?;
        let levels = count(c, "decoder.up_blocks")?;
        let origin = c.origin().display();
        if levels > 8 {
            return Err(Error::failed(format!("{origin}: {levels} levels; expected at most 8")));
        }
        if config.is_residual || config.patch_size.is_some() {
            return Err(Error::failed(format!(
                "{origin}: is_residual or patch_size is set; Wan 2.2's VAE is not supported, Wan 2.1's is"
            )));
        }
        let over_time =
            |half: &str| c.names().filter(|n| n.starts_with(half) && n.ends_with(".time_conv.weight")).count();
        let (doubled, halved) = (over_time("decoder."), over_time("encoder."));
        if doubled != halved || doubled >= levels {
            let found = format!("the encoder halves time {halved} times, the decoder doubles it {doubled} times");
            return Err(Error::failed(format!("{origin}: {found}; a time_conv.weight is missing or unexpected")));
        }
        let video = component.class != PICTURE_CLASS;
        Ok(Self { video, latent_channels, levels, temporal_factor: 1 << doubled })
    }

    fn factor(&self) -> usize {
        1 << (self.levels - 1)
    }

    /// Peak activation memory of decoding and of encoding in bytes per picture pixel: full-resolution feature maps and, for a video,
    /// two cached frames and one output per convolution.
    fn pixel_bytes(&self, c: &Checkpoint) -> Result<[usize; 2]> {
        let mut cached = 0;
        let mut channels = 0;
        for level in 0..self.levels {
            let block = format!("decoder.up_blocks.{level}.resnets");
            [channels, _, _, _, _] = shape(c, &format!("{block}.0.conv2.weight"))?;
            let convolutions = 2 * count(c, &block)? + if level == 0 { 5 } else { 0 };
            cached += (convolutions * channels) >> (2 * (self.levels - 1 - level));
        }
        let cached = if self.video { 4 * 3 * (cached + channels) } else { 0 };
        let maps = BLOCKED_MAPS * blocked(channels) + (FEATURE_MAPS - BLOCKED_MAPS) * channels;
        Ok([cached + 4 * maps; 2])
    }

    /// Input `latents` [1, latent_channels, h, w], one un-scaled frame; output `picture` [p, 3, h·factor, w·factor] in about −1..=1,
    /// p = 1 for the first frame and `temporal_factor` for each later one.
    ///
    /// In two graphs: the trunk's outputs `features.0`, … `features.p−1` are each the head's input `features`, whose `picture` is
    /// [1, 3, h·factor, w·factor]. A cache without a `next` output takes the value of the cache after it, or zeros before the first
    /// frame.
    fn build_decoder(&self, w: &Scope, cache: TemporalCache, part: DecoderPart) {
        w.ignore_below("encoder");
        w.ignore_below("quant_conv");
        let net = Stream { moving: part != DecoderPart::Full, ..Stream::new(cache) };
        let root = w;
        let w = &w.at("decoder");
        // Number of levels in the trunk. It ends within the upsampler of the last one.
        let cut = (0..self.levels).rev().find(|l| w.at("up_blocks").at(l).has("upsamplers.0.time_conv.weight"));
        let cut = cut.map_or(0, |level| level + 1);
        let input = |name: &str, channels: usize, times: usize| {
            let shape = [1.into(), channels.into(), &Dim::symbol("h") * times, &Dim::symbol("w") * times];
            w.graph().input(name, &shape, DType::F32)
        };
        let mut x = if part == DecoderPart::Head {
            ["post_quant_conv", "decoder.conv_in", "decoder.mid_block"].iter().for_each(|name| root.ignore_below(name));
            let channels = match cut.checked_sub(1) {
                Some(last) => out_channels(&w.at("up_blocks").at(last).at("resnets").at(0), "conv2"),
                None => out_channels(w, "conv_in"),
            };
            vec![input("features", channels, 1 << cut.saturating_sub(1))]
        } else {
            let x =
                net.conv(root, "post_quant_conv", &[input("latents", self.latent_channels, 1)], self.latent_channels);
            net.middle(&w.at("mid_block"), &net.conv(w, "conv_in", &x, out_channels(w, "conv_in")))
        };
        for level in 0..self.levels {
            let w = w.at("up_blocks").at(level);
            let up = w.at("upsamplers.0");
            match (part, level < cut) {
                (DecoderPart::Head, true) => {
                    w.ignore_below("resnets");
                    up.ignore_below("time_conv");
                }
                (DecoderPart::Trunk, false) => ["resnets", "upsamplers"].iter().for_each(|name| w.ignore_below(name)),
                _ => {
                    x = net.resnets(&w, x);
                    if up.has("time_conv.weight") {
                        x = net.double(&up, &x);
                    }
                }
            }
            // In two graphs, the convolution of the last upsampler belongs to the head.
            let included = match part {
                DecoderPart::Full => true,
                DecoderPart::Trunk => level + 1 < cut,
                DecoderPart::Head => level + 1 >= cut,
            };
            if up.has("resample.1.weight") && included {
                let out = out_channels(&up, "resample.1");
                x = each(&x, |x| up.conv2d("resample.1", &x.upsample_nearest(2), out, 3));
            } else {
                up.ignore_below("resample");
            }
        }
        if part == DecoderPart::Trunk {
            w.ignore_below("norm_out");
            w.ignore_below("conv_out");
            x.iter().enumerate().for_each(|(i, x)| w.graph().output(&format!("features.{i}"), x));
        } else {
            w.graph().output("picture", &batched(&net.output(w, &x)));
        }
    }

    /// Input `picture` [p, 3, h·factor, w·factor] in −1..=1, p = 1 for the first frame and `temporal_factor` later; outputs `mean`
    /// and `logvar` [1, latent_channels, h, w] before scaling.
    fn build_encoder(&self, w: &Scope, cache: TemporalCache) {
        w.ignore_below("decoder");
        w.ignore_below("post_quant_conv");
        let net = Stream::new(cache);
        let pictures = if cache == TemporalCache::ReadWrite { self.temporal_factor } else { 1 };
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
            // The reference pads only right and below.
            let form = Conv::new(out_channels(&w, "resample.1"), 3).stride(2).pad([0, 0, 1, 1]);
            x = each(&x, |x| w.conv("resample.1", x, form));
            if w.has("time_conv.weight") {
                x = net.halve(&w, &x);
            }
        }
        let x = net.output(w, &net.middle(&w.at("mid_block"), &x));
        let moments = batched(&net.conv(&root, "quant_conv", &x, 2 * self.latent_channels));
        let [mean, logvar] = moments.split(1, [self.latent_channels; 2]);
        w.graph().output("mean", &mean);
        w.graph().output("logvar", &logvar.clip(-30.0, 20.0));
    }
}

impl Autoencoder for VaeWan {
    fn spec(&self, component: &Component<'_>) -> Result<VaeSpec> {
        let [decode_bytes, encode_bytes] = self.pixel_bytes(component.weights)?;
        let (tile, overlap) = TILE;
        // A video has two sessions: for the first frame and for later ones.
        let weights = decoder_bytes(component.weights) * if self.video { 2 } else { 1 };
        Ok(VaeSpec { factor: self.factor(), patch: 1, tile, overlap, decode_bytes, encode_bytes, weights })
    }

    fn build(&self, w: &Scope, subgraph: Subgraph) {
        use TemporalCache::{ReadWrite, Write};
        let first = if self.video { Write } else { TemporalCache::None };
        match subgraph {
            Subgraph::Encoder => self.build_encoder(w, first),
            Subgraph::CachedEncoder => self.build_encoder(w, ReadWrite),
            Subgraph::CachedDecoder => self.build_decoder(w, ReadWrite, DecoderPart::Full),
            Subgraph::DecoderTrunk => self.build_decoder(w, Write, DecoderPart::Trunk),
            Subgraph::CachedDecoderTrunk => self.build_decoder(w, ReadWrite, DecoderPart::Trunk),
            Subgraph::DecoderHead => self.build_decoder(w, Write, DecoderPart::Head),
            Subgraph::CachedDecoderHead => self.build_decoder(w, ReadWrite, DecoderPart::Head),
            Subgraph::Full | Subgraph::HiddenStates(_) | Subgraph::Decoder => {
                self.build_decoder(w, first, DecoderPart::Full);
            }
        }
    }
}

/// Applies `make` to every frame.
fn each(x: &[Value], make: impl Fn(&Value) -> Value) -> Vec<Value> {
    x.iter().map(make).collect()
}

/// All frames as one batch.
fn batched(x: &[Value]) -> Value {
    if x.len() == 1 { x[0].clone() } else { Value::concat(&x.iter().collect::<Vec<_>>(), 0) }
}

/// The network over the frames of one call. It numbers the caches in the order of the convolutions.
struct Stream {
    cache: TemporalCache,
    caches: Cell<usize>,
    /// The caller moves caches up by one frame, so that only new frames are outputs.
    moving: bool,
}

impl Stream {
    fn new(cache: TemporalCache) -> Self {
        Self { cache, caches: Cell::new(0), moving: false }
    }

    /// The `cached` frames before `x`, then `x`. The last `cached` of all become outputs for the next call.
    fn with_cached(&self, x: &[Value], cached: usize) -> Vec<Value> {
        let first = &x[0];
        let from = self.caches.get();
        let cache = |i| first.graph().input(&format!("cache.{i}"), first.shape(), DType::F32);
        let all: Vec<Value> = (from..from + cached).map(cache).chain(x.iter().cloned()).collect();
        for (i, frame) in all.iter().enumerate().skip(all.len() - cached) {
            if self.moving && i < cached { self.skip() } else { self.keep(frame) }
        }
        all
    }

    /// Numbers a cache that the caller moves up.
    fn skip(&self) {
        self.caches.set(self.caches.get() + 1);
    }

    /// Outputs zeros, the cache before the first frame.
    fn keep_zeros(&self, like: &Value) {
        if self.moving { self.skip() } else { self.keep(&(like * 0.0)) }
    }

    /// Outputs a frame for the next call.
    fn keep(&self, frame: &Value) {
        frame.graph().output(&format!("next.{}", self.caches.get()), frame);
        self.caches.set(self.caches.get() + 1);
    }

    /// A causal convolution over three frames: each frame and the two before it, zeros before the first.
    fn conv(&self, w: &Scope, name: &str, x: &[Value], out: usize) -> Vec<Value> {
        let c = x[0].size(1);
        let weight = w.at(name);
        weight.enter();
        if weight.stored("weight").is_some_and(|s| s.shape.ends_with(&[1, 1, 1])) {
            let kernel = weight.weight_as("weight", &[out, c, 1, 1, 1], &[out, c, 1, 1]);
            return each(x, |x| w.conv_by(name, x, &kernel, Conv::new(out, 1)));
        }
        let (whole, form) = ([out, c, 3, 3, 3], Conv::new(out, 3));
        if self.cache == TemporalCache::ReadWrite {
            let kernel = weight.weight_as("weight", &whole, &[out, 3 * c, 3, 3]);
            return each(&windows(&self.with_cached(x, 2), 1), |x| w.conv_by(name, x, &kernel, form));
        }
        if self.cache == TemporalCache::Write {
            self.keep_zeros(&x[0]);
            self.keep(&x[0]);
        }
        // Zeros precede the first frame, so only the last third of the kernel contributes.
        let kernel = weight.weight("weight", &whole).slice(2, 2, 3).squeeze(2);
        each(x, |x| w.conv_by(name, x, &kernel, form))
    }

    /// Doubles the frames. The first frame of a video stays single, and the next does not depend on it.
    fn double(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        w.at("time_conv").enter();
        if self.cache != TemporalCache::ReadWrite {
            w.ignore_below("time_conv");
            if self.cache == TemporalCache::Write {
                self.keep_zeros(&x[0]);
                self.keep(&(&x[0] * 0.0));
            }
            return x.to_vec();
        }
        let channels = x[0].size(1);
        let pairs = self.over_time(w, &windows(&self.with_cached(x, 2), 1), 2 * channels);
        pairs.iter().flat_map(|pair| pair.split(1, [channels; 2])).collect()
    }

    /// Halves the frames. The first frame of a video stays single, and the next depends on it.
    fn halve(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        w.at("time_conv").enter();
        if self.cache != TemporalCache::ReadWrite {
            w.ignore_below("time_conv");
            if self.cache == TemporalCache::Write {
                self.keep(&x[0]);
            }
            return x.to_vec();
        }
        self.over_time(w, &windows(&self.with_cached(x, 1), 2), x[0].size(1))
    }

    /// A convolution over three frames, kernel 3×1×1.
    fn over_time(&self, w: &Scope, windows: &[Value], out: usize) -> Vec<Value> {
        let channels = windows[0].size(1);
        let kernel = w.at("time_conv").weight_as("weight", &[out, channels / 3, 3, 1, 1], &[out, channels, 1, 1]);
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
        let projected = w.has("conv_shortcut.weight");
        let shortcut = if projected { self.conv(w, "conv_shortcut", x, out) } else { x.to_vec() };
        let h = self.conv(w, "conv1", &each(x, |x| norm(w, "norm1", x, 3).silu()), out);
        let h = self.conv(w, "conv2", &each(&h, |h| norm(w, "norm2", h, 3).silu()), out);
        h.iter().zip(&shortcut).map(|(h, x)| h + x).collect()
    }

    fn output(&self, w: &Scope, x: &[Value]) -> Vec<Value> {
        let h = each(x, |x| norm(w, "norm_out", x, 3).silu());
        self.conv(w, "conv_out", &h, out_channels(w, "conv_out"))
    }
}

/// Every `step`th window of three frames [1, c, h, w] as channels [1, 3c, h, w], in the channel order of a stored kernel.
fn windows(all: &[Value], step: usize) -> Vec<Value> {
    let deep: Vec<Value> = each(all, |x| x.unsqueeze(2));
    let window = |taps: &[Value]| {
        let [n, c, h, w] = [0, 1, 2, 3].map(|a| all[0].dim(a));
        Value::concat(&[&taps[0], &taps[1], &taps[2]], 2).reshape(&[n, &c * 3, h, w])
    };
    deep.windows(3).step_by(step).map(window).collect()
}

/// x/max(‖x‖, 10⁻¹²)·√c·gamma over the channels of [1, c, h, w]. `axes`: number of axes of gamma after the first.
fn norm(w: &Scope, name: &str, x: &Value, axes: usize) -> Value {
    let c = x.size(1);
    let stored: Vec<usize> = std::iter::once(c).chain(std::iter::repeat_n(1, axes)).collect();
    let w = w.at(name);
    w.enter();
    let length = (x * x).mean(&[1]).sqrt().clip(1e-12 / (c as f32).sqrt(), f32::MAX);
    x / length * w.weight_as("gamma", &stored, &[c, 1, 1])
}

/// Attention over all pixels of a frame, one head.
fn attention(w: &Scope, x: &Value) -> Value {
    let [n, c, h, width] = [0, 1, 2, 3].map(|a| x.dim(a));
    let channels = x.size(1);
    let all = w.conv2d("to_qkv", &norm(w, "norm", x, 2), 3 * channels, 1);
    w.enter();
    let tokens = |v: Value| v.reshape(&[n.clone(), c.clone(), &h * &width]).transpose(&[0, 2, 1]);
    let [q, k, v] = all.split(1, [channels; 3]).map(tokens);
    let mixed = q.attention(&k, &v, 1, &Attention::default()).transpose(&[0, 2, 1]);
    x + w.conv2d("proj", &mixed.reshape(&[n, c, h, width]), channels, 1)
}
