//! Wan 2.1's transformer (arXiv:2503.20314): self-attention over video patches, cross-attention to the text, modulation in f32, as
//! `WanTransformer3DModel` of diffusers 0.42.1 `models/transformers/transformer_wan.py`.

use serde::Deserialize;

use super::{
    architecture::{
        Architecture, ConfigChecks, Cost,
        Fact::{Count, Extent},
        NetworkKind, Transformer,
    },
    shared::{
        dimensions::{check_heads, count, shape},
        timestep::sinusoid,
    },
};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// Wan 2.1.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "WanTransformer3DModel",
    classes: &["WanTransformer3DModel"],
    detect: |c| c.contains("condition_embedder.time_proj.weight"),
    config: ConfigChecks::new(&[
        ("ffn_dim", Extent("blocks.0.ffn.net.0.proj.weight", 0)),
        ("freq_dim", Extent("condition_embedder.time_embedder.linear_1.weight", 1)),
        ("in_channels", Extent("patch_embedding.weight", 1)),
        ("num_layers", Count("blocks")),
        ("text_dim", Extent("condition_embedder.text_embedder.linear_1.weight", 1)),
    ]),
    network: NetworkKind::Transformer(|c| Ok(Box::new(Wan::new(c.config()?, c.weights)?))),
};

/// Text tokens per call, for the cost of the cross-attention.
const TEXT_TOKENS: usize = 512;

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    attention_head_dim: usize,
    #[serde(default = "eps")]
    eps: f32,
    /// Must be `rms_norm_across_heads`.
    qk_norm: String,
    /// Features of a conditioning image (image-to-video models); must be absent.
    #[serde(default)]
    image_dim: Option<usize>,
}

fn eps() -> f32 {
    1e-6
}

/// Dimensions of the network.
struct Wan {
    config: Config,
    /// Latent channels.
    in_channels: usize,
    /// Frames, rows and columns of a patch.
    patch: [usize; 3],
    /// Features of a text token.
    text_dim: usize,
    /// Latent channels of the output.
    out_channels: usize,
    hidden_size: usize,
    freq_dim: usize,
    ffn_dim: usize,
    blocks: usize,
}

impl Wan {
    fn new(config: Config, c: &Checkpoint) -> Result<Self> {
        let [hidden_size, in_channels, frames, rows, columns] = shape(c, "patch_embedding.weight")?;
        let [_, freq_dim] = shape(c, "condition_embedder.time_embedder.linear_1.weight")?;
        let [_, text_dim] = shape(c, "condition_embedder.text_embedder.linear_1.weight")?;
        let [ffn_dim, _] = shape(c, "blocks.0.ffn.net.0.proj.weight")?;
        let [features, _] = shape(c, "proj_out.weight")?;
        check_heads(c, hidden_size, config.attention_head_dim)?;
        if config.qk_norm != "rms_norm_across_heads" || config.image_dim.is_some() {
            let (norm, image, origin) = (&config.qk_norm, config.image_dim, c.origin().display());
            let expected = "expected qk_norm rms_norm_across_heads and no image_dim, as in Wan 2.1 T2V";
            return Err(Error::failed(format!("{origin}: qk_norm {norm:?}, image_dim {image:?}; {expected}")));
        }
        let patch = [frames, rows, columns];
        let out_channels = features / patch.iter().product::<usize>();
        let blocks = count(c, "blocks")?;
        Ok(Self { config, in_channels, patch, text_dim, out_channels, hidden_size, freq_dim, ffn_dim, blocks })
    }

    fn heads(&self) -> usize {
        self.hidden_size / self.config.attention_head_dim
    }

    /// [n, hidden_size], f32.
    fn time(&self, w: &Scope, timestep: &Value) -> Value {
        w.graph().in_f32(|| {
            let hidden = w.linear("linear_1", &sinusoid(timestep, self.freq_dim), self.hidden_size).silu();
            w.linear("linear_2", &hidden, self.hidden_size)
        })
    }

    fn text(&self, w: &Scope, text: &Value) -> Value {
        w.linear("linear_2", &w.linear("linear_1", text, self.hidden_size).gelu_tanh(), self.hidden_size)
    }

    /// The reference's strided convolution, as a matrix product: its kernel size equals its stride.
    fn patches(&self, w: &Scope, latents: &Value) -> Value {
        let [frames, rows, columns] = self.patch;
        let stored = [self.hidden_size, self.in_channels, frames, rows, columns];
        let kernel = w.weight_as("weight", &stored, &[self.hidden_size, latents.size(-1)]);
        w.enter();
        latents.matmul(&kernel.transpose(&[1, 0])) + w.weight("bias", &[self.hidden_size])
    }

