//! Whether text looks wrongly decoded: sequences of characters that are rare in text and frequent in UTF-8 that was read as a
//! single-byte encoding, such as an accented small letter before a currency sign. The rules are those of ftfy 6.3.1 `badness.py`.

use unicode_normalization::char::is_combining_mark;

use super::encodings::is_of_upper_half;

/// Classes of characters. A character may have several.
type Classes = u32;

/// Frequent in text beside anything.
const COMMON: Classes = 1;
/// Control characters from U+0080 on.
const CONTROL: Classes = 1 << 1;
/// Hardly ever used on purpose.
const RARE: Classes = 1 << 2;
const LAW: Classes = 1 << 3;
const CURRENCY: Classes = 1 << 4;
/// Punctuation that begins a part.
const OPENING: Classes = 1 << 5;
/// Punctuation that ends a part.
const CLOSING: Classes = 1 << 6;
const NUMERIC: Classes = 1 << 7;
/// Letters that draw faces.
const FACE: Classes = 1 << 8;
/// Accented Latin capitals.
const UPPER: Classes = 1 << 9;
/// Accented Latin small letters.
const LOWER: Classes = 1 << 10;
/// Greek and Cyrillic capitals.
const FOREIGN_UPPER: Classes = 1 << 11;
/// Greek and Cyrillic small letters.
const FOREIGN_LOWER: Classes = 1 << 12;
/// Box drawing.
const BOX: Classes = 1 << 13;
const ASCII_UPPER: Classes = 1 << 14;
const ASCII_LOWER: Classes = 1 << 15;
const NOT_ASCII_LETTER: Classes = 1 << 16;
const SPACE: Classes = 1 << 17;
/// Letters and digits of every script.
const WORD: Classes = 1 << 18;
const NOT_LINE_END: Classes = 1 << 19;

fn classes(c: char) -> Classes {
    let mut found = own_class(c);
    let mut add = |class: Classes, is: bool| found |= if is { class } else { 0 };
    add(FACE, matches!(c, 'Ò'..='Ö' | 'Ù'..='Ü' | 'ò'..='ö' | 'ø'..='ü' | 'Ő' | 'Ō' | 'Ū' | 'Ų' | '°'));
    add(ASCII_UPPER, c.is_ascii_uppercase());
    add(ASCII_LOWER, c.is_ascii_lowercase());
    add(NOT_ASCII_LETTER, !c.is_ascii_alphabetic());
    add(SPACE, c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}'));
    add(WORD, c == '_' || (c.is_alphanumeric() && !is_combining_mark(c)));
    add(NOT_LINE_END, c != '\n');
    found
}

fn own_class(c: char) -> Classes {
    match c {
        '\u{a0}' | '\u{ad}' | '·' | '´' | '–' | '—' | '―' | '…' | '’' => COMMON,
        '\u{80}'..='\u{9f}' => CONTROL,
        '¦' | '¤' | '¨' | '¬' | '¯' | '¸' | 'ƒ' | 'ˆ' | 'ˇ' | '˘' | '˛' | '˜' | '†' | '‡' | '‰' | '⌐' | '◊'
        | '\u{fffd}' | 'ª' | 'º' => RARE,
        '¶' | '§' => LAW,
        '¢' | '£' | '¥' | '₧' | '€' => CURRENCY,
        '¡' | '«' | '¿' | '©' | '΄' | '΅' | '‘' | '‚' | '“' | '„' | '•' | '‹' | '\u{f8ff}' => OPENING,
        '®' | '»' | '˝' | '”' | '›' | '™' => CLOSING,
        '²' | '³' | '¹' | '±' | '¼' | '½' | '¾' | '×' | 'µ' | '÷' | '⁄' | '∂' | '∆' | '∏' | '∑' | '√' | '∞' | '∩'
        | '∫' | '≈' | '≠' | '≡' | '≤' | '≥' | '№' => NUMERIC,
        // A single horizontal line may be part of a face.
        '│' | '┌' | '┐' | '┘' | '├' | '┤' | '┬' | '┼' | '═'..='╬' | '▀' | '▄' | '█' | '▌' | '▐' | '░' | '▒' | '▓' => {
            BOX
        }
        'Α'..='\u{3a9}' | 'Ά' | 'Έ' | 'Ή' | 'Ί' | 'Ό' | 'Ύ' | 'Ώ' | 'Ϊ' | 'Ϋ' | 'Ё'..='Я' | 'Þ' => {
            FOREIGN_UPPER
        }
        'α'..='ω' | 'ά' | 'έ' | 'ή' | 'ί' | 'ΰ' | 'а'..='џ' => FOREIGN_LOWER,
        'Ґ' | 'Ü' => UPPER,
        'ґ' | 'ü' => LOWER,
        c if is_face_or_plain(c) || !is_of_upper_half(c) => 0,
        c if is_latin(c) && c.is_uppercase() => UPPER,
        c if is_latin(c) && c.is_lowercase() => LOWER,
        _ => 0,
    }
}

fn is_latin(c: char) -> bool {
    matches!(c, '\u{c0}'..='\u{24f}' | 'ﬁ' | 'ﬂ')
}

