//! Choices that depend on the components of a diffusers folder: the subgraph to build, and the type of the noise.

use crate::{
    compile::Subgraph,
    error::{Error, Result},
    family::{Family, GuidanceRequest},
    model::ModelFolder,
    tensor::DType,
    weights::Checkpoint,
};

/// The subgraph of a component that a family needs: of a decoder language model, the hidden states that the family reads;
/// otherwise `default`.
pub(crate) fn subgraph_of(family: &dyn Family, component: &str, default: Subgraph) -> Subgraph {
    match family.hidden_states() {
        Some(states) if component == "text_encoder" => Subgraph::HiddenStates(states),
        _ => default,
    }
}

/// The model's name in metadata.
pub(crate) fn model_name<'a>(folder: &ModelFolder, family: &'a dyn Family) -> &'a str {
    if folder.has_random_weights() { "demo (random weights)" } else { family.name() }
}

/// Warns if a checkpoint says that its weights are random. `flag` is the flag that names another.
pub(crate) fn warn_of_random_weights(folder: &ModelFolder, flag: &str) {
    if folder.has_random_weights() {
        let root = folder.root().display();
        tracing::warn!("{root} has random weights: outputs have no meaning; give a trained model with {flag}");
    }
}

/// Whether the guidance scale of a request changes the guidance.
pub(crate) fn uses_guidance_scale(family: &dyn Family, request: GuidanceRequest) -> bool {
    let guidance = |scale| family.guidance(GuidanceRequest { scale: Some(scale), ..request }).ok();
    guidance(1.0) != guidance(4.0)
}

/// The type that noise is drawn in: `dtype`, or that of the transformer's weights, in which the reference pipeline runs.
pub(crate) fn noise_dtype(dtype: Option<DType>, folder: &ModelFolder) -> Result<DType> {
    match dtype {
        Some(DType::F16) => {
            return Err(Error::usage("--dtype f16: no published model draws its noise in f16; bf16 or f32"));
        }
        Some(dtype) => return Ok(dtype),
        None => {}
    }
    let weights = Checkpoint::open(&folder.path("transformer")?)?;
    let bf16 = weights.dtypes().into_iter().max_by_key(|(_, n)| *n).is_some_and(|(d, _)| d == DType::BF16);
    Ok(if bf16 { DType::BF16 } else { DType::F32 })
}
