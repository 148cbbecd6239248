//! Opens a path: chooses the file of a folder, detects its format, and reads its shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use serde::Deserialize;

use super::{
    Checkpoint, Container, Contents, Data, Location, Stored, quoted, safetensors, some_of, torch_legacy, torch_zip,
};
use crate::error::{At, Error, Result};

const INDEX: &str = ".safetensors.index.json";
const TORCH: [&str; 5] = [".pth", ".pt", ".pkl", ".bin", ".ckpt"];
/// File names of diffusers and transformers.
const STEMS: [&str; 3] = ["diffusion_pytorch_model", "model", "pytorch_model"];
/// Largest index in bytes. That of 100,000 tensors has 10 MB.
const MAX_INDEX: u64 = 100 << 20;

impl Checkpoint {
    /// Opens a checkpoint:
    ///
    /// - a .safetensors, .pth, .pt, .pkl, .bin or .ckpt file, detected by content;
    /// - a `*.safetensors.index.json`;
    /// - a component folder: `diffusion_pytorch_model.*`, `model.*` or `pytorch_model.*`, else its only index, its only .safetensors
    ///   file, or its only torch file. safetensors files precede torch files.
    ///
    /// Torch files are unwrapped: the tensors are those of the first key of `params_ema`, `params`, `state_dict`, `model_state_dict`,
    /// `params-ema`, `model` and `net` that has tensors ([`Checkpoint::wrapper`]), and the prefixes `module.` and `netG.` are removed
    /// if all names have them. Names in safetensors files are unchanged.
    ///
    /// # Errors
    /// One sentence that names the file and the fault: missing, empty, a Git LFS pointer, a web page, truncated, inconsistent shapes,
    /// a shard that is missing or outside the folder, a pickle that needs more than tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let chosen = if path.is_dir() { choose(path)? } else { path.to_owned() };
        let mut checkpoint =
            if chosen.to_string_lossy().ends_with(INDEX) { open_index(&chosen)? } else { open_file(&chosen)? };
        if checkpoint.is_empty() {
            return Err(Error::failed("has no tensors")).at(chosen.display());
        }
        checkpoint.origin = path.to_owned();
        Ok(checkpoint)
    }
}

/// Chooses the weights of a component folder.
fn choose(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("reading", folder, &e))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("reading", folder, &e))?;
        if !entry.path().is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    for endings in [&[INDEX, ".safetensors"][..], &TORCH] {
        let usual = STEMS.iter().flat_map(|stem| endings.iter().map(move |end| format!("{stem}{end}")));
        if let Some(name) = usual.into_iter().find(|name| names.contains(name)) {
            return Ok(folder.join(name));
        }
    }
    for endings in [&[INDEX][..], &[".safetensors"], &TORCH] {
        let found: Vec<_> = names.iter().filter(|n| endings.iter().any(|end| n.ends_with(end))).collect();
        match found[..] {
            [] => {}
            [name] => return Ok(folder.join(name)),
            _ => {
                let found = some_of(found.into_iter().map(String::as_str));
                return Err(Error::failed(format!("several files with weights; name one of them: {found}")))
                    .at(folder.display());
            }
        }
    }
    Err(no_weights(folder, &names)).at(folder.display())
}

fn no_weights(folder: &Path, names: &BTreeSet<String>) -> Error {
    if names.contains("model_index.json") {
        let parts = fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
        let parts: BTreeSet<_> = parts.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let parts = some_of(parts.iter().map(String::as_str));
        return Error::failed(format!("is a pipeline; name one of its components: {parts}"));
    }
    let there = match some_of(names.iter().map(String::as_str)) {
        none if none.is_empty() => "it is empty".into(),
        some => format!("it has {some}"),
    };
    Error::failed(format!("a folder without weights (.safetensors, {}): {there}", TORCH.join(", ")))
}

/// A memory-mapped file.
struct Mapped {
    path: Arc<Path>,
    map: Arc<Mmap>,
}

