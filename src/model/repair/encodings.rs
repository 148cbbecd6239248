//! Single-byte encodings, and UTF-8 that was read as one of them.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use encoding_rs::{
    ISO_8859_2, MACINTOSH, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1257,
};

/// Stands for a byte that was lost: the byte of U+FFFD in the encodings of Windows.
pub(super) const LOST: u8 = 0x1a;

/// Bytes 0x80 to 0xff of code page 437.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧\
    ╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// A single-byte encoding. Bytes without a character are those of Latin-1.
pub(super) struct Encoding {
    characters: [char; 256],
    bytes: HashMap<char, u8>,
    /// Whether it is one of Windows, in which U+FFFD has the byte [`LOST`].
    pub has_lost_bytes: bool,
    /// Whether a space may stand for a byte 0xa0. In Mac OS Roman, a dash before a space looks the same.
    pub has_lost_spaces: bool,
}

impl Encoding {
    fn new(character: impl Fn(u8) -> char, of_windows: bool) -> Self {
        let mut characters = std::array::from_fn(|byte| character(byte as u8));
        if of_windows {
            characters[usize::from(LOST)] = '\u{fffd}';
        }
        let bytes = (0..=255).map(|byte| (characters[usize::from(byte)], byte)).collect();
        Self { characters, bytes, has_lost_bytes: of_windows, has_lost_spaces: true }
    }

    fn of(standard: &'static encoding_rs::Encoding, of_windows: bool) -> Self {
        let known = |byte: u8| standard.decode_without_bom_handling(&[byte]).0.chars().next();
        Self::new(|byte| known(byte).filter(|&c| c != '\u{fffd}').unwrap_or(char::from(byte)), of_windows)
    }

    /// The bytes of a text. `None`: a character has none.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.bytes.get(&c).copied()).collect()
    }

    /// The character of a byte.
    pub(super) fn decode(&self, byte: u8) -> char {
        self.characters[usize::from(byte)]
    }

    /// The characters of the bytes from `from` to `to`.
    fn part(&self, from: u8, to: u8) -> impl Iterator<Item = char> {
        (from..=to).map(|byte| self.decode(byte))
    }
}

/// The encodings that text is tried in, in this order. The first seven have letters where Latin-1 has letters.
static ENCODINGS: LazyLock<[Encoding; 10]> = LazyLock::new(|| {
    let upper: Vec<char> = CODE_PAGE_437.chars().collect();
    let code_page = |byte: u8| if byte < 0x80 { char::from(byte) } else { upper[usize::from(byte) - 0x80] };
    [
        Encoding::new(char::from, false),
        Encoding::of(WINDOWS_1252, true),
        Encoding::of(WINDOWS_1251, true),
        Encoding::of(WINDOWS_1250, true),
        Encoding::of(WINDOWS_1253, true),
        Encoding::of(WINDOWS_1254, true),
        Encoding::of(WINDOWS_1257, true),
        Encoding::of(ISO_8859_2, false),
        Encoding { has_lost_spaces: false, ..Encoding::of(MACINTOSH, false) },
        Encoding::new(code_page, false),
    ]
});

/// The encodings that text is tried in, in order.
pub(super) fn encodings() -> &'static [Encoding] {
    &*ENCODINGS
}

/// Latin-1.
pub(super) fn latin1() -> &'static Encoding {
    &ENCODINGS[0]
}

/// Windows-1252.
pub(super) fn windows1252() -> &'static Encoding {
    &ENCODINGS[1]
}

/// Whether a character stands for a byte from 0x80 on in one of the encodings.
pub(super) fn is_of_upper_half(c: char) -> bool {
    static UPPER: LazyLock<HashSet<char>> =
        LazyLock::new(|| ENCODINGS.iter().flat_map(|encoding| encoding.part(0x80, 0xff)).collect());
    UPPER.contains(&c)
}

/// Characters by the part of a UTF-8 sequence that their byte is, in the encodings that resemble Latin-1.
pub(super) struct Utf8Parts {
    /// First bytes of sequences of 2, 3 and 4 bytes.
    first: [HashSet<char>; 3],
    continuation: HashSet<char>,
}

