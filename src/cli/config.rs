//! `--config FILE`: its keys become flags on the command line, so that each rule and message exists once.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgAction, ArgMatches, Command, CommandFactory, parser::ValueSource};
use serde_json::Value;

use super::{args::Cli, config_file};
use crate::{
    catalog::nearest,
    error::{Error, Result},
};

/// Replaces SGLang's `--flag_name` by `--flag-name`, and adds the flags of the `--config` file. A typed flag overrides the file's
/// flag of the same name and those that it conflicts with.
pub(super) fn expand(argv: Vec<OsString>) -> Result<Vec<OsString>> {
    let argv = dashes(argv);
    let mut command = Cli::command();
    command.build();
    // The real parse reports errors, with the flags of the file.
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(&argv) else { return Ok(argv) };
    let (leaf, typed) = leaf(&command, &matches);
    let Ok(Some(path)) = typed.try_get_one::<PathBuf>("config") else { return Ok(argv) };
    let mut flags = Vec::new();
    for (key, value) in config_file::read(path)? {
        flags.extend(flag(path, &key, &value, leaf, typed)?);
    }
    let end = argv.iter().position(|a| a == "--").unwrap_or(argv.len());
    let mut all = argv[..end].to_vec();
    all.extend(flags);
    all.extend_from_slice(&argv[end..]);
    Ok(all)
}

fn dashes(argv: Vec<OsString>) -> Vec<OsString> {
    let mut over = false;
    let one = |arg: OsString| {
        over |= arg == "--";
        match arg.to_str().and_then(|a| a.strip_prefix("--")) {
            Some(text) if !over && !text.is_empty() => {
                let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                // A prompt may begin with two dashes, but then it is more than one identifier.
                let identifier = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if identifier { format!("--{}{value}", name.replace('_', "-")).into() } else { arg }
            }
            _ => arg,
        }
    };
    argv.into_iter().map(one).collect()
}

/// The typed subcommand and its matches.
fn leaf<'a>(mut command: &'a Command, mut matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    while let Some((name, inner)) = matches.subcommand()
        && let Some(sub) = command.find_subcommand(name)
    {
        (command, matches) = (sub, inner);
    }
    (command, matches)
}

/// The flags of one key. Empty if a typed flag overrides it.
fn flag(path: &Path, key: &str, value: &Value, leaf: &Command, typed: &ArgMatches) -> Result<Vec<OsString>> {
    let name = key.replace('_', "-");
    let named = |arg: &&clap::Arg| {
        arg.get_long() == Some(&name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name.as_str()))
    };
    let usable = || leaf.get_arguments().filter(|a| !["config", "help", "version"].contains(&a.get_id().as_str()));
    let Some(arg) = usable().find(named) else {
        let near = nearest(&name, usable().filter_map(|a| a.get_long()));
        let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        return Err(Error::usage(format!("--config {}: unknown key {key}{hint}", path.display())));
    };
    let was_typed = |a: &clap::Arg| typed.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine);
    let excluded = |a: &clap::Arg| leaf.get_arg_conflicts_with(a).iter().any(|other| other.get_id() == arg.get_id());
    let opposite = name.strip_prefix("no-").map_or_else(|| format!("no-{name}"), Into::into);
    let overridden = usable()
        .any(|a| was_typed(a) && (a.get_id() == arg.get_id() || excluded(a) || a.get_long() == Some(&opposite)))
        || leaf.get_arg_conflicts_with(arg).iter().any(|other| was_typed(other));
    if overridden {
        return Ok(Vec::new());
    }
    let wrong =
        |wanted: &str| Error::usage(format!("--config {}: {key} must be {wanted}, got {value}", path.display()));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Bool(true) => Ok(vec![format!("--{name}").into()]),
            Value::Bool(false) if usable().any(|a| a.get_long() == Some(&opposite)) => {
                Ok(vec![format!("--{opposite}").into()])
            }
            Value::Bool(false) => Ok(Vec::new()),
            _ => Err(wrong("true or false")),
        };
    }
    let text = |value: &Value| match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        _ => None,
    };
    let values: Option<Vec<String>> = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(list) if matches!(arg.get_action(), ArgAction::Append) => list.iter().map(text).collect(),
        one => text(one).map(|v| vec![v]),
    };
    let values = values.ok_or_else(|| wrong("a text, a number, or a list of them if the flag takes several"))?;
    Ok(values.into_iter().map(|v| format!("--{name}={v}").into()).collect())
}
