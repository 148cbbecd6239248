//! Still pictures: PNG, JPEG, WebP, GIF, TIFF and BMP.
//!
//! Pixels keep their stored orientation: the EXIF orientation is copied as a tag, so viewers rotate the output like the
//! input. Colour values are not converted; the ICC profile is copied. Grey pictures stay grey.
//!
//! - `decode`, `encode`: the six formats.
//! - `tiff`, `exif`, `ifd`: pages and tags of TIFF files, EXIF blocks, and the directories of both.
//! - `rows_in`, `rows_out`: pictures that are never held whole.
//! - `png_in`, `png_out`, `jpeg_out`: PNG and JPEG, whole or by rows.
//! - `jpeg`: comments, resolution and quantisation of JPEG.

mod decode;
pub(crate) mod eight_bit;
mod encode;
mod exif;
mod fault;
mod header;
mod ifd;
mod jpeg;
mod jpeg_out;
mod png_in;
mod png_out;
mod rows_in;
mod rows_out;
mod tiff;
mod tiff_in;

pub(crate) use decode::JPEG_QUALITY;
pub use decode::{decode, decode_within, read};
pub use encode::{PictureOptions, check_size, encode, write, write_in};
pub use header::{Header, size};
pub use rows_in::RowReader;
pub use rows_out::{RowWriter, writes_rows};

use crate::{media::format::PictureFormat, tensor::Frame};

/// Keyword of the text that says how a picture was made.
pub const PARAMETERS: &str = "parameters";
/// Keyword of a comment.
pub const COMMENT: &str = "Comment";

/// Pixels per metre.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Density {
    pub x: f64,
    pub y: f64,
}

/// A picture and its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// RGB, or RGBA if the file has transparency, with 8 or 16 bits as stored. Grey and palette pictures are expanded
    /// to RGB.
    pub frame: Frame,
    /// Whether the file stores grey values or a palette of them. The channels of the frame are equal.
    pub grey: bool,
    /// The ICC profile of the RGB values, or of the grey values of a grey picture.
    pub icc: Option<Vec<u8>>,
    /// The EXIF block, starting with its TIFF header (`II*\0` or `MM\0*`).
    pub exif: Option<Vec<u8>>,
    /// Texts by keyword: the text chunks of a PNG, the comment of a JPEG, and [`PARAMETERS`] from the EXIF user comment.
    /// [`metadata`](crate::media::metadata) writes the parameters.
    pub text: Vec<(String, String)>,
    /// The resolution for printing.
    pub density: Option<Density>,
    /// Of a JPEG: the lowest quality, at least 95, whose quantisation is nowhere coarser than that of the file.
    pub jpeg_quality: Option<u8>,
    /// Further pages of a TIFF, each without pages of its own.
    pub pages: Vec<Picture>,
    /// Content of the file that is not in this structure, each a phrase for a warning: frames of an animation, a CMYK
    /// profile.
    pub left_out: Vec<String>,
}

impl Picture {
    /// Content that `format` cannot store, each a phrase for a warning. (Transparency in a JPEG is an error in
    /// [`encode`].)
    pub fn unsupported_by(&self, format: PictureFormat) -> Vec<String> {
        use PictureFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        let name = format.name();
        let keeps = |keyword: &str| match format {
            Png => true,
            Jpeg => keyword == PARAMETERS || keyword == COMMENT,
            WebP | Tiff => keyword == PARAMETERS,
            Gif | Bmp => false,
        };
        let lost: Vec<_> = self.text.iter().map(|(k, _)| k.as_str()).filter(|k| !keeps(k)).collect();
        let texts = format!("the text {}", lost.join(", "));
        let grey_profile = self.grey && (format == WebP || format == Tiff && self.frame.channels == 4);
        let rows = [
            (self.frame.is_deep() && !matches!(format, Png | Tiff), "8 of 16 bits per sample"),
            (!lost.is_empty(), texts.as_str()),
            (self.exif.is_some() && matches!(format, Gif | Bmp), "EXIF"),
            (self.icc.is_some() && (grey_profile || matches!(format, Gif | Bmp)), "the colour profile"),
            (self.density.is_some() && matches!(format, WebP | Gif | Bmp), "the resolution for printing"),
        ];
        rows.iter().filter(|(lost, _)| *lost).map(|(_, what)| format!("{what} (a {name} does not store it)")).collect()
    }

    /// The EXIF orientation, 1 to 8: how a viewer transforms the stored pixels. 1 identity, 2 mirror horizontally, 3
    /// rotate 180°, 4 mirror vertically, 5 transpose, 6 rotate 90° clockwise, 7 transverse (mirror along the other
    /// diagonal), 8 rotate 90° counter-clockwise.
    pub fn orientation(&self) -> u8 {
        let stored = self.exif.as_deref().and_then(image::metadata::Orientation::from_exif_chunk);
        stored.map_or(1, image::metadata::Orientation::to_exif)
    }
}

impl From<Frame> for Picture {
    fn from(frame: Frame) -> Self {
        Self {
            frame,
            grey: false,
            icc: None,
            exif: None,
            text: Vec::new(),
            density: None,
            jpeg_quality: None,
            pages: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

impl PictureFormat {
    /// Whether a file stores the EXIF orientation, so that viewers turn the picture.
    pub fn stores_orientation(self) -> bool {
        !matches!(self, Self::Gif | Self::Bmp)
    }

    /// Whether a file stores how it was made.
    pub fn stores_parameters(self) -> bool {
        !matches!(self, Self::Gif | Self::Bmp)
    }
}
