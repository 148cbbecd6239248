//! Which files of a repository a model needs, by their names.

use std::path::Path;

use serde_json::Value;

use crate::{
    error::{Error, Result},
    files::read_text,
};

/// The files of a model to resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A folder in diffusers layout with its weights.
    Model,
    /// The same without weights.
    Configs,
    /// One file with one network.
    File,
    /// A folder in diffusers layout if it is one, else one file.
    Any,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepoFile {
    /// Path inside the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// One entry of `model_index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Component {
    /// Its folder.
    pub name: String,
    /// Its class.
    pub class: String,
}

/// The contents of a component's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Scheduler,
    Tokenizer,
    Network,
}

impl Component {
    fn role(&self) -> Role {
        let has = |part: &str| self.class.contains(part);
        match () {
            () if has("Scheduler") => Role::Scheduler,
            () if has("Tokenizer") || has("Processor") || has("FeatureExtractor") => Role::Tokenizer,
            () => Role::Network,
        }
    }
}

/// Extensions of single-file networks.
const WEIGHTS: [&str; 5] = ["safetensors", "pth", "pkl", "pt", "onnx"];

/// The components of a `model_index.json`, without those that are null.
pub(super) fn components(index: &str) -> Result<Vec<Component>> {
    let wrong =
        |what: &str| Error::failed(format!("model_index.json {what}; the repository is not in diffusers layout"));
    let Ok(Value::Object(entries)) = serde_json::from_str(index) else { return Err(wrong("is not a JSON object")) };
    let mut components = Vec::new();
    for (name, value) in &entries {
        let Some([library, class]) = value.as_array().map(Vec::as_slice) else { continue };
        if library.is_null() || class.is_null() {
            continue;
        }
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        match class.as_str() {
            Some(class) if plain => components.push(Component { name: name.clone(), class: class.into() }),
            _ => return Err(wrong(&format!("has a malformed entry {name}"))),
        }
    }
    if components.is_empty() { Err(wrong("names no component")) } else { Ok(components) }
}

/// The files of `tree` that the components need: configs, tokenizers and, with `weights`, safetensors. Duplicates are skipped:
/// single-file checkpoints at the root, other precisions, other formats.
pub(super) fn select(tree: &[RepoFile], components: &[Component], weights: bool) -> Result<Vec<RepoFile>> {
    let mut wanted: Vec<&RepoFile> = tree.iter().filter(|f| f.path == "model_index.json").collect();
    for component in components {
        let folder: Vec<(&RepoFile, &str)> = tree
            .iter()
            .filter_map(|f| f.path.strip_prefix(&component.name)?.strip_prefix('/').map(|name| (f, name)))
            .filter(|(_, name)| !name.contains('/'))
            .collect();
        if folder.is_empty() {
            return Err(Error::failed(format!(
                "the repository has no folder {}/, but model_index.json lists it",
                component.name
            )));
        }
        wanted.extend(folder.iter().filter(|(_, name)| is_config(name)).map(|(f, _)| *f));
        if component.role() != Role::Network || !weights {
            continue;
        }
        let sharded =
            folder.iter().any(|(_, name)| BASES.iter().any(|b| *name == format!("{b}.safetensors.index.json")));
        let before = wanted.len();
        wanted.extend(folder.iter().filter(|(_, name)| is_weight(name, sharded)).map(|(f, _)| *f));
        if wanted.len() == before {
            return Err(Error::failed(format!(
                "the repository has no {0}/diffusion_pytorch_model.safetensors or {0}/model.safetensors, in one file or in shards; other formats are unsupported",
                component.name
            )));
        }
    }
    Ok(wanted.into_iter().cloned().collect())
}

const BASES: [&str; 2] = ["diffusion_pytorch_model", "model"];

fn is_config(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((stem, "json")) => match stem.strip_suffix(".safetensors.index") {
            Some(base) => BASES.contains(&base),
            None => !stem.contains(".index") && !stem.starts_with("flax") && !stem.ends_with(".bin"),
        },
        Some((_, "txt" | "model" | "jinja")) => true,
        _ => false,
    }
}

fn is_weight(name: &str, sharded: bool) -> bool {
    let Some(stem) = name.strip_suffix(".safetensors") else { return false };
    BASES.iter().any(|base| match stem.strip_prefix(base) {
        Some("") => !sharded,
        Some(tail) => sharded && is_shard(tail),
        None => false,
    })
}

/// `-00001-of-00003`.
fn is_shard(tail: &str) -> bool {
    let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    tail.strip_prefix('-').and_then(|t| t.split_once("-of-")).is_some_and(|(n, m)| digits(n) && digits(m))
}

