//! A small reader of Rust source text: what a file imports, names and writes as string literals.

use std::{collections::BTreeSet, ops::Range};

/// A path that a file mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Segments as written: `crate`, `media`, `Frame`. Groups are expanded, aliases resolved to what they stand for.
    pub(crate) path: Vec<String>,
    /// The name that a `use` item binds, `*` for a glob; `None` for a path inside code.
    pub(crate) binds: Option<String>,
    /// Whether the `use` item has a visibility (`pub`, `pub(crate)`, …).
    pub(crate) public: bool,
}

/// Every path of the code: those of `use` items, then those with `::` elsewhere.
pub(crate) fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if is_use_item(&tokens, at) {
            let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
            let first = at + 1 + usize::from(tokens.get(at + 1).is_some_and(|next| next == "::"));
            at = use_tree(&tokens, first, &[], public, &mut found);
        } else if is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|next| next == "::") && tokens.get(at + 2).is_some_and(|n| is_name(n))
            {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            // A lone name is a generic call: `parse::<u32>`.
            if path.len() > 1 {
                found.push(Mention { path, binds: None, public: false });
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the use tree that starts at `at`; returns the index after it.
fn use_tree(tokens: &[String], mut at: usize, before: &[String], public: bool, found: &mut Vec<Mention>) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                at = use_tree(tokens, at, &path, public, found);
                at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
            }
            return at + 1;
        }
        if token == "*" {
            found.push(Mention { path, binds: Some("*".into()), public });
            return at + 1;
        }
        if !is_name(token) {
            return at + 1;
        }
        if token != "self" || path.is_empty() {
            path.push(token.clone());
        }
        at += 1;
        if tokens.get(at).is_some_and(|next| next == "::") {
            at += 1;
            continue;
        }
        let alias = tokens.get(at).is_some_and(|next| next == "as").then(|| tokens[at + 1].clone());
        at += if alias.is_some() { 2 } else { 0 };
        let binds = alias.or_else(|| path.last().cloned());
        found.push(Mention { path, binds, public });
        return at;
    }
    at
}

/// The names in the code outside of `use` items and `mod` declarations, without methods, fields and ends of paths.
pub(crate) fn names_in_bodies(code: &str) -> BTreeSet<String> {
    let (mut names, mut skipping, tokens) = (BTreeSet::new(), false, tokens(code));
    for (at, token) in tokens.iter().enumerate() {
        skipping |= is_use_item(&tokens, at) || token == "mod";
        if token == ";" {
            skipping = false;
        } else if !skipping && is_name(token) && (at == 0 || ![".", "::", "fn"].contains(&&*tokens[at - 1])) {
            names.insert(token.clone());
        }
    }
    names
}

/// Whether a `use` item starts at `at`; `use<'a>` in a return type is none.
fn is_use_item(tokens: &[String], at: usize) -> bool {
    tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<")
}

/// Whether the code defines an item of this name: a function, a type, a trait, a constant.
pub(crate) fn defines(code: &str, name: &str) -> bool {
    let tokens = tokens(code);
    let keyword = |token: &str| ["fn", "struct", "enum", "trait", "const", "static", "type", "union"].contains(&token);
    tokens.windows(2).any(|pair| keyword(&pair[0]) && pair[1] == name)
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

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The contents of the string literals of `text` outside of comments and `#[cfg(test)]` items.
pub(crate) fn strings(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let tests = test_items(&code_only(text));
    while at < chars.len() {
        if let Some(end) = comment_end(&chars, at).or_else(|| char_end(&chars, at)) {
            at = end;
        } else if let Some(end) = string_end(&chars, at) {
            let literal: String = chars[at..end].iter().collect();
            if !tests.iter().any(|item| item.contains(&at)) {
                found.push(literal.trim_start_matches('r').trim_matches('#').trim_matches('"').to_owned());
            }
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The text with comments, strings and character literals blanked; every character keeps its place.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut kept, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let end = comment_end(&chars, at).or_else(|| string_end(&chars, at)).or_else(|| char_end(&chars, at));
        let Some(end) = end else {
            kept.push(chars[at]);
            at += 1;
            continue;
        };
        kept.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
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

/// The code ([`code_only`]) with its `#[cfg(test)]` items blanked; every character keeps its place.
pub(crate) fn without_tests(code: &str) -> String {
    let tests = test_items(code);
    let blank = |(at, c)| if c != '\n' && tests.iter().any(|item| item.contains(&at)) { ' ' } else { c };
    code.chars().enumerate().map(blank).collect()
}

/// Character ranges of the `#[cfg(test)]` items of the code ([`code_only`]).
fn test_items(code: &str) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let chars: Vec<char> = code.chars().collect();
    let mark: Vec<char> = MARK.chars().collect();
    let (mut items, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        if !chars[at..].starts_with(&mark) {
            at += 1;
            continue;
        }
        let (start, mut depth) = (at, 0);
        at += mark.len();
        while at < chars.len() {
            depth += i32::from(chars[at] == '{') - i32::from(chars[at] == '}');
            at += 1;
            if depth == 0 && matches!(chars[at - 1], '}' | ';') {
                break;
            }
        }
        items.push(start..at);
    }
    items
}
