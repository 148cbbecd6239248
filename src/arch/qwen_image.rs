//! Qwen-Image's transformer: double stream blocks over text and image tokens (arXiv:2508.02324 §2.4), as
//! `QwenImageTransformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_qwenimage.py`.

use super::{
    architecture::{
        Architecture, ConfigChecks, Cost,
        Fact::{Count, Extent},
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

/// Qwen-Image.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "QwenImageTransformer2DModel",
    classes: &["QwenImageTransformer2DModel"],
    detect: |c| c.contains("transformer_blocks.0.img_mod.1.weight"),
    config: ConfigChecks::new(&[
        ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
        ("in_channels", Extent("img_in.weight", 1)),
        ("joint_attention_dim", Extent("txt_norm.weight", 0)),
        ("num_layers", Count("transformer_blocks")),
    ]),
    network: NetworkKind::Transformer(|c| Ok(Box::new(QwenImage::new(c.weights)?))),
};

/// Dimensions of the network.
struct QwenImage {
    /// Features of an image token: latent channels × 2 × 2.
    in_channels: usize,
    /// Features of a text token.
    text_dim: usize,
    head_dim: usize,
    hidden_size: usize,
    ffn_dim: usize,
    blocks: usize,
}

impl QwenImage {
    fn new(c: &Checkpoint) -> Result<Self> {
        let [hidden_size, in_channels] = shape(c, "img_in.weight")?;
        let [_, text_dim] = shape(c, "txt_in.weight")?;
        let [head_dim] = shape(c, "transformer_blocks.0.attn.norm_q.weight")?;
        let [ffn_dim, _] = shape(c, "transformer_blocks.0.img_mlp.net.0.proj.weight")?;
        let blocks = count(c, "transformer_blocks")?;
        check_heads(c, hidden_size, head_dim)?;
        Ok(Self { in_channels, text_dim, head_dim, hidden_size, ffn_dim, blocks })
    }

    /// One block on image tokens `x` and text tokens `c`. The last one returns the text unchanged, because nothing reads it.
    fn block(&self, w: &Scope, (x, c): (&Value, &Value), cond: &Value, joint: &Joint, last: bool) -> (Value, Value) {
        let six = |name: &str| w.linear(name, cond, 6 * self.hidden_size).unsqueeze(1).chunk();
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
        w.linear("net.2", &w.linear("net.0.proj", x, self.ffn_dim).gelu_tanh(), self.hidden_size)
    }
}

impl Transformer for QwenImage {
    fn cost(&self) -> Cost {
        let (blocks, width) = (self.blocks as f64, self.hidden_size as f64);
        Cost { per_token: blocks * width * (8.0 * width + 4.0 * self.ffn_dim as f64), per_pair: 4.0 * blocks * width }
    }

    /// Inputs `latents` [n, image, in_channels], `text` [n, text, text_dim], `sigma` `[n]` in 0..=1, `rope.cos` and `rope.sin`
    /// [text + image, head_dim/2] in the order text, image.
    /// Output `velocity` [n, image, in_channels].
    fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t) = (Dim::symbol("n"), Dim::symbol("text"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let latents = g.input("latents", &[n.clone(), i.clone(), self.in_channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t.clone(), self.text_dim.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let table = |name| g.input(name, &[&t + &i, (self.head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let rotary = Rotary::new(&table("rope.cos"), &table("rope.sin"), &n);
        let joint = Joint { heads: self.hidden_size / self.head_dim, rotary, linear: Scope::linear };

        let time = w.at("time_text_embed").at("timestep_embedder");
        let condition = embedded(&time, Scope::linear, &sigma, self.hidden_size).silu();
        let mut x = w.linear("img_in", &latents, self.hidden_size);
        let mut c = w.linear("txt_in", &w.rms_norm("txt_norm", &text, EPS), self.hidden_size);
        for b in 0..self.blocks {
            let w = w.at("transformer_blocks").at(b);
            (x, c) = self.block(&w, (&x, &c), &condition, &joint, b + 1 == self.blocks);
        }
        // Here scale precedes shift, unlike in the blocks.
        let norm = w.at("norm_out");
        let [scale, shift] = norm.linear("linear", &condition, 2 * self.hidden_size).unsqueeze(1).chunk();
        g.output("velocity", &w.linear("proj_out", &modulate(&norm, &x, &shift, &scale), self.in_channels));
    }
}
