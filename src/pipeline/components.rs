//! Choices that depend on the components of a diffusers folder: the subgraph to build, and the type of the noise.

use crate::{
    compile::Subgraph,
    error::{Error, Result},
    family::Family,
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
