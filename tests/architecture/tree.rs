//! The files of `src/` as modules.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::syntax::{code_only, without_tests};

/// A file of `src/`.
pub(crate) struct Source {
    /// Its path below the repository: `src/stage/grow.rs`.
    pub(crate) name: String,
    /// Its module: `src/stage/grow.rs` is [stage, grow], `src/stage/mod.rs` is [stage], `src/lib.rs` is [].
    pub(crate) module: Vec<String>,
    /// The text as it is.
    pub(crate) text: String,
    /// The text without comments, literals and test items.
    pub(crate) code: String,
}

impl Source {
    /// A file of this text.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let inside = Path::new(name).strip_prefix("src").unwrap().with_extension("");
        let mut module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        module.pop_if(|last| last == "mod" || last == "lib");
        Self { name: name.into(), module, text: text.into(), code: without_tests(&code_only(text)) }
    }
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src/`, sorted.
pub(crate) fn sources() -> Vec<Source> {
    let read = |path: PathBuf| Source::new(&name(&path), &fs::read_to_string(&path).unwrap());
    rust_files("src").into_iter().map(read).collect()
}

/// The path below the repository.
pub(crate) fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Every Rust file below a folder of the repository, sorted, without those that a build made.
pub(crate) fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.extend((path.file_name().unwrap() != "target").then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.insert(path);
            }
        }
    }
    files.into_iter().collect()
}

/// A path from the crate's root, if it starts with `crate`, `self` or `super`.
pub(crate) fn in_crate(module: &[String], path: &[String]) -> Option<Vec<String>> {
    match path[0].as_str() {
        "crate" | "crescendo" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            let base = module.len().checked_sub(up)?;
            Some([&module[..base], &path[up..]].concat())
        }
        _ => None,
    }
}
