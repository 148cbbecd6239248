//! `enhance`: pictures and videos → larger, smoother or refined ones, one file at a time. [`batch`](crate::batch) chooses the files.
//!
//! | file | does |
//! |---|---|
//! | `enhancer` | loads the networks of a plan; checks a plan |
//! | `sizes`, `forecast_memory`, `forecast` | `plan enhance`: sizes after each stage, memory of an input |
//! | `picture` | one picture |
//! | `refine_config`, `refine` | `--refine`: diffusion upscaling of a picture |
//! | `video_source`, `numbered`, `video` | one video or sequence of pictures |
//! | `resume`, `chunk_journal`, `chunk_lines` | chunks of long videos, and their journal |

mod bands;
mod chunk_journal;
mod chunk_lines;
mod concealed;
mod decoding;
mod enhancer;
mod forecast;
mod forecast_memory;
mod numbered;
mod picture;
mod refine;
mod refine_config;
mod resume;
mod sizes;
mod video;
mod video_source;

pub use chunk_journal::{OUTPUT_JOURNAL, chunk_folder, remove_chunks};
pub use enhancer::{Enhancer, check_enhance};
pub use forecast::{MemoryForecast, refine_forecast};
pub use resume::Identity;
pub use sizes::sizes;
pub use video::PendingOutput;