/// Latin letters that say nothing: those of faces, and those that are rarely part of a UTF-8 sequence.
fn is_face_or_plain(c: char) -> bool {
    let face = matches!(c, 'Ò'..='Ö' | 'Ù'..='Û' | 'ò'..='ö' | 'ø'..='û' | 'Ő' | 'Ō' | 'Ū' | 'Ų');
    face || "ĮŔŖýþÿıńņňōőŗřţūůűų".contains(c)
}

/// A character of a rule: one of these classes, or one of these characters.
type Set = (Classes, &'static str);

const LETTERS: Classes = UPPER | LOWER;
const MARKS: Classes = OPENING | CLOSING | CURRENCY | NUMERIC | LAW;
const CYRILLIC: Set = (0, "ВГРС");
const GREEK: Set = (0, "ΒΓΞΟ");
/// What follows Ø and Ù in Arabic that was read as Windows-1252.
const ARABIC: Set = (COMMON | CURRENCY | RARE | NUMERIC | OPENING, "ŸŠ®°µ»");
const FOREIGN_MARK: Classes = CONTROL | RARE | OPENING | CLOSING | CURRENCY;

/// Suspicious sequences.
const RULES: &[&[Set]] = &[
    &[(CONTROL, "")],
    &[(RARE | LETTERS | BOX | MARKS, ""), (RARE, "")],
    &[(ASCII_UPPER | ASCII_LOWER, ""), (FOREIGN_LOWER | FOREIGN_UPPER, ""), (RARE, "")],
    &[(RARE, ""), (LETTERS | BOX | MARKS, "")],
    &[(LOWER | FOREIGN_LOWER | BOX | CLOSING | CURRENCY | NUMERIC, ""), (UPPER, "")],
    &[(BOX | CLOSING | CURRENCY | NUMERIC, ""), (LOWER, "")],
    &[(LOWER | BOX | CLOSING, ""), (CURRENCY, "")],
    &[(SPACE, ""), (UPPER, ""), (CURRENCY, "")],
    &[(UPPER | BOX, ""), (NUMERIC | LAW, "")],
    &[(LETTERS | BOX | CURRENCY | CLOSING, ""), (OPENING, ""), (NUMERIC, "")],
    &[(LETTERS | CURRENCY | NUMERIC | BOX | LAW, ""), (CLOSING, ""), (OPENING, "")],
    &[(CURRENCY | NUMERIC | BOX, ""), (OPENING, "")],
    &[(ASCII_LOWER, ""), (UPPER, ""), (OPENING | CURRENCY, "")],
    &[(BOX, ""), (FACE, "")],
    &[(LETTERS | MARKS, ""), (BOX, "")],
    &[(BOX, ""), (CLOSING, "")],
    &[(LETTERS, ""), (OPENING | CLOSING, ""), (WORD, "")],
    &[(0, "Œœ"), (NOT_ASCII_LETTER, "")],
    &[(UPPER, ""), (0, "°")],
    // Windows-1252.
    &[(0, "ÂÃÎÐ"), (OPENING | CLOSING, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´")],
    &[(0, "×"), (0, "²³")],
    &[(0, "ØÙ"), ARABIC, (0, "ØÙ"), ARABIC],
    &[(0, "à"), (0, "²µ¹¼½¾")],
    &[(0, "Ã"), (0, "\u{a0}¡")],
    &[(ASCII_LOWER, ""), (0, "ÃÂ"), (0, " ")],
    &[(ASCII_LOWER, ""), (SPACE, ""), (0, "ÃÂ"), (0, " ")],
    &[(ASCII_LOWER | CLOSING, ".,?!"), (0, "Â"), (OPENING | CLOSING, " ")],
    // Mac OS Roman.
    &[(0, "√"), (0, "±∂†≠®™´≤≥¥µø")],
    &[(0, "≈"), (0, "°¢")],
    &[(0, "‚"), (0, "Ä"), (0, "ìîïòôúùû†°¢π")],
    &[(0, "‚"), (0, "âó"), (0, "àä°ê")],
    // Windows-1251.
    &[(0, "в"), (0, "Ђ")],
    &[CYRILLIC, (FOREIGN_MARK, "°µ"), CYRILLIC],
    &[(0, "Г"), (0, "ў"), (0, "В"), (0, "Ђ"), (0, "В"), (NOT_LINE_END, ""), (ASCII_UPPER | ASCII_LOWER, " ")],
    // Windows-1253.
    &[(0, "β"), (0, "€"), (0, "™\u{a0}Ά\u{ad}®°")],
    &[GREEK, (FOREIGN_MARK, "°"), GREEK],
    // Windows-1257.
    &[(0, "ā"), (0, "€")],
];

/// Whether text looks wrongly decoded.
pub(super) fn is_suspicious(text: &[char]) -> bool {
    if text.iter().all(char::is_ascii) {
        return false;
    }
    let found: Vec<Classes> = text.iter().map(|&c| classes(c)).collect();
    let fits = |(k, (wanted, characters)): (usize, &Set)| found[k] & wanted != 0 || characters.contains(text[k]);
    let begins = |k: usize, rule: &&&[Set]| text.len() - k >= rule.len() && (k..).zip(rule.iter()).all(fits);
    let cut_short = matches!(text, ['Ã' | 'Â', ' ', ..]);
    cut_short || (0..text.len()).any(|k| RULES.iter().any(|rule| begins(k, &rule)))
}
