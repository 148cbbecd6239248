//! FLUX.2's transformer: FLUX.1's two kinds of blocks with modulations that all blocks share, gated MLPs and no biases, as
//! `Flux2Transformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_flux2.py`.

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
pub struct Flux2 {
    /// Features of a picture token: channels of the packed latent.
    pub channels: usize,
    /// Features of a text state.
    pub text: usize,
    /// Width of one attention head; the rotary axes add up to it.
    pub head: usize,
    /// Whether the guidance scale is an input ("dev").
    pub guidance: bool,
    dim: usize,
    mlp: usize,
    double: usize,
    single: usize,
}

/// The conditions of every block of a kind and stream, computed once: shift, scale, gate of attention, then of the MLP.
struct Modulation {
    image: [Value; 6],
    text: [Value; 6],
    single: [Value; 3],
}

impl Flux2 {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
        let [dim, channels] = shape(c, "x_embedder.weight")?;
        let [_, text] = shape(c, "context_embedder.weight")?;
        let [head] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let [_, mlp] = shape(c, "transformer_blocks.0.ff.linear_out.weight")?;
        let (double, single) = (count(c, "transformer_blocks")?, count(c, "single_transformer_blocks")?);
        if !dim.is_multiple_of(head) || head % 2 == 1 {
            let origin = c.origin().display();
            let wanted = "an even head width that divides the width";
            return Err(Error::failed(format!("{origin}: width {dim}, head width {head}; FLUX.2 has {wanted}")));
        }
        let guidance = c.contains("time_guidance_embed.guidance_embedder.linear_1.weight");
        Ok(Self { channels, text, head, guidance, dim, mlp, double, single })
    }

    /// Operations per token (twice the weights that it meets) and per pair of tokens.
    pub fn cost(&self) -> (f64, f64) {
        let (blocks, dim, mlp) = ((self.double + self.single) as f64, self.dim as f64, self.mlp as f64);
        (blocks * dim * (8.0 * dim + 6.0 * mlp), 4.0 * blocks * dim)
    }

    /// Inputs `latents` [n, image, channels], `text` [n, text, text width], `sigma` `[n]` in 0..=1, `guidance` `[n]` (dev only),
    /// `rope.cos` and `rope.sin` [text + image, head/2] in the order text, image.
    /// Output `velocity` [n, image, channels]. `image` fixes the number of picture tokens.
    pub fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let guidance = self.guidance.then(|| g.input_f32("guidance", std::slice::from_ref(&n)));
        let table = |name| g.input(name, &[&t + &i, (self.head / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.dim / self.head, rotary, linear: Scope::linear_no_bias };

        let condition = self.condition(&w.at("time_guidance_embed"), &sigma, guidance.as_ref()).silu();
        let m = self.modulation(w, &condition);
        let mut x = w.linear_no_bias("x_embedder", &latents, self.dim);
        let mut c = w.linear_no_bias("context_embedder", &text, self.dim);
        for b in 0..self.double {
            (x, c) = self.double_block(&w.at("transformer_blocks").at(b), &x, &c, &m, &joint);
        }
        let mut both = Value::concat(&[&c, &x], 1);
        for b in 0..self.single {
            both = self.single_block(&w.at("single_transformer_blocks").at(b), &both, &m, &joint);
        }
        let x = both.slice(1, &t, &t + &i);
        // Scale stands before shift here, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear_no_bias("linear", &condition, 2 * self.dim).unsqueeze(1).chunk();
        g.output("velocity", &w.linear_no_bias("proj_out", &modulate(&norm, &x, &shift, &scale), self.channels));
    }

    /// [n, dim]: the sum of the embedded time and guidance.
    fn condition(&self, w: &Scope, sigma: &Value, guidance: Option<&Value>) -> Value {
        let embed = |name: &str, number| embedded(&w.at(name), Scope::linear_no_bias, number, self.dim);
        let time = embed("timestep_embedder", sigma);
        guidance.map_or_else(|| time.clone(), |guidance| &time + embed("guidance_embedder", guidance))
    }

    fn modulation(&self, w: &Scope, condition: &Value) -> Modulation {
        let of = |name: &str, parts| w.at(name).linear_no_bias("linear", condition, parts * self.dim).unsqueeze(1);
        Modulation {
            image: of("double_stream_modulation_img", 6).chunk(),
            text: of("double_stream_modulation_txt", 6).chunk(),
            single: of("single_stream_modulation", 3).chunk(),
        }
    }

    fn double_block(&self, w: &Scope, x: &Value, c: &Value, m: &Modulation, joint: &Joint) -> (Value, Value) {
        let [shift1, scale1, gate1, shift2, scale2, gate2] = &m.image;
        let [c_shift1, c_scale1, c_gate1, c_shift2, c_scale2, c_gate2] = &m.text;
        let hx = modulate(&w.at("norm1"), x, shift1, scale1);
        let hc = modulate(&w.at("norm1_context"), c, c_shift1, c_scale1);
        let (mx, mc) = joint.attend(&w.at("attn"), &hx, &hc);
        let (x, c) = (x + gate1 * mx, c + c_gate1 * mc);
        let hx = modulate(&w.at("norm2"), &x, shift2, scale2);
        let hc = modulate(&w.at("norm2_context"), &c, c_shift2, c_scale2);
        let x = &x + gate2 * self.feed_forward(&w.at("ff"), &hx);
        let c = &c + c_gate2 * self.feed_forward(&w.at("ff_context"), &hc);
        (x, c)
    }

    fn feed_forward(&self, w: &Scope, x: &Value) -> Value {
        w.linear_no_bias("linear_out", &swiglu(&w.linear_no_bias("linear_in", x, 2 * self.mlp)), self.dim)
    }

    /// Attention and MLP side by side: one projection in, one out.
    fn single_block(&self, w: &Scope, x: &Value, m: &Modulation, joint: &Joint) -> Value {
        let [shift, scale, gate] = &m.single;
        let h = modulate(&w.at("norm"), x, shift, scale);
        let attn = w.at("attn");
        let (dim, mlp) = (self.dim, self.mlp);
        let [q, k, v, h] =
            attn.linear_no_bias("to_qkv_mlp_proj", &h, 3 * dim + 2 * mlp).split(-1, [dim, dim, dim, 2 * mlp]);
        let [q, k] = [("norm_q", q), ("norm_k", k)].map(|(name, v)| attn.head_norm(name, &v, joint.heads, EPS));
        let mixed = Value::concat(&[&joint.mix(&q, &k, &v), &swiglu(&h)], -1);
        x + gate * attn.linear_no_bias("to_out", &mixed, dim)
    }
}

/// silu(a)·b of the halves a, b of the last axis (arXiv:2002.05202).
fn swiglu(x: &Value) -> Value {
    let [a, b] = x.chunk();
    a.silu() * b
}
