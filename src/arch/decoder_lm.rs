//! Decoder language models as text encoders: Qwen3 (arXiv:2505.09388), the language half of Qwen2.5-VL (arXiv:2502.13923)
//! and Mistral, as transformers 5.23 `models/{qwen3,qwen2_5_vl,mistral}/modeling_*.py`. They differ in norms and biases of
//! the attention, which the weights tell.
//!
//! Padding costs no mask. The graph's inputs and its output by [`Padding`], s tokens of text, all items of a batch equally long:
//!
//! | pads | inputs, i64 | `states`, f32 |
//! |---|---|---|
//! | `None` | `ids` [n, s] | [n, s, width·k] |
//! | `After` | `ids` [n, s], s ≥ 2; `pads` [n, p], p ≥ 1, the pad token's id | [n, s + p, width·k] |
//! | `Before` | `ids` [n, 1 + s], first the pad token | [n, 1 + s, width·k]; row 0 is that of every pad |

use serde::Deserialize;
use serde_json::Value as Json;

use super::{count, shape};
use crate::{
    error::{Error, Result},
    model::{HiddenStates, Padding},
    onnx::{Attention, Dim, Graph, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// What `config.json` says that the shapes do not; at its top, or under `text_config` where other senses are configured too.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    num_attention_heads: usize,
    num_hidden_layers: usize,
    rms_norm_eps: f32,
    hidden_act: String,
    head_dim: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    /// transformers 4.
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_scaling: Json,
    /// transformers 5, for the two.
    #[serde(default)]
    rope_parameters: Json,
}

/// The network's extents.
#[derive(Debug, Clone)]
pub struct DecoderLm {
    /// Where the language model's weights are: `model`, `language_model.model`, ….
    root: &'static str,
    /// Width of the states.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    heads: usize,
    head: usize,
    shared: usize,
    mlp: usize,
    theta: f64,
    eps: f32,
}

/// Roots of language models: released files, those that transformers 5 writes, bare ones.
const ROOTS: [&str; 4] = ["language_model.model", "model.language_model", "model", ""];
/// What else such files hold.
const OTHER_SENSES: [&str; 8] = [
    "lm_head",
    "language_model.lm_head",
    "visual",
    "vision_tower",
    "multi_modal_projector",
    "model.visual",
    "model.vision_tower",
    "model.multi_modal_projector",
];

fn join(root: &str, name: &str) -> String {
    if root.is_empty() { name.into() } else { format!("{root}.{name}") }
}

impl DecoderLm {
    /// Whether a checkpoint holds a language model of this kind.
    pub fn is(c: &Checkpoint) -> bool {
        let has = |root: &str, name| c.contains(&join(root, name));
        let first = "layers.0.self_attn.o_proj.weight";
        ROOTS.into_iter().any(|root| has(root, "embed_tokens.weight") && has(root, first))
    }

    /// Reads the extents from the weights; `config` is the text of `config.json`, parsed.
    pub fn detect(config: &Json, c: &Checkpoint) -> Result<Self> {
        let origin = c.origin().display();
        let wrong = |what: String| Error::failed(format!("{origin}: {what}"));
        let text = config.get("text_config").filter(|t| t.is_object()).unwrap_or(config);
        let config = Config::deserialize(text).map_err(|e| wrong(format!("config.json: {e}")))?;
        let theta = config.check().map_err(wrong)?;
        let found = ROOTS.into_iter().find(|root| c.contains(&join(root, "embed_tokens.weight")));
        let root = found.ok_or_else(|| super::missing(c, "model.embed_tokens.weight"))?;
        let layers = count(c, &join(root, "layers"))?;
        if layers != config.num_hidden_layers {
            let said = config.num_hidden_layers;
            return Err(wrong(format!("config.json says {said} layers, the weights have {layers}")));
        }
        let first = |name: &str| join(root, &format!("layers.0.{name}"));
        let [queries, width] = shape(c, &first("self_attn.q_proj.weight"))?;
        let [keys, _] = shape(c, &first("self_attn.k_proj.weight"))?;
        let [mlp, _] = shape(c, &first("mlp.gate_proj.weight"))?;
        let heads = config.num_attention_heads;
        let head = config.head_dim.unwrap_or(width / heads.max(1));
        let shared = keys.checked_div(head).unwrap_or(0);
        let split = heads.checked_mul(head) == Some(queries) && shared * head == keys;
        if !split || head % 2 == 1 || shared == 0 || heads % shared != 0 {
            let shapes = format!("{queries} features of queries and {keys} of keys");
            return Err(wrong(format!("config.json says {heads} heads of width {head}, the weights have {shapes}")));
        }
        Ok(Self { root, width, layers, heads, head, shared, mlp, theta, eps: config.rms_norm_eps })
    }

    /// Inputs and output as in the table above.
    ///
    /// # Errors
    /// A hidden state that the network has not.
    pub fn build(&self, w: &Scope, HiddenStates { hidden, pads }: HiddenStates) -> Result<()> {
        let place = |k: &isize| usize::try_from(if *k < 0 { self.layers as isize + 1 + k } else { *k }).ok();
        let wanted: Vec<usize> = hidden.iter().filter_map(place).filter(|k| *k <= self.layers).collect();
        let Some(&last) = wanted.iter().max().filter(|_| wanted.len() == hidden.len()) else {
            let layers = self.layers;
            return Err(Error::failed(format!("hidden states {hidden:?} are wanted of a model of {layers} layers")));
        };
        let g = w.graph();
        OTHER_SENSES.iter().for_each(|name| w.ignore_below(name));
        let w = &if self.root.is_empty() { w.clone() } else { w.at(self.root) };
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let mut ids = g.input("ids", &[n.clone(), s.clone()], DType::I64);
        let mut rows = s.clone();
        if pads == Padding::After {
            let p = Dim::symbol("p");
            ids = Value::concat(&[&ids, &g.input("pads", &[n.clone(), p.clone()], DType::I64)], 1);
            rows = &s + p;
        }
        let mut x = w.embedding("embed_tokens", &ids, self.width);
        let block = Block { net: self, pads, text: s.clone(), tables: Tables::new(self, w, pads, &n, &s, &rows) };
        let mut states = vec![x.clone()];
        for i in 0..self.layers {
            let w = w.at("layers").at(i);
            if i < last {
                x = block.apply(&w, &x);
                states.push(x.clone());
            }
        }
        (last..self.layers).for_each(|i| w.at("layers").ignore_below(&i.to_string()));
        if last == self.layers {
            states[last] = w.rms_norm("norm", &x, self.eps);
        } else {
            w.ignore("norm.weight");
        }
        let wanted: Vec<&Value> = wanted.iter().map(|&k| &states[k]).collect();
        g.output("states", &if let [one] = wanted[..] { one.clone() } else { Value::concat(&wanted, -1) });
        Ok(())
    }

    /// cos and sin of p·θ^(−2j/d) [rows, d/2] for p = 0, 1, …, in f32 as in the reference.
    fn angles(&self, g: &Graph, rows: &Dim) -> [Value; 2] {
        let half = self.head / 2;
        let turn = |j: usize| self.theta.powf(-((2 * j) as f64) / self.head as f64) as f32;
        let turns = g.constant(&(0..half).map(turn).collect::<Vec<_>>(), &[1, half], DType::F32);
        let angles = g.range(rows).cast(DType::F32).unsqueeze(1) * turns;
        [angles.cos(), angles.sin()].map(|v| v.cast(g.target().compute))
    }
}

impl Config {
    /// θ of the rotary positions, or what of the config is not built.
    fn check(&self) -> std::result::Result<f64, String> {
        if self.hidden_act != "silu" {
            return Err(format!("config.json: hidden_act is {}; silu is known", self.hidden_act));
        }
        if let Some(window) = self.sliding_window.filter(|_| self.use_sliding_window != Some(false)) {
            return Err(format!("config.json: sliding_window is {window}; attention over all tokens is known"));
        }
        for rope in [&self.rope_scaling, &self.rope_parameters] {
            // With text alone, multimodal positions are plain ones.
            let kind = rope.get("rope_type").or(rope.get("type")).and_then(Json::as_str).unwrap_or("default");
            if kind != "default" && kind != "mrope" {
                return Err(format!("config.json: rotary positions of type {kind}; default and mrope are known"));
            }
        }
        let theta = self.rope_theta.or_else(|| self.rope_parameters.get("rope_theta")?.as_f64());
        theta.filter(|t| *t > 0.0).ok_or_else(|| "config.json: no rope_theta, nor rope_parameters.rope_theta".into())
    }
}

/// Rotary tables and masks, made once for all layers.
struct Tables {
    queries: Rotary,
    keys: Rotary,
    causal: Attention,
}

impl Tables {
    fn new(net: &DecoderLm, w: &Scope, pads: Padding, n: &Dim, s: &Dim, rows: &Dim) -> Self {
        let g = w.graph();
        w.at("rope").enter();
        // Positions are relative, so those of text behind pads may begin at 0.
        let (queries, keys) = if pads == Padding::Before { (&(s - 1), &(s - 1)) } else { (rows, s) };
        let [cos, sin] = net.angles(g, queries);
        let all = Rotary::halves(&cos, &sin, n);
        let keys = match queries == keys {
            true => all.clone(),
            false => Rotary::halves(&cos.slice(0, 0, keys), &sin.slice(0, 0, keys), n),
        };
        let causal = Attention::causal(g, &if pads == Padding::None { s.clone() } else { s - 1 });
        Self { queries: all, keys, causal }
    }
}

struct Block<'a> {
    net: &'a DecoderLm,
    pads: Padding,
    /// Rows of `ids`.
    text: Dim,
    tables: Tables,
}

