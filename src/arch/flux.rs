//! FLUX.1's transformer: double and single stream blocks over text and image tokens, as `FluxTransformer2DModel` of
//! diffusers 0.42.1 `models/transformers/transformer_flux.py`.

use super::{
    architecture::{
        Architecture, ConfigChecks, Cost,
        Fact::{Count, Extent, Present},
        NetworkKind, Transformer,
    },
    shared::{
        dimensions::{check_heads, count, shape},
        joint_attention::{EPS, Joint, embedded, modulate},
    },
};
use crate::{
    error::Result,
    onnx::{Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// FLUX.1.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "FluxTransformer2DModel",
    classes: &["FluxTransformer2DModel"],
    detect: |c| c.contains("single_transformer_blocks.0.proj_mlp.weight"),
    config: ConfigChecks::new(&[
        ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
        ("guidance_embeds", Present("time_text_embed.guidance_embedder.")),
        ("in_channels", Extent("x_embedder.weight", 1)),
        ("joint_attention_dim", Extent("context_embedder.weight", 1)),
        ("num_layers", Count("transformer_blocks")),
        ("num_single_layers", Count("single_transformer_blocks")),
        ("pooled_projection_dim", Extent("time_text_embed.text_embedder.linear_1.weight", 1)),
    ]),
    network: NetworkKind::Transformer(|c| Ok(Box::new(Flux::new(c.weights)?))),
};

/// Dimensions of the network.
struct Flux {
    /// Features of an image token: latent channels × 2 × 2.
    in_channels: usize,
    /// Features of a text token.
    text_dim: usize,
    /// Features of the pooled text.
    pooled_dim: usize,
    head_dim: usize,
    /// Whether the guidance scale is an input ("dev").
    guidance: bool,
    hidden_size: usize,
    double_blocks: usize,
    single_blocks: usize,
}

impl Flux {
    fn new(c: &Checkpoint) -> Result<Self> {
        let [hidden_size, in_channels] = shape(c, "x_embedder.weight")?;
        let [_, text_dim] = shape(c, "context_embedder.weight")?;
        let [_, pooled_dim] = shape(c, "time_text_embed.text_embedder.linear_1.weight")?;
        let [head_dim] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let (double_blocks, single_blocks) = (count(c, "transformer_blocks")?, count(c, "single_transformer_blocks")?);
        check_heads(c, hidden_size, head_dim)?;
        let guidance = c.contains("time_text_embed.guidance_embedder.linear_1.weight");
        Ok(Self { in_channels, text_dim, pooled_dim, head_dim, guidance, hidden_size, double_blocks, single_blocks })
    }

    fn heads(&self) -> usize {
        self.hidden_size / self.head_dim
    }

    /// [n, hidden_size]: sum of the embedded time, guidance and pooled text.
    fn condition(&self, w: &Scope, sigma: &Value, guidance: Option<&Value>, pooled: &Value) -> Value {
        let embed = |name: &str, number| embedded(&w.at(name), Scope::linear, number, self.hidden_size);
        let mut sum = embed("timestep_embedder", sigma);
        if let Some(guidance) = guidance {
            sum = sum + embed("guidance_embedder", guidance);
        }
        let w = w.at("text_embedder");
        sum + w.linear("linear_2", &w.linear("linear_1", pooled, self.hidden_size).silu(), self.hidden_size)
    }

    fn double_block(&self, w: &Scope, x: &Value, c: &Value, cond: &Value, joint: &Joint) -> (Value, Value) {
        let six = |name| w.at(name).linear("linear", cond, 6 * self.hidden_size).unsqueeze(1).chunk();
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
        w.linear("net.2", &w.linear("net.0.proj", x, 4 * self.hidden_size).gelu_tanh(), self.hidden_size)
    }

    /// Attention and MLP in parallel, with one output projection.
    fn single_block(&self, w: &Scope, x: &Value, cond: &Value, joint: &Joint) -> Value {
        let [shift, scale, gate] = w.at("norm").linear("linear", cond, 3 * self.hidden_size).unsqueeze(1).chunk();
        let h = modulate(&w.at("norm"), x, &shift, &scale);
        let attn = w.at("attn");
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| attn.linear(p, &h, self.hidden_size));
        let [q, k] = [("norm_q", q), ("norm_k", k)].map(|(name, v)| attn.head_norm(name, &v, self.heads(), EPS));
        let mixed = joint.mix(&q, &k, &v);
        let mlp = w.linear("proj_mlp", &h, 4 * self.hidden_size).gelu_tanh();
        x + gate * w.linear("proj_out", &Value::concat(&[&mixed, &mlp], -1), self.hidden_size)
    }
}

impl Transformer for Flux {
    /// A block of either kind has 12·hidden_size² weights per token.
    fn cost(&self) -> Cost {
        let (blocks, width) = ((self.double_blocks + self.single_blocks) as f64, self.hidden_size as f64);
        Cost { per_token: 24.0 * blocks * width * width, per_pair: 4.0 * blocks * width }
    }

    /// Inputs `latents` [n, image, in_channels], `text` [n, text, text_dim], `pooled` [n, pooled_dim], `sigma` `[n]` in 0..=1,
    /// `guidance` `[n]` (dev only), `rope.cos` and `rope.sin` [text + image, head_dim/2] in the order text, image.
    /// Output `velocity` [n, image, in_channels].
    fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.in_channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text_dim.into()], DType::F32);
        let pooled = g.input("pooled", &[n.clone(), self.pooled_dim.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let guidance = self.guidance.then(|| g.input_f32("guidance", std::slice::from_ref(&n)));
        let table = |name| g.input(name, &[&t + &i, (self.head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.heads(), rotary, linear: Scope::linear };

        let condition = self.condition(&w.at("time_text_embed"), &sigma, guidance.as_ref(), &pooled).silu();
        let mut x = w.linear("x_embedder", &latents, self.hidden_size);
        let mut c = w.linear("context_embedder", &text, self.hidden_size);
        for b in 0..self.double_blocks {
            (x, c) = self.double_block(&w.at("transformer_blocks").at(b), &x, &c, &condition, &joint);
        }
        let mut both = Value::concat(&[&c, &x], 1);
        for b in 0..self.single_blocks {
            both = self.single_block(&w.at("single_transformer_blocks").at(b), &both, &condition, &joint);
        }
        let x = both.slice(1, &t, &t + &i);
        // Here scale precedes shift, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear("linear", &condition, 2 * self.hidden_size).unsqueeze(1).chunk();
        g.output("velocity", &w.linear("proj_out", &modulate(&norm, &x, &shift, &scale), self.in_channels));
    }
}
