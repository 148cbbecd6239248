//! TIFF files: pages, tags, and the encoder (TIFF 6.0). The image crate decodes the pixels of a page.

use std::{
    borrow::Cow,
    fs::File,
    io::{Seek, SeekFrom, Write},
};

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
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const X_RESOLUTION: u16 = 282;
const Y_RESOLUTION: u16 = 283;
const RESOLUTION_UNIT: u16 = 296;
/// Tags that a page is read from, besides those that are kept.
const READ: &[u16] =
    &[SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, ifd::EXIF, ifd::GPS];
/// Tags that the decoder reads.
const DECODED: &[u16] = &[
    256,
    257,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    266,
    273,
    277,
    278,
    279,
    284,
    317,
    320,
    322,
    323,
    324,
    325,
    338,
    339,
    347,
    530,
    532,
    34675,
];
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
    /// Whether the values that the decoder reads are in the file. It would take memory for all values that an entry claims.
    pub complete: bool,
}

/// The full pages of a file, without reduced copies.
pub(super) fn pages(bytes: &[u8]) -> Vec<Page> {
    let Some(block) = Block::open(bytes) else { return Vec::new() };
    let full = |directory: &[Entry]| ifd::number(directory, SUBFILE).is_none_or(|kind| kind & 1 == 0);
    let page = |(at, directory): (u64, Vec<Entry>)| Page {
        header: block.header(at),
        exif: Tags::of(&block, &directory).into_exif(),
        density: density(&directory),
        kind: kind(&directory),
        complete: block.has_values(at, DECODED),
    };
    let wanted = |tag| exif::is_kept(tag) || READ.contains(&tag);
    block.directories(&wanted).into_iter().filter(|(_, directory)| full(directory)).map(page).collect()
}

