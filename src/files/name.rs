//! Names of folders and of temporary files.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

/// Maximum length of a file name in bytes on Linux.
const LONGEST: usize = 255;
/// Maximum length of an extension that a temporary name keeps.
const LONGEST_EXTENSION: usize = 32;

/// Whether a path is written as that of a folder: it ends with `/`.
pub fn is_folder_name(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// A hidden name: `.`, `start`, `end`. A start that is too long for a file name is cut and gets a hash of `whole`, so that
/// different files have different temporary names.
pub fn hidden_name(start: &OsStr, end: &OsStr, whole: &OsStr) -> OsString {
    let (mut kept, mut hash) = (start.as_bytes(), String::new());
    if 1 + start.len() + end.len() > LONGEST {
        hash = format!("~{}", &blake3::hash(whole.as_bytes()).to_hex()[..16]);
        let mut length = LONGEST.saturating_sub(1 + hash.len() + end.len()).min(kept.len());
        // A cut inside of a UTF-8 character would give an invalid name.
        while kept.get(length).is_some_and(|byte| byte & 0xc0 == 0x80) && length > 0 {
            length -= 1;
        }
        kept = &kept[..length];
    }
    OsString::from_vec([b".", kept, hash.as_bytes(), end.as_bytes()].concat())
}

/// The name of the temporary file for a file name: `.stem.part.ext`.
pub(super) fn part_name(name: &OsStr) -> OsString {
    let mut end = OsString::from(".part");
    if let Some(extension) = Path::new(name).extension().filter(|e| e.len() <= LONGEST_EXTENSION) {
        end.push(".");
        end.push(extension);
    }
    hidden_name(Path::new(name).file_stem().unwrap_or(name), &end, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_fit_and_differ() {
        let mut bad = Vec::new();
        let long = "n".repeat(251);
        let unicode = "日".repeat(83);
        let names = [
            "a.png".to_owned(),
            "a.jpg".into(),
            "a".into(),
            "a.b.png".into(),
            format!("{long}.png"),
            format!("{long}.jpg"),
            format!("{}b.png", &long[1..]),
            format!("{unicode}.png"),
            format!("é{unicode}.png"),
            format!("x.{}", "e".repeat(250)),
            format!("y.{}", "e".repeat(250)),
        ];
        let mut seen = std::collections::HashSet::new();
        for name in &names {
            let part = part_name(OsStr::new(name));
            if part.len() > LONGEST || part.to_str().is_none() || !seen.insert(part.clone()) {
                bad.push(format!("{name}: {part:?}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        assert_eq!(part_name(OsStr::new("a.b.png")), ".a.b.part.png");
    }
}
