//! AutoencoderKL, the VAE of FLUX.1 and Z-Image (arXiv:2112.10752), and that of FLUX.2, whose latents are 2×2 patches normalised
//! by statistics stored with the weights; as diffusers 0.42.1 `models/autoencoders/{autoencoder_kl,autoencoder_kl_flux2}.py`
//! and `vae.py`.

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

/// AutoencoderKL, with or without FLUX.2's latent patches.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "AutoencoderKL",
    classes: &["AutoencoderKL", "AutoencoderKLFlux2"],
    detect: |c| c.contains("decoder.mid_block.resnets.0.conv1.weight"),
    config: ConfigChecks::new(&[("latent_channels", Extent("decoder.conv_in.weight", 1))]),
    network: NetworkKind::Autoencoder(|c| Ok(Box::new(VaeKl::new(&c.config()?, c.weights)?))),
};

const EPS: f32 = 1e-6;
/// Feature maps that a group norm and the convolutions around it hold at once. Measured with FLUX.1's dimensions.
const FEATURE_MAPS: usize = 5;
/// Those of them that are inputs or outputs of a convolution.
const BLOCKED_MAPS: usize = 3;
/// Tile side of `AutoencoderKL` where `config.json` has no `sample_size`: the default in diffusers.
const KL_TILE: usize = 32;
/// The same of `AutoencoderKLFlux2`.
const FLUX2_TILE: usize = 1024;

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    /// Groups of every group norm.
    norm_num_groups: usize,
    /// ε of the latents' normalisation (FLUX.2).
    #[serde(default = "batch_norm_eps")]
    batch_norm_eps: f32,
}

#[derive(Deserialize)]
struct TileConfig {
    sample_size: Option<Side>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    Square(usize),
    Sides([usize; 2]),
}

fn batch_norm_eps() -> f32 {
    1e-4
}

/// Side of the patches that FLUX.2 packs into latent channels.
const PATCH: usize = 2;

/// Dimensions of the network.
struct VaeKl {
    groups: usize,
    /// ε of the latents' normalisation; `None` if the weights have no statistics.
    normalised: Option<f32>,
    /// Latent channels, before packing.
    latent_channels: usize,
    /// Resolution levels; a picture is 2^(levels−1) times its latent, before packing.
    levels: usize,
}

impl VaeKl {
    fn new(config: &Config, c: &Checkpoint) -> Result<Self> {
        let [_, latent_channels, _, _] = shape(c, "decoder.conv_in.weight")?;
        let levels = count(c, "decoder.up_blocks")?;
        let groups = config.norm_num_groups;
        if groups == 0 || levels > 8 {
            let origin = c.origin().display();
            let expected = "norm_num_groups of at least 1 and at most 8 levels";
            return Err(Error::failed(format!("{origin}: {groups} groups, {levels} levels; expected {expected}")));
        }
        let normalised = c.contains("bn.running_mean").then_some(config.batch_norm_eps);
        Ok(Self { groups, normalised, latent_channels, levels })
    }

    /// Peak activation memory of decoding and of encoding in bytes per picture pixel: feature maps of the full-resolution level.
    fn pixel_bytes(&self, c: &Checkpoint) -> Result<[usize; 2]> {
        let last = format!("decoder.up_blocks.{}.resnets.0.conv1.weight", self.levels.saturating_sub(1));
        let [_, decoder, _, _] = shape(c, &last)?;
        let [encoder, _, _, _] = shape(c, "encoder.conv_in.weight")?;
        let maps =
            |count: usize, channels: usize| 4 * (BLOCKED_MAPS * blocked(channels) + (count - BLOCKED_MAPS) * channels);
        Ok([maps(FEATURE_MAPS, decoder), maps(FEATURE_MAPS + 1, encoder)])
    }

    fn patch(&self) -> usize {
        if self.normalised.is_some() { PATCH } else { 1 }
    }

    fn factor(&self) -> usize {
        self.patch() << (self.levels - 1)
    }

