//! The layout of DESIGN, held by the text of `src/`: what each module may import, which crates are whose, how long a file may be.
//! Every violation is reported at once. Test modules are free: they may bring together what the program keeps apart.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Modules of the crate, lowest first, and which of the others each may import. Rows import only rows above them.
const MODULES: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("tensor", &["error"]),
    ("progress", &["error"]),
    ("catalog", &["error"]),
    ("hub", &["error", "progress", "catalog"]),
    ("weights", &["error", "tensor"]),
    ("onnx", &["error", "tensor", "weights"]),
    ("model", &["error", "tensor"]),
    ("arch", &["error", "tensor", "onnx", "weights", "model"]),
    ("compile", &["error", "tensor", "arch", "onnx", "weights", "model"]),
    ("runtime", &["error", "tensor"]),
    ("spectral", &["error", "tensor"]),
    ("schedule", &["error", "tensor"]),
    ("family", &["error", "tensor", "spectral", "schedule", "model"]),
    ("stage", &["error", "tensor", "progress", "runtime", "spectral", "schedule", "family"]),
    ("media", &["error", "tensor", "progress"]),
    ("plan", &["error", "media"]),
    (
        "pipeline",
        &[
            "error", "tensor", "progress", "plan", "weights", "onnx", "compile", "runtime", "spectral", "schedule",
            "family", "model", "stage", "media",
        ],
    ),
    ("batch", &["error", "progress", "plan", "hub", "runtime", "media", "pipeline"]),
    ("cli", &["error", "tensor", "progress", "plan", "catalog", "hub", "pipeline", "batch"]),
    ("main", &["error", "cli"]),
];

/// Crates that only these modules may name.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["main", "cli"]),
    ("blake3", &["batch", "media"]),
    ("clap", &["cli", "plan"]),
    ("clap_complete", &["cli"]),
    ("ctrlc", &["main", "cli"]),
    ("fast_image_resize", &["media"]),
    ("ffmpeg_next", &["media"]),
    ("glob", &["batch"]),
    ("hf_hub", &["hub"]),
    ("html_escape", &["family"]),
    ("image", &["media"]),
    ("indicatif", &["cli"]),
    ("libwebp_sys", &["media"]),
    ("memmap2", &["weights"]),
    ("ort", &["runtime"]),
    ("prost", &["onnx", "compile"]),
    ("reqwest", &["hub"]),
    ("rustdct", &["spectral"]),
    ("rustfft", &["spectral"]),
    ("tokenizers", &["model"]),
    ("walkdir", &["batch"]),
    ("webp", &["media"]),
];

/// Folders whose files stand side by side and never import one another.
const SIDE_BY_SIDE: &[&str] = &["stage", "family"];

/// Lines of a file, its test modules apart.
const LONGEST_FILE: usize = 500;

