//! The encoders of T5 v1.1 (arXiv:1910.10683, arXiv:2002.05202) and UMT5 (arXiv:2304.09151), as transformers 5.23
//! `models/t5/modeling_t5.py` and `models/umt5/modeling_umt5.py`.

use serde::Deserialize;

use super::{
    architecture::{
        Architecture, ConfigChecks,
        Fact::{Count, Extent},
        NetworkKind, TextEncoder,
    },
    shared::dimensions::{count, shape},
};
use crate::{
    error::{Error, Result},
    model::HiddenStates,
    onnx::{Attention, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// T5 and UMT5.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "T5EncoderModel",
    classes: &["T5EncoderModel", "UMT5EncoderModel"],
    detect: |c| c.contains("encoder.block.0.layer.0.SelfAttention.q.weight"),
    config: ConfigChecks::new(&[
        ("d_model", Extent("encoder.block.0.layer.0.SelfAttention.q.weight", 1)),
        ("num_heads", Extent("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 1)),
        ("num_layers", Count("encoder.block")),
        (
            "relative_attention_num_buckets",
            Extent("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0),
        ),
    ]),
    network: NetworkKind::TextEncoder(|c| Ok(Box::new(T5::new(c.config()?, c.weights)?))),
};

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    /// Distances beyond this share one bucket.
    #[serde(default = "max_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "eps")]
    layer_norm_epsilon: f32,
    /// Must be `gated-gelu`.
    #[serde(default)]
    feed_forward_proj: String,
}

fn max_distance() -> usize {
    128
}

fn eps() -> f32 {
    1e-6
}

/// Dimensions of the network.
struct T5 {
    config: Config,
    hidden_size: usize,
    /// Features of all attention heads.
    inner_dim: usize,
    heads: usize,
    ffn_dim: usize,
    buckets: usize,
    layers: usize,
    /// Whether each block has a position bias (UMT5); else the first block's is used by all.
    bias_per_block: bool,
}

const FIRST: &str = "encoder.block.0.layer.0.SelfAttention";
const BIAS: &str = "layer.0.SelfAttention.relative_attention_bias.weight";

impl T5 {
    fn new(config: Config, c: &Checkpoint) -> Result<Self> {
        if config.feed_forward_proj != "gated-gelu" {
            let found = &config.feed_forward_proj;
            return Err(Error::failed(format!(
                "T5: feed_forward_proj is {found:?}; only gated-gelu (v1.1) is supported"
            )));
        }
        let max_distance = config.relative_attention_max_distance;
        if !(1..=1 << 16).contains(&max_distance) {
            return Err(Error::failed(format!(
                "T5: relative_attention_max_distance is {max_distance}; it must be 1 to 65536"
            )));
        }
        let [inner_dim, hidden_size] = shape(c, &format!("{FIRST}.q.weight"))?;
        let [buckets, heads] = shape(c, &format!("{FIRST}.relative_attention_bias.weight"))?;
        if buckets < 4 || max_distance <= buckets / 4 {
            let origin = c.origin().display();
            return Err(Error::failed(format!(
                "{origin}: {buckets} buckets for distances up to {max_distance}; expected at least 4 buckets, and a maximum \
                 distance above a quarter of them"
            )));
        }
        let [ffn_dim, _] = shape(c, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")?;
        let layers = count(c, "encoder.block")?;
        let bias_per_block = c.contains(&format!("encoder.block.1.{BIAS}"));
        Ok(Self { config, hidden_size, inner_dim, heads, ffn_dim, buckets, layers, bias_per_block })
    }

    fn block(&self, w: &Scope, x: &Value, how: &Attention) -> Value {
        let eps = self.config.layer_norm_epsilon;
        let attn = w.at("0.SelfAttention");
        let h = w.at(0).rms_norm("layer_norm", x, eps);
        let [q, k, v] = ["q", "k", "v"].map(|p| attn.linear_no_bias(p, &h, self.inner_dim));
        let x = x + attn.linear_no_bias("o", &q.attention(&k, &v, self.heads, how), self.hidden_size);
        let mlp = w.at("1.DenseReluDense");
        let h = w.at(1).rms_norm("layer_norm", &x, eps);
        let gate = mlp.linear_no_bias("wi_0", &h, self.ffn_dim).gelu_tanh();
        &x + mlp.linear_no_bias("wo", &(gate * mlp.linear_no_bias("wi_1", &h, self.ffn_dim)), self.hidden_size)
    }

    /// [s, s], i64: bucket of the distance from each query to each key.
    fn distances(&self, w: &Scope, s: &Dim) -> Value {
        w.enter();
        let g = w.graph();
        let max = self.config.relative_attention_max_distance as i64;
        let table: Vec<i64> = (-max..=max).map(|d| self.bucket(d)).collect();
        let table = g.integers(&table, &[table.len()]);
        let position = g.range(s);
        let relative = position.unsqueeze(0) - position.unsqueeze(1);
        table.gather(&(relative.clip(-max as f32, max as f32) + max as f32))
    }

    /// [1, heads, s, s]: learned score per head and distance bucket.
    fn position_bias(&self, w: &Scope, buckets: &Value) -> Value {
        w.enter();
        let scores = w.at("relative_attention_bias").weight("weight", &[self.buckets, self.heads]);
        scores.gather(buckets).transpose(&[2, 0, 1]).unsqueeze(0)
    }

    /// Bucket of key − query: exact near zero, logarithmic up to the maximum distance. Half of the buckets are for keys after the query.
    fn bucket(&self, relative: i64) -> i64 {
        let half = self.buckets as i64 / 2;
        let exact = half / 2;
        let distance = relative.abs();
        let max = self.config.relative_attention_max_distance as f32;
        let near = if distance < exact {
            distance
        } else {
            // In f32 as in torch: rounding decides at bucket borders.
            let log = (distance as f32 / exact as f32).ln() / (max / exact as f32).ln() * (half - exact) as f32;
            (exact + log as i64).min(half - 1)
        };
        near + if relative > 0 { half } else { 0 }
    }
}

impl TextEncoder for T5 {
    /// Input `ids` [n, s], i64; output `states` [n, s, hidden_size] after the final norm. There is no mask: the caller passes only
    /// the tokens to attend.
    fn build(&self, w: &Scope, _: Option<HiddenStates>) -> Result<()> {
        let g = w.graph();
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let ids = g.input("ids", &[n, s.clone()], DType::I64);
        // Some files store the shared table twice.
        w.ignore("encoder.embed_tokens.weight");
        let mut x = w.embedding("shared", &ids, self.hidden_size);
        let blocks = w.at("encoder.block");
        let buckets = self.distances(&w.at(FIRST), &s);
        let mut how = Attention::default();
        for i in 0..self.layers {
            let w = blocks.at(i).at("layer");
            if i == 0 || self.bias_per_block {
                how = Attention::new(Some(self.position_bias(&w.at("0.SelfAttention"), &buckets)), Some(1.0));
            }
            x = self.block(&w, &x, &how);
        }
        g.output("states", &w.at("encoder").rms_norm("final_layer_norm", &x, self.config.layer_norm_epsilon));
        Ok(())
    }
}
