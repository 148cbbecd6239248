//! Wan 2.1's transformer (arXiv:2503.20314): self-attention over video patches, cross-attention to the text, modulation in f32, as
//! `WanTransformer3DModel` of diffusers 0.42.1 `models/transformers/transformer_wan.py`.

use serde::Deserialize;

use super::{count, embed::sinusoid, shape};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Width of one attention head.
    pub attention_head_dim: usize,
    /// Added to the variance or the mean square in norms.
    #[serde(default = "eps")]
    pub eps: f32,
    /// Must be `rms_norm_across_heads`.
    pub qk_norm: String,
    /// Features of pictures to start from; must be absent.
    #[serde(default)]
    pub image_dim: Option<usize>,
}

fn eps() -> f32 {
    1e-6
}

/// The network's extents.
#[derive(Debug, Clone)]
pub struct Wan {
    config: Config,
    /// Latent channels.
    pub channels: usize,
    /// Frames, rows and columns of a patch.
    pub patch: [usize; 3],
    /// Features of a text state.
    pub text: usize,
    /// Latent channels of the answer.
    pub answer: usize,
    dim: usize,
    frequencies: usize,
    mlp: usize,
    blocks: usize,
}

impl Wan {
    /// Reads the extents from the weights.
    pub fn detect(config: Config, c: &Checkpoint) -> Result<Self> {
        let [dim, channels, frames, rows, columns] = shape(c, "patch_embedding.weight")?;
        let [_, frequencies] = shape(c, "condition_embedder.time_embedder.linear_1.weight")?;
        let [_, text] = shape(c, "condition_embedder.text_embedder.linear_1.weight")?;
        let [mlp, _] = shape(c, "blocks.0.ffn.net.0.proj.weight")?;
        let [features, _] = shape(c, "proj_out.weight")?;
        let (head, origin) = (config.attention_head_dim, c.origin().display());
        if head < 2 || head % 2 == 1 || !dim.is_multiple_of(head) {
            let wanted = "an even head width that divides the width";
            return Err(Error::failed(format!("{origin}: width {dim}, attention_head_dim {head}; Wan has {wanted}")));
        }
        if config.qk_norm != "rms_norm_across_heads" || config.image_dim.is_some() {
            let (norm, image) = (&config.qk_norm, config.image_dim);
            let wanted = "Wan 2.1 T2V has qk_norm rms_norm_across_heads and no image_dim";
            return Err(Error::failed(format!("{origin}: qk_norm {norm:?}, image_dim {image:?}; {wanted}")));
        }
        let patch = [frames, rows, columns];
        let answer = features / patch.iter().product::<usize>();
        Ok(Self { config, channels, patch, text, answer, dim, frequencies, mlp, blocks: count(c, "blocks")? })
    }

    /// Operations per picture token, the scores of `text` rows of text among them, and per pair of picture tokens. The text's own
    /// projections, the same at every size, are left out.
    pub fn cost(&self, text: usize) -> (f64, f64) {
        let [blocks, dim, mlp, text] = [self.blocks, self.dim, self.mlp, text].map(|n| n as f64);
        (blocks * (12.0 * dim * dim + 4.0 * dim * mlp + 4.0 * text * dim), 4.0 * blocks * dim)
    }

    fn heads(&self) -> usize {
        self.dim / self.config.attention_head_dim
    }