impl Mapped {
    fn open(path: &Path) -> Result<Self> {
        let reading = |e: io::Error| match path.read_link() {
            Ok(target) if e.kind() == io::ErrorKind::NotFound => Error::failed(format!(
                "{} is a link to {}, which is missing; download the model again",
                path.display(),
                target.display()
            )),
            _ => Error::io("reading", path, &e),
        };
        let real = path.canonicalize().map_err(reading)?;
        let kind = fs::metadata(&real).map_err(reading)?;
        if !kind.is_file() {
            return Err(Error::failed("is not a file; a checkpoint file is needed")).at(path.display());
        }
        if kind.len() == 0 {
            return Err(Error::failed("is empty (0 bytes); download it again")).at(path.display());
        }
        let file = File::open(&real).map_err(reading)?;
        // SAFETY: the map is only read. If another program truncates the file, reading it ends the process, as for any reader of
        // mapped weights. Checkpoints are replaced by renaming, which does not change the mapped file.
        let map = unsafe { Mmap::map(&file) }.map_err(reading)?;
        Ok(Self { path: real.into(), map: Arc::new(map) })
    }

    fn stored(&self, contents: BTreeMap<String, super::FileTensor>) -> BTreeMap<String, Stored> {
        let location = |data| match data {
            Data::At(offset) => Location::File { path: self.path.clone(), offset, map: self.map.clone() },
            Data::Gathered(bytes) => Location::Memory(bytes),
        };
        let stored = |e: super::FileTensor| Stored { dtype: e.dtype, shape: e.shape, location: location(e.data) };
        contents.into_iter().map(|(name, extent)| (name, stored(extent))).collect()
    }
}

fn open_file(path: &Path) -> Result<Checkpoint> {
    let file = Mapped::open(path)?;
    let (container, contents) = read(&file.map, path).at(path.display())?;
    let mut checkpoint = Checkpoint::new(path, container, file.stored(contents.tensors));
    (checkpoint.wrapper, checkpoint.skipped) = (contents.wrapper, contents.skipped);
    Ok(checkpoint)
}

