//! AutoencoderKL, the picture autoencoder of FLUX.1 and Z-Image (arXiv:2112.10752), and FLUX.2's, whose latents are patches
//! normalised by statistics among the weights; as diffusers 0.42.1 `models/autoencoders/{autoencoder_kl,autoencoder_kl_flux2}.py`
//! and `vae.py`.

use serde::Deserialize;

use super::{count, shape};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Conv, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

const EPS: f32 = 1e-6;
/// Maps that a group norm and the convolutions around it hold at once.
const MAPS: usize = 5;

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Groups of every group norm.
    pub norm_num_groups: usize,
    /// ε of the latents' normalisation, where there is one.
    #[serde(default = "batch_norm_eps")]
    pub batch_norm_eps: f32,
}

fn batch_norm_eps() -> f32 {
    1e-4
}

/// FLUX.2's latents outside the autoencoder: 2×2 patches as channels, each normalised.
const PATCH: usize = 2;

/// The network's extents; either half can be built alone.
#[derive(Debug, Clone)]
pub struct VaeKl {
    groups: usize,
    /// ε of the latents' normalisation, where the weights hold its statistics.
    normalised: Option<f32>,
    /// Channels of a latent inside the network.
    pub latent: usize,
    /// Resolution levels; a picture is 2^(levels−1) times its latent.
    pub levels: usize,
}

impl VaeKl {
    /// Reads the extents from the weights.
    pub fn detect(config: &Config, c: &Checkpoint) -> Result<Self> {
        let [_, latent, _, _] = shape(c, "decoder.conv_in.weight")?;
        let levels = count(c, "decoder.up_blocks")?;
        let groups = config.norm_num_groups;
        if groups == 0 || levels > 8 {
            let origin = c.origin().display();
            let wanted = "norm_num_groups of at least 1 and at most 8 levels";
            return Err(Error::failed(format!(
                "{origin}: {groups} groups, {levels} levels; AutoencoderKL has {wanted}"
            )));
        }
        let normalised = c.contains("bn.running_mean").then_some(config.batch_norm_eps);
        Ok(Self { groups, normalised, latent, levels })
    }

    /// Bytes of values per picture pixel at the peak of decoding and of encoding, about: so many maps of the level at full
    /// resolution, of which the decoder's has more channels. Measured with FLUX.1's extents.
    pub fn pixel_bytes(&self, c: &Checkpoint) -> Result<[usize; 2]> {
        let last = format!("decoder.up_blocks.{}.resnets.0.conv1.weight", self.levels.saturating_sub(1));
        let [_, decoder, _, _] = shape(c, &last)?;
        let [encoder, _, _, _] = shape(c, "encoder.conv_in.weight")?;
        Ok([4 * MAPS * decoder, 4 * (MAPS + 1) * encoder])
    }

    /// Side of the patches that latents outside the network are of.
    pub fn patch(&self) -> usize {
        if self.normalised.is_some() { PATCH } else { 1 }
    }

    /// Picture pixels per pixel of the latents outside the network, each way.
    pub fn factor(&self) -> usize {
        self.patch() << (self.levels - 1)
    }

    /// Mean and deviation per channel of latents outside the network, [channels, 1, 1] each.
    fn statistics(&self, w: &Scope, eps: f32) -> [Value; 2] {
        let bn = w.at("bn");
        bn.enter();
        let channels = self.latent * PATCH * PATCH;
        let of = |name| bn.weight(name, &[channels]).reshape(&[channels.into(), 1.into(), 1.into()]);
        [of("running_mean"), (of("running_var") + eps).sqrt()]
    }

    /// Input `latents` [n, latent, h, w], already un-scaled, or FLUX.2's [n, 4·latent, h, w] as they are; output `picture`
    /// [n, 3, h·factor, w·factor] in about −1..=1.
    pub fn build_decoder(&self, w: &Scope) {
        let g = w.graph();
        w.ignore_below("encoder");
        w.ignore_below("quant_conv");
        w.ignore("bn.num_batches_tracked");
        let channels = self.latent * self.patch() * self.patch();
        let shape = [Dim::symbol("n"), channels.into(), Dim::symbol("h"), Dim::symbol("w")];
        let mut x = g.input("latents", &shape, DType::F32);
        if let Some(eps) = self.normalised {
            let [mean, deviation] = self.statistics(w, eps);
            x = (x * deviation + mean).pixel_shuffle(PATCH);
        }
        if w.has("post_quant_conv.weight") {
            x = w.conv2d("post_quant_conv", &x, self.latent, 1);
        }
        let w = &w.at("decoder");
        let widest = out_channels(w, "conv_in");
        let mut x = self.middle(&w.at("mid_block"), &w.conv2d("conv_in", &x, widest, 3));
        for level in 0..self.levels {
            let w = w.at("up_blocks").at(level);
            x = self.resnets(&w, x);
            if level + 1 < self.levels {
                let channels = x.size(1);
                x = w.conv2d("upsamplers.0.conv", &x.upsample_nearest(2), channels, 3);
            }
        }
        g.output("picture", &self.head(w, &x));
    }

