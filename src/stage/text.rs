//! Prompts → states.

use crate::{
    error::{Error, Result},
    family::TextCall,
    runtime::{Network, finite},
    tensor::Tensor,
};

/// Runs one call of a text encoder.
pub fn encode(network: &mut Network, call: &TextCall) -> Result<Tensor> {
    let inputs: Vec<(&str, &Tensor)> = call.inputs.iter().map(|(name, t)| (*name, t)).collect();
    let answers = network.run(&inputs)?;
    let wanted = answers.into_iter().find(|(name, _)| name == call.output);
    let (name, tensor) =
        wanted.ok_or_else(|| Error::failed(format!("{}: no output {}", network.name(), call.output)))?;
    finite(&format!("{} {name}", network.name()), &tensor)?;
    Ok(tensor)
}
