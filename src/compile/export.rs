//! Graphs into a folder, beside the weights that they point into.
//!
//! ONNX Runtime opens external data only inside the model's own folder and never through a link that leaves it. So the weights'
//! files are hard-linked into the folder: no byte is copied, and the folder is complete when the source is deleted.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;

use crate::{
    error::{Error, Result},
    onnx::Model,
};

/// A folder being exported to.
#[derive(Debug)]
pub struct Export {
    folder: PathBuf,
    overwrite: bool,
}

/// Opens or makes the folder.
pub fn export(folder: &Path, overwrite: bool) -> Result<Export> {
    fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, &e))?;
    Ok(Export { folder: folder.to_path_buf(), overwrite })
}

impl Export {
    /// Writes `name.onnx` and returns its path and bytes; the weights' files go to `below/` as hard links under their own names.
    pub fn graph(&self, name: &str, below: &str, model: &Model) -> Result<(PathBuf, u64)> {
        let mut proto = model.proto.clone();
        let mut linked: BTreeMap<String, String> = BTreeMap::new();
        for tensor in proto.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            for entry in tensor.external_data.iter_mut().filter(|e| e.key == "location") {
                if !linked.contains_key(&entry.value) {
                    let source = PathBuf::from(format!("/{}", entry.value));
                    linked.insert(entry.value.clone(), self.link(&source, below)?);
                }
                entry.value.clone_from(&linked[&entry.value]);
            }
        }
        let path = self.folder.join(format!("{name}.onnx"));
        let bytes = proto.encode_to_vec();
        self.write(&path, &bytes)?;
        Ok((path, bytes.len() as u64))
    }

    /// Copies a small file, such as a config or a tokenizer, to its place in the folder.
    pub fn copy(&self, source: &Path, to: &str) -> Result<()> {
        let bytes = fs::read(source).map_err(|e| Error::io("reading", source, &e))?;
        let target = self.folder.join(to);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("making the folder", parent, &e))?;
        }
        self.write(&target, &bytes)
    }

    /// Links the shards of a component that no graph reads, such as a language model's last layers: without them its index
    /// would name files that are not there.
    pub fn shards(&self, component: &Path, below: &str) -> Result<()> {
        let entries = fs::read_dir(component).map_err(|e| Error::io("listing", component, &e))?;
        for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.ends_with(".safetensors") && !self.folder.join(below).join(&name).exists() {
                let real = fs::canonicalize(&path).map_err(|e| Error::io("opening", &path, &e))?;
                self.link_as(&real, below, name)?;
            }
        }
        Ok(())
    }

    /// Links a file of weights into `below/`; its place in the folder.
    fn link(&self, source: &Path, below: &str) -> Result<String> {
        let name = source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        self.link_as(source, below, name)
    }

    fn link_as(&self, source: &Path, below: &str, name: String) -> Result<String> {
        let place = if below.is_empty() { name } else { format!("{below}/{name}") };
        let target = self.folder.join(&place);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("making the folder", parent, &e))?;
        }
        match fs::hard_link(source, &target) {
            Ok(()) => Ok(place),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && same_file(source, &target) => Ok(place),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.overwrite => {
                fs::remove_file(&target).map_err(|e| Error::io("replacing", &target, &e))?;
                let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                self.link_as(source, below, name)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::failed(format!("{} exists and is another file; --overwrite replaces it", target.display())))
            }
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let (source, folder) = (source.display(), self.folder.display());
                Err(Error::failed(format!(
                    "{folder} is on another file system than {source}, so the weights cannot be linked; choose a folder there with -o"
                )))
            }
            Err(e) => Err(Error::io("linking weights to", &target, &e)),
        }
    }

    /// Beside under another name, then renamed. The same bytes again are left alone; other bytes need `overwrite`.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        match fs::read(path) {
            Ok(found) if found == bytes => return Ok(()),
            Ok(_) if !self.overwrite => {
                return Err(Error::failed(format!("{} exists and differs; --overwrite replaces it", path.display())));
            }
            _ => {}
        }
        let part = path.with_extension("part");
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
        written.map_err(|e| {
            let _ = fs::remove_file(&part);
            Error::io("writing", path, &e)
        })
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some() && id(a) == id(b)
}
