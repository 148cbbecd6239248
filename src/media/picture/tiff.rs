//! TIFF files: pages, tags, and the encoder (TIFF 6.0). The image crate decodes the pixels of a page.

use std::borrow::Cow;

use super::{
    Density, Picture,
    eight_bit::without_repetition,
    exif::{self, Tags},
    ifd::{self, Block, Entry},
};
use crate::{
    error::{Error, Result},
    tensor::Samples,
};

const SUBFILE: u16 = 254;
const PHOTOMETRIC: u16 = 262;
const X_RESOLUTION: u16 = 282;
const Y_RESOLUTION: u16 = 283;
const RESOLUTION_UNIT: u16 = 296;
/// Bytes of a strip.
const STRIP: usize = 1 << 20;

/// A page of a file.
pub(super) struct Page {
    /// The header of a file whose first page is this one.
    pub header: Vec<u8>,
    /// The tags that describe the picture.
    pub exif: Option<Vec<u8>>,
    /// Its resolution.
    pub density: Option<Density>,
    /// Photometric interpretation, bits and compression, for messages.
    pub kind: String,
}

/// The full pages of a file, without reduced copies.
pub(super) fn pages(bytes: &[u8]) -> Vec<Page> {
    let Some(block) = Block::open(bytes) else { return Vec::new() };
    let full = |directory: &[Entry]| ifd::number(directory, SUBFILE).is_none_or(|kind| kind & 1 == 0);
    let page = |(at, directory): (u64, Vec<Entry>)| Page {
        header: block.header(at),
        exif: Tags::of(block, &directory).into_exif(),
        density: density(&directory),
        kind: kind(&directory),
    };
    block.directories().into_iter().filter(|(_, directory)| full(directory)).map(page).collect()
}

/// Whether a file has any directory.
pub(super) fn has_directory(bytes: &[u8]) -> bool {
    Block::open(bytes).is_some_and(|block| !block.directories().is_empty())
}

fn density(directory: &[Entry]) -> Option<Density> {
    let unit = match ifd::number(directory, RESOLUTION_UNIT).unwrap_or(2) {
        2 => 1.0 / 0.0254,
        3 => 100.0,
        _ => return None,
    };
    let value = |tag| ifd::find(directory, tag)?.ratio();
    Some(Density { x: value(X_RESOLUTION)? * unit, y: value(Y_RESOLUTION)? * unit })
}

/// `palette, 8 bits, compression 5`
fn kind(directory: &[Entry]) -> String {
    let photometric = match ifd::number(directory, PHOTOMETRIC) {
        Some(0 | 1) => "grey".into(),
        Some(2) => "RGB".into(),
        Some(3) => "palette".into(),
        Some(5) => "CMYK".into(),
        Some(6) => "YCbCr".into(),
        Some(8..=10) => "Lab".into(),
        Some(32803) => "raw data of a camera".into(),
        other => format!("photometric interpretation {}", other.unwrap_or_default()),
    };
    let (bits, compression) = (ifd::number(directory, 258).unwrap_or(1), ifd::number(directory, 259).unwrap_or(1));
    format!("{photometric}, {bits} bits, compression {compression}")
}

/// Encodes a picture and its further pages: strips without compression, ICC profile, resolution, EXIF and GPS directories.
///
/// Errors: more than 4 GiB.
pub(super) fn encode(picture: &Picture) -> Result<Vec<u8>> {
    let count = 1 + picture.pages.len();
    let mut out = b"II*\0\0\0\0\0".to_vec();
    let mut link = 4;
    for (k, page) in std::iter::once(picture).chain(&picture.pages).enumerate() {
        (link, _) = append_page(&mut out, page, (k, count), link).ok_or_else(too_large)?;
    }
    Ok(out)
}

fn too_large() -> Error {
    Error::usage("a TIFF holds at most 4 GiB; use .png")
}

/// Appends page `k` of `count`, and writes its offset to `link`. Returns the next link. `None`: more than 4 GiB.
fn append_page(out: &mut Vec<u8>, page: &Picture, (k, count): (usize, usize), link: usize) -> Option<(usize, u32)> {
    let (samples, channels) = match page.frame.channels {
        3 => without_repetition(page),
        // The decoder does not read grey with alpha.
        channels => (Cow::Borrowed(&page.frame.samples), channels),
    };
    let icc = page.icc.as_ref().filter(|_| !page.grey || channels < 3);
    let (width, height) = (page.frame.width, page.frame.height);
    let bytes = if page.frame.is_deep() { 2 } else { 1 };
    let row = width * channels * bytes;
    u32::try_from(out.len() + row * height).ok()?;
    let rows = (STRIP / row).clamp(1, height);
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    let mut strip = |data: &mut dyn Iterator<Item = u8>| {
        offsets.push(out.len() as u32);
        out.extend(data);
        lengths.push((out.len() - offsets[offsets.len() - 1] as usize) as u32);
    };
    match &*samples {
        Samples::U8(s) => s.chunks(rows * row).for_each(|part| strip(&mut part.iter().copied())),
        Samples::U16(s) => {
            s.chunks(rows * row / 2).for_each(|part| strip(&mut part.iter().flat_map(|v| v.to_le_bytes())));
        }
    }
    let alpha = channels.is_multiple_of(2);
    let mut entries = vec![
        Entry::longs(SUBFILE, &[if count > 1 { 2 } else { 0 }]),
        Entry::longs(256, &[width as u32]),
        Entry::longs(257, &[height as u32]),
        Entry::shorts(258, &vec![8 * bytes as u16; channels]),
        Entry::shorts(259, &[1]),
        Entry::shorts(PHOTOMETRIC, &[if channels < 3 { 1 } else { 2 }]),
        Entry::longs(273, &offsets),
        Entry::shorts(277, &[channels as u16]),
        Entry::longs(278, &[rows as u32]),
        Entry::longs(279, &lengths),
        Entry::shorts(284, &[1]),
    ];
    if alpha {
        // Straight alpha.
        entries.push(Entry::shorts(338, &[2]));
    }
    if let (Ok(k), Ok(count), true) = (u16::try_from(k), u16::try_from(count), count > 1) {
        entries.push(Entry::shorts(297, &[k, count]));
    }
    entries.extend(icc.map(|icc| Entry::undefined(34675, icc.clone())));
    if let Some(Density { x, y }) = page.density {
        let per_inch = |tag, value: f64| match (value * 0.0254, (value * 0.0254).round()) {
            (exact, whole) if (exact - whole).abs() < 0.01 => Entry::rational(tag, whole as u32, 1),
            (exact, _) => Entry::rational(tag, (exact * 1000.0).round() as u32, 1000),
        };
        entries.extend([per_inch(X_RESOLUTION, x), per_inch(Y_RESOLUTION, y), Entry::shorts(RESOLUTION_UNIT, &[2])]);
    }
    let tags = exif::with_parameters(page).map(|exif| Tags::of_exif(&exif));
    for (tag, child) in tags.iter().flat_map(|tags| &tags.children) {
        entries.push(Entry::longs(*tag, &[ifd::append(out, child, 0, true)?.0]));
    }
    entries.extend(tags.into_iter().flat_map(|tags| tags.main));
    let (at, next) = ifd::append(out, &entries, 0, true)?;
    out[link..link + 4].copy_from_slice(&at.to_le_bytes());
    Some((next, at))
}
