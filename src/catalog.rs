//! The catalogue of known models: the files of `models/`, built into the program.
//!
//! One TOML file per released checkpoint, named after its id:
//!
//! | key | |
//! |---|---|
//! | `id` | the short name, as in `--model-path flux1-dev`; also the file's name |
//! | `aliases` | other short names |
//! | `title` | the name that its authors use |
//! | `kind` | `diffusion`, `interpolation` or `upscaling` |
//! | `family` | the architecture or family: `flux1`, `flux2`, `wan`, `z-image`, `qwen-image`, `rife`, `rrdbnet`, `srvgg` |
//! | `repo`, `revision`, `file` | repository on the hub, its revision (default `main`), the file of a single-file network |
//! | `url` | instead of `repo`: the URL of the file |
//! | `licence`, `gated` | SPDX id or the licence's name; whether its terms must be accepted on the hub first |
//! | `scale`, `pair` | factor of an upscaler; the id of the same network with weaker denoising |
//! | `[[components]]` | `name` (folder), `class`, `files` (weight files), `dtype`, `tensors`, `parameters`, `bytes` (of tensors, or of the file); unknown numbers are omitted |
//! | `[defaults]` | `height`, `width`, `frames`, `fps`, `steps`, `guidance_scale`, `true_cfg_scale`, `flow_shift`: those of diffusers |
//! | `[defaults.sglang]` | those of SGLang, where they differ |

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One known model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The short name.
    pub id: String,
    /// Other short names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The name that its authors use.
    pub title: String,
    /// Its task.
    pub kind: ModelKind,
    /// The architecture or family.
    pub family: String,
    /// `owner/name` on the hub.
    pub repo: Option<String>,
    /// Revision of the repository.
    #[serde(default = "main")]
    pub revision: String,
    /// The file of a single-file network in the repository.
    pub file: Option<String>,
    /// URL of the file, if it is not on the hub.
    pub url: Option<String>,
    /// SPDX id or the licence's name.
    pub licence: String,
    /// Whether terms must be accepted on the hub first.
    #[serde(default)]
    pub gated: bool,
    /// Factor of an upscaler.
    pub scale: Option<u32>,
    /// The id of the same network with weaker denoising (`--denoise-strength`).
    pub pair: Option<String>,
    /// Its networks.
    #[serde(default)]
    pub components: Vec<Component>,
    /// Sampling defaults.
    #[serde(default)]
    pub defaults: Defaults,
}

/// The task of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ModelKind {
    Diffusion,
    Interpolation,
    Upscaling,
}

/// One network of a model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Its folder; for a single-file network, its name.
    pub name: String,
    /// Its class in diffusers or transformers, or the architecture.
    pub class: String,
    /// Weight files.
    pub files: Option<u32>,
    /// Element type: `bf16`, `f32`.
    pub dtype: Option<String>,
    /// Tensors over all files.
    pub tensors: Option<u64>,
    /// Elements over all tensors.
    pub parameters: Option<u64>,
    /// Bytes of its tensors.
    pub bytes: Option<u64>,
}

/// Default sampling settings. Sizes are in pixels.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Defaults {
    pub height: Option<usize>,
    pub width: Option<usize>,
    pub frames: Option<usize>,
    pub fps: Option<f64>,
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub true_cfg_scale: Option<f64>,
    pub flow_shift: Option<f64>,
    /// Those of SGLang, where they differ.
    pub sglang: Option<Box<Defaults>>,
}

impl Entry {
    /// Bytes of all weights; `None` if one is unknown.
    pub fn bytes(&self) -> Option<u64> {
        if self.components.is_empty() { None } else { self.components.iter().map(|c| c.bytes).sum() }
    }
}

fn main() -> String {
    "main".into()
}

macro_rules! built_in {
    ($($id:literal)*) => { &[$(($id, include_str!(concat!("../models/", $id, ".toml")))),*] };
}

const FILES: &[(&str, &str)] = built_in! {
    "flux1-dev" "flux1-schnell" "flux2-dev" "klein-4b" "klein-9b" "wan-1.3b" "wan-14b" "z-image" "z-image-turbo" "qwen-image"
    "rife-4.22.lite"
    "realesrgan-x2" "realesrgan-x4" "realesrgan-x8" "realesrgan-x4plus" "realesrgan-x2plus" "realesrgan-x4plus-anime"
    "realesr-animevideov3" "realesr-general-x4v3" "realesr-general-wdn-x4v3"
};

/// All known models, diffusion models first.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    // A file that does not parse is skipped here. It fails this module's test.
    ENTRIES.get_or_init(|| FILES.iter().filter_map(|(_, text)| toml::from_str(text).ok()).collect())
}

