//! Whether a picture file has more than one frame, from its blocks. No pixels are decoded or read.

use std::io::{self, BufReader, Read, Seek};

use super::{
    format::PictureFormat,
    gif_blocks::{GifBlock, GifBlocks},
};

/// Whether a picture file has more than one frame. A damaged file counts the frames that it begins.
pub(crate) fn is_animated<F: Read + Seek>(format: PictureFormat, file: F) -> bool {
    let found = match format {
        PictureFormat::Gif => GifBlocks::new(file)
            .map(|blocks| blocks.map_while(Result::ok).filter(|block| *block == GifBlock::Frame).nth(1).is_some()),
        PictureFormat::Png => png(BufReader::new(file)),
        PictureFormat::WebP => webp(file),
        _ => Ok(false),
    };
    // A file that ends before that is one picture, or none.
    found.unwrap_or(false)
}

/// The animation control of a PNG stands before its pixels (PNG, third edition, §11.3.2.1).
fn png<F: Read + Seek>(mut file: BufReader<F>) -> io::Result<bool> {
    file.seek_relative(8)?;
    loop {
        let [l0, l1, l2, l3, kind @ ..]: [u8; 8] = bytes(&mut file)?;
        match &kind {
            b"acTL" => return bytes(&mut file).map(|count| u32::from_be_bytes(count) > 1),
            b"IDAT" | b"IEND" => return Ok(false),
            _ => file.seek_relative(i64::from(u32::from_be_bytes([l0, l1, l2, l3])) + 4)?,
        }
    }
}

/// The flag in the header of an extended WebP (RFC 9649 §2.7).
fn webp(mut file: impl Read) -> io::Result<bool> {
    let head: [u8; 21] = bytes(&mut file)?;
    Ok(head[12..16] == *b"VP8X" && head[20] & 2 != 0)
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn png_of(chunks: &[(&[u8; 4], usize, &[u8])]) -> Vec<u8> {
        let chunk = |(kind, length, data): &(&[u8; 4], usize, &[u8])| {
            [&(*length as u32).to_be_bytes()[..], *kind, data, &vec![0; length - data.len()], &[0; 4]].concat()
        };
        [b"\x89PNG\r\n\x1a\n".to_vec()].into_iter().chain(chunks.iter().map(chunk)).flatten().collect()
    }

    fn webp_of(first: &[u8; 4], flags: u8) -> Vec<u8> {
        [b"RIFF\0\0\0\0WEBP", &first[..], &[10, 0, 0, 0, flags], &[0; 9]].concat()
    }

    /// Files whose pixels are missing, and whether they are animated. `tests/media` has whole files.
    #[test]
    fn headers_say_what_is_animated() {
        use PictureFormat::{Bmp, Gif, Jpeg, Png, WebP};
        let (two, one) = (&[0, 0, 0, 2, 0, 0, 0, 0][..], &[0, 0, 0, 1, 0, 0, 0, 0][..]);
        let rows = [
            (Png, png_of(&[(b"IHDR", 13, b""), (b"acTL", 8, two), (b"IDAT", 99, b"")]), true),
            (Png, png_of(&[(b"IHDR", 13, b""), (b"acTL", 8, one), (b"IDAT", 99, b"")]), false),
            (Png, png_of(&[(b"IHDR", 13, b""), (b"IDAT", 99, b""), (b"acTL", 8, two)]), false),
            (Png, png_of(&[(b"IHDR", 13, b""), (b"tEXt", 70_000, b"acTL"), (b"acTL", 8, two)]), true),
            (Png, png_of(&[(b"IHDR", 13, b"")]), false),
            (Png, b"\x89PNG".to_vec(), false),
            (WebP, webp_of(b"VP8X", 2), true),
            (WebP, webp_of(b"VP8X", 0x10), false),
            (WebP, webp_of(b"VP8L", 2), false),
            (WebP, b"RIFF".to_vec(), false),
            (Gif, b"GIF89a".to_vec(), false),
            (Jpeg, webp_of(b"VP8X", 2), false),
            (Bmp, Vec::new(), false),
        ];
        for (n, (format, file, want)) in rows.into_iter().enumerate() {
            assert_eq!(is_animated(format, Cursor::new(file)), want, "row {n}, {format:?}");
        }
    }
}
