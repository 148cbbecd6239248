//! Text that was encoded in UTF-8 and decoded as something else.

use super::{
    encodings::{decode_utf8, encodings, latin1, mark_lost, restore_spaces, utf8_parts, windows1252},
    suspicion::is_suspicious,
};

/// Most layers of wrong decoding that are undone.
const MOST_LAYERS: usize = 32;

/// Undoes wrong decodings while the text looks like one.
pub(super) fn decode_again(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MOST_LAYERS {
        match decode_once(&text) {
            Some(better) if better != text => text = better,
            _ => break,
        }
    }
    text
}

/// Undoes one layer. `None`: the text looks right, or nothing fits.
fn decode_once(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    if !is_suspicious(&characters) {
        return None;
    }
    for encoding in encodings() {
        let Some(mut bytes) = encoding.encode(text) else { continue };
        if encoding.has_lost_spaces {
            bytes = restore_spaces(&bytes);
        }
        if encoding.has_lost_bytes {
            bytes = mark_lost(&bytes);
        }
        if let Some(decoded) = decode_utf8(&bytes) {
            return Some(decoded);
        }
    }
    let parts = decode_parts(&characters);
    if parts != text {
        return Some(parts);
    }
    // Control characters of Latin-1 are never meant: the text was Windows-1252.
    let windows = |byte: u8| match byte {
        0..0x80 => Some(char::from(byte)),
        _ => Some(windows1252().decode(byte)).filter(|c| !is_control(*c)),
    };
    let whole = latin1().encode(text).and_then(|bytes| bytes.into_iter().map(windows).collect::<Option<String>>());
    Some(whole.filter(|whole| whole != text).unwrap_or_else(|| replace_controls(text)))
}

/// Decodes the parts that look like UTF-8 sequences, for text that was put together from several encodings.
fn decode_parts(text: &[char]) -> String {
    let (parts, mut made, mut k) = (utf8_parts(), String::new(), 0);
    while k < text.len() {
        let begins = k == 0 || !parts.only_continues(text[k - 1]);
        let mut end = k;
        while begins && end < text.len() {
            match parts.sequence(&text[end..]) {
                0 => break,
                length => end += length,
            }
        }
        let part = &text[k..end.max(k + 1)];
        let word: String = part.iter().collect();
        // The whole text was tried before.
        let is_part = end > k && part.len() < text.len();
        made += &if is_part && is_suspicious(part) { decode_again(&word) } else { word };
        k += part.len();
    }
    made
}

fn is_control(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}')
}

/// Replaces control characters from U+0080 on by the characters of Windows-1252.
pub(super) fn replace_controls(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { windows1252().decode(c as u8) } else { c }).collect()
}
