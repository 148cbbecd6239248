//! Z-Image's transformer (arXiv:2511.22699): a refiner for image tokens and one for caption tokens, then one stream of both,
//! with norms before and after every layer, as `ZImageTransformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_z_image.py`.

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
    error::Result,
    onnx::{Attention, Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// Z-Image.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "ZImageTransformer2DModel",
    classes: &["ZImageTransformer2DModel"],
    detect: |c| c.contains("context_refiner.0.attention.to_q.weight"),
    config: ConfigChecks::new(&[
        ("cap_feat_dim", Extent("cap_embedder.0.weight", 0)),
        ("dim", Extent("cap_pad_token", 1)),
        ("n_layers", Count("layers")),
        ("n_refiner_layers", Count("noise_refiner")),
    ]),
    network: NetworkKind::Transformer(|c| Ok(Box::new(ZImage::new(c.config()?, c.weights)?))),
};

/// Image and caption tokens are each padded to a multiple of this number.
const PAD_MULTIPLE: usize = 32;
/// ε of the norms of queries and keys, a constant in the reference. `config.json` has the ε of the other norms.
const HEAD_EPS: f32 = 1e-5;
/// ε of the last norm.
const LAST_EPS: f32 = 1e-6;

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    #[serde(default = "eps")]
    norm_eps: f32,
    #[serde(default = "t_scale")]
    t_scale: f32,
}

fn eps() -> f32 {
    1e-5
}

fn t_scale() -> f32 {
    1000.0
}

/// Dimensions of the network.
struct ZImage {
    /// Features of an image token: latent channels × 2 × 2.
    in_channels: usize,
    /// Features of a caption token.
    text_dim: usize,
    config: Config,
    hidden_size: usize,
    head_dim: usize,
    ffn_dim: usize,
    /// Features of the timestep embedding: sinusoid, hidden layer, output.
    freq_dim: usize,
    time_ffn_dim: usize,
    time_dim: usize,
    layers: usize,
    noise_refiners: usize,
    context_refiners: usize,
}

impl ZImage {
    fn new(config: Config, c: &Checkpoint) -> Result<Self> {
        let [hidden_size, in_channels] = shape(c, "all_x_embedder.2-1.weight")?;
        let [_, text_dim] = shape(c, "cap_embedder.1.weight")?;
        let [head_dim] = shape(c, "layers.0.attention.norm_q.weight")?;
        let [ffn_dim, _] = shape(c, "layers.0.feed_forward.w1.weight")?;
        let [_, time_dim] = shape(c, "layers.0.adaLN_modulation.0.weight")?;
        let [time_ffn_dim, freq_dim] = shape(c, "t_embedder.mlp.0.weight")?;
        let (layers, noise_refiners) = (count(c, "layers")?, count(c, "noise_refiner")?);
        let context_refiners = count(c, "context_refiner")?;
        check_heads(c, hidden_size, head_dim)?;
        Ok(Self {
            in_channels,
            text_dim,
            config,
            hidden_size,
            head_dim,
            ffn_dim,
            freq_dim,
            time_ffn_dim,
            time_dim,
            layers,
            noise_refiners,
            context_refiners,
        })
    }

    /// Padding with a learned token: [n, s, hidden_size] → [n, rows, hidden_size].
    fn padded(&self, w: &Scope, token: &str, x: &Value, rows: &Dim) -> Value {
        w.at(token).enter();
        let pads = rows - x.dim(1);
        if pads.known() == Some(0) {
            w.ignore(token);
            return x.clone();
        }
        let token = w.weight(token, &[1, self.hidden_size]).unsqueeze(0);
        Value::concat(&[x, &token.expand(&[x.dim(0), pads, self.hidden_size.into()])], 1)
    }

    /// Norms before and after attention and MLP; `time` scales their inputs and gates their outputs.
    fn block(&self, w: &Scope, x: &Value, time: Option<&Value>, rotary: &Rotary) -> Value {
        let eps = self.config.norm_eps;
        let modulation = time.map(|t| w.linear("adaLN_modulation.0", t, 4 * self.hidden_size).unsqueeze(1).chunk());
        let [scale1, gate1, scale2, gate2] = match modulation {
            Some([scale1, gate1, scale2, gate2]) => [scale1 + 1.0, gate1.tanh(), scale2 + 1.0, gate2.tanh()].map(Some),
            None => [const { None }; 4],
        };
        let times = |x: Value, by: &Option<Value>| by.as_ref().map_or(x.clone(), |by| x * by);
        let h = times(w.rms_norm("attention_norm1", x, eps), &scale1);
        let h = w.rms_norm("attention_norm2", &self.attention(&w.at("attention"), &h, rotary), eps);
        let x = x + times(h, &gate1);
        let h = times(w.rms_norm("ffn_norm1", &x, eps), &scale2);
        let ff = w.at("feed_forward");
        let gated = ff.linear_no_bias("w1", &h, self.ffn_dim).silu() * ff.linear_no_bias("w3", &h, self.ffn_dim);
        let h = w.rms_norm("ffn_norm2", &ff.linear_no_bias("w2", &gated, self.hidden_size), eps);
        &x + times(h, &gate2)
    }

