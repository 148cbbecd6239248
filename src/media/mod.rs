//! Reads and writes pictures and videos, and joins threads with ordered queues.
//!
//! ```text
//! file ─▶ sniff ─▶ picture::read ─▶ Picture ─▶ … ─▶ picture::write ─▶ file
//!            └───▶ video::Reader ─▶ frames ─▶ queue::Chain (stages) ─▶ video::Writer ─▶ file
//!                      └─ info, audio, subtitles, chapters ─────────────────┘
//! ```
//!
//! [`mod@format`] is the table of file extensions. [`metadata`] writes the parameters of a run into an output.
//! Every output is written to a temporary file in the same folder, synced and renamed ([`PendingFile`]), so a file with
//! the final name is always complete.

pub mod alpha;
mod animated;
mod file_type;
pub mod format;
mod gif_blocks;
mod hash;
pub mod metadata;
pub mod picture;
pub mod queue;
pub mod resize;
pub(crate) mod riff;
pub mod video;

pub use crate::files::PendingFile;
pub use file_type::{FileType, sniff};
pub use format::{FileFormat, PictureFormat};
pub use hash::hash;
pub use picture::{Picture, PictureOptions};
