//! The check of all written paths of a call.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::{name::part_name, regular::open_regular, target::Target};
use crate::error::{Error, Result};

/// What a written path may already have.
#[derive(Debug, Clone, Copy)]
pub enum Existing {
    /// Any file: another check decides.
    Any,
    /// A file requires `--overwrite`.
    Overwrite,
    /// A JSON document with these keys is replaced. Any other file requires `--overwrite`.
    Json(&'static [&'static str]),
    /// JSON Lines with these keys, to which lines are appended, or an empty file. Any other file is an error.
    JsonLines(&'static [&'static str]),
}

/// The files that a call reads and those that it writes.
#[derive(Debug, Default)]
pub struct WrittenPaths {
    overwrite: bool,
    read: Vec<(&'static str, PathBuf)>,
    written: Vec<Written>,
}

#[derive(Debug)]
struct Written {
    /// The flag or the name for messages.
    name: &'static str,
    path: PathBuf,
    existing: Existing,
}

/// Extensions of the files of a model folder.
const MODEL_FILES: &[&str] =
    &["safetensors", "json", "pth", "pt", "pkl", "ckpt", "bin", "onnx", "data", "txt", "model", "jinja"];

impl WrittenPaths {
    /// No paths. `overwrite`: existing files may be replaced.
    pub fn new(overwrite: bool) -> Self {
        Self { overwrite, ..Self::default() }
    }

    /// Adds a file that the call reads, or a folder of model files. `what`: `an input`, `a model file`.
    pub fn read(&mut self, what: &'static str, path: &Path) {
        if !path.as_os_str().is_empty() {
            self.read.push((what, path.into()));
        }
    }

    /// Adds a file that the call writes. `name`: the flag, for messages.
    pub fn write(&mut self, name: &'static str, path: &Path, existing: Existing) {
        self.written.push(Written { name, path: path.into(), existing });
    }

    /// Checks all paths. Creates nothing.
    ///
    /// Errors (usage): a written path that is a file which the call reads, two equal written paths, an existing file that must
    /// not be replaced or appended to.
    pub fn check(&self) -> Result<()> {
        let mut places: HashMap<PathBuf, &Written> = HashMap::new();
        let mut taken: Vec<(PathBuf, &Written)> = Vec::new();
        for written in &self.written {
            // A folder or a socket is an error of the item, or of the file when it is created.
            let Ok(target) = Target::of(&written.path) else { continue };
            let Target::File(path) = &target else {
                self.check_special(&target, written)?;
                continue;
            };
            let part = path.with_file_name(part_name(path.file_name().unwrap_or_default()));
            for place in [real(path), real(&part)] {
                taken.extend(place.symlink_metadata().is_ok().then(|| (place.clone(), written)));
                if let Some(other) = places.insert(place, written) {
                    let (path, name, with) = (written.path.display(), written.name, other.name);
                    return Err(Error::usage(format!(
                        "{name} {path}: {with} {} writes the same file; choose another name",
                        other.path.display()
                    )));
                }
            }
        }
        if !taken.is_empty() {
            self.check_read(&taken)?;
        }
        self.written.iter().try_for_each(|written| self.check_existing(written))
    }

    fn check_special(&self, target: &Target, written: &Written) -> Result<()> {
        if !target.is_taken() || self.overwrite {
            return Ok(());
        }
        let (name, path) = (written.name, written.path.display());
        Err(Error::usage(format!("{name} {path}: is a block device; --overwrite writes to it")))
    }

    /// Returns an error if an existing written path is a file that the call reads.
    fn check_read(&self, taken: &[(PathBuf, &Written)]) -> Result<()> {
        let mut read: HashMap<PathBuf, (&str, bool)> = HashMap::new();
        for (what, path) in &self.read {
            if !path.is_dir() {
                read.extend(path.canonicalize().ok().map(|path| (path, (*what, false))));
                continue;
            }
            let mut files = Vec::new();
            model_files(path, 3, &mut files);
            for file in files {
                read.entry(file).or_insert((what, true));
            }
        }
        for (place, written) in taken {
            let Some((what, in_folder)) = read.get(place) else { continue };
            // An earlier timing file in a model folder is not a model file.
            if matches!(written.existing, Existing::Json(keys) if *in_folder && is_json(place, keys)) {
                continue;
            }
            let (name, path) = (written.name, written.path.display());
            return Err(Error::usage(format!("{name} {path}: is {what} of this call; choose another name")));
        }
        Ok(())
    }

