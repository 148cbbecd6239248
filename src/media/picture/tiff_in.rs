//! Reads a TIFF strip by strip with the tiff crate.

use std::{
    fs::File,
    io::{BufReader, Cursor, Read},
    path::Path,
};

use image::{ImageDecoder, codecs::tiff::TiffDecoder};
use tiff::{
    ColorType, TiffResult,
    decoder::{ChunkType, Decoder, DecodingResult},
    tags::Tag,
};

use super::{
    Picture,
    fault::Fault,
    tiff::{Page, pages},
};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::format::PictureFormat,
    tensor::{Frame, Samples, check_room},
};

/// Bytes of the longest strip: one is decoded at once. A file with longer strips is decoded whole.
const LONGEST_STRIP: usize = 8 << 20;

/// Whether a TIFF has one page of RGB or grey integers in short strips. Reads the header.
pub(super) fn has_plain_strips(path: &Path) -> bool {
    let Ok(file) = open_regular(path) else { return false };
    Decoder::new(BufReader::new(file)).and_then(|mut decoder| is_plain(&mut decoder)).unwrap_or(false)
}

fn is_plain(decoder: &mut Decoder<BufReader<File>>) -> TiffResult<bool> {
    let samples = match decoder.colortype()? {
        ColorType::RGB(8) => 3,
        ColorType::RGB(16) => 6,
        ColorType::Gray(8) => 1,
        ColorType::Gray(16) => 2,
        _ => return Ok(false),
    };
    // 1: interleaved; unsigned integers.
    for tag in [Tag::PlanarConfiguration, Tag::SampleFormat] {
        if decoder
            .find_tag(tag)?
            .map(|value| value.into_u16_vec())
            .transpose()?
            .is_some_and(|v| v.iter().any(|&n| n != 1))
        {
            return Ok(false);
        }
    }
    // None, LZW, JPEG, Deflate, PackBits, and Deflate by its first number. The decoder names all others.
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression)?.unwrap_or(1);
    if ![1, 5, 7, 8, 32773, 32946].contains(&compression) {
        return Ok(false);
    }
    // 1: black is 0; 2: RGB.
    let photometric = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)?;
    let (width, rows) = decoder.chunk_dimensions();
    let length = (width as usize).saturating_mul(rows as usize).saturating_mul(samples);
    Ok(matches!(photometric, Some(1 | 2))
        && decoder.get_chunk_type() == ChunkType::Strip
        && length <= LONGEST_STRIP
        && !decoder.more_images())
}

/// The rows of a TIFF from the top.
pub(super) struct TiffStrips {
    decoder: Decoder<BufReader<File>>,
    name: String,
    grey: bool,
    /// The strip that was decoded last, and the number of its samples that were taken.
    strip: Samples,
    taken: usize,
    /// Index of the next strip.
    next: u32,
}

impl TiffStrips {
    /// Opens a file with [plain strips](has_plain_strips). Returns what [`decode`](super::decode()) returns, without samples. Holds the
    /// bytes of the file while it reads the metadata.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged.
    pub(super) fn open(path: &Path) -> Result<(Picture, Self)> {
        let name = path.display().to_string();
        let failed = |e: std::io::Error| Error::io("reading", path, &e);
        let mut bytes = Vec::new();
        open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed)?;
        let picture = metadata(&bytes).map_err(|fault| fault.error(PictureFormat::Tiff)).at(&name)?;
        drop(bytes);
        let decoder = Decoder::new(BufReader::new(open_regular(path).map_err(failed)?));
        let decoder = decoder.map_err(|e| damaged(&e)).at(&name)?;
        let strip = if picture.frame.is_deep() { Samples::U16(Vec::new()) } else { Samples::U8(Vec::new()) };
        let rows = Self { decoder, name, grey: picture.grey, strip, taken: 0, next: 0 };
        Ok((picture, rows))
    }

    /// Appends the next rows to an RGB frame of the same width and depth.
    pub(super) fn append(&mut self, frame: &mut Frame, rows: usize) -> Result<()> {
        frame.reserve_rows(rows)?;
        let times = if self.grey { 3 } else { 1 };
        let mut missing = rows * frame.width * 3 / times;
        while missing > 0 {
            let left = count(&self.strip) - self.taken;
            if left == 0 {
                self.read_strip()?;
                continue;
            }
            let part = self.taken..self.taken + left.min(missing);
            (self.taken, missing) = (part.end, missing - part.len());
            match (&mut frame.samples, &self.strip) {
                (Samples::U8(to), Samples::U8(from)) => extend(to, &from[part], times),
                (Samples::U16(to), Samples::U16(from)) => extend(to, &from[part], times),
                _ => return Err(Error::failed(format!("{}: its strips differ in depth", self.name))),
            }
        }
        frame.height += rows;
        Ok(())
    }

    fn read_strip(&mut self) -> Result<()> {
        // The tiff crate allocates the strip.
        check_room::<u8>(LONGEST_STRIP)?;
        let strip = match self.decoder.read_chunk(self.next).map_err(|e| damaged(&e)).at(&self.name)? {
            DecodingResult::U8(samples) => Samples::U8(samples),
            DecodingResult::U16(samples) => Samples::U16(samples),
            _ => return Err(Error::failed(format!("{}: its samples are no integers of 8 or 16 bits", self.name))),
        };
        if count(&strip) == 0 {
            let fault = Fault::Damaged(format!("strip {} is empty", self.next));
            return Err(fault.error(PictureFormat::Tiff).at(&self.name));
        }
        (self.strip, self.taken, self.next) = (strip, 0, self.next + 1);
        Ok(())
    }
}

