//! Detects the type of a file from its content.

use std::{io::Read, path::Path};

use super::{format::PictureFormat, picture, video};
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
            let bytes = std::fs::read(path).map_err(failed)?;
            Ok(if picture::is_animated(format, &bytes) { FileType::Video } else { FileType::Picture(format) })
        }
        Some(format) => Ok(FileType::Picture(format)),
        None => video::probe(path).map(|_| FileType::Video),
    }
}
