//! Runs a text encoder.

use crate::{
    error::{Error, Result},
    family::TextCall,
    runtime::{Network, finite},
    tensor::Tensor,
};

/// Runs one call of a text encoder and returns the output that the call names.
///
/// # Errors
/// Those of the network; a missing output; values that are not finite.
pub fn encode(network: &mut Network, call: &TextCall) -> Result<Tensor> {
    let inputs: Vec<(&str, &Tensor)> = call.inputs.iter().map(|(name, t)| (*name, t)).collect();
    let output = network.run(&inputs)?.into_iter().find(|(name, _)| name == call.output);
    let (name, tensor) =
        output.ok_or_else(|| Error::failed(format!("{}: no output {}", network.name(), call.output)))?;
    finite(&format!("{} {name}", network.name()), &tensor)?;
    Ok(tensor)
}
