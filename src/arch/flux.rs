//! FLUX.1's transformer: double and single stream blocks over text and picture tokens, as `FluxTransformer2DModel` of
//! diffusers 0.42.1 `models/transformers/transformer_flux.py`.

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
pub struct Flux {
    /// Features of a picture token: latent channels × 2 × 2.
    pub channels: usize,
    /// Features of a text state.
    pub text: usize,
    /// Features of the pooled text.
    pub pooled: usize,
    /// Width of one attention head; the rotary axes add up to it.
    pub head: usize,
    /// Whether the guidance scale is an input ("dev").
    pub guidance: bool,
    dim: usize,
    double: usize,
    single: usize,
}

impl Flux {
    /// Reads the extents from the weights.
    pub fn detect(c: &Checkpoint) -> Result<Self> {
        let [dim, channels] = shape(c, "x_embedder.weight")?;
        let [_, text] = shape(c, "context_embedder.weight")?;
        let [_, pooled] = shape(c, "time_text_embed.text_embedder.linear_1.weight")?;
        let [head] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let (double, single) = (count(c, "transformer_blocks")?, count(c, "single_transformer_blocks")?);
        if !dim.is_multiple_of(head) || head % 2 == 1 {
            let origin = c.origin().display();
            let wanted = "an even head width that divides the width";
            return Err(Error::failed(format!("{origin}: width {dim}, head width {head}; FLUX.1 has {wanted}")));
        }
        let guidance = c.contains("time_text_embed.guidance_embedder.linear_1.weight");
        Ok(Self { channels, text, pooled, head, guidance, dim, double, single })
    }

    /// Operations per token (twice the 12·dim² weights that it meets in a block of either kind) and per pair of tokens.
    pub fn cost(&self) -> (f64, f64) {
        let (blocks, dim) = ((self.double + self.single) as f64, self.dim as f64);
        (24.0 * blocks * dim * dim, 4.0 * blocks * dim)
    }

    fn heads(&self) -> usize {
        self.dim / self.head
    }

    /// Inputs `latents` [n, image, channels], `text` [n, text, text width], `pooled` [n, pooled width], `sigma` `[n]` in 0..=1,
    /// `guidance` `[n]` (dev only), `rope.cos` and `rope.sin` [text + image, head/2] in the order text, image.
    /// Output `velocity` [n, image, channels]. `image` fixes the number of picture tokens.
    pub fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text.into()], DType::F32);
        let pooled = g.input("pooled", &[n.clone(), self.pooled.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let guidance = self.guidance.then(|| g.input_f32("guidance", std::slice::from_ref(&n)));
        let table = |name| g.input(name, &[&t + &i, (self.head / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.heads(), rotary, linear: Scope::linear };

        let condition = self.condition(&w.at("time_text_embed"), &sigma, guidance.as_ref(), &pooled).silu();
        let mut x = w.linear("x_embedder", &latents, self.dim);
        let mut c = w.linear("context_embedder", &text, self.dim);
        for b in 0..self.double {
            (x, c) = self.double_block(&w.at("transformer_blocks").at(b), &x, &c, &condition, &joint);
        }
        let mut both = Value::concat(&[&c, &x], 1);
        for b in 0..self.single {
            both = self.single_block(&w.at("single_transformer_blocks").at(b), &both, &condition, &joint);
        }
        let x = both.slice(1, &t, &t + &i);
        // Scale stands before shift here, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear("linear", &condition, 2 * self.dim).unsqueeze(1).chunk();
        g.output("velocity", &w.linear("proj_out", &modulate(&norm, &x, &shift, &scale), self.channels));
    }

    /// [n, dim]: the sum of the embedded time, guidance and pooled text.
    fn condition(&self, w: &Scope, sigma: &Value, guidance: Option<&Value>, pooled: &Value) -> Value {
        let embed = |name: &str, number| embedded(&w.at(name), Scope::linear, number, self.dim);
        let mut sum = embed("timestep_embedder", sigma);
        if let Some(guidance) = guidance {
            sum = sum + embed("guidance_embedder", guidance);
        }
        let w = w.at("text_embedder");
        sum + w.linear("linear_2", &w.linear("linear_1", pooled, self.dim).silu(), self.dim)
    }

    fn double_block(&self, w: &Scope, x: &Value, c: &Value, cond: &Value, joint: &Joint) -> (Value, Value) {
        let six = |name| w.at(name).linear("linear", cond, 6 * self.dim).unsqueeze(1).chunk();
        let [shift1, scale1, gate1, shift2, scale2, gate2] = six("norm1");
        let [c_shift1, c_scale1, c_gate1, c_shift2, c_scale2, c_gate2] = six("norm1_context");

        let hx = modulate(&w.at("norm1"), x, &shift1, &scale1);
        let hc = modulate(&w.at("norm1_context"), c, &c_shift1, &c_scale1);
        let (mx, mc) = joint.attend(&w.at("attn"), &hx, &hc);
        let (x, c) = (x + gate1 * mx, c + c_gate1 * mc);
        let hx = modulate(&w.at("norm2"), &x, &shift2, &scale2);
        let hc = modulate(&w.at("norm2_context"), &c, &c_shift2, &c_scale2);
        let x = &x + gate2 * self.mlp(&w.at("ff"), &hx);
        let c = &c + c_gate2 * self.mlp(&w.at("ff_context"), &hc);
        (x, c)
    }

    fn mlp(&self, w: &Scope, x: &Value) -> Value {
        w.linear("net.2", &w.linear("net.0.proj", x, 4 * self.dim).gelu_tanh(), self.dim)
    }

    /// Attention and MLP side by side, one output projection.
    fn single_block(&self, w: &Scope, x: &Value, cond: &Value, joint: &Joint) -> Value {
        let [shift, scale, gate] = w.at("norm").linear("linear", cond, 3 * self.dim).unsqueeze(1).chunk();
        let h = modulate(&w.at("norm"), x, &shift, &scale);
        let attn = w.at("attn");
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| attn.linear(p, &h, self.dim));
        let [q, k] = [("norm_q", q), ("norm_k", k)].map(|(name, v)| attn.head_norm(name, &v, self.heads(), EPS));
        let mixed = joint.mix(&q, &k, &v);
        let mlp = w.linear("proj_mlp", &h, 4 * self.dim).gelu_tanh();
        x + gate * w.linear("proj_out", &Value::concat(&[&mixed, &mlp], -1), self.dim)
    }
}
