//! Which weight a value that is not finite comes from.

use std::path::Path;

use crate::{error::Error, error::Kind, weights::Checkpoint};

/// Ends an error about a network's values that are not finite with the damaged tensor of its checkpoint, or with that there
/// is none. Other errors stay as they are. Reads all weights.
pub fn blame(weights: &Path) -> impl Fn(Error) -> Error + '_ {
    move |error| {
        if error.kind() != Kind::NonFinite {
            return error;
        }
        let place = weights.display();
        match Checkpoint::open(weights).and_then(|c| c.non_finite()) {
            Ok(Some(name)) => {
                error.because(format!("tensor {name} of {place} holds a NaN or an infinity; download it again"))
            }
            Ok(None) => error.because(format!("all weights of {place} are finite")),
            // Graphs made elsewhere are no checkpoints.
            Err(_) => error,
        }
    }
}
