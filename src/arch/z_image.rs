//! Z-Image's transformer (arXiv:2511.22699): one stream of picture and caption tokens behind a refiner for each, norms before
//! and after every layer, as `ZImageTransformer2DModel` of diffusers 0.42.1 `models/transformers/transformer_z_image.py`.

use serde::Deserialize;

use super::{count, embed::sinusoid, shape};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Dim, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// Picture and caption each fill a multiple of this many rows with pad tokens.
pub const ROWS: usize = 32;
/// In the norms of queries and keys, whatever the config says of the others.
const HEAD_EPS: f32 = 1e-5;
/// In the last norm.
const LAST_EPS: f32 = 1e-6;

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
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

/// The network's extents.
#[derive(Debug, Clone)]
pub struct ZImage {
    /// Features of a picture token: latent channels × 2 × 2.
    pub channels: usize,
    /// Features of a text state.
    pub text: usize,
    config: Config,
    dim: usize,
    head: usize,
    mlp: usize,
    /// Features of the time, of the layer behind it, and of what modulates.
    frequencies: usize,
    time_mlp: usize,
    time: usize,
    layers: usize,
    noise_refiners: usize,
    context_refiners: usize,
}

impl ZImage {
    /// Reads the extents from the weights.
    pub fn detect(config: Config, c: &Checkpoint) -> Result<Self> {
        let [dim, channels] = shape(c, "all_x_embedder.2-1.weight")?;
        let [_, text] = shape(c, "cap_embedder.1.weight")?;
        let [head] = shape(c, "layers.0.attention.norm_q.weight")?;
        let [mlp, _] = shape(c, "layers.0.feed_forward.w1.weight")?;
        let [_, time] = shape(c, "layers.0.adaLN_modulation.0.weight")?;
        let [time_mlp, frequencies] = shape(c, "t_embedder.mlp.0.weight")?;
        let (layers, noise_refiners) = (count(c, "layers")?, count(c, "noise_refiner")?);
        let context_refiners = count(c, "context_refiner")?;
        if !dim.is_multiple_of(head) || head % 2 == 1 {
            let origin = c.origin().display();
            let wanted = "an even head width that divides the width";
            return Err(Error::failed(format!("{origin}: width {dim}, head width {head}; Z-Image has {wanted}")));
        }
        let extents = Self {
            channels,
            text,
            config,
            dim,
            head,
            mlp,
            frequencies,
            time_mlp,
            time,
            layers,
            noise_refiners,
            context_refiners,
        };
        Ok(extents)
    }

    /// Operations per token (twice the weights that it meets) and per pair of tokens. Each refiner counts for all tokens, which
    /// is right where there are as many of either kind.
    pub fn cost(&self) -> (f64, f64) {
        let (blocks, dim) = ((self.layers + self.noise_refiners) as f64, self.dim as f64);
        (2.0 * blocks * dim * (4.0 * dim + 3.0 * self.mlp as f64), 4.0 * blocks * dim)
    }

