//! Files that only a registry makes reachable: networks, families and catalogue entries.

use std::fs;

use super::{syntax::code_only, tree::root};

/// A folder, the files of it that are no entries, and the file and form of an entry. `{}` stands for the file's name.
const REGISTRIES: &[(&str, &str, &[&str], &str, &str)] = &[
    ("src/arch", ".rs", &["mod", "architecture"], "src/arch/mod.rs", "&{}::ARCHITECTURE,"),
    ("src/family", ".rs", &["mod", "interface"], "src/family/mod.rs", "{}::FAMILY,"),
    ("models", ".toml", &[], "src/catalog.rs", "\"{}\""),
];

/// Files that no registry lists.
pub(crate) fn registry_faults() -> Vec<String> {
    let mut faults = Vec::new();
    for (folder, ending, others, registry, form) in REGISTRIES {
        let text = fs::read_to_string(root().join(registry)).unwrap();
        // Literals are entries of the catalogue only.
        let code = if form.contains('"') { text } else { code_only(&text) };
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(ending).filter(|stem| !others.contains(stem)) else { continue };
            let line = form.replace("{}", stem);
            if !code.contains(&line) {
                faults.push(format!("{folder}/{name} is not in {registry}: {line} is missing"));
            }
        }
    }
    faults
}