    fn attention(&self, w: &Scope, h: &Value, rotary: &Rotary) -> Value {
        let heads = self.hidden_size / self.head_dim;
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| w.linear_no_bias(p, h, self.hidden_size));
        let [q, k] =
            [("norm_q", q), ("norm_k", k)].map(|(name, v)| w.head_norm(name, &v, heads, HEAD_EPS).rope(heads, rotary));
        w.linear_no_bias("to_out.0", &q.attention(&k, &v, heads, &Attention::default()), self.hidden_size)
    }
}

impl Transformer for ZImage {
    /// Each refiner counts for all tokens, which is exact for equal numbers of image and text tokens.
    fn cost(&self) -> Cost {
        let (blocks, width) = ((self.layers + self.noise_refiners) as f64, self.hidden_size as f64);
        Cost {
            per_token: 2.0 * blocks * width * (4.0 * width + 3.0 * self.ffn_dim as f64),
            per_pair: 4.0 * blocks * width,
        }
    }

    /// Inputs `latents` [n, image, in_channels], `text` [n, text, text_dim], `sigma` `[n]` in 0..=1, and rotary tables for the
    /// padded tokens of each: `rope.image.cos`, `rope.image.sin` [image rows, head_dim/2], `rope.text.cos`, `rope.text.sin`
    /// [text rows, head_dim/2], rows multiples of 32. All rows are attended, pads included.
    /// Output `velocity` [n, image, in_channels], the negated output of the reference.
    fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t, text_rows) = (Dim::symbol("n"), Dim::symbol("text"), Dim::symbol("text_rows"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let image_rows = image.map_or_else(|| Dim::symbol("image_rows"), |i| i.next_multiple_of(PAD_MULTIPLE).into());
        let latents = g.input("latents", &[n.clone(), i.clone(), self.in_channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t, self.text_dim.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let table = |name, rows: &Dim| g.input(name, &[rows.clone(), (self.head_dim / 2).into()], DType::F32);
        w.at("rope").enter();
        let [x_cos, x_sin] = ["rope.image.cos", "rope.image.sin"].map(|name| table(name, &image_rows));
        let [c_cos, c_sin] = ["rope.text.cos", "rope.text.sin"].map(|name| table(name, &text_rows));
        let [cos, sin] = [(x_cos.clone(), &c_cos), (x_sin.clone(), &c_sin)].map(|(x, c)| Value::concat(&[&x, c], 0));
        let rotary = |cos, sin| Rotary::new(cos, sin, &n);

        w.at("t_embedder").enter();
        let mlp = w.at("t_embedder.mlp");
        let time = sinusoid(&((sigma * -1.0 + 1.0) * self.config.t_scale), self.freq_dim);
        let time = mlp.linear("2", &mlp.linear("0", &time, self.time_ffn_dim).silu(), self.time_dim);

        let x = w.linear("all_x_embedder.2-1", &latents, self.hidden_size);
        let mut x = self.padded(w, "x_pad_token", &x, &image_rows);
        let c = w.at("cap_embedder").rms_norm("0", &text, self.config.norm_eps);
        let mut c = self.padded(w, "cap_pad_token", &w.linear("cap_embedder.1", &c, self.hidden_size), &text_rows);
        let (of_image, of_text) = (rotary(&x_cos, &x_sin), rotary(&c_cos, &c_sin));
        for b in 0..self.noise_refiners {
            x = self.block(&w.at("noise_refiner").at(b), &x, Some(&time), &of_image);
        }
        for b in 0..self.context_refiners {
            c = self.block(&w.at("context_refiner").at(b), &c, None, &of_text);
        }
        let (mut both, rotary) = (Value::concat(&[&x, &c], 1), rotary(&cos, &sin));
        for b in 0..self.layers {
            both = self.block(&w.at("layers").at(b), &both, Some(&time), &rotary);
        }
        let last = w.at("all_final_layer.2-1");
        let scale = last.linear("adaLN_modulation.1", &time.silu(), self.hidden_size).unsqueeze(1) + 1.0;
        let x = both.slice(1, 0, &i).layer_norm(LAST_EPS) * scale;
        g.output("velocity", &-last.linear("linear", &x, self.in_channels));
    }
}
