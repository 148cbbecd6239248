//! Decoder language models as text encoders: Qwen3 (arXiv:2505.09388), the language half of Qwen2.5-VL (arXiv:2502.13923)
//! and Mistral, as transformers 5.23 `models/{qwen3,qwen2_5_vl,mistral}/modeling_*.py`. They differ in the norms and biases of
//! the attention, which are present in the weights or not.
//!
//! Padding needs no attention mask. Inputs and output by [`Padding`], for s text tokens, the same number in all items of a batch:
//!
//! | pads | inputs, i64 | `states`, f32 |
//! |---|---|---|
//! | `None` | `ids` [n, s] | [n, s, hidden_size·k] |
//! | `After` | `ids` [n, s], s ≥ 2; `pads` [n, p], p ≥ 1, the pad token's id | [n, s + p, hidden_size·k] |
//! | `Before` | `ids` [n, 1 + s], the pad token first | [n, 1 + s, hidden_size·k]; row 0 is the output of every pad |

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    architecture::{
        Architecture, ConfigChecks,
        Fact::{Count, Extent},
        NetworkKind, TextEncoder,
    },
    shared::dimensions::{count, missing, shape},
};
use crate::{
    error::{Error, Result},
    model::{HiddenStates, Padding},
    onnx::{Attention, Dim, Graph, Rotary, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// Qwen3, Qwen2.5-VL and Mistral.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "decoder language model",
    classes: &[
        "Mistral3ForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3Model",
    ],
    detect: |c| {
        let has = |root: &str, name| c.contains(&join(root, name));
        let layer = "layers.0.self_attn.o_proj.weight";
        ROOTS.into_iter().any(|root| has(root, "embed_tokens.weight") && has(root, layer))
    },
    config: ConfigChecks {
        section: Some("text_config"),
        prefixes: &["", "model.", "language_model.model.", "model.language_model.", "language_model."],
        entries: &[
            ("hidden_size", Extent("embed_tokens.weight", 1)),
            ("intermediate_size", Extent("layers.0.mlp.up_proj.weight", 0)),
            ("num_hidden_layers", Count("layers")),
            ("vocab_size", Extent("embed_tokens.weight", 0)),
        ],
    },
    network: NetworkKind::TextEncoder(|c| Ok(Box::new(DecoderLm::new(c.config, c.weights)?))),
};

/// Entries of `config.json` that the shapes do not determine. In a multimodal model they are under `text_config`.
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
    /// transformers 5, instead of both.
    #[serde(default)]
    rope_parameters: Json,
}

/// Dimensions of the network.
struct DecoderLm {
    /// Prefix of the language model's weights: `model`, `language_model.model`, ….
    root: &'static str,
    hidden_size: usize,
    layers: usize,
    heads: usize,
    head_dim: usize,
    /// Heads of keys and values.
    kv_heads: usize,
    intermediate_size: usize,
    theta: f64,
    eps: f32,
}

