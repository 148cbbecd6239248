//! Finds the models that a request names.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use super::shared::Shared;
use crate::{
    catalog,
    error::{At, Error, Result},
    hub::{Hub, Need, Outline},
    plan::{BUILT_IN, Model},
    progress::Progress,
};

/// Finds the models that a request names, and downloads those that are not cached. For `plan`, it downloads no weights.
pub(crate) struct Models<'a> {
    hub: Hub<'a>,
    /// Whether configs and headers of weights are enough (`plan`).
    configs_only: bool,
    /// See [`Models::downloads`].
    downloads: Cell<Downloads>,
}

/// Bytes that a run downloads first. `None`: unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Downloads {
    /// Of diffusion models.
    pub models: Option<u64>,
    /// Of interpolation and upscaling networks.
    pub networks: Option<u64>,
}

impl Downloads {
    /// The sum.
    pub(crate) fn total(self) -> Option<u64> {
        plus(self.models, self.networks)
    }
}

fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a + b)
}

impl<'a> Models<'a> {
    /// `configs_only`: for `plan`, which reads no weights.
    pub(crate) fn new(shared: &Shared, progress: &'a dyn Progress, configs_only: bool) -> Self {
        let downloads = Downloads { models: Some(0), networks: Some(0) };
        Self { hub: Hub::from_env(shared.offline, progress), configs_only, downloads: Cell::new(downloads) }
    }

    /// The folder of a diffusion model. `name` `None`: the built-in demo model. `flag` is for messages.
    pub(crate) fn folder(&self, name: Option<&str>, flag: &str) -> Result<Model> {
        let Some(name) = name else { return demo(flag) };
        if !self.configs_only {
            return self.hub.resolve(name, Need::Model).at(flag).map(|path| model(name, path));
        }
        let outline = self.hub.outline(name).at(flag)?;
        let known = self.downloads.get();
        self.downloads.set(Downloads { models: plus(known.models, outline.download), ..known });
        Ok(outlined(name, outline))
    }

    /// The file of an interpolation or upscaling network. `flag` is for messages.
    pub(crate) fn file(&self, name: &str, flag: &str) -> Result<Model> {
        if !self.configs_only {
            return self.hub.resolve(name, Need::File).at(flag).map(|path| model(name, path));
        }
        let outline = self.hub.network_outline(name).at(flag)?;
        let known = self.downloads.get();
        self.downloads.set(Downloads { networks: plus(known.networks, outline.download), ..known });
        Ok(outlined(name, outline))
    }

    /// Bytes that a run downloads first, of the models found so far.
    pub(crate) fn downloads(&self) -> Downloads {
        self.downloads.get()
    }
}

fn outlined(name: &str, outline: Outline) -> Model {
    Model { configs_only: !outline.has_headers, ..model(name, outline.path) }
}

fn model(name: &str, path: PathBuf) -> Model {
    Model { name: name.into(), known: catalog::find(name).map(|e| e.id.as_str()), path, configs_only: false }
}

/// Path of the built-in demo model in a folder of models.
const DEMO: &str = "demo/flux1-tiny";
/// Path of the 2x upscaler that ships in a folder of models.
const UPSCALER: &str = "demo/srvgg-x2.safetensors";

/// The places of a file that ships: `$CRESCENDO_MODELS` if that is set, else beside the binary and in the source tree.
fn shipped(file: &str) -> Vec<PathBuf> {
    let binary = std::env::current_exe().ok();
    let beside = |tail: &str| binary.as_deref().and_then(Path::parent).map(|folder| folder.join(tail));
    // A wrong CRESCENDO_MODELS is an error, not skipped.
    let folders = match std::env::var_os("CRESCENDO_MODELS") {
        Some(folder) => vec![Some(folder.into())],
        None => vec![
            beside("models"),
            beside("../share/crescendo/models"),
            Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("models")),
        ],
    };
    folders.into_iter().flatten().map(|folder: PathBuf| folder.join(file)).collect()
}

/// The 2x upscaler that ships.
pub(crate) fn shipped_upscaler() -> Option<PathBuf> {
    shipped(UPSCALER).into_iter().find(|path| path.is_file())
}

/// The built-in demo model.
fn demo(flag: &str) -> Result<Model> {
    let locations = shipped(DEMO);
    match locations.iter().find(|folder| folder.join("model_index.json").is_file()) {
        Some(path) => Ok(Model { name: BUILT_IN.into(), path: path.clone(), ..Model::default() }),
        None => Err(Error::failed(format!(
            "no {flag} was given and the built-in demo model is not at {}; name a model, or set CRESCENDO_MODELS to the folder that holds {DEMO}",
            locations.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}
