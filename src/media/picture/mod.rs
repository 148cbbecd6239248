//! Still pictures: PNG, JPEG, WebP, GIF and TIFF in and out; BMP in.
//!
//! Pixels stay as stored: an EXIF orientation is kept as the tag it is, so viewers turn the result as they turn the
//! original. Colours stay as stored too, with their ICC profile.

mod decode;
pub(crate) mod eight_bit;
mod encode;
mod jpeg;

pub(crate) use decode::is_animated;
pub use decode::{decode, read, size};
pub use encode::{PictureOptions, encode, write, write_in};

use crate::{media::format::PictureFormat, tensor::Frame};

/// A picture and what travels with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// RGB or RGBA (where the file has transparency), 8 or 16 bits as stored; grey and palettes are spread to RGB.
    pub frame: Frame,
    /// The ICC profile of the RGB values.
    pub icc: Option<Vec<u8>>,
    /// The EXIF block, from its TIFF header on (`II*\0` or `MM\0*`).
    pub exif: Option<Vec<u8>>,
    /// PNG text: keyword and text. A finished picture's parameters stand under `parameters`.
    pub text: Vec<(String, String)>,
    /// What the file holds that is not here, each a phrase to tell the person: frames of an animation, the profile of
    /// another colour space.
    pub left_out: Vec<String>,
}

impl Picture {
    /// What of it a format does not hold, each a phrase to tell the person. Transparency in a JPEG is an error of writing.
    pub fn not_held(&self, format: PictureFormat) -> Vec<String> {
        let name = format.name();
        let rows = [
            (
                self.frame.is_deep() && !matches!(format, PictureFormat::Png | PictureFormat::Tiff),
                "8 of 16 bits a sample",
            ),
            (!self.text.is_empty() && format != PictureFormat::Png, "the text that a PNG carries"),
            (self.exif.is_some() && matches!(format, PictureFormat::Gif | PictureFormat::Tiff), "EXIF"),
            (self.icc.is_some() && format == PictureFormat::Gif, "the colour profile"),
        ];
        rows.iter().filter(|(lost, _)| *lost).map(|(_, what)| format!("{what} (a {name} does not hold it)")).collect()
    }
}

impl From<Frame> for Picture {
    fn from(frame: Frame) -> Self {
        Self { frame, icc: None, exif: None, text: Vec::new(), left_out: Vec::new() }
    }
}

impl Picture {
    /// How the stored pixels are turned for viewing, as EXIF counts it: 1 as they are, 2 mirrored left to right, 3 by half a turn,
    /// 4 mirrored top to bottom, 5 with rows and columns exchanged, 6 that and mirrored left to right (a quarter clockwise), 7 that
    /// and both, 8 that and mirrored top to bottom (a quarter back).
    pub fn orientation(&self) -> u8 {
        let read = self.exif.as_deref().and_then(image::metadata::Orientation::from_exif_chunk);
        read.map_or(1, image::metadata::Orientation::to_exif)
    }
}
