//! Pictures, videos and the ordered queues between threads.
//!
//! ```text
//! file ─▶ sniff ─▶ picture::read ─▶ Picture ─▶ … ─▶ picture::write ─▶ file
//!            └───▶ video::Reader ─▶ frames ─▶ queue::Line (stages) ─▶ video::Writer ─▶ file
//!                      └─ info, sound, subtitles, chapters ──────────────────┘
//! ```
//!
//! Every file is written beside its final name, synced and renamed ([`Place`]): what has the final name is whole.

pub mod picture;
mod place;
pub mod queue;
pub mod resize;

pub use picture::{Format, Picture, PictureOptions};
pub use place::Place;