fn count(samples: &Samples) -> usize {
    match samples {
        Samples::U8(s) => s.len(),
        Samples::U16(s) => s.len(),
    }
}

fn extend<T: Copy>(to: &mut Vec<T>, from: &[T], times: usize) {
    match times {
        1 => to.extend_from_slice(from),
        _ => to.extend(from.iter().flat_map(|&v| std::iter::repeat_n(v, times))),
    }
}

fn damaged(error: &tiff::TiffError) -> Error {
    Fault::Damaged(error.to_string()).error(PictureFormat::Tiff)
}

/// What a file of one page says besides its pixels.
fn metadata(bytes: &[u8]) -> Result<Picture, Fault> {
    let Some(Page { exif, density, complete: true, .. }) = pages(bytes).into_iter().next() else {
        return Err(Fault::Damaged("values of a page lie outside of the file".into()));
    };
    let fault = |e: image::ImageError| Fault::of(&e);
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let icc = decoder.icc_profile().map_err(fault)?;
    let xmp = decoder.xmp_metadata().ok().flatten().is_some();
    let ((width, height), color) = (decoder.dimensions(), decoder.color_type());
    let deep = color.bytes_per_pixel() > color.channel_count();
    let left_out = xmp.then(|| "XMP metadata".to_string()).into_iter().collect();
    let frame = Frame::empty((height as usize, width as usize), deep);
    Ok(Picture { grey: !color.has_color(), icc, exif, density, left_out, ..frame.into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A TIFF of one grey pixel whose entries in `changed` have other values.
    fn file(changed: &[(u16, u16)]) -> Vec<u8> {
        let mut entries: Vec<(u16, u16)> = vec![
            (256, 1),
            (257, 1),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, 1),
            (279, 1),
            (284, 1),
            (339, 1),
        ];
        for (tag, value) in changed {
            entries.iter_mut().filter(|(known, _)| known == tag).for_each(|entry| entry.1 = *value);
        }
        let mut bytes = b"II*\0\x0a\0\0\0\x07\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, value) in entries {
            bytes.extend(
                [tag.to_le_bytes(), 3u16.to_le_bytes(), 1u16.to_le_bytes(), [0; 2], value.to_le_bytes(), [0; 2]]
                    .concat(),
            );
        }
        bytes.extend([0; 4]);
        bytes
    }

    /// Changed entries, and whether the file is read in strips.
    #[test]
    fn plain_files_are_read_in_strips() {
        let rows: [(&[(u16, u16)], bool); 8] = [
            (&[], true),
            (&[(259, 5)], true),
            (&[(259, 34925)], false),
            (&[(259, 50000)], false),
            (&[(262, 0)], false),
            (&[(262, 3)], false),
            (&[(284, 2)], false),
            (&[(339, 2)], false),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        for (changed, wanted) in rows {
            std::fs::write(&path, file(changed)).unwrap();
            assert_eq!(has_plain_strips(&path), wanted, "{changed:?}");
        }
        let (picture, mut strips) = {
            std::fs::write(&path, file(&[])).unwrap();
            TiffStrips::open(&path).unwrap()
        };
        let mut frame = Frame::empty((0, 1), false);
        strips.append(&mut frame, 1).unwrap();
        assert_eq!((picture.grey, &frame.samples, frame.height), (true, &Samples::U8(vec![7; 3]), 1));
        // The file has no second row.
        assert!(strips.append(&mut frame, 1).is_err());
    }
}