    fn check_existing(&self, Written { name, path, existing }: &Written) -> Result<()> {
        let Ok(Target::File(file)) = Target::of(path) else { return Ok(()) };
        if !file.is_file() {
            return Ok(());
        }
        let shown = path.display();
        match existing {
            Existing::JsonLines(keys) if !is_json_lines(&file, keys) => Err(Error::usage(format!(
                "{name} {shown}: is another kind of file, so no lines can be appended; choose another name"
            ))),
            Existing::Json(keys) if !self.overwrite && !is_json(&file, keys) => Err(Error::usage(format!(
                "{name} {shown}: another file exists; choose another name or pass --overwrite"
            ))),
            Existing::Overwrite if !self.overwrite => {
                Err(Error::usage(format!("{name} {shown} already exists; choose another name or pass --overwrite")))
            }
            _ => Ok(()),
        }
    }
}

/// The path without links. The last parts need not exist.
fn real(path: &Path) -> PathBuf {
    let folder = super::target::folder(path);
    match (path.canonicalize(), path.file_name()) {
        (Ok(real), _) => real,
        (Err(_), Some(name)) if folder != path => real_folder(folder).join(name),
        _ => path.into(),
    }
}

fn real_folder(folder: &Path) -> PathBuf {
    if folder == Path::new(".") { std::env::current_dir().unwrap_or_default() } else { real(folder) }
}

/// The files of a model folder down to `depth`, without links.
fn model_files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if depth > 1 {
                model_files(&path, depth - 1, found);
            }
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| MODEL_FILES.contains(&e)) {
            // A link of the hub's cache: the link and its blob.
            found.extend(path.canonicalize().ok());
        }
    }
}

/// Whether a file is a JSON object with these keys.
fn is_json(path: &Path, keys: &[&str]) -> bool {
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(64 << 20).read_to_end(&mut bytes));
    read.is_ok() && has_keys(&bytes, keys)
}

/// Whether a file is empty, or has a line that is a JSON object with these keys, or has only the torn beginning of one.
fn is_json_lines(path: &Path, keys: &[&str]) -> bool {
    let mut bytes = Vec::new();
    if open_regular(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)).is_err() {
        return false;
    }
    let begins = keys.first().is_some_and(|key| bytes.starts_with(format!("{{\"{key}\"").as_bytes()));
    let torn = begins && !bytes.contains(&b'\n');
    bytes.is_empty() || torn || bytes.split(|b| *b == b'\n').any(|line| has_keys(line, keys))
}

fn has_keys(bytes: &[u8], keys: &[&str]) -> bool {
    let value: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(bytes).ok();
    value.is_some_and(|map| keys.iter().all(|key| map.contains_key(*key)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Each row: a written path, what it may have, `--overwrite`, and a part of the error; empty for none.
    #[test]
    #[allow(clippy::too_many_lines)]
    fn one_rule_for_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("model/vae")).unwrap();
        for (name, text) in [
            ("in.png", "picture"),
            ("other.png", "picture"),
            ("model/vae/a.safetensors", "weights"),
            ("model/notes.md", "text"),
            ("model/times.json", r#"{"stages": [], "total": 1}"#),
            ("times.json", r#"{"stages": [], "total": 1}"#),
            ("other.json", r#"{"a": 1}"#),
            ("report.jsonl", "{\"input\": 1, \"status\": 2}\n"),
            ("torn.jsonl", r#"{"input":"a"#),
            ("empty.jsonl", ""),
            ("blob", "weights"),
            (".new.part.png", "half"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        symlink(at("in.png"), at("link.png")).unwrap();
        symlink(at("blob"), at("model/vae/b.safetensors")).unwrap();
        symlink(at("nothing"), at("dangling.json")).unwrap();
        symlink("/dev/null", at("null.json")).unwrap();
        let (any, plain) = (Existing::Any, Existing::Overwrite);
        let (json, lines) = (Existing::Json(&["stages", "total"]), Existing::JsonLines(&["input", "status"]));
        let mut bad = Vec::new();
        for (name, existing, overwrite, wanted) in [
            ("new.json", json, false, ""),
            ("new/deep/../new.json", json, false, ""),
            ("in.png", json, true, "is an input of this call"),
            ("sub/../in.png", any, true, ""),
            ("model/../in.png", any, true, "is an input of this call"),
            ("link.png", any, true, "is an input of this call"),
            ("model/vae/a.safetensors", plain, true, "is a model file of this call"),
            ("model/vae/b.safetensors", plain, true, "is a model file of this call"),
            ("blob", plain, true, "is a model file of this call"),
            ("model/notes.md", plain, true, ""),
            ("model/times.json", json, false, ""),
            ("other.png", any, false, ""),
            ("other.png", plain, false, "already exists; choose another name or pass --overwrite"),
            ("other.png", plain, true, ""),
            ("times.json", json, false, ""),
            ("other.json", json, false, "another file exists; choose another name or pass --overwrite"),
            ("other.json", json, true, ""),
            ("report.jsonl", lines, false, ""),
            ("torn.jsonl", lines, false, ""),
            ("empty.jsonl", lines, false, ""),
            ("other.png", lines, true, "is another kind of file"),
            ("times.json", lines, true, "is another kind of file"),
            ("dangling.json", plain, false, ""),
            ("null.json", plain, false, ""),
            ("out.png", plain, true, "writes the same file"),
            ("model/../out.png", plain, true, "writes the same file"),
            (".out.part.png", plain, true, "writes the same file"),
            ("new.png", plain, false, ""),
        ] {
            let mut paths = WrittenPaths::new(overwrite);
            paths.read("an input", &at("in.png"));
            paths.read("a model file", &at("model"));
            paths.write("-o", &at("out.png"), Existing::Any);
            paths.write("--file", &at(name), existing);
            let found = paths.check().err().map(|e| e.to_string()).unwrap_or_default();
            if found.is_empty() != wanted.is_empty() || !found.contains(wanted) {
                bad.push(format!("{name} {existing:?} {overwrite}: wanted {wanted:?}, got {found:?}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
