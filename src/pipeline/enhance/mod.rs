//! `enhance`: pictures and videos → larger, smoother or refined ones, one file at a time. [`batch`](crate::batch) chooses the files.
//!
//! | file | does |
//! |---|---|
//! | `enhancer` | loads the networks of a plan; checks a plan |
//! | `forecast` | `plan enhance` |
//! | `picture` | one picture |
//! | `refine_config`, `refine` | `--refine`: diffusion upscaling of a picture |
//! | `video_source`, `video` | one video or sequence of pictures |
//! | `resume` | chunks of long videos, and their journal |

mod concealed;
mod decoding;
mod enhancer;
mod forecast;
mod picture;
mod refine;
mod refine_config;
mod resume;
mod video;
mod video_source;

pub use enhancer::{Enhancer, check_enhance};
pub use forecast::{refine_forecast, sizes};
pub use resume::{Identity, OUTPUT_JOURNAL, chunk_folder, remove_chunks};
pub use video::PendingOutput;
