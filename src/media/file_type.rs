//! Detects the type of a file from its content.

use std::{io::Read, path::Path};

use super::{animated::is_animated, format::PictureFormat, video};
use crate::{
    error::{Error, Result},
    files::open_regular,
};

/// The type of a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A still picture.
    Picture(PictureFormat),
    /// A video, or an animated picture: GIF, APNG and WebP files with more than one frame.
    Video,
}

/// Detects the type of a file from its content. The name is ignored.
///
/// Errors: a file that is unreadable, empty, or neither a picture nor a video.
pub fn sniff(path: &Path) -> Result<FileType> {
    let failed = |e: std::io::Error| Error::io("reading", path, &e);
    let mut head = Vec::new();
    open_regular(path).and_then(|f| f.take(64).read_to_end(&mut head)).map_err(failed)?;
    match PictureFormat::of_content(&head) {
        Some(format @ (PictureFormat::Gif | PictureFormat::Png | PictureFormat::WebP)) => {
            let file = open_regular(path).map_err(failed)?;
            Ok(if is_animated(format, file) { FileType::Video } else { FileType::Picture(format) })
        }
        Some(format) => Ok(FileType::Picture(format)),
        None => match foreign_picture(&head) {
            Some(name) => {
                let path = path.display();
                Err(Error::failed(format!(
                    "{path}: is a picture in the format {name}, which is not read; convert it to PNG"
                )))
            }
            None => video::probe(path).map(|_| FileType::Video),
        },
    }
}

/// The name of a picture format that is not read. FFmpeg would read some as videos of one frame, without their metadata.
fn foreign_picture(head: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(usize, &[u8], &str)] = &[
        (4, b"ftypavif", "AVIF"),
        (4, b"ftypavis", "AVIF"),
        (4, b"ftypheic", "HEIC"),
        (4, b"ftypheix", "HEIC"),
        (4, b"ftyphevc", "HEIC"),
        (4, b"ftypmif1", "HEIF"),
        (4, b"ftypmsf1", "HEIF"),
        (0, b"\xff\x0a", "JPEG XL"),
        (4, b"JXL \r\n", "JPEG XL"),
        (4, b"jP  \r\n", "JPEG 2000"),
        (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
        (0, b"8BPS", "Photoshop"),
        (0, b"gimp xcf", "GIMP"),
        (0, b"<svg", "SVG"),
        (0, b"qoif", "QOI"),
        (0, b"\x76\x2f\x31\x01", "OpenEXR"),
        (0, b"#?RADIANCE", "Radiance HDR"),
        (0, b"DDS ", "DDS"),
        (0, b"farbfeld", "farbfeld"),
        (0, b"\0\0\x01\0", "ICO"),
    ];
    let found = MAGIC.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    // Netpbm: a letter P, a digit, and white space.
    let netpbm = matches!(head, [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace());
    found.map(|(_, _, name)| *name).or(netpbm.then_some("PNM"))
}
