//! CLIP's text transformer (arXiv:2103.00020 §2.4), as `CLIPTextModel` of transformers 5.23 `models/clip/modeling_clip.py`.

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

/// CLIP.
pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "CLIPTextModel",
    classes: &["CLIPTextModel"],
    detect: |c| c.contains("text_model.embeddings.position_embedding.weight"),
    config: ConfigChecks::new(&[
        ("hidden_size", Extent("text_model.embeddings.position_embedding.weight", 1)),
        ("max_position_embeddings", Extent("text_model.embeddings.position_embedding.weight", 0)),
        ("num_hidden_layers", Count("text_model.encoder.layers")),
    ]),
    network: NetworkKind::TextEncoder(|c| Ok(Box::new(Clip::new(c.config()?, c.weights)?))),
};

/// Entries of `config.json` that the shapes do not determine.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    num_attention_heads: usize,
    /// `quick_gelu` or `gelu`.
    hidden_act: String,
    #[serde(default = "eps")]
    layer_norm_eps: f32,
}

fn eps() -> f32 {
    1e-5
}

/// Dimensions of the network.
struct Clip {
    config: Config,
    /// Longest text in tokens.
    positions: usize,
    hidden_size: usize,
    intermediate_size: usize,
    layers: usize,
}

impl Clip {
    fn new(config: Config, c: &Checkpoint) -> Result<Self> {
        let [positions, hidden_size] = shape(c, "text_model.embeddings.position_embedding.weight")?;
        let [intermediate_size] = shape(c, "text_model.encoder.layers.0.mlp.fc1.bias")?;
        let layers = count(c, "text_model.encoder.layers")?;
        if config.hidden_act != "quick_gelu" && config.hidden_act != "gelu" {
            let act = &config.hidden_act;
            return Err(Error::failed(format!("CLIP: hidden_act is {act}; expected quick_gelu or gelu")));
        }
        Ok(Self { config, positions, hidden_size, intermediate_size, layers })
    }

    fn layer(&self, w: &Scope, x: &Value, how: &Attention) -> Value {
        let eps = self.config.layer_norm_eps;
        let h = w.layer_norm("layer_norm1", x, eps);
        let attn = w.at("self_attn");
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|p| attn.linear(p, &h, self.hidden_size));
        let mixed = q.attention(&k, &v, self.config.num_attention_heads, how);
        let x = x + attn.linear("out_proj", &mixed, self.hidden_size);
        let h = w.at("mlp").linear("fc1", &w.layer_norm("layer_norm2", &x, eps), self.intermediate_size);
        let h = if self.config.hidden_act == "quick_gelu" { h.quick_gelu() } else { h.gelu() };
        &x + w.at("mlp").linear("fc2", &h, self.hidden_size)
    }
}

impl TextEncoder for Clip {
    /// Inputs `ids` [n, s] and `end` `[n]`, the position of each text's end token, i64. Outputs `states` [n, s, hidden_size], after
    /// the final norm, and `pooled` [n, hidden_size], the hidden state at `end`.
    fn build(&self, w: &Scope, _: Option<HiddenStates>) -> Result<()> {
        let g = w.graph();
        let (n, s) = (Dim::symbol("n"), Dim::symbol("s"));
        let (ids, end) = (g.input("ids", &[n.clone(), s.clone()], DType::I64), g.input("end", &[n], DType::I64));
        let w = &w.at("text_model");
        w.ignore("embeddings.position_ids");
        let positions = w.at("embeddings.position_embedding").weight("weight", &[self.positions, self.hidden_size]);
        let mut x = w.at("embeddings").embedding("token_embedding", &ids, self.hidden_size) + positions.slice(0, 0, &s);
        let causal = Attention::causal(g, &s);
        for i in 0..self.layers {
            x = self.layer(&w.at("encoder.layers").at(i), &x, &causal);
        }
        let hidden_states = w.layer_norm("final_layer_norm", &x, self.config.layer_norm_eps);
        g.output("states", &hidden_states);
        g.output("pooled", &hidden_states.gather_rows(&end));
        Ok(())
    }
}
