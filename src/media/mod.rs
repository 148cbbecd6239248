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
mod file_type;
pub mod format;
mod hash;
pub mod metadata;
pub mod picture;
pub mod queue;
pub mod resize;
pub mod video;

pub use atomic_file::PendingFile;
pub use file_type::{FileType, sniff};
pub use format::{FileFormat, PictureFormat};
pub use hash::hash;
pub use picture::{Picture, PictureOptions};