#[test]
fn modules_import_what_the_table_allows() {
    let mut faults = Vec::new();
    for file in sources() {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let code = without_tests(&code_only(&fs::read_to_string(&file).unwrap()));
        let (lines, path) = (code.lines().count(), module_path(&file));
        if lines > LONGEST_FILE {
            faults.push(format!(
                "{name}: {lines} lines without its tests, {LONGEST_FILE} are the most: split it by what it does"
            ));
        }
        faults.extend(
            import_faults(&path, &files_beside(&path), &code).into_iter().map(|fault| format!("{name}: {fault}")),
        );
    }
    assert!(faults.is_empty(), "{} violations:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_table_has_every_module_and_no_cycle() {
    let mut faults = Vec::new();
    let library = code_only(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    for line in library.lines() {
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
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn violations_are_seen() {
    let table: &[(&[&str], &str, &[&str])] = &[
        (&["arch", "flux"], "use crate::{onnx::Scope, runtime::Engine};", &["imports runtime"]),
        (&["arch", "flux"], "use crate::{\n    error::{Error, At},\n    weights,\n};", &[]),
        (&["arch", "flux"], "// crate::runtime\nlet s = \"crate::runtime::X\"; /* crate::cli::y /* nested */ */", &[]),
        (
            &["arch", "flux"],
            "let s = r#\"crate::runtime::X \"quoted\" \"#; let c = '\"'; crate::media::open();",
            &["imports media"],
        ),
        (&["arch", "flux"], "#[cfg(test)]\nmod tests { use crate::runtime::Engine; }", &[]),
        (&["arch", "flux"], "#[cfg(test)] mod tests { fn f() {} } use crate::runtime::Engine;", &["imports runtime"]),
        (&["weights", "zip"], "use super::super::cli::args;", &["imports cli"]),
        (&["weights"], "use super::onnx::Scope;", &["imports onnx"]),
        (&["stage", "grow"], "use super::denoise::Step;", &["imports stage::denoise"]),
        (&["stage", "grow"], "use crate::stage::{denoise, grow};", &["imports stage::denoise"]),
        (&["stage", "grow", "plan"], "use super::Level;", &[]),
        (&["stage"], "pub mod grow; use grow::Level;", &[]),
        (&["family", "flux"], "fn f(x: crate::stage::Text) -> Result<(), crate::Error> {}", &["imports stage"]),
        (&["media", "video"], "use ort::session::Session; use ffmpeg_next as ffmpeg;", &["crate ort"]),
        (
            &["stage", "text"],
            "use ffmpeg_next as ffmpeg; let x = &ort::value::Value::new();",
            &["crate ffmpeg_next", "crate ort"],
        ),
        (&["main"], "use crescendo::{cli, weights};", &["imports weights"]),
        (&["cli"], "use crate::{self as lib, pipeline::{self, Job}, tensor::*};", &[]),
    ];
    let mut faults = Vec::new();
    let beside = ["denoise", "grow"].map(String::from).into();
    for (path, text, wanted) in table {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let found = import_faults(&path, &beside, &without_tests(&code_only(text)));
        let matches =
            found.len() == wanted.len() && found.iter().zip(*wanted).all(|(fault, part)| fault.contains(part));
        if !matches {
            faults.push(format!("{path:?} {text:?}: wanted {wanted:?}, found {found:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_tracked_file_names_a_machine_or_a_registry() {
    // This machine's own folders, other systems' homes, and the settings that choose where packages come from.
    let mut never: Vec<String> = ["/home/", "/Users/", "C:\\Users", "index-url"].map(String::from).into();
    never.push(format!("{}/", env!("CARGO_MANIFEST_DIR")));
    never.extend(std::env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/")));
    const SELF: &str = "tests/architecture.rs";
    if !root().join(".git").exists() {
        eprintln!("not a git checkout: tracked files are not known, nothing was looked at");
        return;
    }
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let mut faults = Vec::new();
    for name in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty() && *name != SELF) {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for part in never.iter().filter(|part| line.contains(part.as_str())) {
                faults.push(format!("{name}:{}: {part}", number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{} places:\n{}", faults.len(), faults.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src/`, sorted.
fn sources() -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join("src")], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.insert(path);
            }
        }
    }
    files.into_iter().collect()
}

/// `src/stage/grow.rs` is [stage, grow], `src/stage/mod.rs` is [stage], `src/lib.rs` is [].
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// What `code`, the text of the module at `path`, imports and may not; `beside`: the modules of its folder.
fn import_faults(path: &[String], beside: &BTreeSet<String>, code: &str) -> Vec<String> {
    let Some(own) = path.first() else { return Vec::new() };
    let row = MODULES.iter().find(|(module, _)| module == own);
    let mut faults = BTreeSet::new();
    if row.is_none() {
        faults.insert(format!("module {own} has no row in MODULES of tests/architecture.rs"));
    }
    for import in imports(&tokens(code)) {
        let head = import[0].as_str();
        if let Some((_, owners)) = CRATES.iter().find(|(name, _)| *name == head)
            && !owners.contains(&own.as_str())
        {
            faults.insert(format!("names the crate {head}, which is only for {}", owners.join(" and ")));
        }
        let Some(inside) = in_crate(path, &import) else { continue };
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
            && beside.contains(to)
        {
            faults.insert(format!("imports {own}::{to}; the files of {own}/ stand side by side"));
        }
    }
    faults.into_iter().collect()
}

/// The modules in the folder of the module at `path`'s top: `stage` has denoise, grow, …
fn files_beside(path: &[String]) -> BTreeSet<String> {
    let folder = root().join("src").join(path.first().map_or("", |top| top.as_str()));
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    entries
        .map(|entry| entry.unwrap().path().with_extension("").file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

/// An import's path from the crate's root, when it stays in this package.
fn in_crate(path: &[String], import: &[String]) -> Option<Vec<String>> {
    match import[0].as_str() {
        "crate" | "crescendo" => Some(import[1..].to_vec()),
        "self" => Some([path, &import[1..]].concat()),
        "super" => {
            let up = import.iter().take_while(|part| *part == "super").count();
            let base = path.len().checked_sub(up)?;
            Some([&path[..base], &import[up..]].concat())
        }
        _ => None,
    }
}

/// Identifiers, `::` and single other characters.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let start = at;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        at += 1;
        if chars[start].is_whitespace() {
            continue;
        } else if is_word(chars[start]) {
            at += chars[at..].iter().take_while(|c| is_word(**c)).count();
        } else if chars[start] == ':' && chars.get(at) == Some(&':') {
            at += 1;
        }
        found.push(chars[start..at].iter().collect());
    }
    found
}

/// Every path of the text with its groups taken apart: `use a::{b, c::d}` gives a::b and a::c::d. A lone name only after `use`.
fn imports(tokens: &[String]) -> Vec<Vec<String>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let after_use = at > 0 && tokens[at - 1] == "use";
        let starts = is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        let leads = tokens[at] == "::" && after_use;
        if after_use || (starts && tokens.get(at + 1).is_some_and(|next| next == "::")) {
            at = tree(tokens, if leads { at + 1 } else { at }, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one use-tree (or path) that starts at `at`; the index after it.
fn tree(tokens: &[String], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        let more = tokens.get(at + 1).is_some_and(|next| next == "::");
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                let next = tree(tokens, at, &path, found);
                at = next.max(at + 1);
            }
            return at + 1;
        }
        if is_name(token) && (token != "self" || path.is_empty()) {
            path.push(token.clone());
        }
        if !is_name(token) || !more {
            break;
        }
        at += 2;
    }
    if !path.is_empty() {
        found.push(path);
    }
    at + usize::from(tokens.get(at).is_some_and(|token| is_name(token) || token == "*"))
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The text with comments, strings and character literals blanked; line breaks stay.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut kept, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let end = comment_end(&chars, at).or_else(|| string_end(&chars, at)).or_else(|| char_end(&chars, at));
        let Some(end) = end else {
            kept.push(chars[at]);
            at += 1;
            continue;
        };
        kept.push(' ');
        kept.extend(chars[at..end].iter().filter(|c| **c == '\n'));
        at = end;
    }
    kept
}

fn comment_end(chars: &[char], at: usize) -> Option<usize> {
    let pair = |i: usize, a: char, b: char| chars.get(i) == Some(&a) && chars.get(i + 1) == Some(&b);
    if pair(at, '/', '/') {
        return Some(chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n));
    }
    if !pair(at, '/', '*') {
        return None;
    }
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        if pair(i, '/', '*') || pair(i, '*', '/') {
            depth += if chars[i] == '/' { 1 } else { -1 };
            i += 2;
            if depth == 0 {
                return Some(i);
            }
        } else {
            i += 1;
        }
    }
    Some(chars.len())
}

/// The end of a string that starts at `at`: plain, or raw with any number of `#` when a lone `r` stands before.
fn string_end(chars: &[char], at: usize) -> Option<usize> {
    let word = |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    if chars[at] == '"' {
        let mut i = at + 1;
        while i < chars.len() && chars[i] != '"' {
            i += 1 + usize::from(chars[i] == '\\');
        }
        return Some((i + 1).min(chars.len()));
    }
    let prefixed = at > 0
        && word(chars.get(at - 1))
        && !(matches!(chars[at - 1], 'b' | 'c') && (at < 2 || !word(chars.get(at - 2))));
    if chars[at] != 'r' || prefixed {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// The end of a character literal; a lifetime is none.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars[at] != '\'' {
        return None;
    }
    if chars.get(at + 1) == Some(&'\\') {
        return chars[at + 3..].iter().position(|c| *c == '\'').map(|n| at + 3 + n + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// The code without its `#[cfg(test)]` items.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        kept.push_str(&rest[..start]);
        let item = &rest[start + MARK.len()..];
        let mut depth = 0;
        let end = item.char_indices().find_map(|(i, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            (depth == 0 && (c == '}' || c == ';')).then_some(i + 1)
        });
        rest = &item[end.unwrap_or(item.len())..];
    }
    kept.push_str(rest);
    kept
}