impl Utf8Parts {
    /// Number of characters of the sequence that begins a text; 0: none does.
    pub(super) fn sequence(&self, text: &[char]) -> usize {
        let begins = |k: &usize| text.first().is_some_and(|c| self.first[*k].contains(c));
        let length = (0..3).find(begins).map_or(0, |k| k + 2);
        // A no-break space is often replaced by a space.
        let continues = |c: &char| *c == ' ' || self.continuation.contains(c);
        if length > 0 && text.len() >= length && text[1..length].iter().all(continues) { length } else { 0 }
    }

    /// Whether a character continues a sequence and rarely stands for itself, as dashes, quotes and ellipses do.
    pub(super) fn only_continues(&self, c: char) -> bool {
        self.continuation.contains(&c) && !matches!(c, '\u{2013}'..='\u{201e}' | '\u{2022}' | '\u{2026}')
    }
}

/// See [`Utf8Parts`].
pub(super) fn utf8_parts() -> &'static Utf8Parts {
    static PARTS: LazyLock<Utf8Parts> = LazyLock::new(|| {
        let part = |from, to| ENCODINGS[..7].iter().flat_map(move |encoding| encoding.part(from, to)).collect();
        // Of sequences of 4 bytes, others begin with characters that do not exist.
        let mut four: HashSet<char> = part(0xf0, 0xf0);
        four.extend(part(0xf3, 0xf3));
        Utf8Parts { first: [part(0xc2, 0xdf), part(0xe0, 0xef), four], continuation: part(0x80, 0xbf) }
    });
    &PARTS
}

/// A byte of a pattern: closed ranges.
type Bytes = &'static [(u8, u8)];

const SPACE: Bytes = &[(b' ', b' ')];
const TAIL: Bytes = &[(0x80, 0xbf)];
/// Continuation bytes without 0xa0, and without 0x85, the ellipsis of Windows-1252.
const RARE_TAIL: Bytes = &[(0x80, 0x84), (0x86, 0x9f), (0xa1, 0xbf)];

/// UTF-8 sequences in which a space replaces 0xa0. Only first bytes of characters that are likely beside spaces.
const LOST_SPACES: &[&[Bytes]] = &[
    &[&[(0xc2, 0xc3), (0xc5, 0xc5), (0xce, 0xce), (0xd0, 0xd0), (0xd9, 0xd9)], SPACE],
    &[&[(0xe2, 0xe3)], SPACE, RARE_TAIL],
    &[&[(0xe0, 0xe3)], RARE_TAIL, SPACE],
    &[&[(0xf0, 0xf0)], SPACE, TAIL, TAIL],
    &[&[(0xf0, 0xf0)], TAIL, SPACE, TAIL],
    &[&[(0xf0, 0xf0)], TAIL, TAIL, SPACE],
];

const GONE: Bytes = &[(LOST, LOST)];
const GONE_OR_ASKED: Bytes = &[(LOST, LOST), (b'?', b'?')];
const TAIL_OR_GONE: Bytes = &[(LOST, LOST), (0x80, 0xbf)];
const ANY_TAIL: Bytes = &[(LOST, LOST), (b'?', b'?'), (0x80, 0xbf)];
const LEAD3: Bytes = &[(0xe0, 0xef)];
const LEAD4: Bytes = &[(0xf0, 0xf4)];
const SURROGATE: Bytes = &[(0xed, 0xed)];
const HIGH: Bytes = &[(0xa0, 0xaf)];
const LOW: Bytes = &[(0xb0, 0xbf)];

/// UTF-8 sequences, also of surrogates, in which [`LOST`] or a question mark replaces a continuation byte.
const LOST_BYTES: &[&[Bytes]] = &[
    &[&[(0xc2, 0xdf)], GONE],
    &[&[(0xc2, 0xc3)], &[(b'?', b'?')]],
    &[SURROGATE, HIGH, GONE_OR_ASKED, SURROGATE, LOW, ANY_TAIL],
    &[SURROGATE, HIGH, ANY_TAIL, SURROGATE, LOW, GONE_OR_ASKED],
    &[LEAD3, GONE_OR_ASKED, TAIL_OR_GONE],
    &[LEAD3, TAIL_OR_GONE, GONE_OR_ASKED],
    &[LEAD4, GONE_OR_ASKED, TAIL_OR_GONE, TAIL_OR_GONE],
    &[LEAD4, TAIL_OR_GONE, GONE_OR_ASKED, TAIL_OR_GONE],
    &[LEAD4, TAIL_OR_GONE, TAIL_OR_GONE, GONE_OR_ASKED],
    &[GONE],
];

