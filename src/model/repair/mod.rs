//! Repair of text as ftfy does it, for pipelines whose prompts pass through it before they are tokenized: characters of another
//! width, ligatures, curly quotes, control characters, HTML references, and text that was decoded wrongly.
//!
//! After ftfy 6.3.1 (`fix_text` with its defaults), which the goldens of `scripts/reference/prompts.py` come from.

mod encodings;
mod html;
mod mojibake;
mod suspicion;

pub(crate) use html::unescape;
use mojibake::{decode_again, replace_controls};
use unicode_normalization::UnicodeNormalization;

/// Most rounds of repair. One is usual: the second finds nothing.
const MOST_ROUNDS: usize = 32;

/// Repairs text, line by line.
pub(crate) fn repair(text: &str) -> String {
    let mut references = true;
    let line = |line: &str| {
        // What has a tag is HTML, and so is what follows.
        references &= !line.contains('<');
        let mut line = line.to_owned();
        for _ in 0..MOST_ROUNDS {
            let repaired = round(&line, references);
            if repaired == line {
                break;
            }
            line = repaired;
        }
        line
    };
    text.split_inclusive('\n').map(line).collect()
}

fn round(line: &str, references: bool) -> String {
    let text = if references { html::unescape_closed(line) } else { line.to_owned() };
    let text = replace_controls(&decode_again(&text));
    let text: String = text.chars().map(plain_letters).collect();
    let text: String = text.chars().map(plain_width).collect();
    let text: String = text.chars().map(plain_quote).collect();
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
    let text = without_terminal_escapes(&text);
    text.chars().filter(|c| !is_hidden(*c)).nfc().collect()
}

/// The letters of a Latin ligature, else the character.
fn plain_letters(c: char) -> String {
    match c {
        'ﬅ' => "ſt".into(),
        'Ĳ' | 'ĳ' | 'ŉ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬆ' => c.nfkc().collect(),
        _ => c.into(),
    }
}

/// The character of usual width.
fn plain_width(c: char) -> String {
    match c {
        '\u{3000}' => " ".into(),
        '\u{ff01}'..='\u{ffef}' => c.nfkc().collect(),
        _ => c.into(),
    }
}

fn plain_quote(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        c => c,
    }
}

/// Removes colours and cursor movements of terminals: ESC, `[`, numbers, a letter.
fn without_terminal_escapes(text: &str) -> String {
    let (mut made, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("\u{1b}[") {
        let after = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        let ends = after.starts_with(|c: char| c.is_ascii_alphabetic());
        let end = if ends { rest.len() - after.len() + 1 } else { at + 2 };
        made.push_str(&rest[..if ends { at } else { end }]);
        rest = &rest[end..];
    }
    made + rest
}

/// Control characters without an effect on text. White space and those of writing direction stay.
fn is_hidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffc}')
}