/// Prefixes of language models: in released files, in files written by transformers 5, and none.
const ROOTS: [&str; 4] = ["language_model.model", "model.language_model", "model", ""];
/// Other modules in these files.
const OTHER_MODULES: [&str; 8] = [
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
    fn new(config: &Json, c: &Checkpoint) -> Result<Self> {
        let origin = c.origin().display();
        let wrong = |what: String| Error::failed(format!("{origin}: {what}"));
        let text = config.get("text_config").filter(|t| t.is_object()).unwrap_or(config);
        let config = Config::deserialize(text).map_err(|e| wrong(format!("config.json: {e}")))?;
        let theta = config.check().map_err(wrong)?;
        let found = ROOTS.into_iter().find(|root| c.contains(&join(root, "embed_tokens.weight")));
        let root = found.ok_or_else(|| missing(c, "model.embed_tokens.weight"))?;
        let layers = count(c, &join(root, "layers"))?;
        if layers != config.num_hidden_layers {
            let said = config.num_hidden_layers;
            return Err(wrong(format!("config.json has {said} layers, the weights have {layers}")));
        }
        let first = |name: &str| join(root, &format!("layers.0.{name}"));
        let [queries, hidden_size] = shape(c, &first("self_attn.q_proj.weight"))?;
        let [keys, _] = shape(c, &first("self_attn.k_proj.weight"))?;
        let [intermediate_size, _] = shape(c, &first("mlp.gate_proj.weight"))?;
        let heads = config.num_attention_heads;
        let head_dim = config.head_dim.unwrap_or(hidden_size / heads.max(1));
        let kv_heads = keys.checked_div(head_dim).unwrap_or(0);
        let split = heads.checked_mul(head_dim) == Some(queries) && kv_heads * head_dim == keys;
        if !split || head_dim % 2 == 1 || kv_heads == 0 || heads % kv_heads != 0 {
            let shapes = format!("{queries} query features and {keys} key features");
            return Err(wrong(format!(
                "config.json has {heads} heads of {head_dim} features, the weights have {shapes}"
            )));
        }
        let eps = config.rms_norm_eps;
        Ok(Self { root, hidden_size, layers, heads, head_dim, kv_heads, intermediate_size, theta, eps })
    }

    /// Indices of the hidden states, counted from 0, the embeddings, and the last of them.
    ///
    /// # Errors
    /// An index out of range, or none.
    fn indices(&self, hidden: &[isize]) -> Result<(Vec<usize>, usize)> {
        let index = |k: &isize| usize::try_from(if *k < 0 { self.layers as isize + 1 + k } else { *k }).ok();
        let wanted: Vec<usize> = hidden.iter().filter_map(index).filter(|k| *k <= self.layers).collect();
        let Some(&last) = wanted.iter().max().filter(|_| wanted.len() == hidden.len()) else {
            let layers = self.layers;
            return Err(Error::failed(format!("hidden states {hidden:?}: the model has {layers} layers")));
        };
        Ok((wanted, last))
    }

    /// The inputs and the output of the table above.
    fn write(&self, w: &Scope, HiddenStates { hidden, pads }: HiddenStates) -> Result<()> {
        let (wanted, last) = self.indices(hidden)?;
        let g = w.graph();
        OTHER_MODULES.iter().for_each(|name| w.ignore_below(name));
        let w = &if self.root.is_empty() { w.clone() } else { w.at(self.root) };
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let mut ids = g.input("ids", &[n.clone(), s.clone()], DType::I64);
        let mut rows = s.clone();
        if pads == Padding::After {
            let p = Dim::symbol("p");
            ids = Value::concat(&[&ids, &g.input("pads", &[n.clone(), p.clone()], DType::I64)], 1);
            rows = &s + p;
        }
        let mut x = w.embedding("embed_tokens", &ids, self.hidden_size);
        let block = Block { net: self, pads, text: s.clone(), tables: Tables::new(self, w, pads, &n, &s, &rows) };
        let mut hidden_states = vec![x.clone()];
        for i in 0..self.layers {
            let w = w.at("layers").at(i);
            if i < last {
                x = block.apply(&w, &x);
                hidden_states.push(x.clone());
            }
        }
        (last..self.layers).for_each(|i| w.at("layers").ignore_below(&i.to_string()));
        if last == self.layers {
            hidden_states[last] = w.rms_norm("norm", &x, self.eps);
        } else {
            w.ignore("norm.weight");
        }
        let wanted: Vec<&Value> = wanted.iter().map(|&k| &hidden_states[k]).collect();
        g.output("states", &if let [one] = wanted[..] { one.clone() } else { Value::concat(&wanted, -1) });
        Ok(())
    }

    /// cos and sin of p·θ^(−2j/d) [rows, d/2] for p = 0, 1, …, computed in f32 as in the reference.
    fn angles(&self, g: &Graph, rows: &Dim) -> [Value; 2] {
        let half = self.head_dim / 2;
        let turn = |j: usize| self.theta.powf(-((2 * j) as f64) / self.head_dim as f64) as f32;
        let turns = g.constant(&(0..half).map(turn).collect::<Vec<_>>(), &[1, half], DType::F32);
        let angles = g.range(rows).cast(DType::F32).unsqueeze(1) * turns;
        [angles.cos(), angles.sin()].map(|v| v.cast(g.target().compute))
    }
}

