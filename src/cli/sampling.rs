//! Sampling flags.

use std::path::PathBuf;

use clap::Args;

use super::value::{self, Choice};
use crate::{
    error::{Error, Result},
    family::Convention,
    plan::{Quality, Start},
};

/// Sampling flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Seed of the noise. A list gives one output per seed
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', default_value = "42", value_parser = value::seed)]
    pub seed: Vec<u64>,

    /// Outputs per prompt, with the seeds seed, seed+1, …
    #[arg(long, visible_alias = "num-outputs", value_name = "N", default_value = "1",
          value_parser = value::positive("num_outputs_per_prompt"))]
    pub num_outputs_per_prompt: usize,

    /// Denoising steps [default: the model's]
    #[arg(long, alias = "steps", value_name = "N", value_parser = value::positive("num_inference_steps"))]
    pub num_inference_steps: Option<usize>,

    /// Guidance scale, at least 0 [default: the model's]
    #[arg(long, alias = "cfg", value_name = "X", value_parser = value::non_negative("guidance_scale"))]
    pub guidance_scale: Option<f64>,

    /// Scale of classifier-free guidance for models whose --guidance-scale is distilled, at least 0 [default: the model's]
    #[arg(long, value_name = "X", value_parser = value::non_negative("true_cfg_scale"))]
    pub true_cfg_scale: Option<f64>,

    /// Z-Image: limit on the norm of the guided prediction, relative to that of the prompt's; 0 disables it [default: 0]
    #[arg(long, value_name = "X", value_parser = value::non_negative("cfg_normalization"))]
    pub cfg_normalization: Option<f64>,

    /// Z-Image: stop guidance once 1 - sigma exceeds this [default: 1]
    #[arg(long, value_name = "X", value_parser = value::non_negative("cfg_truncation"))]
    pub cfg_truncation: Option<f64>,

    /// Run the two predictions of guidance as one batch: fewer calls, more memory
    #[arg(long)]
    pub cfg_batch: bool,

    /// Static shift of the noise schedule, above 0 [default: the model's]
    #[arg(long, value_name = "X", value_parser = value::positive_float("flow_shift"))]
    pub flow_shift: Option<f64>,

    /// Number of prompt tokens that the transformer reads; fixed for some models [default: the model's]
    #[arg(long, value_name = "N", value_parser = value::positive("max_sequence_length"))]
    pub max_sequence_length: Option<usize>,

    /// Picture to start from; video models also take a clip
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    pub image_path: Vec<PathBuf>,

    /// Part of the schedule that runs from --image-path, above 0 and at most 1 [default: the model's]
    #[arg(long, value_name = "X", value_parser = value::float_in("strength", f64::MIN_POSITIVE..=1.0, "(0, 1]"))]
    pub strength: Option<f64>,

    /// Accuracy of the arithmetic
    #[arg(long, default_value = "lossless", value_name = "NAME", value_parser = value::QUALITIES)]
    pub quality: Quality,

    /// Source of the default sampling settings
    #[arg(long, default_value = "diffusers", value_name = "NAME", value_parser = CONVENTIONS)]
    pub defaults: Convention,
}

const CONVENTIONS: Choice<Convention> = Choice::new(&[
    ("diffusers", "The defaults of diffusers", Convention::Diffusers),
    ("sglang", "The defaults of SGLang diffusion", Convention::Sglang),
]);

impl SamplingArgs {
    /// One seed for each output of a prompt.
    pub(crate) fn seeds(&self) -> Result<Vec<u64>> {
        match (self.seed.as_slice(), self.num_outputs_per_prompt) {
            (seeds, 1) => Ok(seeds.to_vec()),
            ([seed], outputs) => Ok((0..outputs as u64).map(|i| seed.wrapping_add(i)).collect()),
            (seeds, outputs) if seeds.len() == outputs => Ok(seeds.to_vec()),
            (seeds, outputs) => Err(Error::usage(format!(
                "--seed lists {} seeds but --num-outputs-per-prompt is {outputs}; give one seed, or as many as outputs",
                seeds.len()
            ))),
        }
    }

    /// The picture or clip to start from, and the strength.
    pub(crate) fn start(&self) -> Result<Option<Start>> {
        match (self.image_path.as_slice(), self.strength) {
            ([], None) => Ok(None),
            ([], Some(_)) => Err(Error::usage("--strength requires --image-path")),
            ([image], strength) if image.is_file() => Ok(Some(Start { image: image.clone(), strength })),
            ([image], _) if image.exists() => {
                Err(Error::usage(format!("--image-path: {}: expected a regular file", image.display())))
            }
            ([image], _) => Err(Error::usage(format!("--image-path: no such file: {}", image.display()))),
            (many, _) => Err(Error::usage(format!("--image-path takes one picture, got {}", many.len()))),
        }
    }
}