/// Detects the format by the first bytes, and reads the file. The name is used only for errors about unknown formats.
fn read(bytes: &[u8], path: &Path) -> Result<(Container, Contents)> {
    no_stand_in(bytes)?;
    let is_named =
        |ends: &[&str]| path.file_name().is_some_and(|n| ends.iter().any(|e| n.to_string_lossy().ends_with(e)));
    match bytes {
        _ if is_json(bytes) => {
            let start = quoted(&String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
            Err(Error::failed(format!("is JSON, not weights; download it again (it begins {start})")))
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok((Container::TorchZip, torch_zip::read(bytes)?)),
        // Before pickles: a header of 640 bytes begins like a pickle (0x80 0x02), but no pickle of tensors has a brace here.
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok((Container::Safetensors, safetensors::read(bytes)?)),
        [0x80, 0..=5, ..] => Ok((Container::TorchLegacy, torch_legacy::read(bytes)?)),
        [b'c', ..] if is_text_pickle(bytes) => Ok((Container::TorchLegacy, torch_legacy::read(bytes)?)),
        _ if bytes.get(257..262) == Some(b"ustar") => {
            Err(Error::failed("is a tar archive of torch before 0.1.10; load it in torch and save it with torch.save"))
        }
        [b'G', b'G', b'U', b'F', ..] => Err(Error::failed("is a GGUF file; supported are safetensors and torch files")),
        _ if is_named(&[".safetensors"]) => Ok((Container::Safetensors, safetensors::read(bytes)?)),
        [first, ..] if is_named(&TORCH) => Err(Error::failed(format!(
            "is neither a torch zip file nor a torch legacy file (it begins with byte 0x{first:02x}); download it again"
        ))),
        _ => Err(Error::failed("has no known format of weights: safetensors, torch zip, torch legacy")),
    }
}

/// Whether a file is a pickle of protocol 0 that begins with a global: `c<module>\n<name>\n`.
fn is_text_pickle(bytes: &[u8]) -> bool {
    let word = |line: &[u8]| !line.is_empty() && line.iter().all(|b| b.is_ascii_alphanumeric() || b"._".contains(b));
    let mut lines = bytes[1..].split(|&b| b == b'\n').take(3);
    lines.next().is_some_and(word) && lines.next().is_some_and(word) && lines.next().is_some()
}

/// Rejects Git LFS pointers and web pages.
fn no_stand_in(bytes: &[u8]) -> Result<()> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_lowercase();
    if head.starts_with("version https://git-lfs") {
        let size = head.lines().find_map(|l| l.strip_prefix("size ")?.trim().parse().ok());
        let missing = size.map_or("the weights".into(), |n| format!("{} of weights", amount(n)));
        return Err(Error::failed(format!("is a Git LFS pointer, {missing} are missing: run git lfs pull")));
    }
    if ["<!doctype html", "<html", "<?xml"].iter().any(|tag| head.trim_start().starts_with(tag)) {
        return Err(Error::failed(
            "is a web page, not weights; download the file itself (a gated model needs a login)",
        ));
    }
    Ok(())
}

/// Whether a file is JSON, such as the error of a server. A safetensors file begins with the length of its header, which is never
/// large enough to be text.
fn is_json(bytes: &[u8]) -> bool {
    let is_text = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    bytes.first() == Some(&b'{') && bytes.iter().take(8).all(is_text)
}

/// Bytes in messages: 1.2 GB.
fn amount(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let fits = units.iter().find(|(_, size)| bytes as f64 >= *size);
    fits.map_or(format!("{bytes} bytes"), |(unit, size)| format!("{:.1} {unit}", bytes as f64 / size))
}

#[derive(Deserialize)]
struct Index {
    metadata: Option<IndexMetadata>,
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct IndexMetadata {
    /// Bytes of all tensors. Some tools write a float.
    total_size: Option<f64>,
}

fn open_index(path: &Path) -> Result<Checkpoint> {
    let file = Mapped::open(path)?;
    if file.map.len() as u64 > MAX_INDEX {
        return Err(Error::failed("is too large for an index of shards")).at(path.display());
    }
    let index: Index = serde_json::from_slice(&file.map)
        .map_err(|e| Error::failed(format!("is not an index of shards: {e}")))
        .or_else(|e| no_stand_in(&file.map).and(Err(e)))
        .at(path.display())?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut checkpoint = Checkpoint::new(path, Container::Safetensors, BTreeMap::new());
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    for shard in &shards {
        check_shard_name(shard, folder).at(path.display())?;
    }
    for shard in shards {
        add_shard(&mut checkpoint, &index, &folder.join(shard), shard)?;
    }
    let got = checkpoint.bytes();
    match index.metadata.and_then(|m| m.total_size) {
        Some(want) if want != got as f64 => {
            Err(Error::failed(format!("total_size is {want} bytes, but the shards have {got}; download them again")))
                .at(path.display())
        }
        _ => Ok(checkpoint),
    }
}

/// Checks that a shard is a plain file name in the folder of the index. The file may be a link of the hub's cache.
fn check_shard_name(name: &str, folder: &Path) -> Result<()> {
    let plain = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\\', ':', '\0']);
    if plain {
        return Ok(());
    }
    let (name, folder) = (quoted(name), folder.display());
    Err(Error::failed(format!("shard {name} is not a plain file name; shards must be in {folder}")))
}

fn add_shard(checkpoint: &mut Checkpoint, index: &Index, path: &Path, shard: &str) -> Result<()> {
    if path.symlink_metadata().is_err() {
        let (index, shard) = (checkpoint.origin.display(), quoted(shard));
        return Err(Error::failed(format!("{index}: shard {shard} is missing; download it into the same folder")));
    }
    let file = Mapped::open(path)?;
    let (container, contents) = read(&file.map, path).at(path.display())?;
    if container != Container::Safetensors {
        let container = container.name();
        return Err(Error::failed(format!("is a {container} file, but a shard must be a safetensors file")))
            .at(path.display());
    }
    let placed: BTreeSet<&String> = index.weight_map.iter().filter(|(_, s)| *s == shard).map(|(n, _)| n).collect();
    let held: BTreeSet<&String> = contents.tensors.keys().collect();
    for (what, mut names) in [
        ("lacks tensors that the index lists there", placed.difference(&held).peekable()),
        ("has tensors that the index lists elsewhere or not at all", held.difference(&placed).peekable()),
    ] {
        if names.peek().is_some() {
            let names = some_of(names.map(|n| n.as_str()));
            let message = format!("{what}: {names}; download it and its index again");
            return Err(Error::failed(message)).at(path.display());
        }
    }
    checkpoint.tensors.extend(file.stored(contents.tensors));
    Ok(())
}
