//! Parses the command line. Errors are one sentence.

use std::ffi::OsString;

use clap::{
    Command, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{args::Cli, help, value};
use crate::catalog::nearest;

/// Parses the arguments of the process.
pub(super) fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = help::command().try_get_matches_from(argv)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// An error in one line. The parsers of `value` write such lines already, without the flag as typed.
pub(super) fn one_line(error: &clap::Error, argv: &[OsString]) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(all)) => all.first().cloned(),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    if error.kind() == ErrorKind::ValueValidation
        && let Some(rule) = std::error::Error::source(error)
    {
        return value::as_typed(rule.to_string(), arg.split([' ', '=']).next().unwrap_or_default());
    }
    let near = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(text)
        .or_else(|| (error.kind() == ErrorKind::UnknownArgument).then(|| near_flag(&arg, argv)).flatten())
        .map(|n| format!("; did you mean {n}?"))
        .unwrap_or_default();
    let first = first_paragraph(&error.render().to_string());
    if first.is_empty() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a subcommand is required; `crescendo --help` lists them".into();
    }
    format!("{first}{near}")
}

/// The rendered error without usage and tips, on one line.
fn first_paragraph(rendered: &str) -> String {
    let mut lines = Vec::new();
    for line in rendered.lines().map(str::trim) {
        let over = ["Usage:", "tip:", "For more information"].iter().any(|end| line.starts_with(end));
        match line {
            "" if lines.is_empty() => {}
            _ if over => break,
            "" => {}
            line => lines.push(line),
        }
    }
    let first = lines.join(" ");
    first.strip_prefix("error: ").unwrap_or(&first).into()
}

/// The flag of the typed subcommand that is nearest to an unknown one, as the catalogue finds models.
fn near_flag(typed: &str, argv: &[OsString]) -> Option<String> {
    let mut root = help::command();
    root.build();
    let name = typed.strip_prefix("--")?.to_owned();
    let leaf = argv
        .iter()
        .filter_map(|arg| arg.to_str())
        .fold(&root, |command: &Command, arg| command.find_subcommand(arg).unwrap_or(command));
    let flags: Vec<&str> = leaf
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .flat_map(|arg| arg.get_long().into_iter().chain(arg.get_visible_aliases().unwrap_or_default()))
        .collect();
    nearest(&name, flags.into_iter()).map(|near| format!("--{near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every flag that rejects a value names itself, as typed or as SGLang does.
    #[test]
    fn errors_name_their_flag() {
        let mut root = help::command();
        root.build();
        let (mut bad, mut seen) = (Vec::new(), 0);
        for name in ["generate", "enhance", "export"] {
            let Some(command) = root.find_subcommand(name) else { continue };
            for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
                let argv: Vec<OsString> = ["crescendo", name, &format!("--{flag}=?")].map(OsString::from).to_vec();
                let Err(error) = parse(&argv) else { continue };
                if error.kind() == ErrorKind::MissingRequiredArgument {
                    continue;
                }
                let line = one_line(&error, &argv);
                seen += 1;
                let python = flag.replace('-', "_");
                if !line.contains(&format!("--{flag}")) && !line.starts_with(&python) {
                    bad.push(format!("{name} --{flag}: {line}"));
                }
            }
        }
        assert!(bad.is_empty() && seen > 60, "{seen} {}", bad.join("\n"));
    }

    #[test]
    fn examples_are_valid() {
        let mut bad = Vec::new();
        for example in help::examples() {
            let typed = example.split(" > ").next().unwrap_or_default();
            let parts = typed.split('"').enumerate();
            let words = parts.flat_map(|(k, part)| match k % 2 {
                0 => part.split_whitespace().map(OsString::from).collect(),
                _ => vec![OsString::from(part)],
            });
            let argv: Vec<OsString> = std::iter::once("crescendo".into()).chain(words).collect();
            if let Err(error) = parse(&argv)
                && error.exit_code() != 0
            {
                bad.push(format!("{example}: {error}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