/// Whether a file has any directory.
pub(super) fn has_directory(bytes: &[u8]) -> bool {
    Block::open(bytes).is_some_and(|block| !block.directories(&|_| false).is_empty())
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
    let (bits, compression) =
        (ifd::number(directory, BITS).unwrap_or(1), ifd::number(directory, COMPRESSION).unwrap_or(1));
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

/// How the samples of a page are stored.
#[derive(Clone, Copy)]
struct Layout {
    channels: usize,
    /// Bytes of a sample.
    bytes: usize,
    /// Bytes of a row.
    row: usize,
    /// Rows of a strip.
    rows: usize,
}

impl Layout {
    fn of(page: &Picture) -> Self {
        // The decoder does not read grey with alpha.
        let channels = if page.grey && page.frame.channels == 3 { 1 } else { page.frame.channels };
        let bytes = if page.frame.is_deep() { 2 } else { 1 };
        let row = page.frame.width * channels * bytes;
        Self { channels, bytes, row, rows: (STRIP / row).clamp(1, page.frame.height) }
    }
}

/// Appends page `k` of `count`, and writes its offset to `link`. Returns the next link. `None`: more than 4 GiB.
fn append_page(out: &mut Vec<u8>, page: &Picture, (k, count): (usize, usize), link: usize) -> Option<(usize, u32)> {
    let layout = Layout::of(page);
    let samples = match page.frame.channels {
        3 => without_repetition(&page.frame, page.grey).0,
        _ => Cow::Borrowed(&page.frame.samples),
    };
    u32::try_from(out.len() + layout.row * page.frame.height).ok()?;
    let mut strips = Vec::new();
    let mut strip = |data: &mut dyn Iterator<Item = u8>| {
        let from = out.len();
        out.extend(data);
        strips.push([from as u32, (out.len() - from) as u32]);
    };
    let length = layout.rows * layout.row;
    match &*samples {
        Samples::U8(s) => s.chunks(length).for_each(|part| strip(&mut part.iter().copied())),
        Samples::U16(s) => {
            s.chunks(length / 2).for_each(|part| strip(&mut part.iter().flat_map(|v| v.to_le_bytes())));
        }
    }
    let (at, next) = append_directory(0, out, page, &strips, (k, count))?;
    out[link..link + 4].copy_from_slice(&at.to_le_bytes());
    Some((next, at))
}

/// Appends the directory of page `k` of `count`, whose strips have these offsets and lengths, to what follows `base` bytes of a
/// file. Returns its offset and the place of the next link. `None`: more than 4 GiB.
fn append_directory(
    base: usize,
    out: &mut Vec<u8>,
    page: &Picture,
    strips: &[[u32; 2]],
    (k, count): (usize, usize),
) -> Option<(u32, usize)> {
    let Layout { channels, bytes, rows, .. } = Layout::of(page);
    let icc = page.icc.as_ref().filter(|_| !page.grey || channels < 3);
    let [offsets, lengths] = [0, 1].map(|k| strips.iter().map(|strip| strip[k]).collect::<Vec<_>>());
    let mut entries = vec![
        Entry::longs(SUBFILE, &[if count > 1 { 2 } else { 0 }]),
        Entry::longs(256, &[page.frame.width as u32]),
        Entry::longs(257, &[page.frame.height as u32]),
        Entry::shorts(BITS, &vec![8 * bytes as u16; channels]),
        Entry::shorts(COMPRESSION, &[1]),
        Entry::shorts(PHOTOMETRIC, &[if channels < 3 { 1 } else { 2 }]),
        Entry::longs(273, &offsets),
        Entry::shorts(277, &[channels as u16]),
        Entry::longs(278, &[rows as u32]),
        Entry::longs(279, &lengths),
        Entry::shorts(284, &[1]),
    ];
    if channels.is_multiple_of(2) {
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
        entries.push(Entry::longs(*tag, &[ifd::append_behind(base, out, child, (0, true))?.0]));
    }
    entries.extend(tags.into_iter().flat_map(|tags| tags.main));
    ifd::append_behind(base, out, &entries, (0, true))
}

/// Writes the rows of a picture of one page to a file.
pub(super) struct TiffRows {
    file: File,
    layout: Layout,
    /// Bytes of the next strip.
    strip: Vec<u8>,
    /// Offsets and lengths.
    strips: Vec<[u32; 2]>,
    /// Bytes that are written.
    length: usize,
}

impl TiffRows {
    /// Begins a file. The frame of `picture` is without samples.
    pub(super) fn create(file: File, picture: &Picture) -> Result<Self> {
        let layout = Layout::of(picture);
        let (strip, strips) = (Vec::with_capacity(layout.rows * layout.row), Vec::new());
        let mut rows = Self { file, layout, strip, strips, length: 0 };
        u32::try_from(layout.row.saturating_mul(picture.frame.height)).map_err(|_| too_large())?;
        rows.put(b"II*\0\0\0\0\0")?;
        Ok(rows)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(failed)?;
        self.length += bytes.len();
        Ok(())
    }

    /// Writes samples of the channels that the file stores.
    pub(super) fn write(&mut self, samples: &Samples) -> Result<()> {
        let full = self.layout.rows * self.layout.row / self.layout.bytes;
        let count = match samples {
            Samples::U8(s) => s.len(),
            Samples::U16(s) => s.len(),
        };
        let mut from = 0;
        while from < count {
            let end = count.min(from + full - self.strip.len() / self.layout.bytes);
            match samples {
                Samples::U8(s) => self.strip.extend(&s[from..end]),
                Samples::U16(s) => self.strip.extend(s[from..end].iter().flat_map(|v| v.to_le_bytes())),
            }
            if self.strip.len() == full * self.layout.bytes {
                self.end_strip()?;
            }
            from = end;
        }
        Ok(())
    }

    fn end_strip(&mut self) -> Result<()> {
        let mut strip = std::mem::take(&mut self.strip);
        self.strips.push([self.length as u32, strip.len() as u32]);
        self.put(&strip)?;
        strip.clear();
        self.strip = strip;
        Ok(())
    }

    /// Writes the directory.
    pub(super) fn finish(mut self, picture: &Picture) -> Result<()> {
        if !self.strip.is_empty() {
            self.end_strip()?;
        }
        if self.length != 8 + self.layout.row * picture.frame.height {
            return Err(Error::failed("encoding TIFF: rows are missing"));
        }
        let mut tail = Vec::new();
        let directory = append_directory(self.length, &mut tail, picture, &self.strips, (0, 1));
        let (at, _) = directory.ok_or_else(too_large)?;
        self.put(&tail)?;
        self.file.seek(SeekFrom::Start(4)).and_then(|_| self.file.write_all(&at.to_le_bytes())).map_err(failed)
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::failed(format!("encoding TIFF: {e}"))
}