/// The missing files of a folder in diffusers layout; empty if it is complete.
pub(super) fn missing(folder: &Path, weights: bool) -> Result<Vec<String>> {
    let Ok(index) = read_text(&folder.join("model_index.json")) else {
        return Ok(vec!["model_index.json".into()]);
    };
    let mut missing = Vec::new();
    for component in components(&index)? {
        let at = folder.join(&component.name);
        let has = |name: &str| at.join(name).is_file();
        let mut need = |name: &str, there: bool| {
            if !there {
                missing.push(format!("{}/{name}", component.name));
            }
        };
        match component.role() {
            Role::Scheduler => need("scheduler_config.json", has("scheduler_config.json")),
            Role::Tokenizer => {
                let there = has("tokenizer.json") || has("spiece.model") || has("preprocessor_config.json");
                need("tokenizer.json", there || (has("vocab.json") && has("merges.txt")));
            }
            Role::Network => {
                need("config.json", has("config.json"));
                for name in if weights { missing_weights(&at) } else { Vec::new() } {
                    need(&name, false);
                }
            }
        }
    }
    Ok(missing)
}

fn missing_weights(folder: &Path) -> Vec<String> {
    for base in BASES {
        if let Ok(index) = read_text(&folder.join(format!("{base}.safetensors.index.json"))) {
            let index: Value = serde_json::from_str(&index).unwrap_or_default();
            let Some(map) = index["weight_map"].as_object() else {
                return vec![format!("{base}.safetensors.index.json (unreadable)")];
            };
            let mut shards: Vec<String> = map.values().filter_map(|v| v.as_str()).map(Into::into).collect();
            shards.sort();
            shards.dedup();
            shards.retain(|shard| !folder.join(shard).is_file());
            return shards;
        }
        if folder.join(format!("{base}.safetensors")).is_file() {
            return Vec::new();
        }
    }
    vec![format!("{}.safetensors", BASES[0])]
}

/// The network among the files of a repository or folder: `flownet.pkl` if there is one, else the only file with weights.
pub(super) fn single<'a>(names: impl Iterator<Item = &'a str>, origin: &str) -> Result<&'a str> {
    let weights: Vec<&str> = names.filter(|n| n.rsplit_once('.').is_some_and(|(_, e)| WEIGHTS.contains(&e))).collect();
    if let Some(flownet) = weights.iter().find(|n| n.rsplit('/').next() == Some("flownet.pkl")) {
        return Ok(flownet);
    }
    match weights.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::failed(format!("{origin} has no .safetensors, .pth, .pkl, .pt or .onnx file"))),
        many => Err(Error::usage(format!(
            "{origin} has {} networks ({}); name one, as in {origin}:{}",
            many.len(),
            many.join(", "),
            many[0]
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn flux_repository() {
        let index = r#"{"_class_name": "FluxPipeline", "_diffusers_version": "0.30", "feature_extractor": [null, null],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"], "transformer": ["diffusers", "FluxTransformer2DModel"]}"#;
        let tree: Vec<RepoFile> = [
            ("model_index.json", true),
            ("flux1-dev.safetensors", false),
            ("ae.safetensors", false),
            ("README.md", false),
            ("scheduler/scheduler_config.json", true),
            ("text_encoder/config.json", true),
            ("text_encoder/model.safetensors", true),
            ("text_encoder/model.fp16.safetensors", false),
            ("text_encoder/pytorch_model.bin", false),
            ("text_encoder/flax_model.msgpack", false),
            ("tokenizer/merges.txt", true),
            ("tokenizer/vocab.json", true),
            ("transformer/config.json", true),
            ("transformer/diffusion_pytorch_model-00001-of-00002.safetensors", true),
            ("transformer/diffusion_pytorch_model-00002-of-00002.safetensors", true),
            ("transformer/diffusion_pytorch_model.safetensors.index.json", true),
            ("transformer/diffusion_pytorch_model.fp16.safetensors.index.json", false),
            ("transformer/diffusion_pytorch_model.safetensors", false),
            ("transformer_2/config.json", false),
            ("vae/config.json", false),
        ]
        .map(|(path, _)| RepoFile { path: path.into(), size: 1 })
        .into();
        let components = components(index).unwrap();
        assert_eq!(
            components.iter().map(|c| &*c.name).collect::<Vec<_>>(),
            ["scheduler", "text_encoder", "tokenizer", "transformer"]
        );
        let got: Vec<String> = select(&tree, &components, true).unwrap().into_iter().map(|f| f.path).collect();
        let want = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "transformer/config.json",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        ];
        assert_eq!(got, want);
        assert!(select(&tree, &components, false).unwrap().iter().all(|f| !f.path.ends_with(".safetensors")));
    }

    #[test]
    fn refusals() {
        let mut bad = Vec::new();
        for (index, want) in [
            ("[]", "not a JSON object"),
            ("{}", "names no component"),
            (r#"{"../x": ["diffusers", "AutoencoderKL"]}"#, "malformed entry ../x"),
        ] {
            let got = components(index).unwrap_err().to_string();
            if !got.contains(want) {
                bad.push(format!("{index}: expected {want}, got {got}"));
            }
        }
        for (names, want) in [
            (&["a.pth", "b.pth"][..], "has 2 networks (a.pth, b.pth); name one, as in org/x:a.pth"),
            (&["README.md"], "has no"),
        ] {
            let got = single(names.iter().copied(), "org/x").unwrap_err().to_string();
            if !got.contains(want) {
                bad.push(format!("{names:?}: expected {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        assert_eq!(single(["a.pth", "flownet.pkl"].into_iter(), "x").unwrap(), "flownet.pkl");
    }
}