    /// Input `picture` [n, 3, h·factor, w·factor] in −1..=1; outputs `mean` and `logvar` [n, latent, h, w], not yet scaled; or
    /// FLUX.2's `mean` alone, [n, 4·latent, h, w], normalised.
    pub fn build_encoder(&self, w: &Scope) {
        let g = w.graph();
        w.ignore_below("decoder");
        w.ignore_below("post_quant_conv");
        let f = self.factor();
        let shape = [Dim::symbol("n"), 3.into(), &Dim::symbol("h") * f, &Dim::symbol("w") * f];
        let picture = g.input("picture", &shape, DType::F32);
        w.ignore("bn.num_batches_tracked");
        let root = w;
        let w = &w.at("encoder");
        let mut x = w.conv2d("conv_in", &picture, out_channels(w, "conv_in"), 3);
        for level in 0..self.levels {
            let w = w.at("down_blocks").at(level);
            x = self.resnets(&w, x);
            if level + 1 < self.levels {
                // Zeros right and below only, as the reference pads.
                let form = Conv::new(x.size(1), 3).stride(2).pad([0, 0, 1, 1]);
                x = w.conv("downsamplers.0.conv", &x, form);
            }
        }
        let mut moments = self.head(w, &self.middle(&w.at("mid_block"), &x));
        if root.has("quant_conv.weight") {
            moments = root.conv2d("quant_conv", &moments, 2 * self.latent, 1);
        }
        let [mean, logvar] = moments.split(1, [self.latent; 2]);
        if let Some(eps) = self.normalised {
            let [centre, deviation] = self.statistics(root, eps);
            g.output("mean", &((mean.pixel_unshuffle(PATCH) - centre) / deviation));
            return;
        }
        g.output("mean", &mean);
        g.output("logvar", &logvar.clip(-30.0, 20.0));
    }

    fn middle(&self, w: &Scope, x: &Value) -> Value {
        let resnets = w.at("resnets");
        let x = self.resnet(&resnets.at(0), x);
        self.resnet(&resnets.at(1), &self.attention(&w.at("attentions.0"), &x))
    }

    fn resnets(&self, w: &Scope, mut x: Value) -> Value {
        for i in 0..w.count("resnets") {
            x = self.resnet(&w.at("resnets").at(i), &x);
        }
        x
    }

    fn resnet(&self, w: &Scope, x: &Value) -> Value {
        let out = out_channels(w, "conv1");
        let h = w.conv2d("conv1", &w.group_norm("norm1", x, self.groups, EPS).silu(), out, 3);
        let h = w.conv2d("conv2", &w.group_norm("norm2", &h, self.groups, EPS).silu(), out, 3);
        if w.has("conv_shortcut.weight") { w.conv2d("conv_shortcut", x, out, 1) + h } else { x + h }
    }

    /// One head over all pixels.
    fn attention(&self, w: &Scope, x: &Value) -> Value {
        let [n, c, h, width] = [0, 1, 2, 3].map(|a| x.dim(a));
        let dim = x.size(1);
        let tokens = w.group_norm("group_norm", x, self.groups, EPS);
        let tokens = tokens.reshape(&[n.clone(), c.clone(), &h * &width]).transpose(&[0, 2, 1]);
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| w.linear(p, &tokens, dim));
        let mixed = w.linear("to_out.0", &q.attention(&k, &v, 1, &Attention::default()), dim);
        x + mixed.transpose(&[0, 2, 1]).reshape(&[n, c, h, width])
    }

    fn head(&self, w: &Scope, x: &Value) -> Value {
        let h = w.group_norm("conv_norm_out", x, self.groups, EPS).silu();
        w.conv2d("conv_out", &h, out_channels(w, "conv_out"), 3)
    }
}

/// Output channels of a convolution, as stored.
fn out_channels(w: &Scope, name: &str) -> usize {
    let stored = |part| w.at(name).stored(part)?.shape.first().copied();
    stored("weight").or_else(|| stored("bias")).unwrap_or(1)
}