impl Block<'_> {
    /// One layer: [n, rows, width] → the same.
    fn apply(&self, w: &Scope, x: &Value) -> Value {
        let DecoderLm { width, mlp, eps, .. } = *self.net;
        let x = match self.pads {
            Padding::Before => {
                let (pad, text) = (x.slice(1, 0, 1), x.slice(1, 1, &self.text));
                let text = &text + self.attention(w, &w.rms_norm("input_layernorm", &text, eps));
                Value::concat(&[&pad, &text], 1)
            }
            _ => x + self.attention(w, &w.rms_norm("input_layernorm", x, eps)),
        };
        let h = w.rms_norm("post_attention_layernorm", &x, eps);
        let w = w.at("mlp");
        let gated = w.linear_no_bias("gate_proj", &h, mlp).silu() * w.linear_no_bias("up_proj", &h, mlp);
        &x + w.linear_no_bias("down_proj", &gated, width)
    }

    fn attention(&self, w: &Scope, h: &Value) -> Value {
        let DecoderLm { width, heads, head, shared, eps, .. } = *self.net;
        let w = w.at("self_attn");
        let project = |name: &str, x: &Value, heads: usize| {
            let biased = w.at(name).has("bias");
            if biased { w.linear(name, x, heads * head) } else { w.linear_no_bias(name, x, heads * head) }
        };
        let norm = |name: &str, x: Value, heads: usize| {
            if w.at(name).has("weight") { w.head_norm(name, &x, heads, eps) } else { x }
        };
        let text = if self.pads == Padding::After { &h.slice(1, 0, &self.text) } else { h };
        let q = norm("q_norm", project("q_proj", h, heads), heads).rope(heads, &self.tables.queries);
        let k = norm("k_norm", project("k_proj", text, shared), shared).rope(shared, &self.tables.keys);
        let v = project("v_proj", text, shared);
        let mixed = match self.pads {
            // The last token sees all of the text, as every pad does, which spares both a mask.
            Padding::After => {
                let last = &self.text - 1;
                let [early_q, early_k, early_v] = [&q, &k, &v].map(|x| x.slice(1, 0, &last));
                let early = early_q.attention(&early_k, &early_v, heads, &self.tables.causal);
                let late = q.slice(1, &last, h.dim(1)).attention(&k, &v, heads, &Attention::default());
                Value::concat(&[&early, &late], 1)
            }
            _ => q.attention(&k, &v, heads, &self.tables.causal),
        };
        w.linear_no_bias("o_proj", &mixed, width)
    }
}
