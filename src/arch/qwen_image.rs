//! Qwen-Image's transformer: double stream blocks over text and picture tokens (arXiv:2508.02324 §2.4), as
//! `QwenImageTransformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_qwenimage.py`.

use super::{
    count,
    joint::{EPS, Joint, embedded, modulate},
    shape,
};
use crate::{
    error::{Error, Result},
    onnx::{Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// The network's extents.
#[derive(Debug, Clone)]
pub struct QwenImage {
    /// Features of a picture token: latent channels × 2 × 2.
    pub channels: usize,
    /// Features of a text state.
    pub text: usize,
    /// Width of one attention head; the rotary axes add up to it.
    pub head: usize,
    dim: usize,
    mlp: usize,
    blocks: usize,
}

impl QwenImage {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
        let [dim, channels] = shape(c, "img_in.weight")?;
        let [_, text] = shape(c, "txt_in.weight")?;
        let [head] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let [mlp, _] = shape(c, "transformer_blocks.0.img_mlp.net.0.proj.weight")?;
        let blocks = count(c, "transformer_blocks")?;
        if !dim.is_multiple_of(head) || head % 2 == 1 {
            let origin = c.origin().display();
            let wanted = "an even head width that divides the width";
            return Err(Error::failed(format!("{origin}: width {dim}, head width {head}; Qwen-Image has {wanted}")));
        }
        Ok(Self { channels, text, head, dim, mlp, blocks })
    }

    /// Operations per token (twice the weights that it meets) and per pair of tokens.
    pub fn cost(&self) -> (f64, f64) {
        let (blocks, dim, mlp) = (self.blocks as f64, self.dim as f64, self.mlp as f64);
        (blocks * dim * (8.0 * dim + 4.0 * mlp), 4.0 * blocks * dim)
    }

    /// Inputs `latents` [n, image, channels], `text` [n, text, text width], `sigma` [n] in 0..=1, `rope.cos` and `rope.sin`
    /// [text + image, head/2] in the order text, image.
    /// Output `velocity` [n, image, channels]. `image` fixes the number of picture tokens.
    pub fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let table = |name| g.input(name, &[&t + &i, (self.head / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.dim / self.head, rotary, linear: Scope::linear };

        let time = w.at("time_text_embed").at("timestep_embedder");
        let condition = embedded(&time, Scope::linear, &sigma, self.dim).silu();
        let mut x = w.linear("img_in", &latents, self.dim);
        let mut c = w.linear("txt_in", &w.rms_norm("txt_norm", &text, EPS), self.dim);
        for b in 0..self.blocks {
            let w = w.at("transformer_blocks").at(b);
            (x, c) = self.block(&w, &x, &c, &condition, &joint, b + 1 == self.blocks);
        }
        // Scale stands before shift here, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear("linear", &condition, 2 * self.dim).unsqueeze(1).chunk();
        g.output("velocity", &w.linear("proj_out", &modulate(&norm, &x, &shift, &scale), self.channels));
    }

    /// One block; the last leaves the text as it is, which nothing reads after it.
    fn block(&self, w: &Scope, x: &Value, c: &Value, cond: &Value, joint: &Joint, last: bool) -> (Value, Value) {
        let six = |name: &str| w.linear(name, cond, 6 * self.dim).unsqueeze(1).chunk();
        let [shift1, scale1, gate1, shift2, scale2, gate2] = six("img_mod.1");
        let [c_shift1, c_scale1, c_gate1, c_shift2, c_scale2, c_gate2] = six("txt_mod.1");
        let hx = modulate(&w.at("img_norm1"), x, &shift1, &scale1);
        let hc = modulate(&w.at("txt_norm1"), c, &c_shift1, &c_scale1);
        let attn = w.at("attn");
        let finish = |x: Value| {
            let h = modulate(&w.at("img_norm2"), &x, &shift2, &scale2);
            &x + &gate2 * self.feed_forward(&w.at("img_mlp"), &h)
        };
        if last {
            ["attn.to_add_out", "txt_mlp"].iter().for_each(|name| w.ignore_below(name));
            return (finish(x + &gate1 * joint.attend_image(&attn, &hx, &hc)), c.clone());
        }
        let (mx, mc) = joint.attend(&attn, &hx, &hc);
        let c = c + c_gate1 * mc;
        let hc = modulate(&w.at("txt_norm2"), &c, &c_shift2, &c_scale2);
        let c = &c + c_gate2 * self.feed_forward(&w.at("txt_mlp"), &hc);
        (finish(x + gate1 * mx), c)
    }

    fn feed_forward(&self, w: &Scope, x: &Value) -> Value {
        w.linear("net.2", &w.linear("net.0.proj", x, self.mlp).gelu_tanh(), self.dim)
    }
}
