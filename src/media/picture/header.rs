//! The header of a picture file.

use std::{io::BufReader, path::Path};

use image::{ImageDecoder, ImageReader};

use super::{fault::Fault, png_in::has_plain_rows, tiff, tiff_in::has_plain_strips};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::format::PictureFormat,
};

/// What the header of a picture file says of its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Channels of the decoded frame: 3 or 4.
    pub channels: usize,
    /// Whether samples have more than 8 bits.
    pub deep: bool,
    /// The format of a file that is decoded row by row; `None`: it is decoded whole.
    pub by_rows: Option<PictureFormat>,
}

impl Header {
    /// Reads the header of a picture.
    ///
    /// # Errors
    /// A file that is unreadable or not a picture, or a damaged header.
    pub fn read(path: &Path) -> Result<Self> {
        let reader = open_regular(path).and_then(|file| ImageReader::new(BufReader::new(file)).with_guessed_format());
        let mut reader = reader.map_err(|e| Error::io("reading", path, &e))?;
        reader.no_limits();
        let format = reader.format();
        let decoder = reader.into_decoder();
        let broken = |e: &image::ImageError| match (format.and_then(PictureFormat::of_decoder), Fault::of(e)) {
            (Some(PictureFormat::Tiff), Fault::Unsupported(why)) => {
                let pages = std::fs::read(path).map(|bytes| tiff::pages(&bytes)).unwrap_or_default();
                Fault::Unsupported(pages.into_iter().next().map_or(why, |page| page.kind)).error(PictureFormat::Tiff)
            }
            (Some(format), fault) => fault.error(format),
            (None, _) => Error::failed(format!("the picture is damaged or truncated ({e})")),
        };
        let decoder = decoder.map_err(|e| broken(&e)).at(path.display())?;
        let ((width, height), color) = (decoder.dimensions(), decoder.color_type());
        let deep = color.bytes_per_pixel() > color.channel_count();
        let channels = if color.has_alpha() { 4 } else { 3 };
        let by_rows = format.and_then(PictureFormat::of_decoder).filter(|format| match format {
            PictureFormat::Png => channels == 3 && has_plain_rows(path),
            PictureFormat::Tiff => channels == 3 && has_plain_strips(path),
            _ => false,
        });
        Ok(Self { width: width as usize, height: height as usize, channels, deep, by_rows })
    }

    /// Bytes of the decoded frame.
    pub fn frame_bytes(&self) -> u64 {
        let samples = (self.width as u64).saturating_mul(self.height as u64).saturating_mul(self.channels as u64);
        samples.saturating_mul(if self.deep { 2 } else { 1 })
    }
}

/// Returns (width, height) of a picture. Reads only the header.
///
/// # Errors
/// Those of [`Header::read`].
pub fn size(path: &Path) -> Result<(usize, usize)> {
    Header::read(path).map(|Header { width, height, .. }| (width, height))
}
