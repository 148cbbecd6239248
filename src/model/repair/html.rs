//! Character references of HTML, as Python's `html` module and ftfy decode them.

use htmlize::ENTITIES;

use super::mojibake::replace_controls;

/// Most characters of a reference after the `&`.
const LONGEST: usize = 32;

/// Decodes all references, also those without a semicolon that HTML allows, as Python's `html.unescape`.
pub(crate) fn unescape(text: &str) -> String {
    replaced(text, |rest| {
        let Some(numeric) = rest.strip_prefix("&#") else { return named(rest) };
        let hexadecimal = numeric.starts_with(['x', 'X']);
        let (digits, radix) = if hexadecimal { (&numeric[1..], 16) } else { (numeric, 10) };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        if end == 0 {
            return None;
        }
        let length = rest.len() - digits.len() + end;
        let closed = usize::from(rest[length..].starts_with(';'));
        Some((character(&digits[..end], radix), length + closed))
    })
}

/// Decodes references that are unambiguous: with a semicolon, and also named ones in capitals, as ftfy's `unescape_html`.
pub(super) fn unescape_closed(text: &str) -> String {
    replaced(text, |rest| {
        let end = rest.find(';')?;
        let (reference, name) = (&rest[..=end], rest[1..end].trim_start_matches('#'));
        let plain = (1..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || end - 1 - name.len() > 1 {
            return None;
        }
        let known = entity(reference).map(str::to_owned).or_else(|| capitals(reference));
        let found = if reference.starts_with("&#") {
            // A reference of the semicolon itself stays, as in the reference implementation.
            Some(unescape(reference)).filter(|decoded| !decoded.contains(';'))
        } else {
            known
        };
        found.map(|decoded| (decoded, reference.len()))
    })
}

/// Replaces what `decode` finds at a `&`: the text, and the bytes that it replaces.
fn replaced(text: &str, decode: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let (mut made, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        let (decoded, length) = decode(rest).unwrap_or_else(|| ("&".into(), 1));
        made.push_str(&decoded);
        rest = &rest[length..];
    }
    made + rest
}

/// The text of a reference with its `&` and, unless HTML allows it to be left out, its semicolon.
fn entity(reference: &str) -> Option<&'static str> {
    ENTITIES.get(reference.as_bytes()).and_then(|text| std::str::from_utf8(text).ok())
}

/// The longest named reference at the beginning.
fn named(rest: &str) -> Option<(String, usize)> {
    let stops = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let characters = rest[1..].char_indices().take(LONGEST);
    let end = characters.take_while(|(_, c)| !stops(*c)).last().map(|(k, c)| 1 + k + c.len_utf8())?;
    let closed = end + usize::from(rest[end..].starts_with(';'));
    let shorter = (3..end).rev().filter(|&k| rest.is_char_boundary(k));
    let mut found = [closed].into_iter().chain(shorter).filter_map(|length| Some((entity(&rest[..length])?, length)));
    found.next().map(|(text, length)| (text.to_owned(), length))
}

/// A reference in capitals of which HTML has the small letters only: `&NTILDE;`.
fn capitals(reference: &str) -> Option<String> {
    let is_capital = reference.bytes().all(|b| !b.is_ascii_lowercase()) && named(reference).is_none();
    let small = is_capital.then(|| entity(&reference.to_ascii_lowercase())).flatten();
    small.map(str::to_uppercase)
}

/// The text of a number, after HTML's rules for invalid ones: none for control characters and for code points that are no
/// characters.
fn character(digits: &str, radix: u32) -> String {
    // A number that is too large is none of a character either.
    let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    let replaced = match number {
        0 => Some('\u{fffd}'),
        0x0d => Some('\r'),
        0x80..=0x9f => replace_controls(&char::from(number as u8).to_string()).chars().next(),
        _ => None,
    };
    let invalid = matches!(number, 0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef)
        || (number & 0xfffe == 0xfffe && number <= 0x10_ffff);
    match replaced {
        Some(c) => c.into(),
        None if invalid => String::new(),
        None => char::from_u32(number).unwrap_or('\u{fffd}').into(),
    }
}