    /// Inputs `latents` [n, image, channels], `text` [n, text, text width], `sigma` `[n]` in 0..=1, and rotary tables for the
    /// rows of either with their pads, multiples of [`ROWS`]: `rope.image.cos`, `rope.image.sin` [image rows, head/2],
    /// `rope.text.cos`, `rope.text.sin` [text rows, head/2]. All rows are attended, pads among them.
    /// Output `velocity` [n, image, channels], the negative of what the network itself gives. `image` fixes the number of
    /// picture tokens.
    pub fn build(&self, w: &Scope, image: Option<usize>) {
        let g = w.graph();
        let (n, t, text_rows) = (Dim::symbol("n"), Dim::symbol("text"), Dim::symbol("text_rows"));
        let i = image.map_or_else(|| Dim::symbol("image"), Dim::from);
        let image_rows = image.map_or_else(|| Dim::symbol("image_rows"), |i| i.next_multiple_of(ROWS).into());
        let latents = g.input("latents", &[n.clone(), i.clone(), self.channels.into()], DType::F32);
        let text = g.input("text", &[n.clone(), t, self.text.into()], DType::F32);
        let sigma = g.input_f32("sigma", std::slice::from_ref(&n));
        let table = |name, rows: &Dim| g.input(name, &[rows.clone(), (self.head / 2).into()], DType::F32);
        w.at("rope").enter();
        let [x_cos, x_sin] = ["rope.image.cos", "rope.image.sin"].map(|name| table(name, &image_rows));
        let [c_cos, c_sin] = ["rope.text.cos", "rope.text.sin"].map(|name| table(name, &text_rows));
        let [cos, sin] = [(x_cos.clone(), &c_cos), (x_sin.clone(), &c_sin)].map(|(x, c)| Value::concat(&[&x, c], 0));
        let rotary = |cos, sin| Rotary::new(cos, sin, &n);

        w.at("t_embedder").enter();
        let mlp = w.at("t_embedder.mlp");
        let time = sinusoid(&((sigma * -1.0 + 1.0) * self.config.t_scale), self.frequencies);
        let time = mlp.linear("2", &mlp.linear("0", &time, self.time_mlp).silu(), self.time);

        let x = w.linear("all_x_embedder.2-1", &latents, self.dim);
        let mut x = self.padded(w, "x_pad_token", &x, &image_rows);
        let c = w.at("cap_embedder").rms_norm("0", &text, self.config.norm_eps);
        let mut c = self.padded(w, "cap_pad_token", &w.linear("cap_embedder.1", &c, self.dim), &text_rows);
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
        let scale = last.linear("adaLN_modulation.1", &time.silu(), self.dim).unsqueeze(1) + 1.0;
        let x = both.slice(1, 0, &i).layer_norm(LAST_EPS) * scale;
        g.output("velocity", &-last.linear("linear", &x, self.channels));
    }

    /// [n, s, dim] → [n, rows, dim], a learned token in every row past the last.
    fn padded(&self, w: &Scope, token: &str, x: &Value, rows: &Dim) -> Value {
        w.at(token).enter();
        let pads = rows - x.dim(1);
        if pads.known() == Some(0) {
            w.ignore(token);
            return x.clone();
        }
        let token = w.weight(token, &[1, self.dim]).unsqueeze(0);
        Value::concat(&[x, &token.expand(&[x.dim(0), pads, self.dim.into()])], 1)
    }

    /// Norms stand on both sides of attention and MLP; `time` scales what goes in and gates what comes out.
    fn block(&self, w: &Scope, x: &Value, time: Option<&Value>, rotary: &Rotary) -> Value {
        let eps = self.config.norm_eps;
        let four = time.map(|t| w.linear("adaLN_modulation.0", t, 4 * self.dim).unsqueeze(1).chunk());
        let [scale1, gate1, scale2, gate2] = match four {
            Some([scale1, gate1, scale2, gate2]) => [scale1 + 1.0, gate1.tanh(), scale2 + 1.0, gate2.tanh()].map(Some),
            None => [const { None }; 4],
        };
        let times = |x: Value, by: &Option<Value>| by.as_ref().map_or(x.clone(), |by| x * by);
        let h = times(w.rms_norm("attention_norm1", x, eps), &scale1);
        let h = w.rms_norm("attention_norm2", &self.attention(&w.at("attention"), &h, rotary), eps);
        let x = x + times(h, &gate1);
        let h = times(w.rms_norm("ffn_norm1", &x, eps), &scale2);
        let ff = w.at("feed_forward");
        let gated = ff.linear_no_bias("w1", &h, self.mlp).silu() * ff.linear_no_bias("w3", &h, self.mlp);
        let h = w.rms_norm("ffn_norm2", &ff.linear_no_bias("w2", &gated, self.dim), eps);
        &x + times(h, &gate2)
    }

    fn attention(&self, w: &Scope, h: &Value, rotary: &Rotary) -> Value {
        let heads = self.dim / self.head;
        let [q, k, v] = ["to_q", "to_k", "to_v"].map(|p| w.linear_no_bias(p, h, self.dim));
        let [q, k] =
            [("norm_q", q), ("norm_k", k)].map(|(name, v)| w.head_norm(name, &v, heads, HEAD_EPS).rope(heads, rotary));
        w.linear_no_bias("to_out.0", &q.attention(&k, &v, heads, &Attention::default()), self.dim)
    }
}
