//! One file per DiT family: prompt format, latent layout, noise schedule, guidance, inputs and output of the transformer.
//!
//! `interface.rs` has the traits that a family implements. To add a family, add a file with a `FAMILY` descriptor, and here its
//! `mod` line and its line in `REGISTRY`.

mod flux;
mod flux2;
mod interface;
mod qwen_image;
mod wan;
mod z_image;

pub use interface::{
    Conditioning, Convention, Defaults, Family, GuidanceRequest, LatentLayout, Overrides, Sampling, Size, TextCall,
    TextConditioning, TransformerIo,
};

use interface::Descriptor;

use crate::{
    error::{Error, Result},
    model::{ModelFolder, read_json},
};

/// Every family.
const REGISTRY: &[Descriptor] = &[
    flux2::FAMILY, // one line per family
    flux::FAMILY,
    qwen_image::FAMILY,
    wan::FAMILY,
    z_image::FAMILY,
];

/// Opens a checkpoint folder with the family of its pipeline class. Reads configs and tokenizers, but no weights.
///
/// # Errors
/// An unknown pipeline class, a broken config, or an override that the family does not support.
pub fn open(folder: &ModelFolder, overrides: &Overrides) -> Result<Box<dyn Family>> {
    check_scheduler(folder)?;
    let class = folder.class.as_str();
    match REGISTRY.iter().find(|family| family.pipelines.contains(&class)) {
        Some(family) => (family.open)(folder, overrides),
        None => {
            let known: Vec<&str> = REGISTRY.iter().flat_map(|family| family.pipelines).copied().collect();
            let (root, known) = (folder.root().display(), known.join(", "));
            Err(Error::failed(format!("{root}: unsupported pipeline class {class:?}; supported: {known}")))
        }
    }
}

/// The index and the scheduler's config must name the same class. If they differ, the class that the weights were trained for is
/// unknown.
fn check_scheduler(folder: &ModelFolder) -> Result<()> {
    let Ok(indexed) = folder.class_of("scheduler") else { return Ok(()) };
    let path = folder.path("scheduler")?.join("scheduler_config.json");
    let config: serde_json::Value = read_json(&path)?;
    match config.get("_class_name").and_then(serde_json::Value::as_str) {
        Some(own) if own != indexed => {
            let (path, hint) = (path.display(), "download both again");
            Err(Error::failed(format!("{path}: _class_name is {own}, but model_index.json says {indexed}; {hint}")))
        }
        _ => Ok(()),
    }
}
