//! Still pictures: PNG, JPEG, WebP, GIF, TIFF and BMP.
//!
//! Pixels keep their stored orientation: the EXIF orientation is copied as a tag, so viewers rotate the output like the
//! input. Colour values are not converted; the ICC profile is copied.

mod decode;
pub(crate) mod eight_bit;
mod encode;
mod jpeg;

pub(crate) use decode::is_animated;
pub use decode::{decode, read, size};
pub use encode::{PictureOptions, encode, write, write_in};

use crate::{media::format::PictureFormat, tensor::Frame};

/// A picture and its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// RGB, or RGBA if the file has transparency, with 8 or 16 bits as stored. Grey and palette pictures are expanded
    /// to RGB.
    pub frame: Frame,
    /// The ICC profile of the RGB values.
    pub icc: Option<Vec<u8>>,
    /// The EXIF block, starting with its TIFF header (`II*\0` or `MM\0*`).
    pub exif: Option<Vec<u8>>,
    /// PNG text chunks: keyword and text. [`metadata`](crate::media::metadata) writes the keyword `parameters`.
    pub text: Vec<(String, String)>,
    /// Content of the file that is not in this structure, each a phrase for a warning: frames of an animation, a CMYK
    /// profile.
    pub left_out: Vec<String>,
}

impl Picture {
    /// Content that `format` cannot store, each a phrase for a warning. (Transparency in a JPEG is an error in
    /// [`encode`].)
    pub fn unsupported_by(&self, format: PictureFormat) -> Vec<String> {
        let name = format.name();
        let rows = [
            (
                self.frame.is_deep() && !matches!(format, PictureFormat::Png | PictureFormat::Tiff),
                "8 of 16 bits per sample",
            ),
            (!self.text.is_empty() && format != PictureFormat::Png, "the text that a PNG carries"),
            (
                self.exif.is_some() && matches!(format, PictureFormat::Gif | PictureFormat::Tiff | PictureFormat::Bmp),
                "EXIF",
            ),
            (self.icc.is_some() && matches!(format, PictureFormat::Gif | PictureFormat::Bmp), "the colour profile"),
        ];
        rows.iter().filter(|(lost, _)| *lost).map(|(_, what)| format!("{what} (a {name} does not store it)")).collect()
    }
}

impl From<Frame> for Picture {
    fn from(frame: Frame) -> Self {
        Self { frame, icc: None, exif: None, text: Vec::new(), left_out: Vec::new() }
    }
}

impl Picture {
    /// The EXIF orientation, 1 to 8: how a viewer transforms the stored pixels. 1 identity, 2 mirror horizontally, 3
    /// rotate 180°, 4 mirror vertically, 5 transpose, 6 rotate 90° clockwise, 7 transverse (mirror along the other
    /// diagonal), 8 rotate 90° counter-clockwise.
    pub fn orientation(&self) -> u8 {
        let orientation = self.exif.as_deref().and_then(image::metadata::Orientation::from_exif_chunk);
        orientation.map_or(1, image::metadata::Orientation::to_exif)
    }
}
