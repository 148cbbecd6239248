//! Files that the command line reads: `--config` and `--prompt-path`.

use std::{ffi::OsStr, path::Path};

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    files::read_text,
};

/// A format of configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Toml,
    Json,
}

/// Reads a file of flags. The extension of its name decides the format.
///
/// # Errors
/// A file that cannot be read or parsed, an unknown extension.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>> {
    let wrong = |e: String| Error::usage(format!("--config {}: {e}", path.display()));
    let text = read_text(path).map_err(|e| wrong(e.to_string()))?;
    let format = match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
        Some("yaml" | "yml") => Format::Yaml,
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => return Err(wrong("the file name must end in .yaml, .yml, .toml or .json".into())),
    };
    parse(&text, format).map_err(wrong)
}

/// Flag names with their values. Errors: a phrase in one line.
pub(crate) fn parse(text: &str, format: Format) -> Result<Map<String, Value>, String> {
    let text = without_mark(text);
    let value: Result<Value, String> = match format {
        Format::Yaml => serde_norway::from_str(text).map_err(|e| e.to_string()),
        Format::Toml => toml::from_str(text).map_err(|e| e.message().to_owned()),
        Format::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
    };
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("expected flag names with their values".into()),
        Err(e) => Err(e.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")),
    }
}

/// The prompts of a file: one per line, without empty lines.
pub(crate) fn prompts(text: &str) -> impl Iterator<Item = &str> {
    without_mark(text).lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The text without the byte order mark that some editors begin a file with.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_flags_in_three_formats() {
        let flags = json!({"width": 512, "prompt": ["a", "b"]});
        let rows = [
            (Format::Yaml, "width: 512\nprompt: [a, b]\n"),
            (Format::Toml, "width = 512\nprompt = ['a', 'b']\n"),
            (Format::Json, "{\"width\": 512, \"prompt\": [\"a\", \"b\"]}"),
        ];
        for (format, text) in rows {
            for text in [text.to_owned(), format!("\u{feff}{text}")] {
                assert_eq!(parse(&text, format).map(Value::Object), Ok(flags.clone()), "{format:?}");
            }
            let broken = parse("a: [\n\n= {", format).unwrap_err();
            assert!(!broken.is_empty() && !broken.contains('\n'), "{format:?}: {broken}");
        }
        assert_eq!(parse("", Format::Yaml), Ok(Map::new()));
    }

    #[test]
    fn prompts_are_lines() {
        let found: Vec<_> = prompts("\u{feff}a cat\r\n\n  a dog \n\t\n").collect();
        assert_eq!(found, ["a cat", "a dog"]);
    }
}