impl TextEncoder for DecoderLm {
    fn build(&self, w: &Scope, states: Option<HiddenStates>) -> Result<()> {
        let states = states.ok_or_else(|| Error::failed("a language model requires the hidden states to build"))?;
        self.write(w, states)
    }
}

impl Config {
    /// θ of the rotary positions, or the entry that is not supported.
    fn check(&self) -> std::result::Result<f64, String> {
        if self.hidden_act != "silu" {
            return Err(format!("config.json: hidden_act is {}; only silu is supported", self.hidden_act));
        }
        if let Some(window) = self.sliding_window.filter(|_| self.use_sliding_window != Some(false)) {
            return Err(format!(
                "config.json: sliding_window is {window}; only attention over all tokens is supported"
            ));
        }
        for rope in [&self.rope_scaling, &self.rope_parameters] {
            // For text alone, multimodal positions equal ordinary ones.
            let kind = rope.get("rope_type").or(rope.get("type")).and_then(Json::as_str).unwrap_or("default");
            if kind != "default" && kind != "mrope" {
                return Err(format!("config.json: rotary positions of type {kind}; expected default or mrope"));
            }
        }
        let theta = self.rope_theta.or_else(|| self.rope_parameters.get("rope_theta")?.as_f64());
        theta
            .filter(|t| *t > 0.0)
            .ok_or_else(|| "config.json: neither rope_theta nor rope_parameters.rope_theta".into())
    }
}

/// Rotary tables and causal mask, shared by all layers.
struct Tables {
    queries: Rotary,
    keys: Rotary,
    causal: Attention,
}

impl Tables {
    fn new(net: &DecoderLm, w: &Scope, pads: Padding, n: &Dim, s: &Dim, rows: &Dim) -> Self {
        let g = w.graph();
        w.at("rope").enter();
        // Positions are relative, so text after pads can start at 0.
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
    /// Extent of `ids`.
    text: Dim,
    tables: Tables,
}

impl Block<'_> {
    /// One layer on hidden states [n, rows, hidden_size].
    fn apply(&self, w: &Scope, x: &Value) -> Value {
        let DecoderLm { hidden_size, intermediate_size, eps, .. } = *self.net;
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
        let gated = w.linear_no_bias("gate_proj", &h, intermediate_size).silu()
            * w.linear_no_bias("up_proj", &h, intermediate_size);
        &x + w.linear_no_bias("down_proj", &gated, hidden_size)
    }

    fn attention(&self, w: &Scope, h: &Value) -> Value {
        let DecoderLm { hidden_size, heads, head_dim, kv_heads, eps, .. } = *self.net;
        let w = w.at("self_attn");
        let project = |name: &str, x: &Value, heads: usize| {
            let biased = w.at(name).has("bias");
            if biased { w.linear(name, x, heads * head_dim) } else { w.linear_no_bias(name, x, heads * head_dim) }
        };
        let norm = |name: &str, x: Value, heads: usize| {
            if w.at(name).has("weight") { w.head_norm(name, &x, heads, eps) } else { x }
        };
        let text = if self.pads == Padding::After { &h.slice(1, 0, &self.text) } else { h };
        let q = norm("q_norm", project("q_proj", h, heads), heads).rope(heads, &self.tables.queries);
        let k = norm("k_norm", project("k_proj", text, kv_heads), kv_heads).rope(kv_heads, &self.tables.keys);
        let v = project("v_proj", text, kv_heads);
        let mixed = match self.pads {
            // The last token attends to all of the text, like every pad, so neither needs a mask.
            Padding::After => {
                let last = &self.text - 1;
                let [early_q, early_k, early_v] = [&q, &k, &v].map(|x| x.slice(1, 0, &last));
                let early = early_q.attention(&early_k, &early_v, heads, &self.tables.causal);
                let late = q.slice(1, &last, h.dim(1)).attention(&k, &v, heads, &Attention::default());
                Value::concat(&[&early, &late], 1)
            }
            _ => q.attention(&k, &v, heads, &self.tables.causal),
        };
        w.linear_no_bias("o_proj", &mixed, hidden_size)
    }
}
