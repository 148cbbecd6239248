//! A checkpoint folder in diffusers' layout: `model_index.json` and one folder per component.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    files::read_text,
};

/// Key of `model_index.json` that says that the weights are random. diffusers ignores keys that begin with an underscore.
const RANDOM: &str = "_random_weights";
/// The largest number of a config.
const MAX_NUMBER: f64 = (1_u32 << 31) as f64;
/// The largest size of an attention head.
const MAX_HEAD: usize = 4096;

/// An opened folder. Only its index has been read.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    root: PathBuf,
    /// The pipeline's class: `FluxPipeline`.
    pub class: String,
    components: BTreeMap<String, String>,
    /// The index, for settings of the pipeline (`is_distilled`).
    pub index: Value,
}

impl ModelFolder {
    /// Reads `root/model_index.json`.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("model_index.json");
        if !path.exists() {
            let found = if root.is_dir() { "has no model_index.json" } else { "is not a folder" };
            let wanted =
                "a model is a folder in diffusers' layout, a hub repository or a short name (crescendo models list)";
            return Err(Error::failed(format!("{} {found}; {wanted}", root.display())));
        }
        let index: Value = read_json(&path)?;
        let class = index.get("_class_name").and_then(Value::as_str).map(str::to_string);
        let nameless = || {
            let shown = path.display();
            Error::failed(format!("{shown}: has no _class_name, so it is not a diffusers pipeline; download it again"))
        };
        let class = class.ok_or_else(nameless)?;
        let class_of = |v: &Value| v.as_array()?.get(1)?.as_str().map(str::to_string);
        let entries = index.as_object().into_iter().flatten();
        let components = entries.filter_map(|(name, v)| Some((name.clone(), class_of(v)?))).collect();
        Ok(Self { root: root.to_path_buf(), class, components, index })
    }

    /// The folder's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the index says that the weights are random. The outputs then have no meaning.
    pub fn has_random_weights(&self) -> bool {
        self.index.get(RANDOM).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Names and classes of the components, with scheduler and tokenizers.
    pub fn components(&self) -> impl Iterator<Item = (&str, &str)> {
        self.components.iter().map(|(n, c)| (n.as_str(), c.as_str()))
    }

    /// The class of a component.
    pub fn class_of(&self, component: &str) -> Result<&str> {
        self.components.get(component).map(String::as_str).ok_or_else(|| {
            let path = self.root.join("model_index.json");
            Error::failed(format!("{}: component {component} is missing, which {} needs", path.display(), self.class))
        })
    }

    /// The folder of a component.
    ///
    /// # Errors
    /// The folder is missing: the download is incomplete.
    pub fn path(&self, component: &str) -> Result<PathBuf> {
        self.class_of(component)?;
        let path = self.root.join(component);
        if path.is_dir() {
            return Ok(path);
        }
        Err(Error::failed(format!("{} is missing; the checkpoint is incomplete: download it again", path.display())))
    }

    /// A component's `config.json`. Errors: those of [`read_config`].
    pub fn config<T: DeserializeOwned>(&self, component: &str) -> Result<T> {
        read_config(&self.path(component)?.join("config.json"))
    }

    /// Checks a number of a config: memory is taken for it.
    ///
    /// # Errors
    /// A number outside of the range.
    pub(crate) fn check_range(&self, name: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        let (root, least, most) = (self.root.display(), range.start(), range.end());
        Err(Error::failed(format!("{root}: {name} is {value}, expected {least} to {most}; download the configs again")))
    }

    /// Checks the sizes of rotary axes, which are even.
    ///
    /// # Errors
    /// An odd size, or a sum that no attention head has.
    pub(crate) fn check_axes(&self, name: &str, axes: &[usize]) -> Result<()> {
        if axes.iter().all(|axis| axis.is_multiple_of(2)) && (2..=MAX_HEAD).contains(&axes.iter().sum()) {
            return Ok(());
        }
        let root = self.root.display();
        Err(Error::failed(format!(
            "{root}: {name} is {axes:?}, expected even sizes with a sum of 2 to {MAX_HEAD}; download the configs again"
        )))
    }
}

/// Reads a `config.json`.
///
/// # Errors
/// Those of [`read_json`]; a number above 2³¹, which no model has. Sums and products of two numbers therefore do not overflow.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let value: Value = read_json(path)?;
    let shown = path.display();
    if let Some(number) = largest(&value).filter(|number| *number > MAX_NUMBER) {
        return Err(Error::failed(format!("{shown}: {number} is too large for any model; download it again")));
    }
    serde_json::from_value(value).map_err(|e| Error::failed(format!("{shown}: {e}")))
}

/// The largest magnitude of a number in a document.
fn largest(value: &Value) -> Option<f64> {
    let most = |all: &mut dyn Iterator<Item = &Value>| all.filter_map(largest).reduce(f64::max);
    match value {
        Value::Number(number) => number.as_f64().map(f64::abs),
        Value::Array(list) => most(&mut list.iter()),
        Value::Object(map) => most(&mut map.values()),
        _ => None,
    }
}

/// Reads a JSON file. Errors name the file and the field.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = read_text(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::failed(format!("{shown} is missing; the checkpoint is incomplete: download it again"))
        }
        _ => Error::io("reading", path, &e),
    })?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| Error::failed(format!("{shown}: is not JSON ({e}); download it again")))?;
    serde_json::from_value(value).map_err(|e| Error::failed(format!("{shown}: {e}")))
}
