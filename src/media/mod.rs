//! Pictures, videos and the ordered queues between threads.
//!
//! ```text
//! file ─▶ sniff ─▶ picture::read ─▶ Picture ─▶ … ─▶ picture::write ─▶ file
//!            └───▶ video::Reader ─▶ frames ─▶ queue::Line (stages) ─▶ video::Writer ─▶ file
//!                      └─ info, sound, subtitles, chapters ──────────────────┘
//! ```
//!
//! Every file is written beside its final name, synced and renamed ([`PendingFile`]): what has the final name is whole.

pub mod alpha;
mod atomic_file;
pub mod format;
pub mod metadata;
pub mod picture;
pub mod queue;
pub mod resize;
pub mod video;

use std::{fs::File, io::Read, path::Path};

pub use atomic_file::PendingFile;
pub use format::{FileFormat, PictureFormat};
pub use picture::{Picture, PictureOptions};

use crate::error::{Error, Result};

/// What a media file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// One still picture.
    Picture(PictureFormat),
    /// Frames in time: everything FFmpeg finds video in, and GIF, APNG and WebP files of more than one frame.
    Video,
}

/// BLAKE3 of samples, in hexadecimal.
pub fn hash(samples: &ndarray::Array3<f32>) -> String {
    let (mut hasher, mut room) = (blake3::Hasher::new(), Vec::with_capacity(1 << 16));
    for sample in samples {
        room.extend(sample.to_le_bytes());
        if room.len() == 1 << 16 {
            hasher.update(&room);
            room.clear();
        }
    }
    hasher.update(&room).finalize().to_hex().to_string()
}

/// What a file is, by its content; the name does not matter.
///
/// Errors: unreadable, empty, neither a picture nor a video.
pub fn sniff(path: &Path) -> Result<FileType> {
    let failed = |e: std::io::Error| Error::io("reading", path, &e);
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(64).read_to_end(&mut head)).map_err(failed)?;
    match PictureFormat::of_content(&head) {
        Some(format @ (PictureFormat::Gif | PictureFormat::Png | PictureFormat::WebP)) => {
            let bytes = std::fs::read(path).map_err(failed)?;
            Ok(if picture::is_animated(format, &bytes) { FileType::Video } else { FileType::Picture(format) })
        }
        Some(format) => Ok(FileType::Picture(format)),
        None => video::probe(path).map(|_| FileType::Video),
    }
}