    fn block(&self, w: &Scope, x: &Value, text: &Value, modulation: &Value, rotary: &Rotary) -> Value {
        let table = w.graph().in_f32(|| w.weight("scale_shift_table", &[1, 6, self.hidden_size]));
        w.enter();
        let [shift1, scale1, gate1, shift2, scale2, gate2] = (table + modulation).split(1, [1; 6]);

        let h = self.modulate(&w.at("norm1"), x, &shift1, &scale1);
        let x = gated(x, &gate1, &self.attention(&w.at("attn1"), &h, &h, Some(rotary)));
        let h = w.layer_norm("norm2", &x, self.config.eps);
        let x = &x + self.attention(&w.at("attn2"), &h, text, None);
        let h = self.modulate(&w.at("norm3"), &x, &shift2, &scale2);
        let ffn = w.at("ffn");
        let h = ffn.linear("net.2", &ffn.linear("net.0.proj", &h, self.ffn_dim).gelu_tanh(), self.hidden_size);
        gated(&x, &gate2, &h)
    }

    /// Attention of `x` to `other`. Queries and keys are normalised over all heads together.
    fn attention(&self, w: &Scope, x: &Value, other: &Value, rotary: Option<&Rotary>) -> Value {
        let normed =
            |p: &str, norm: &str, x: &Value| w.rms_norm(norm, &w.linear(p, x, self.hidden_size), self.config.eps);
        let rotated = |x: Value| rotary.map_or(x.clone(), |r| x.rope(self.heads(), r));
        let (q, k) = (rotated(normed("to_q", "norm_q", x)), rotated(normed("to_k", "norm_k", other)));
        let v = w.linear("to_v", other, self.hidden_size);
        w.linear("to_out.0", &q.attention(&k, &v, self.heads(), &Attention::default()), self.hidden_size)
    }

    /// Layer norm of `x`, then scale and shift, in f32.
    fn modulate(&self, w: &Scope, x: &Value, shift: &Value, scale: &Value) -> Value {
        w.enter();
        let normed = x.cast(DType::F32).layer_norm(self.config.eps);
        (normed * (scale + 1.0) + shift).cast(w.graph().target().compute)
    }
}

impl Transformer for Wan {
    /// The text's own projections are left out: their cost does not depend on the size. Cross-attention to the text is per token.
    fn cost(&self) -> Cost {
        let [blocks, width, ffn, text] = [self.blocks, self.hidden_size, self.ffn_dim, TEXT_TOKENS].map(|n| n as f64);
        Cost {
            per_token: blocks * (12.0 * width * width + 4.0 * width * ffn + 4.0 * text * width),
            per_pair: 4.0 * blocks * width,
        }
    }

    /// Inputs `latents` [n, image, in_channels · patch], patches in the order frame, row, column and their features in the order
    /// channel, frame, row, column; `text` [n, text, text_dim]; `timestep` `[n]` in 0..1000; `rope.cos` and `rope.sin`
    /// [image, head_dim/2]. Output `velocity` [n, image, patch · out_channels], features in the order frame, row, column, channel.
    fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let area: usize = self.patch.iter().product();
        let latents = g.input("latents", &[n.clone(), i.clone(), (self.in_channels * area).into()], DType::F32);
        let text = g.input("text", &[n.clone(), t, self.text_dim.into()], DType::F32);
        let timestep = g.input_f32("timestep", std::slice::from_ref(&n));
        let table = |name| g.input(name, &[i.clone(), (self.config.attention_head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);

        let embedder = w.at("condition_embedder");
        let time = self.time(&embedder.at("time_embedder"), &timestep);
        let modulation = embedder.linear("time_proj", &time.cast(g.target().compute).silu(), 6 * self.hidden_size);
        let modulation = modulation.cast(DType::F32).reshape(&[n.clone(), 6.into(), self.hidden_size.into()]);
        let text = self.text(&embedder.at("text_embedder"), &text);
        let mut x = self.patches(&w.at("patch_embedding"), &latents);
        for b in 0..self.blocks {
            x = self.block(&w.at("blocks").at(b), &x, &text, &modulation, &rotary);
        }
        let table = g.in_f32(|| w.weight("scale_shift_table", &[1, 2, self.hidden_size]));
        let [shift, scale] = (table + time.unsqueeze(1)).split(1, [1; 2]);
        let x = self.modulate(&w.at("norm_out"), &x, &shift, &scale);
        g.output("velocity", &w.linear("proj_out", &x, self.out_channels * area));
    }
}

/// x + gate·h, in f32.
fn gated(x: &Value, gate: &Value, h: &Value) -> Value {
    (x.cast(DType::F32) + gate * h.cast(DType::F32)).cast(x.graph().target().compute)
}
