//! `enhance`: pictures and videos → larger, smoother or refined ones, one file at a time. [`batch`](crate::batch) chooses the files.
//!
//! | file | does |
//! |---|---|
//! | `enhancer` | loads the networks of a plan; checks a plan |
//! | `forecast` | `plan enhance` |
//! | `picture` | one picture |
//! | `refine_config`, `refine` | `--refine`: diffusion upscaling of a picture |
//! | `video_source`, `numbered`, `video` | one video or sequence of pictures |
//! | `resume`, `chunk_journal` | chunks of long videos, and their journal |

mod chunk_journal;
mod concealed;
mod decoding;
mod enhancer;
mod forecast;
mod numbered;
mod picture;
mod refine;
mod refine_config;
mod resume;
mod video;
mod video_source;

pub use chunk_journal::{OUTPUT_JOURNAL, chunk_folder, remove_chunks};
pub use enhancer::{Enhancer, check_enhance};
pub use forecast::{refine_forecast, sizes};
pub use resume::Identity;
pub use video::PendingOutput;
