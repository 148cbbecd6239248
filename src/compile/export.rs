//! Writes graphs to a folder, with hard links to the weight files that they point into.
//!
//! ONNX Runtime opens external data only inside the model's folder, and follows no symbolic link out of it. Hard links copy no data,
//! and the folder stays complete if the source is deleted.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;

use crate::{
    error::{Error, Result},
    files::{PendingFile, check_regular, remove_leftover},
    onnx::Model,
};

/// A folder that graphs are exported to.
#[derive(Debug)]
pub struct Export {
    folder: PathBuf,
    overwrite: bool,
}

/// Opens the folder, creating it if necessary. `overwrite`: replace files that differ.
pub fn export(folder: &Path, overwrite: bool) -> Result<Export> {
    fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, &e))?;
    Ok(Export { folder: folder.to_path_buf(), overwrite })
}

impl Export {
    /// Writes `name.onnx`, and hard links to the weight files in `subfolder/`. Returns the path and size in bytes of the graph.
    pub fn graph(&self, name: &str, subfolder: &str, model: &Model) -> Result<(PathBuf, u64)> {
        let mut proto = model.proto.clone();
        let mut linked: BTreeMap<String, String> = BTreeMap::new();
        for tensor in proto.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            for entry in tensor.external_data.iter_mut().filter(|e| e.key == "location") {
                if !linked.contains_key(&entry.value) {
                    let source = PathBuf::from(format!("/{}", entry.value));
                    linked.insert(entry.value.clone(), self.link(&source, subfolder)?);
                }
                entry.value.clone_from(&linked[&entry.value]);
            }
        }
        let path = self.folder.join(format!("{name}.onnx"));
        let bytes = proto.encode_to_vec();
        self.write(&path, &bytes)?;
        Ok((path, bytes.len() as u64))
    }

    /// Copies a small file, such as a config or a tokenizer, to the path `to` in the folder.
    pub fn copy(&self, source: &Path, to: &str) -> Result<()> {
        let bytes = fs::read(source).map_err(|e| Error::io("reading", source, &e))?;
        let target = self.folder.join(to);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("creating the folder", parent, &e))?;
        }
        self.write(&target, &bytes)
    }

    /// Links the shards of a component that no graph reads, such as those with a language model's last layers: the index file names
    /// them.
    pub fn shards(&self, component: &Path, subfolder: &str) -> Result<()> {
        let entries = fs::read_dir(component).map_err(|e| Error::io("listing", component, &e))?;
        for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.ends_with(".safetensors") && !self.folder.join(subfolder).join(&name).exists() {
                let real = fs::canonicalize(&path).map_err(|e| Error::io("opening", &path, &e))?;
                self.link_as(&real, subfolder, name)?;
            }
        }
        Ok(())
    }

    /// Links a weight file into `subfolder/`. Returns its path relative to the folder.
    fn link(&self, source: &Path, subfolder: &str) -> Result<String> {
        let name = source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        self.link_as(source, subfolder, name)
    }

    fn link_as(&self, source: &Path, subfolder: &str, name: String) -> Result<String> {
        let relative = if subfolder.is_empty() { name } else { format!("{subfolder}/{name}") };
        let target = self.folder.join(&relative);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("creating the folder", parent, &e))?;
        }
        match fs::hard_link(source, &target) {
            Ok(()) => Ok(relative),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && same_file(source, &target) => Ok(relative),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.overwrite => {
                fs::remove_file(&target).map_err(|e| Error::io("replacing", &target, &e))?;
                let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                self.link_as(source, subfolder, name)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::failed(format!(
                "{} exists and is a different file; --overwrite replaces it",
                target.display()
            ))),
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let (source, folder) = (source.display(), self.folder.display());
                Err(Error::failed(format!(
                    "{folder} and {source} are on different file systems, so the weights cannot be linked; choose a folder on the same one with -o"
                )))
            }
            Err(e) => Err(Error::io("linking weights to", &target, &e)),
        }
    }

    /// Writes to a temporary file, then renames it. An identical file is left unchanged; a different one requires `overwrite`.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        check_regular(path)?;
        match fs::read(path) {
            Ok(found) if found == bytes => {
                remove_leftover(path);
                return Ok(());
            }
            Ok(_) if !self.overwrite => {
                return Err(Error::failed(format!("{} exists and differs; --overwrite replaces it", path.display())));
            }
            _ => {}
        }
        let mut pending = PendingFile::create(path, self.overwrite)?;
        pending.write(bytes)?;
        pending.commit().map(drop)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}
