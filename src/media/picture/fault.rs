//! Why a picture cannot be read.

use crate::{error::Error, media::format::PictureFormat};

/// Maximum size of a decoded picture in bytes. A small file can claim any size.
pub(super) const MEMORY_LIMIT: u64 = 4 << 30;

/// Why a file cannot be read.
pub(super) enum Fault {
    Damaged(String),
    /// A kind of file that is not read.
    Unsupported(String),
    TooLarge,
    /// The memory for the samples cannot be had.
    Memory(Error),
}

impl Fault {
    pub(super) fn of(error: &image::ImageError) -> Self {
        match error {
            image::ImageError::Unsupported(e) => Self::Unsupported(e.to_string()),
            image::ImageError::Limits(_) => Self::TooLarge,
            other => Self::Damaged(other.to_string()),
        }
    }

    pub(super) fn of_png(error: &png::DecodingError) -> Self {
        match error {
            png::DecodingError::LimitsExceeded => Self::TooLarge,
            other => Self::Damaged(other.to_string()),
        }
    }

    pub(super) fn error(self, format: PictureFormat) -> Error {
        let name = format.name();
        Error::failed(match self {
            Self::Damaged(why) => {
                format!("the {name} is damaged or truncated ({why}); get a complete copy of the file")
            }
            Self::Unsupported(why) => {
                format!("this kind of {name} is not read ({why}); convert it to grey or RGB with 8 or 16 bits")
            }
            Self::TooLarge => format!("the {name} takes more than 4 GiB when it is decoded, the most that is read"),
            Self::Memory(error) => return error,
        })
    }
}
