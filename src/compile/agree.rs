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

const FLUX2: &[(&str, Told)] = &[
    ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
    ("guidance_embeds", Present("time_guidance_embed.guidance_embedder.")),
    ("in_channels", Extent("x_embedder.weight", 1)),
    ("joint_attention_dim", Extent("context_embedder.weight", 1)),
    ("num_layers", Count("transformer_blocks")),
    ("num_single_layers", Count("single_transformer_blocks")),
    ("timestep_guidance_channels", Extent("time_guidance_embed.timestep_embedder.linear_1.weight", 1)),
];

const QWEN_IMAGE: &[(&str, Told)] = &[
    ("attention_head_dim", Extent("transformer_blocks.0.attn.norm_q.weight", 0)),
    ("in_channels", Extent("img_in.weight", 1)),
    ("joint_attention_dim", Extent("txt_norm.weight", 0)),
    ("num_layers", Count("transformer_blocks")),
];

const WAN: &[(&str, Told)] = &[
    ("ffn_dim", Extent("blocks.0.ffn.net.0.proj.weight", 0)),
    ("freq_dim", Extent("condition_embedder.time_embedder.linear_1.weight", 1)),
    ("in_channels", Extent("patch_embedding.weight", 1)),
    ("num_layers", Count("blocks")),
    ("text_dim", Extent("condition_embedder.text_embedder.linear_1.weight", 1)),
];

const Z_IMAGE: &[(&str, Told)] = &[
    ("cap_feat_dim", Extent("cap_embedder.0.weight", 0)),
    ("dim", Extent("cap_pad_token", 1)),
    ("n_layers", Count("layers")),
    ("n_refiner_layers", Count("noise_refiner")),
];

const DECODER_LM: &[(&str, Told)] = &[
    ("hidden_size", Extent("embed_tokens.weight", 1)),
    ("intermediate_size", Extent("layers.0.mlp.up_proj.weight", 0)),
    ("num_hidden_layers", Count("layers")),
    ("vocab_size", Extent("embed_tokens.weight", 0)),
];

const VAE: &[(&str, Told)] = &[("latent_channels", Extent("decoder.conv_in.weight", 1))];

const VAE_WAN: &[(&str, Told)] =
    &[("base_dim", Extent("decoder.conv_out.weight", 1)), ("z_dim", Extent("decoder.conv_in.weight", 1))];

/// Where language models keep their layers, alone and beside a vision model.
const LM_PREFIXES: &[&str] = &["", "model.", "language_model.model.", "model.language_model.", "language_model."];

/// A class's table, and the prefixes under which its tensors may stand.
fn table(class: &str) -> (&'static [(&'static str, Told)], &'static [&'static str]) {
    match class {
        "AutoencoderKL" | "AutoencoderKLFlux2" => (VAE, &[""]),
        "AutoencoderKLQwenImage" | "AutoencoderKLWan" => (VAE_WAN, &[""]),
        "CLIPTextModel" => (CLIP, &[""]),
        "Flux2Transformer2DModel" => (FLUX2, &[""]),
        "FluxTransformer2DModel" => (FLUX, &[""]),
        "Mistral3ForConditionalGeneration"
        | "Qwen2_5_VLForConditionalGeneration"
        | "Qwen3ForCausalLM"
        | "Qwen3Model" => (DECODER_LM, LM_PREFIXES),
        "QwenImageTransformer2DModel" => (QWEN_IMAGE, &[""]),
        "T5EncoderModel" | "UMT5EncoderModel" => (T5, &[""]),
        "WanTransformer3DModel" => (WAN, &[""]),
        "ZImageTransformer2DModel" => (Z_IMAGE, &[""]),
        _ => (&[], &[]),
    }
}

/// An error that names every entry of `config` that the weights contradict. Entries that are not there or null are not looked at;
/// a model of text and pictures keeps those of its text under `text_config`.
pub fn agree(class: &str, config: &Value, c: &Checkpoint) -> Result<()> {
    let (table, prefixes) = table(class);
    let config = config.get("text_config").filter(|_| prefixes.len() > 1).unwrap_or(config);
    let extent = |name: &str, axis: usize| {
        let tensor = prefixes.iter().find_map(|p| c.get(&format!("{p}{name}")))?;
        tensor.shape.get(axis).map(|&n| Value::from(n))
    };
    let count = |list: &str| prefixes.iter().find_map(|p| c.sequence_len(&format!("{p}{list}"))).map(Value::from);
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(key, told)| {
            let said = config.get(*key).filter(|v| !v.is_null())?;
            let found = match told {
                Extent(name, axis) => extent(name, *axis)?,
                Count(list) => count(list)?,
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
