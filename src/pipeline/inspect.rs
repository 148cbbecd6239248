//! What a file or folder is.

use std::path::Path;

use serde::Serialize;

use crate::{
    compile::{self, Identity},
    error::Result,
    family::ModelFolder,
};

/// What `inspect` tells.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Inspection {
    /// Weights: one network.
    Weights(Identity),
    /// A folder in diffusers' layout.
    Model(ModelInspection),
}

/// A folder in diffusers' layout.
#[derive(Debug, Clone, Serialize)]
pub struct ModelInspection {
    /// `model`
    pub kind: &'static str,
    /// The pipeline's class.
    pub architecture: String,
    /// Elements of all weights.
    pub parameters: u64,
    /// The transformer's element type.
    pub dtype: String,
    /// Each component's weights.
    pub components: std::collections::BTreeMap<String, Identity>,
}

/// Reads headers and configs; no weights.
pub fn inspect(path: &Path) -> Result<Inspection> {
    if !path.join("model_index.json").exists() {
        return compile::identify(path).map(Inspection::Weights);
    }
    let folder = ModelFolder::open(path)?;
    let mut components = std::collections::BTreeMap::new();
    for (name, class) in folder.components() {
        if class.ends_with("Scheduler") || class.contains("Tokenizer") {
            continue;
        }
        components.insert(name.to_string(), compile::identify(&folder.path(name)?)?);
    }
    Ok(Inspection::Model(ModelInspection {
        kind: "model",
        architecture: folder.class.clone(),
        parameters: components.values().map(|c| c.parameters).sum(),
        dtype: components.get("transformer").map(|c| c.dtype.clone()).unwrap_or_default(),
        components,
    }))
}
