//! Parses the marker structure of a JPEG file (ITU-T T.81 annex B): truncated files, whose missing data decoders fill with grey,
//! and what decoders do not return: comments, resolution, quantisation.

use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};

use super::Density;

/// The segments of a file that the decoder does not return.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Header {
    /// The number of components: 1 grey, 3 YCbCr, 4 CMYK.
    pub components: u8,
    /// Comments. Text that is not UTF-8 is read as Latin-1.
    pub comments: Vec<String>,
    /// The resolution in the JFIF segment.
    pub density: Option<Density>,
    /// Quantisation tables by number, in zigzag order.
    tables: [Option<Vec<u16>>; 4],
}

/// Reads the segments up to the end marker. Errors: a phrase, if the file ends before it.
pub(super) fn header(bytes: &[u8]) -> Result<Header, &'static str> {
    const CUT: &str = "it has no end marker";
    let mut header = Header::default();
    let mut at = 2;
    loop {
        // Segments follow each other. Within a scan, 0xFF is followed by 0 (stuffing) or a restart marker.
        let (marker, length) = loop {
            match (bytes.get(at).ok_or(CUT)?, bytes.get(at + 1).ok_or(CUT)?) {
                (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
                (0xff, 0xff) => at += 1,
                (0xff, 0xd9) => {
                    return if header.components > 0 { Ok(header) } else { Err("it has no frame header") };
                }
                (0xff, marker) => {
                    let length = bytes.get(at + 2..at + 4).ok_or(CUT)?;
                    break (*marker, usize::from(u16::from_be_bytes([length[0], length[1]])));
                }
                _ => at += 1,
            }
        };
        let data = bytes.get(at + 4..at + 2 + length).unwrap_or_default();
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => header.components = *bytes.get(at + 9).ok_or(CUT)?,
            0xdb => header.read_tables(data),
            0xe0 => header.density = density(data).or(header.density),
            0xfe => header.comments.push(text(data)),
            _ => {}
        }
        at += 2 + length;
    }
}

impl Header {
    fn read_tables(&mut self, mut data: &[u8]) {
        while let Some((&kind, rest)) = data.split_first() {
            let width = if kind >> 4 == 0 { 1 } else { 2 };
            let Some((values, rest)) = rest.split_at_checked(64 * width) else { return };
            let values = values.chunks(width).map(|v| v.iter().fold(0, |n, b| n << 8 | u16::from(*b)));
            if let Some(table) = self.tables.get_mut(usize::from(kind & 15)) {
                *table = Some(values.collect());
            }
            data = rest;
        }
    }

    /// The lowest quality of the encoder, at least `least`, whose steps are nowhere coarser than those of this file.
    pub(super) fn quality(&self, least: u8) -> u8 {
        let known: Vec<_> = self.tables.iter().flatten().collect();
        let (Some(luma), Some(chroma)) = (known.first(), known.get(1).or(known.first())) else { return least };
        let fine = |quality: &u8| {
            let mut bytes = Vec::new();
            let encoder = JpegEncoder::new_with_quality(&mut bytes, *quality);
            let encoded = image::ImageEncoder::write_image(encoder, &[0; 3], 1, 1, ExtendedColorType::Rgb8);
            let Some(own) = encoded.ok().and_then(|()| header(&bytes).ok()) else { return false };
            let pairs = own.tables.iter().flatten().zip([*luma, *chroma]);
            pairs.into_iter().all(|(own, source)| own.iter().zip(source).all(|(own, source)| own <= source))
        };
        (least..=100).find(fine).unwrap_or(100)
    }
}

/// The resolution in a JFIF segment. `None`: another segment, or only a ratio.
fn density(data: &[u8]) -> Option<Density> {
    let fields = data.strip_prefix(b"JFIF\0")?.get(2..7)?;
    let unit = match fields[0] {
        1 => 1.0 / 0.0254,
        2 => 100.0,
        _ => return None,
    };
    let value = |k: usize| f64::from(u16::from_be_bytes([fields[k], fields[k + 1]])) * unit;
    Some(Density { x: value(1), y: value(3) })
}

fn text(data: &[u8]) -> String {
    let data = data.strip_suffix(b"\0").unwrap_or(data);
    String::from_utf8(data.to_vec()).unwrap_or_else(|_| data.iter().map(|b| char::from(*b)).collect())
}

/// Inserts comments before the first segment that is not an application's. Errors: the first comment that is too long.
pub(super) fn insert_comments<'a>(
    bytes: Vec<u8>,
    comments: impl Iterator<Item = &'a String>,
) -> Result<Vec<u8>, &'a str> {
    let mut at = 2;
    while let Some(&[0xff, 0xe0..=0xef, high, low]) = bytes.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    let mut segments = Vec::new();
    for text in comments {
        let length = u16::try_from(text.len() + 2).map_err(|_| text.as_str())?;
        segments.extend([&[0xff, 0xfe][..], &length.to_be_bytes(), text.as_bytes()].concat());
    }
    let mut bytes = bytes;
    bytes.splice(at..at, segments);
    Ok(bytes)
}