    /// Mean and standard deviation per packed latent channel, [channels, 1, 1] each.
    fn statistics(&self, w: &Scope, eps: f32) -> [Value; 2] {
        let bn = w.at("bn");
        bn.enter();
        let channels = self.latent_channels * PATCH * PATCH;
        let of = |name| bn.weight(name, &[channels]).reshape(&[channels.into(), 1.into(), 1.into()]);
        [of("running_mean"), (of("running_var") + eps).sqrt()]
    }

    /// Input `latents` [n, latent_channels, h, w] after un-scaling, or FLUX.2's packed [n, 4·latent_channels, h, w]; output
    /// `picture` [n, 3, h·factor, w·factor] in about −1..=1.
    fn build_decoder(&self, w: &Scope) {
        let g = w.graph();
        w.ignore_below("encoder");
        w.ignore_below("quant_conv");
        w.ignore("bn.num_batches_tracked");
        let channels = self.latent_channels * self.patch() * self.patch();
        let shape = [Dim::symbol("n"), channels.into(), Dim::symbol("h"), Dim::symbol("w")];
        let mut x = g.input("latents", &shape, DType::F32);
        if let Some(eps) = self.normalised {
            let [mean, deviation] = self.statistics(w, eps);
            x = (x * deviation + mean).pixel_shuffle(PATCH);
        }
        if w.has("post_quant_conv.weight") {
            x = w.conv2d("post_quant_conv", &x, self.latent_channels, 1);
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
        g.output("picture", &self.output(w, &x));
    }

    /// Input `picture` [n, 3, h·factor, w·factor] in −1..=1; outputs `mean` and `logvar` [n, latent_channels, h, w] before scaling.
    /// FLUX.2: only `mean`, packed and normalised, [n, 4·latent_channels, h, w].
    fn build_encoder(&self, w: &Scope) {
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
                // The reference pads only right and below.
                let form = Conv::new(x.size(1), 3).stride(2).pad([0, 0, 1, 1]);
                x = w.conv("downsamplers.0.conv", &x, form);
            }
        }
        let mut moments = self.output(w, &self.middle(&w.at("mid_block"), &x));
        if root.has("quant_conv.weight") {
            moments = root.conv2d("quant_conv", &moments, 2 * self.latent_channels, 1);
        }
        let [mean, logvar] = moments.split(1, [self.latent_channels; 2]);
        if let Some(eps) = self.normalised {
            let [shift, deviation] = self.statistics(root, eps);
            g.output("mean", &((mean.pixel_unshuffle(PATCH) - shift) / deviation));
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

    /// Attention over all pixels, one head.
    fn attention(&self, w: &Scope, x: &Value) -> Value {
        let [n, c, h, width] = [0, 1, 2, 3].map(|a| x.dim(a));
        let channels = x.size(1);
        let tokens = w.group_norm("group_norm", x, self.groups, EPS);
        let tokens = tokens.reshape(&[n.clone(), c.clone(), &h * &width]).transpose(&[0, 2, 1]);
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| w.linear(p, &tokens, channels));
        let mixed = w.linear("to_out.0", &q.attention(&k, &v, 1, &Attention::default()), channels);
        x + mixed.transpose(&[0, 2, 1]).reshape(&[n, c, h, width])
    }

    fn output(&self, w: &Scope, x: &Value) -> Value {
        let h = w.group_norm("conv_norm_out", x, self.groups, EPS).silu();
        w.conv2d("conv_out", &h, out_channels(w, "conv_out"), 3)
    }
}

impl Autoencoder for VaeKl {
    fn spec(&self, component: &Component<'_>) -> Result<VaeSpec> {
        let tile = match component.config::<TileConfig>()?.sample_size {
            Some(Side::Square(n) | Side::Sides([n, _])) => n,
            None if component.class == "AutoencoderKLFlux2" => FLUX2_TILE,
            None => KL_TILE,
        };
        let [decode_bytes, encode_bytes] = self.pixel_bytes(component.weights)?;
        Ok(VaeSpec {
            factor: self.factor(),
            patch: self.patch(),
            tile,
            overlap: tile / 4,
            decode_bytes,
            encode_bytes,
            weights: decoder_bytes(component.weights),
        })
    }

    fn build(&self, w: &Scope, subgraph: Subgraph) {
        match subgraph {
            Subgraph::Encoder => self.build_encoder(w),
            _ => self.build_decoder(w),
        }
    }
}
