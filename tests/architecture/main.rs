//! Rules on the text of `src/`: the import table, no import circles, class names only in the registries, file lengths.
//!
//! Each test reports all violations at once. `#[cfg(test)]` items are exempt from the import rules: tests may combine what the
//! program keeps apart.
#![allow(clippy::unwrap_used)]

mod circles;
mod imports;
mod registries;
mod rules;
mod seen;
mod syntax;
mod tracked;
mod tree;

use std::{collections::BTreeSet, fs};

use circles::circles;
use imports::{MODULES, import_faults, siblings};
use registries::registry_faults;
use rules::{class_name_faults, length_fault};
use tree::{Source, name, rust_files, sources};

#[test]
fn modules_import_what_the_table_allows() {
    let sources = sources();
    let faults = |source: &Source| {
        let name = source.name.clone();
        import_faults(source, &siblings(source, &sources)).into_iter().map(move |fault| format!("{name}: {fault}"))
    };
    report(sources.iter().flat_map(faults));
}

#[test]
fn the_table_has_every_module_and_no_cycle() {
    let mut faults = Vec::new();
    let sources = sources();
    let library = sources.iter().find(|source| source.name == "src/lib.rs").unwrap();
    for line in library.code.lines() {
        let line = line.trim().trim_start_matches("pub ");
        if let Some(module) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
            && !MODULES.iter().any(|(name, _)| *name == module)
        {
            faults.push(format!("src/lib.rs has module {module}, which has no row in MODULES"));
        }
    }
    for (row, (module, allowed)) in MODULES.iter().enumerate() {
        for import in allowed.iter().filter(|import| !MODULES[..row].iter().any(|(above, _)| above == *import)) {
            faults.push(format!("MODULES lets {module} import {import}, which is not above it"));
        }
    }
    report(faults);
}

#[test]
fn files_do_not_import_one_another_in_circles() {
    let faults = circles(&sources());
    report(faults.iter().map(|(from, to)| format!("{from} -> {to} is part of a circle")));
}

#[test]
fn class_names_stand_in_the_registries() {
    let faults = |source: &Source| {
        let name = source.name.clone();
        class_name_faults(source).into_iter().map(move |fault| format!("{name}: {fault}"))
    };
    report(sources().iter().flat_map(faults));
}

#[test]
fn every_network_family_and_model_is_registered() {
    report(registry_faults());
}

#[test]
fn files_are_short() {
    let files = ["src", "tests", "fuzz"].iter().flat_map(|folder| rust_files(folder));
    report(files.filter_map(|file| {
        let fault = length_fault(&fs::read_to_string(&file).unwrap())?;
        Some(format!("{}: {fault}", name(&file)))
    }));
}

/// Fails with all violations.
fn report(faults: impl IntoIterator<Item = String>) {
    let faults: BTreeSet<String> = faults.into_iter().collect();
    let lines: Vec<&str> = faults.iter().map(String::as_str).collect();
    assert!(faults.is_empty(), "{} violations:\n{}", faults.len(), lines.join("\n"));
}
