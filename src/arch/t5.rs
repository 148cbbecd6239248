//! The encoders of T5 v1.1 (arXiv:1910.10683, arXiv:2002.05202) and UMT5 (arXiv:2304.09151), as transformers 5.23
//! `models/t5/modeling_t5.py` and `models/umt5/modeling_umt5.py`.

use serde::Deserialize;

use super::{count, shape};
use crate::{
    error::{Error, Result},
    onnx::{Attention, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Beyond this distance all positions share one bucket.
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in norms.
    #[serde(default = "eps")]
    pub layer_norm_epsilon: f32,
    /// Must be `gated-gelu`.
    #[serde(default)]
    pub feed_forward_proj: String,
}

fn max_distance() -> usize {
    128
}

fn eps() -> f32 {
    1e-6
}

/// The network's extents.
#[derive(Debug, Clone)]
pub struct T5 {
    config: Config,
    /// Width of the states.
    pub width: usize,
    inner: usize,
    heads: usize,
    mlp: usize,
    buckets: usize,
    layers: usize,
    /// Whether every block scores distances by itself (UMT5).
    own_bias: bool,
}

const FIRST: &str = "encoder.block.0.layer.0.SelfAttention";
const BIAS: &str = "layer.0.SelfAttention.relative_attention_bias.weight";

impl T5 {
    /// Reads the extents from the weights.
    pub fn detect(config: Config, c: &Checkpoint) -> Result<Self> {
        if config.feed_forward_proj != "gated-gelu" {
            let found = &config.feed_forward_proj;
            return Err(Error::failed(format!("T5: feed_forward_proj is {found:?}; only gated-gelu (v1.1) is known")));
        }
        let far = config.relative_attention_max_distance;
        if !(1..=1 << 16).contains(&far) {
            return Err(Error::failed(format!("T5: relative_attention_max_distance is {far}; it must be 1 to 65536")));
        }
        let [inner, width] = shape(c, &format!("{FIRST}.q.weight"))?;
        let [buckets, heads] = shape(c, &format!("{FIRST}.relative_attention_bias.weight"))?;
        if buckets < 4 || far <= buckets / 4 {
            let origin = c.origin().display();
            let wanted = "at least 4 buckets, a quarter of them below the greatest distance";
            return Err(Error::failed(format!(
                "{origin}: {buckets} buckets of distances up to {far}; T5 has {wanted}"
            )));
        }
        let [mlp, _] = shape(c, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")?;
        let layers = count(c, "encoder.block")?;
        let own_bias = c.contains(&format!("encoder.block.1.{BIAS}"));
        Ok(Self { config, width, inner, heads, mlp, buckets, layers, own_bias })
    }

    /// Input `ids` [n, s], i64; output `states` [n, s, width] after the final norm. No mask: what is not to be
    /// attended is not given.
    pub fn build(&self, w: &Scope) {
        let g = w.graph();
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let ids = g.input("ids", &[n, s.clone()], DType::I64);
        // Some files repeat the shared table under the encoder's name.
        w.ignore("encoder.embed_tokens.weight");
        let mut x = w.embedding("shared", &ids, self.width);
        let blocks = w.at("encoder.block");
        let buckets = self.distances(&w.at(FIRST), &s);
        let mut how = Attention::default();
        for i in 0..self.layers {
            let w = blocks.at(i).at("layer");
            if i == 0 || self.own_bias {
                how = Attention::new(Some(self.position_bias(&w.at("0.SelfAttention"), &buckets)), Some(1.0));
            }
            x = self.block(&w, &x, &how);
        }
        g.output("states", &w.at("encoder").rms_norm("final_layer_norm", &x, self.config.layer_norm_epsilon));
    }

    fn block(&self, w: &Scope, x: &Value, how: &Attention) -> Value {
        let eps = self.config.layer_norm_epsilon;
        let attn = w.at("0.SelfAttention");
        let h = w.at(0).rms_norm("layer_norm", x, eps);
        let [q, k, v] = ["q", "k", "v"].map(|p| attn.linear_no_bias(p, &h, self.inner));
        let x = x + attn.linear_no_bias("o", &q.attention(&k, &v, self.heads, how), self.width);
        let mlp = w.at("1.DenseReluDense");
        let h = w.at(1).rms_norm("layer_norm", &x, eps);
        let gate = mlp.linear_no_bias("wi_0", &h, self.mlp).gelu_tanh();
        &x + mlp.linear_no_bias("wo", &(gate * mlp.linear_no_bias("wi_1", &h, self.mlp)), self.width)
    }

    /// [s, s], i64: the bucket of every query's distance to every key.
    fn distances(&self, w: &Scope, s: &Dim) -> Value {
        w.enter();
        let g = w.graph();
        let reach = self.config.relative_attention_max_distance as i64;
        let table: Vec<i64> = (-reach..=reach).map(|d| self.bucket(d)).collect();
        let table = g.integers(&table, &[table.len()]);
        let position = g.range(s);
        let relative = position.unsqueeze(0) - position.unsqueeze(1);
        table.gather(&(relative.clip(-reach as f32, reach as f32) + reach as f32))
    }

    /// [1, heads, s, s]: a learned score per head and bucket of distance; T5 has it in block 0, for all blocks.
    fn position_bias(&self, w: &Scope, buckets: &Value) -> Value {
        w.enter();
        let scores = w.at("relative_attention_bias").weight("weight", &[self.buckets, self.heads]);
        scores.gather(buckets).transpose(&[2, 0, 1]).unsqueeze(0)
    }

    /// The bucket of key − query: exact near zero, logarithmic up to the greatest distance; half of them for keys ahead.
    fn bucket(&self, relative: i64) -> i64 {
        let half = self.buckets as i64 / 2;
        let exact = half / 2;
        let distance = relative.abs();
        let reach = self.config.relative_attention_max_distance as f32;
        let near = if distance < exact {
            distance
        } else {
            // f32 as in torch: the rounding decides at the borders of buckets.
            let log = (distance as f32 / exact as f32).ln() / (reach / exact as f32).ln() * (half - exact) as f32;
            (exact + log as i64).min(half - 1)
        };
        near + if relative > 0 { half } else { 0 }
    }
}
