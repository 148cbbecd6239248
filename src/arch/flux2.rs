//! FLUX.2's transformer: the two kinds of blocks of FLUX.1, with modulations shared by all blocks, gated MLPs and no biases, as
//! `Flux2Transformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_flux2.py`.

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

/// FLUX.2.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "Flux2Transformer2DModel",
    classes: &["Flux2Transformer2DModel"],
    detect: |c| c.contains("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"),
    config: ConfigChecks::new(&[
        ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
        ("guidance_embeds", Present("time_guidance_embed.guidance_embedder.")),
        ("in_channels", Extent("x_embedder.weight", 1)),
        ("joint_attention_dim", Extent("context_embedder.weight", 1)),
        ("num_layers", Count("transformer_blocks")),
        ("num_single_layers", Count("single_transformer_blocks")),
        ("timestep_guidance_channels", Extent("time_guidance_embed.timestep_embedder.linear_1.weight", 1)),
    ]),
    network: NetworkKind::Transformer(|c| Ok(Box::new(Flux2::new(c.weights)?))),
};

/// Dimensions of the network.
struct Flux2 {
    /// Features of an image token: channels of the packed latent.
    in_channels: usize,
    /// Features of a text token.
    text_dim: usize,
    head_dim: usize,
    /// Whether the guidance scale is an input ("dev").
    guidance: bool,
    hidden_size: usize,
    ffn_dim: usize,
    double_blocks: usize,
    single_blocks: usize,
}

/// Modulations per kind of block and stream, shared by all blocks: shift, scale and gate of the attention, then of the MLP.
struct Modulation {
    image: [Value; 6],
    text: [Value; 6],
    single: [Value; 3],
}

impl Flux2 {
    fn new(c: &Checkpoint) -> Result<Self> {
        let [hidden_size, in_channels] = shape(c, "x_embedder.weight")?;
        let [_, text_dim] = shape(c, "context_embedder.weight")?;
        let [head_dim] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let [_, ffn_dim] = shape(c, "transformer_blocks.0.ff.linear_out.weight")?;
        let (double_blocks, single_blocks) = (count(c, "transformer_blocks")?, count(c, "single_transformer_blocks")?);
        check_heads(c, hidden_size, head_dim)?;
        let guidance = c.contains("time_guidance_embed.guidance_embedder.linear_1.weight");
        Ok(Self { in_channels, text_dim, head_dim, guidance, hidden_size, ffn_dim, double_blocks, single_blocks })
    }

    /// [n, hidden_size]: sum of the embedded time and guidance.
    fn condition(&self, w: &Scope, sigma: &Value, guidance: Option<&Value>) -> Value {
        let embed = |name: &str, number| embedded(&w.at(name), Scope::linear_no_bias, number, self.hidden_size);
        let time = embed("timestep_embedder", sigma);
        guidance.map_or_else(|| time.clone(), |guidance| &time + embed("guidance_embedder", guidance))
    }

    fn modulation(&self, w: &Scope, condition: &Value) -> Modulation {
        let of =
            |name: &str, parts| w.at(name).linear_no_bias("linear", condition, parts * self.hidden_size).unsqueeze(1);
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
        w.linear_no_bias("linear_out", &swiglu(&w.linear_no_bias("linear_in", x, 2 * self.ffn_dim)), self.hidden_size)
    }

    /// Attention and MLP in parallel, with one input and one output projection.
    fn single_block(&self, w: &Scope, x: &Value, m: &Modulation, joint: &Joint) -> Value {
        let [shift, scale, gate] = &m.single;
        let h = modulate(&w.at("norm"), x, shift, scale);
        let attn = w.at("attn");
        let (width, ffn) = (self.hidden_size, self.ffn_dim);
        let [q, k, v, h] =
            attn.linear_no_bias("to_qkv_mlp_proj", &h, 3 * width + 2 * ffn).split(-1, [width, width, width, 2 * ffn]);
        let [q, k] = [("norm_q", q), ("norm_k", k)].map(|(name, v)| attn.head_norm(name, &v, joint.heads, EPS));
        let mixed = Value::concat(&[&joint.mix(&q, &k, &v), &swiglu(&h)], -1);
        x + gate * attn.linear_no_bias("to_out", &mixed, width)
    }
}

impl Transformer for Flux2 {
    fn cost(&self) -> Cost {
        let (blocks, width) = ((self.double_blocks + self.single_blocks) as f64, self.hidden_size as f64);
        Cost { per_token: blocks * width * (8.0 * width + 6.0 * self.ffn_dim as f64), per_pair: 4.0 * blocks * width }
    }

    /// Inputs `latents` [n, image, in_channels], `text` [n, text, text_dim], `sigma` `[n]` in 0..=1, `guidance` `[n]` (dev only),
    /// `rope.cos` and `rope.sin` [text + image, head_dim/2] in the order text, image.
    /// Output `velocity` [n, image, in_channels].
    fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.in_channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text_dim.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let guidance = self.guidance.then(|| g.input_f32("guidance", std::slice::from_ref(&n)));
        let table = |name| g.input(name, &[&t + &i, (self.head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.hidden_size / self.head_dim, rotary, linear: Scope::linear_no_bias };

        let condition = self.condition(&w.at("time_guidance_embed"), &sigma, guidance.as_ref()).silu();
        let m = self.modulation(w, &condition);
        let mut x = w.linear_no_bias("x_embedder", &latents, self.hidden_size);
        let mut c = w.linear_no_bias("context_embedder", &text, self.hidden_size);
        for b in 0..self.double_blocks {
            (x, c) = self.double_block(&w.at("transformer_blocks").at(b), &x, &c, &m, &joint);
        }
        let mut both = Value::concat(&[&c, &x], 1);
        for b in 0..self.single_blocks {
            both = self.single_block(&w.at("single_transformer_blocks").at(b), &both, &m, &joint);
        }
        let x = both.slice(1, &t, &t + &i);
        // Here scale precedes shift, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear_no_bias("linear", &condition, 2 * self.hidden_size).unsqueeze(1).chunk();
        g.output("velocity", &w.linear_no_bias("proj_out", &modulate(&norm, &x, &shift, &scale), self.in_channels));
    }
}

/// silu(a)·b of the halves a, b of the last axis (arXiv:2002.05202).
fn swiglu(x: &Value) -> Value {
    let [a, b] = x.chunk();
    a.silu() * b
}