/// The model with this short name, or with this repository if only one entry has it. Ignores case.
pub fn find(name: &str) -> Option<&'static Entry> {
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    entries().iter().find(|e| same(&e.id) || e.aliases.iter().any(|a| same(a))).or_else(|| {
        let mut of_repo = entries().iter().filter(|e| e.repo.as_deref().is_some_and(same));
        of_repo.next().filter(|_| of_repo.next().is_none())
    })
}

/// As [`find`]. The error names the nearest short name.
pub fn get(name: &str) -> Result<&'static Entry> {
    find(name).ok_or_else(|| {
        let hint = near(name).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        Error::usage(format!("the catalogue has no model {name}{hint}"))
    })
}

/// The short name or repository nearest to `name`, unless it is `name` itself.
pub fn near(name: &str) -> Option<&'static str> {
    let names = entries().iter().flat_map(|e| {
        std::iter::once(e.id.as_str()).chain(e.aliases.iter().map(String::as_str)).chain(e.repo.as_deref())
    });
    nearest(name, names).filter(|near| !near.eq_ignore_ascii_case(name))
}

/// The candidate with the smallest edit distance to `name`, if that is at most a third of its length; else the first that begins with
/// it.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close = name.chars().count().div_ceil(3).max(2);
    let all: Vec<&str> = candidates.collect();
    let nearest = all.iter().map(|c| (strsim::levenshtein(name, c), *c)).filter(|(n, _)| *n <= close).min();
    nearest.map(|(_, c)| c).or_else(|| all.into_iter().find(|c| name.len() > 2 && c.starts_with(name)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_valid() {
        let mut bad = Vec::new();
        let mut names = std::collections::HashSet::new();
        for (id, text) in FILES {
            let entry: Entry = match toml::from_str(text) {
                Ok(entry) => entry,
                Err(e) => {
                    bad.push(format!("{id}: {e}"));
                    continue;
                }
            };
            let mut rule = |holds: bool, what: &str| {
                if !holds {
                    bad.push(format!("{id}: {what}"));
                }
            };
            rule(entry.id == *id, "the id is not the file's name");
            rule(entry.repo.is_some() != entry.url.is_some(), "needs either repo or url");
            rule(entry.repo.as_deref().is_none_or(|r| r.split('/').count() == 2), "repo is owner/name");
            rule(
                (entry.kind == ModelKind::Diffusion) == (entry.file.is_none() && entry.url.is_none()),
                "file is for small networks",
            );
            rule((entry.kind == ModelKind::Upscaling) == entry.scale.is_some(), "scale is for upscalers");
            rule(entry.kind != ModelKind::Diffusion || entry.defaults.height.is_some(), "defaults.height is missing");
            rule(entry.kind != ModelKind::Diffusion || entry.defaults.steps.is_some(), "defaults.steps is missing");
            rule(
                entry.kind != ModelKind::Diffusion || entry.components.iter().any(|c| c.name == "transformer"),
                "no transformer",
            );
            for name in std::iter::once(&entry.id).chain(&entry.aliases) {
                rule(names.insert(name.clone()), &format!("the name {name} is taken"));
            }
            for c in &entry.components {
                let width = match c.dtype.as_deref() {
                    Some("bf16") => Some(2),
                    Some("f32") => Some(4),
                    _ => None,
                };
                if let (Some(p), Some(b), Some(w)) = (c.parameters, c.bytes, width) {
                    // FLUX.2's VAE also stores the statistics of its batch norm.
                    let beside = b.checked_sub(p * w).is_some_and(|rest| rest < 1024);
                    rule(beside, &format!("{}: {p} parameters of {w} bytes are not {b} bytes", c.name));
                }
            }
        }
        let mut on_disk: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
            .unwrap()
            .filter_map(|f| f.unwrap().file_name().to_str().unwrap().strip_suffix(".toml").map(String::from))
            .filter(|id| !FILES.iter().any(|(known, _)| known == id))
            .collect();
        bad.append(&mut on_disk);
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        assert_eq!(entries().len(), FILES.len());
    }

    #[test]
    fn names() {
        let mut bad = Vec::new();
        for (name, want) in [
            ("flux1-dev", Some("flux1-dev")),
            ("FLUX1-DEV", Some("flux1-dev")),
            ("black-forest-labs/FLUX.1-dev", Some("flux1-dev")),
            ("ai-forever/Real-ESRGAN", None),
            ("nothing", None),
        ] {
            let got = find(name).map(|e| e.id.as_str());
            if got != want {
                bad.push(format!("{name}: expected {want:?}, got {got:?}"));
            }
        }
        for (name, want) in [
            ("flux-1-dev", Some("flux1-dev")),
            ("kleni-4b", Some("klein-4b")),
            ("flux", Some("flux1-dev")),
            ("xyz", None),
        ] {
            let got = nearest(name, entries().iter().map(|e| e.id.as_str()));
            if got != want {
                bad.push(format!("{name}: expected {want:?}, got {got:?}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
