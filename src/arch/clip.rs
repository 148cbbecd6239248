//! CLIP's text transformer (arXiv:2103.00020 §2.4), as `CLIPTextModel` of transformers 5.23 `models/clip/modeling_clip.py`.

use serde::Deserialize;

use super::{count, shape};
use crate::{
    error::Result,
    onnx::{Attention, Dim, Scope, Value},
    tensor::DType,
    weights::Checkpoint,
};

/// What `config.json` says that the shapes do not.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Attention heads.
    pub num_attention_heads: usize,
    /// `quick_gelu` or `gelu`.
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    #[serde(default = "eps")]
    pub layer_norm_eps: f32,
    /// 2 in older configs: the end of a text is then its largest token id.
    #[serde(default)]
    pub eos_token_id: i64,
}

fn eps() -> f32 {
    1e-5
}

/// The network's extents.
#[derive(Debug, Clone)]
pub struct Clip {
    config: Config,
    /// Longest text in tokens.
    pub positions: usize,
    /// Width of the states.
    pub width: usize,
    mlp: usize,
    layers: usize,
}

impl Clip {
    /// Reads the extents from the weights.
    pub fn detect(config: Config, c: &Checkpoint) -> Result<Self> {
        let [positions, width] = shape(c, "text_model.embeddings.position_embedding.weight")?;
        let [mlp] = shape(c, "text_model.encoder.layers.0.mlp.fc1.bias")?;
        let layers = count(c, "text_model.encoder.layers")?;
        if config.hidden_act != "quick_gelu" && config.hidden_act != "gelu" {
            let act = &config.hidden_act;
            return Err(crate::Error::failed(format!("CLIP: hidden_act is {act}; quick_gelu and gelu are known")));
        }
        Ok(Self { config, positions, width, mlp, layers })
    }

    /// Inputs `ids` [n, s] and `end` `[n]` (the place of each text's end token), i64; outputs `states` [n, s, width], all after
    /// the final norm, and `pooled` [n, width], the state at `end`.
    pub fn build(&self, w: &Scope) {
        let g = w.graph();
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let (ids, end) = (g.input("ids", &[n.clone(), s.clone()], DType::I64), g.input("end", &[n], DType::I64));
        let w = &w.at("text_model");
        w.ignore("embeddings.position_ids");
        let positions = w.at("embeddings.position_embedding").weight("weight", &[self.positions, self.width]);
        let mut x = w.at("embeddings").embedding("token_embedding", &ids, self.width) + positions.slice(0, 0, &s);
        let causal = Attention::causal(g, &s);
        for i in 0..self.layers {
            x = self.layer(&w.at("encoder.layers").at(i), &x, &causal);
        }
        let states = w.layer_norm("final_layer_norm", &x, self.config.layer_norm_eps);
        g.output("states", &states);
        g.output("pooled", &states.gather_rows(&end));
    }

    fn layer(&self, w: &Scope, x: &Value, how: &Attention) -> Value {
        let eps = self.config.layer_norm_eps;
        let h = w.layer_norm("layer_norm1", x, eps);
        let attn = w.at("self_attn");
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|p| attn.linear(p, &h, self.width));
        let mixed = q.attention(&k, &v, self.config.num_attention_heads, how);
        let x = x + attn.linear("out_proj", &mixed, self.width);
        let h = w.at("mlp").linear("fc1", &w.layer_norm("layer_norm2", &x, eps), self.mlp);
        let h = if self.config.hidden_act == "quick_gelu" { h.quick_gelu() } else { h.gelu() };
        &x + w.at("mlp").linear("fc2", &h, self.width)
    }
}
