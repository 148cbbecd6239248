//! `generate`: prompts → pictures and videos.
//!
//! | file | does |
//! |---|---|
//! | `run_config` | plan + checkpoint → every number of the run |
//! | `forecast` | `plan generate` |
//! | `run` | the order of the steps |
//! | `jobs` | prompts × seeds, output files, metadata |
//! | `init_image`, `encoder` | the input picture or clip → its latent |
//! | `denoise` | conditioning and noise → latents |
//! | `picture`, `video`, `video_form` | latents → files |
//! | `latents` | `--save-latents` |

mod denoise;
mod forecast;
mod forecast_memory;
mod init_image;
mod jobs;
mod latents;
mod picture;
mod run;
mod run_config;
mod vae_encoder;
mod video;
mod video_form;

pub use forecast::plan_generate;
pub use run::generate;
