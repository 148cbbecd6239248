//! Which modules and crates each module may import.

use std::collections::BTreeSet;

use super::{
    syntax::mentions,
    tree::{Source, in_crate},
};

/// Modules of the crate and what each may import. A row imports only from rows above it.
pub(crate) const MODULES: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sync", &[]),
    ("stdio", &["error"]),
    ("allocator", &["stdio"]),
    ("tensor", &["error"]),
    ("tiling", &["error"]),
    ("progress", &["error"]),
    ("files", &["error", "progress"]),
    ("json_lines", &["error", "sync", "files"]),
    ("catalog", &["error"]),
    ("hub", &["error", "files", "progress", "catalog"]),
    ("weights", &["error", "tensor"]),
    ("onnx", &["error", "tensor", "weights"]),
    ("model", &["error", "files", "tensor"]),
    ("arch", &["error", "tensor", "onnx", "weights", "model"]),
    ("compile", &["error", "files", "tensor", "arch", "onnx", "weights", "model"]),
    ("runtime", &["error", "sync", "tensor"]),
    ("spectral", &["error", "tensor"]),
    ("schedule", &["error", "files", "tensor"]),
    ("family", &["error", "tensor", "spectral", "schedule", "model"]),
    ("stage", &["error", "tensor", "tiling", "progress", "runtime", "spectral", "schedule", "family"]),
    ("media", &["error", "sync", "tensor", "progress", "files"]),
    ("plan", &["error", "files", "tensor", "runtime", "spectral", "schedule", "family", "media"]),
    (
        "pipeline",
        &[
            "error",
            "files",
            "json_lines",
            "stdio",
            "sync",
            "tensor",
            "tiling",
            "progress",
            "plan",
            "weights",
            "onnx",
            "compile",
            "runtime",
            "spectral",
            "schedule",
            "family",
            "model",
            "stage",
            "media",
        ],
    ),
    (
        "batch",
        &[
            "allocator",
            "error",
            "files",
            "json_lines",
            "sync",
            "tensor",
            "progress",
            "plan",
            "hub",
            "runtime",
            "media",
            "pipeline",
        ],
    ),
    (
        "cli",
        &[
            "allocator",
            "error",
            "files",
            "stdio",
            "sync",
            "tensor",
            "progress",
            "plan",
            "catalog",
            "hub",
            "runtime",
            "spectral",
            "schedule",
            "family",
            "media",
            "pipeline",
            "batch",
        ],
    ),
    ("main", &["allocator", "error", "cli"]),
];

/// Crates that only the listed modules may name.
const CRATES: &[(&str, &[&str])] = &[
    ("blake3", &["batch", "files", "media"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("console", &["cli"]),
    ("ctrlc", &["main", "cli"]),
    ("encoding_rs", &["model"]),
    ("fast_image_resize", &["media"]),
    ("ffmpeg_next", &["media"]),
    ("glob", &["batch"]),
    ("hf_hub", &["hub"]),
    ("htmlize", &["model"]),
    ("image", &["media"]),
    ("indicatif", &["cli"]),
    ("libwebp_sys", &["media"]),
    ("memmap2", &["weights"]),
    ("ort", &["runtime"]),
    ("prost", &["onnx", "compile"]),
    ("reqwest", &["hub"]),
    ("rustdct", &["spectral"]),
    ("rustfft", &["spectral"]),
    ("sysinfo", &["runtime"]),
    ("tiff", &["media"]),
    ("tokenizers", &["model"]),
    ("unicode_normalization", &["model", "plan"]),
    ("walkdir", &["batch"]),
    ("webp", &["media"]),
];

/// Modules whose child modules must not import one another.
const SIDE_BY_SIDE: &[&str] = &["stage", "family"];

/// The file of such a folder that all others may import: it has their traits and types.
const INTERFACE: &str = "interface";

/// Violations of [`MODULES`], [`CRATES`] and [`SIDE_BY_SIDE`] in one file. `siblings`: the child modules of its top module.
pub(crate) fn import_faults(source: &Source, siblings: &BTreeSet<String>) -> Vec<String> {
    let path = &source.module;
    let Some(own) = path.first() else { return Vec::new() };
    let row = MODULES.iter().find(|(module, _)| module == own);
    let mut faults = BTreeSet::new();
    if row.is_none() {
        faults.insert(format!("module {own} has no row in MODULES of tests/architecture/imports.rs"));
    }
    for mention in mentions(&source.code) {
        let head = mention.path[0].as_str();
        if let Some((_, owners)) = CRATES.iter().find(|(name, _)| *name == head)
            && !owners.contains(&own.as_str())
        {
            faults.insert(format!("names the crate {head}; only {} may", owners.join(" and ")));
        }
        let Some(inside) = in_crate(path, &mention.path) else { continue };
        let Some(target) = inside.first().filter(|target| MODULES.iter().any(|(module, _)| module == target)) else {
            continue;
        };
        if target != own && row.is_some_and(|(_, allowed)| !allowed.contains(&target.as_str())) {
            faults.insert(format!("{own} imports {target}, which MODULES does not allow"));
        }
        if target == own
            && SIDE_BY_SIDE.contains(&own.as_str())
            && let (Some(from), Some(to)) = (path.get(1), inside.get(1))
            && from != to
            && to != INTERFACE
            && siblings.contains(to)
        {
            faults.insert(format!("imports {own}::{to}; modules of {own}/ do not import one another"));
        }
    }
    faults.into_iter().collect()
}

/// The child modules of the top module that `source` belongs to.
pub(crate) fn siblings(source: &Source, all: &[Source]) -> BTreeSet<String> {
    let same_top = all.iter().filter(|other| other.module.first() == source.module.first());
    same_top.filter_map(|other| other.module.get(1).cloned()).collect()
}
