//! Checkpoint folders: configs, tokenizers, and the shapes of weights.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ndarray::{ArrayD, IxDyn};
use serde_json::json;

use super::{packaged, scratch};
use crate::{
    compile::{self, Subgraph},
    family::{self, Family, GuidanceRequest, Overrides, Size},
    model::{HiddenStates, ModelFolder, Padding},
    onnx::Target,
};

/// Small checkpoints of every family.
const FAMILIES: [&str; 7] =
    ["flux1-dev", "flux1-schnell", "flux2-dev", "flux2-klein", "qwen-image", "wan", "z-image"];

/// A checkpoint with links to all files, of which one can be replaced.
struct Linked {
    folder: PathBuf,
    /// Paths of the small text files in the folder, sorted.
    texts: Vec<(PathBuf, PathBuf)>,
}

impl Linked {
    fn of(name: &str) -> Self {
        let (source, folder) = (packaged("tests/goldens").join(name).join("model"), scratch().join(name));
        let mut texts = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            fs::create_dir_all(folder.join(&inner)).unwrap();
            for entry in fs::read_dir(source.join(&inner)).unwrap() {
                let path = inner.join(entry.unwrap().file_name());
                let real = fs::canonicalize(source.join(&path)).unwrap();
                if real.is_dir() {
                    folders.push(path);
                    continue;
                }
                let link = folder.join(&path);
                std::os::unix::fs::symlink(&real, &link).unwrap();
                if real.extension().is_some_and(|e| e == "json" || e == "txt") {
                    texts.push((link, real));
                }
            }
        }
        texts.sort();
        Self { folder, texts }
    }
}

/// A text file of a checkpoint: the first byte names the checkpoint, the second one the file.
pub fn model(bytes: &[u8]) {
    static CHECKPOINTS: OnceLock<Vec<Linked>> = OnceLock::new();
    let [checkpoint, file, text @ ..] = bytes else { return };
    let checkpoints = CHECKPOINTS.get_or_init(|| FAMILIES.map(Linked::of).into());
    let Linked { folder, texts } = &checkpoints[usize::from(*checkpoint) % FAMILIES.len()];
    let (link, real) = &texts[usize::from(*file) % texts.len()];
    fs::remove_file(link).unwrap();
    fs::write(link, text).unwrap();
    open(folder, link);
    fs::remove_file(link).unwrap();
    std::os::unix::fs::symlink(real, link).unwrap();
}

/// Opens a checkpoint and compiles the component that has the changed file.
fn open(folder: &Path, changed: &Path) {
    let Ok(folder) = ModelFolder::open(folder) else { return };
    if let Ok(family) = family::open(&folder, &Overrides::default()) {
        use_family(family.as_ref());
    }
    let component = changed.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some(name) = component
        && let (Ok(path), Ok(class)) = (folder.path(name), folder.class_of(name))
    {
        build(&path, class);
    }
}

/// Calls a family as a run of the smallest size does before any network.
fn use_family(family: &dyn Family) {
    let defaults = family.defaults();
    let _ = family.check_size(defaults.size);
    let side = family.vae_scale_factor() * family.patch_size();
    let size = Size { height: side, width: 2 * side, frames: defaults.size.frames.min(5) };
    if family.check_size(size).is_err() {
        return;
    }
    let latent = family.latent_shape(size);
    let _ = (family.tokens(&latent), family.spectrum(), family.hidden_states(), family.negative_prompt());
    let _ = (family.sigmas(size, 4), family.first_step(4, 0.5), family.solver());
    let guidance = family.guidance(GuidanceRequest::default());
    let _ = family.tokenize("a cat <|im_end|> 日本", &mut Vec::new());
    if latent.iter().try_fold(1_usize, |all, side| all.checked_mul(*side)).is_some_and(|all| all <= 1 << 16) {
        let _ = family.positions(&latent, family.text_tokens().min(8));
        let zeros = ArrayD::zeros(IxDyn(&latent));
        let _ = (family.denormalize(&zeros), family.normalize(&zeros));
        let _ = family.step_inputs(&zeros, 0.5, guidance.ok().and_then(|guidance| guidance.embedded()));
    }
}

/// Builds every graph of a component.
fn build(folder: &Path, class: &str) {
    let subgraphs = [
        Subgraph::Full,
        Subgraph::HiddenStates(HiddenStates { hidden: &[-1], pads: Padding::None }),
        Subgraph::Encoder,
        Subgraph::Decoder,
        Subgraph::CachedDecoder,
    ];
    for subgraph in subgraphs {
        let _ = compile::component(folder, class, subgraph, None, Target::CPU);
    }
    let _ = (compile::transformer_cost(folder, class), compile::autoencoder(folder, class));
}

/// A network without its weights: in the first line its class, or `file` for a single file; in the second one its config.json;
/// then names and shapes of tensors.
pub fn graph(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let (Some(class), Some(config)) = (lines.next(), lines.next()) else { return };
    let folder = scratch().join("network");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("model.safetensors");
    if write_shapes(&path, lines).is_none() {
        return;
    }
    if class == "file" {
        let _ = compile::identify(&path);
        let _ = (compile::upscaler(&path, Target::CPU), compile::interpolator(&path, 1.0, Target::CPU));
        return;
    }
    fs::write(folder.join("config.json"), config).unwrap();
    build(&folder, class);
}

/// Writes a sparse safetensors file of f32 zeros. `None`: it would have more than 64 GiB.
fn write_shapes<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Option<()> {
    let mut header = BTreeMap::new();
    let mut end = 0_u64;
    for (name, shape) in lines.filter_map(|line| line.split_once(' ')) {
        let shape: Vec<u64> = shape.split(',').map_while(|side| side.trim().parse().ok()).collect();
        let length = shape.iter().try_fold(4_u64, |all, side| all.checked_mul(*side))?;
        let begin = end;
        end = end.checked_add(length).filter(|end| *end <= 64 << 30)?;
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = serde_json::to_vec(&header).ok()?;
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).ok()
}