    /// Inputs `latents` [n, image, channels · patch], patches in the order frame, row, column and their features in the order
    /// channel, frame, row, column; `text` [n, text, text width]; `timestep` `[n]` in 0..1000; `rope.cos` and `rope.sin`
    /// [image, head/2]. Output `velocity` [n, image, patch · channels], features in the order frame, row, column, channel.
    /// `image` fixes the number of patches.
    pub fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let area: usize = self.patch.iter().product();
        let latents = g.input("latents", &[n.clone(), i.clone(), (self.channels * area).into()], DType::F32);
        let text = g.input("text", &[n.clone(), t, self.text.into()], DType::F32);
        let timestep = g.input_f32("timestep", std::slice::from_ref(&n));
        let table = |name| g.input(name, &[i.clone(), (self.config.attention_head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);

        let embedder = w.at("condition_embedder");
        let time = self.time(&embedder.at("time_embedder"), &timestep);
        let modulation = embedder.linear("time_proj", &time.cast(g.target().compute).silu(), 6 * self.dim);
        let modulation = modulation.cast(DType::F32).reshape(&[n.clone(), 6.into(), self.dim.into()]);
        let text = self.text(&embedder.at("text_embedder"), &text);
        let mut x = self.patches(&w.at("patch_embedding"), &latents);
        for b in 0..self.blocks {
            x = self.block(&w.at("blocks").at(b), &x, &text, &modulation, &rotary);
        }
        let table = g.in_f32(|| w.weight("scale_shift_table", &[1, 2, self.dim]));
        let [shift, scale] = (table + time.unsqueeze(1)).split(1, [1; 2]);
        let x = self.modulate(&w.at("norm_out"), &x, &shift, &scale);
        g.output("velocity", &w.linear("proj_out", &x, self.answer * area));
    }

    /// [n, dim], f32.
    fn time(&self, w: &Scope, timestep: &Value) -> Value {
        w.graph().in_f32(|| {
            let hidden = w.linear("linear_1", &sinusoid(timestep, self.frequencies), self.dim).silu();
            w.linear("linear_2", &hidden, self.dim)
        })
    }

    fn text(&self, w: &Scope, text: &Value) -> Value {
        w.linear("linear_2", &w.linear("linear_1", text, self.dim).gelu_tanh(), self.dim)
    }

    /// The strided convolution of the reference: its kernel is as large as its stride, so every patch meets it once.
    fn patches(&self, w: &Scope, latents: &Value) -> Value {
        let [frames, rows, columns] = self.patch;
        let stored = [self.dim, self.channels, frames, rows, columns];
        let kernel = w.weight_as("weight", &stored, &[self.dim, latents.size(-1)]);
        w.enter();
        latents.matmul(&kernel.transpose(&[1, 0])) + w.weight("bias", &[self.dim])
    }

    fn block(&self, w: &Scope, x: &Value, text: &Value, modulation: &Value, rotary: &Rotary) -> Value {
        let table = w.graph().in_f32(|| w.weight("scale_shift_table", &[1, 6, self.dim]));
        w.enter();
        let [shift1, scale1, gate1, shift2, scale2, gate2] = (table + modulation).split(1, [1; 6]);

        let h = self.modulate(&w.at("norm1"), x, &shift1, &scale1);
        let x = gated(x, &gate1, &self.attention(&w.at("attn1"), &h, &h, Some(rotary)));
        let h = w.layer_norm("norm2", &x, self.config.eps);
        let x = &x + self.attention(&w.at("attn2"), &h, text, None);
        let h = self.modulate(&w.at("norm3"), &x, &shift2, &scale2);
        let ffn = w.at("ffn");
        let h = ffn.linear("net.2", &ffn.linear("net.0.proj", &h, self.mlp).gelu_tanh(), self.dim);
        gated(&x, &gate2, &h)
    }

    /// Queries of `x` over keys and values of `other`; queries and keys are normed over all heads at once.
    fn attention(&self, w: &Scope, x: &Value, other: &Value, rotary: Option<&Rotary>) -> Value {
        let normed = |p: &str, norm: &str, x: &Value| w.rms_norm(norm, &w.linear(p, x, self.dim), self.config.eps);
        let turned = |x: Value| rotary.map_or(x.clone(), |r| x.rope(self.heads(), r));
        let (q, k) = (turned(normed("to_q", "norm_q", x)), turned(normed("to_k", "norm_k", other)));
        let v = w.linear("to_v", other, self.dim);
        w.linear("to_out.0", &q.attention(&k, &v, self.heads(), &Attention::default()), self.dim)
    }

    /// The layer norm of `x`, scaled and shifted in f32.
    fn modulate(&self, w: &Scope, x: &Value, shift: &Value, scale: &Value) -> Value {
        w.enter();
        let normed = x.cast(DType::F32).layer_norm(self.config.eps);
        (normed * (scale + 1.0) + shift).cast(w.graph().target().compute)
    }
}

/// x + gate·h, in f32.
fn gated(x: &Value, gate: &Value, h: &Value) -> Value {
    (x.cast(DType::F32) + gate * h.cast(DType::F32)).cast(x.graph().target().compute)
}
