//! Tracked files name no machine and no package registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::tree::root;

/// This file names what must not be named.
const SELF: &str = "tests/architecture/tracked.rs";

/// The files that git tracks. In an archive without `.git` these are all files but those that `.gitignore` excludes.
fn tracked(root: &Path) -> Vec<String> {
    if !root.join(".git").exists() {
        return unpacked(root);
    }
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// All files below a folder but those that its `.gitignore` excludes: names, paths from the root, and `/folder/*/`. The last line that
/// fits decides; `!` includes.
fn unpacked(root: &Path) -> Vec<String> {
    let rules = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let rules: Vec<&str> = rules.lines().filter(|line| !line.is_empty()).collect();
    let fits = |rule: &str, path: &Path| {
        let rule = rule.trim_end_matches('/');
        match (rule.strip_prefix('/'), path.strip_prefix(root).unwrap()) {
            (None, path) => path.ends_with(rule),
            (Some(rule), path) => match rule.strip_suffix("/*") {
                Some(folder) => path.parent() == Some(Path::new(folder)) && root.join(path).is_dir(),
                None => path == Path::new(rule),
            },
        }
    };
    let excluded = |path: &Path| {
        let last = rules.iter().rev().find(|rule| fits(rule.trim_start_matches('!'), path));
        last.is_some_and(|rule| !rule.starts_with('!'))
    };
    let (mut folders, mut names) = (vec![root.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| !excluded(path)) {
            match path.is_dir() && !path.is_symlink() {
                true => folders.push(path),
                false => names.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    names.sort();
    names
}

/// Lines of the files that contain a part that must not be named.
fn faults(root: &Path, never: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for name in tracked(root).into_iter().filter(|name| name != SELF) {
        let Ok(text) = fs::read_to_string(root.join(&name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = never.iter().filter(|part| line.contains(part.as_str()));
            faults.extend(found.map(|part| format!("{name}:{}: {part}", number + 1)));
        }
    }
    faults
}

/// This machine's own folders, other systems' homes, and the settings that choose where packages come from.
fn never() -> Vec<String> {
    let mut never: Vec<String> = ["/home/", "/Users/", "C:\\Users", "index-url"].map(String::from).into();
    never.push(format!("{}/", env!("CARGO_MANIFEST_DIR")));
    never.extend(std::env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| format!("{home}/")));
    never
}

#[test]
fn no_tracked_file_names_a_machine_or_a_registry() {
    let names = tracked(root());
    for known in ["Cargo.toml", "src/lib.rs", "tests/architecture/main.rs", "docs/demuxers.md"] {
        assert!(names.iter().any(|name| name == known), "{known} is not among {} tracked files", names.len());
    }
    let faults = faults(root(), &never());
    assert!(faults.is_empty(), "{} places:\n{}", faults.len(), faults.join("\n"));
}

/// Files with a fault, in a git checkout and in an archive; an untracked or ignored file does not count.
#[test]
fn named_machines_are_seen() {
    let write = |root: &Path, name: &str, text: &str| {
        let path: PathBuf = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for checkout in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "good.txt", "nothing\n");
        write(root, "a/b/bad.md", "first\nsee /home/me/notes\n");
        write(root, "top.toml", "index-url = \"x\"\nand C:\\Users\\me\n");
        write(root, "a/picture.bin", "\0");
        write(root, "made/kept/bad.txt", "/home/me\n");
        if checkout {
            let git =
                |args: &[&str]| assert!(Command::new("git").args(args).current_dir(root).status().unwrap().success());
            git(&["init", "-q"]);
            git(&["add", "."]);
        }
        write(root, ".gitignore", "/target\n/made/*/\n!/made/kept/\n.venv/\n");
        write(root, "target/out.txt", "/home/me\n");
        write(root, "a/.venv/lib.py", "/home/me\n");
        write(root, "made/other/out.txt", "/home/me\n");
        let wanted =
            ["a/b/bad.md:2: /home/", "made/kept/bad.txt:1: /home/", "top.toml:1: index-url", "top.toml:2: C:\\Users"];
        assert_eq!(faults(root, &never()), wanted, "a checkout: {checkout}");
    }
}
