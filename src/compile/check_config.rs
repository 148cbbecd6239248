//! Checks a component's `config.json` against its weights.
//!
//! Networks are built from the shapes of the weights. A config that contradicts them belongs to another checkpoint.

use serde_json::Value;

use crate::{
    arch::{ConfigChecks, Fact},
    error::{Error, Result},
    weights::Checkpoint,
};

/// Compares the entries of `config` with the weights. Missing and null entries are skipped.
///
/// # Errors
/// Every entry that the weights contradict, in one message.
pub(super) fn check_config(checks: &ConfigChecks, config: &Value, c: &Checkpoint) -> Result<()> {
    let config = checks.section.and_then(|section| config.get(section)).unwrap_or(config);
    let wrong: Vec<String> = checks
        .entries
        .iter()
        .filter_map(|(key, fact)| {
            let stated = config.get(*key).filter(|v| !v.is_null())?;
            let found = actual(fact, checks.prefixes, c)?;
            (*stated != found).then(|| format!("{key} is {stated} and the weights have {found}"))
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (origin, wrong) = (c.origin().display(), wrong.join(", "));
    Err(Error::failed(format!("{origin}: config.json does not match the weights: {wrong}; download both again")))
}

/// The value in the weights, under the first prefix that has it.
fn actual(fact: &Fact, prefixes: &[&str], c: &Checkpoint) -> Option<Value> {
    let under = |name: &str, p: &str| format!("{p}{name}");
    match fact {
        Fact::Extent(name, axis) => {
            let tensor = prefixes.iter().find_map(|p| c.get(&under(name, p)))?;
            tensor.shape.get(*axis).map(|&n| n.into())
        }
        Fact::Count(list) => prefixes.iter().find_map(|p| c.sequence_len(&under(list, p))).map(Value::from),
        Fact::Present(name) => Some(c.names().any(|n| prefixes.iter().any(|p| n.starts_with(&under(name, p)))).into()),
    }
}
