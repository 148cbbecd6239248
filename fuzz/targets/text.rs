//! Text that people write: configuration files and prompts.

use std::sync::OnceLock;

use super::packaged;
use crate::{
    cli::config_file::{self, Format},
    family::{self, Family, Overrides},
    model::ModelFolder,
    tensor::Tensor,
};

/// A configuration file. Its first byte decides the format.
pub fn config(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = [Format::Yaml, Format::Toml, Format::Json][usize::from(first % 3)];
    match config_file::parse(text, format) {
        Ok(flags) => drop(flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect::<Vec<_>>()),
        Err(why) => assert!(!why.contains('\n'), "{why}"),
    }
}

/// A file of prompts. Every family tokenizes them.
pub fn prompts(bytes: &[u8]) {
    static FAMILIES: OnceLock<Vec<Box<dyn Family>>> = OnceLock::new();
    let open = |name: &str| {
        let folder = ModelFolder::open(&packaged("tests/goldens").join(name).join("model")).unwrap();
        family::open(&folder, &Overrides::default()).unwrap()
    };
    let names = ["flux1-dev", "flux2-dev", "flux2-klein", "qwen-image", "wan", "z-image"];
    let families = FAMILIES.get_or_init(|| names.map(open).into());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for prompt in config_file::prompts(text).take(4) {
        assert!(!prompt.trim().is_empty());
        for family in families {
            let calls = family.tokenize(prompt, &mut Vec::new()).unwrap();
            let inputs = calls.iter().flat_map(|call| &call.inputs);
            for (name, tensor) in inputs.filter(|(name, _)| *name == "ids") {
                let Tensor::I64(ids) = tensor else { panic!("{name} are no numbers") };
                assert!(!ids.is_empty() && ids.iter().all(|id| *id >= 0), "{name}: {ids:?}");
            }
        }
    }
}