/// Length of the first pattern that begins `bytes`; 0: none does.
fn matched(patterns: &[&[Bytes]], bytes: &[u8]) -> usize {
    let fits = |(set, byte): (&Bytes, &u8)| set.iter().any(|(from, to)| (from..=to).contains(&byte));
    let begins = |pattern: &&&[Bytes]| bytes.len() >= pattern.len() && pattern.iter().zip(bytes).all(fits);
    patterns.iter().find(begins).map_or(0, |pattern| pattern.len())
}

/// Replaces each part that a pattern matches.
fn replaced(patterns: &[&[Bytes]], bytes: &[u8], replace: impl Fn(&[u8], &mut Vec<u8>)) -> Vec<u8> {
    let (mut made, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, after)) = rest.split_first() {
        let length = matched(patterns, rest);
        if length == 0 {
            made.push(*first);
            rest = after;
        } else {
            replace(&rest[..length], &mut made);
            rest = &rest[length..];
        }
    }
    made
}

/// Restores bytes 0xa0 that were replaced by spaces. The first byte of `à` before a space is the word `à`, except in Portuguese
/// contractions such as `àquele`.
pub(super) fn restore_spaces(bytes: &[u8]) -> Vec<u8> {
    if (0..bytes.len()).all(|k| matched(LOST_SPACES, &bytes[k..]) == 0) {
        return bytes.to_vec();
    }
    const CONTRACTIONS: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut words = Vec::with_capacity(bytes.len());
    for (k, &byte) in bytes.iter().enumerate() {
        words.push(byte);
        let rest = bytes[k..].strip_prefix(b"\xc3 ");
        if rest.is_some_and(|rest| !CONTRACTIONS.iter().any(|end| rest.starts_with(end))) {
            words.push(0xa0);
        }
    }
    let restore = |&byte: &u8| if byte == b' ' { 0xa0 } else { byte };
    replaced(LOST_SPACES, &words, |part, made| made.extend(part.iter().map(restore)))
}

/// Replaces UTF-8 sequences that lost a byte by U+FFFD.
pub(super) fn mark_lost(bytes: &[u8]) -> Vec<u8> {
    replaced(LOST_BYTES, bytes, |_, made| made.extend("\u{fffd}".as_bytes()))
}

/// Decodes UTF-8, also with surrogate pairs of three bytes each (CESU-8) and with Java's zero, C0 80. `None`: it is none of these.
pub(super) fn decode_utf8(bytes: &[u8]) -> Option<String> {
    let (mut text, mut rest) = (String::new(), bytes);
    loop {
        let special = (0..rest.len()).find_map(|k| special(&rest[k..]).map(|(c, length)| (k, c, length)));
        let Some((at, c, length)) = special else {
            text.push_str(std::str::from_utf8(rest).ok()?);
            return Some(text);
        };
        text.push_str(std::str::from_utf8(&rest[..at]).ok()?);
        text.push(c);
        rest = &rest[at + length..];
    }
}

/// A surrogate pair or Java's zero at the beginning, with its length.
fn special(bytes: &[u8]) -> Option<(char, usize)> {
    const PAIR: &[&[Bytes]] = &[&[SURROGATE, HIGH, TAIL, SURROGATE, LOW, TAIL]];
    if bytes.starts_with(&[0xc0, 0x80]) {
        return Some(('\0', 2));
    }
    if matched(PAIR, bytes) == 0 {
        return None;
    }
    let bits = |k: usize, mask: u8| u32::from(bytes[k] & mask);
    let code = (bits(1, 0xf) << 16) + (bits(2, 0x3f) << 10) + (bits(4, 0xf) << 6) + bits(5, 0x3f);
    char::from_u32(code + 0x1_0000).map(|c| (c, 6))
}
