//! Whether a component's `config.json` describes the weights beside it.
//!
//! Networks are built from the weights' shapes. A config that tells another story belongs to other weights, and whoever reads
//! it would be misled.

use serde_json::Value;

use crate::{
    error::{Error, Result},
    weights::Checkpoint,
};

/// Where the weights tell what a config's entry says.
enum Told {
    /// The extent of a tensor along an axis.
    Extent(&'static str, usize),
    /// The number of entries of a list of modules.
    Count(&'static str),
    /// Whether there are tensors under a prefix.
    Present(&'static str),
}

use Told::{Count, Extent, Present};

const CLIP: &[(&str, Told)] = &[
    ("hidden_size", Extent("text_model.embeddings.position_embedding.weight", 1)),
    ("max_position_embeddings", Extent("text_model.embeddings.position_embedding.weight", 0)),
    ("num_hidden_layers", Count("text_model.encoder.layers")),
];

const T5: &[(&str, Told)] = &[
    ("d_model", Extent("encoder.block.0.layer.0.SelfAttention.q.weight", 1)),
    ("num_heads", Extent("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 1)),
    ("num_layers", Count("encoder.block")),
    (
        "relative_attention_num_buckets",
        Extent("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 0),
    ),
];

const FLUX: &[(&str, Told)] = &[
    ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
    ("guidance_embeds", Present("time_text_embed.guidance_embedder.")),
    ("in_channels", Extent("x_embedder.weight", 1)),
    ("joint_attention_dim", Extent("context_embedder.weight", 1)),
    ("num_layers", Count("transformer_blocks")),
    ("num_single_layers", Count("single_transformer_blocks")),
    ("pooled_projection_dim", Extent("time_text_embed.text_embedder.linear_1.weight", 1)),
];

const VAE: &[(&str, Told)] = &[("latent_channels", Extent("decoder.conv_in.weight", 1))];

/// An error that names every entry of `config` that the weights contradict. Entries that are not there or null are not looked at.
pub fn agree(class: &str, config: &Value, c: &Checkpoint) -> Result<()> {
    let table = match class {
        "CLIPTextModel" => CLIP,
        "T5EncoderModel" => T5,
        "FluxTransformer2DModel" => FLUX,
        "AutoencoderKL" => VAE,
        _ => &[],
    };
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(key, told)| {
            let said = config.get(*key).filter(|v| !v.is_null())?;
            let found = match told {
                Extent(name, axis) => Value::from(*c.get(name)?.shape.get(*axis)?),
                Count(prefix) => Value::from(c.sequence_len(prefix)?),
                Present(prefix) => Value::from(c.names().any(|n| n.starts_with(prefix))),
            };
            (*said != found).then(|| format!("{key} is {said} and the weights have {found}"))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (place, wrong) = (c.origin().display(), wrong.join(", "));
    Err(Error::failed(format!("{place}: config.json is of other weights: {wrong}; download both again")))
}
