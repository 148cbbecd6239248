//! Rules about one file: its length, and which class names it may contain.

use super::{syntax::strings, tree::Source};

/// Most lines of a file, tests included.
const MAX_LINES: usize = 500;

/// A class name in a string literal: how it is recognized, and the only module that may contain it.
const CLASS_NAMES: &[(&[&str], &str)] = &[
    (&["Model", "KL", "KLFlux2", "KLQwenImage", "KLWan", "ForConditionalGeneration", "ForCausalLM"], "arch"),
    (&["Pipeline"], "family"),
    (&["Scheduler"], "schedule"),
];

/// Whether a file is too long.
pub(crate) fn length_fault(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{lines} lines; at most {MAX_LINES}: split it by what it does"))
}

/// Class names of networks, pipelines and schedulers outside of the module that knows them, and in its list (`mod.rs`).
pub(crate) fn class_name_faults(source: &Source) -> Vec<String> {
    let names = strings(&source.text);
    let fault = |name: &String| {
        let is_class =
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let (_, owner) = CLASS_NAMES
            .iter()
            .find(|(ends, _)| is_class && ends.iter().any(|end| name.len() > end.len() && name.ends_with(end)))?;
        match source.module.as_slice() {
            [top] if top == owner => Some(format!("\"{name}\" belongs into a file of {owner}/, not into its list")),
            [top, ..] if top == owner => None,
            _ => Some(format!("\"{name}\" belongs into {owner}/, which describes the class")),
        }
    };
    names.iter().filter_map(fault).collect()
}
