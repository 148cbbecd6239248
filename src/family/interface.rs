//! What a family provides: the traits, and the types that they share.
//!
//! [`Family`] is the supertrait of four small traits, one for each thing that differs between families:
//!
//! | trait | defines |
//! |---|---|
//! | [`TextConditioning`] | the calls of text encoders for a prompt, and the transformer's inputs from their outputs |
//! | [`LatentLayout`] | the shape of a latent, and how it is normalized for the VAE |
//! | [`Sampling`] | the noise schedule, the solver and the guidance |
//! | [`TransformerIo`] | the transformer's inputs at a step, and how its output becomes a velocity |
//!
//! A family runs no network. Outside a family, latents are always spatial: [1, c, h, w], or [1, c, t, h, w] for videos.

use std::ops::RangeInclusive;

use ndarray::ArrayD;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    model::{HiddenStates, ModelFolder},
    schedule::{self, FlowMatch, Guidance, Solver},
    spectral::Spectrum,
    tensor::{DType, Tensor},
};

/// One entry of the registry: the pipeline classes that a family runs, and how it opens a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor {
    /// Pipeline classes of diffusers, as `model_index.json` names them.
    pub pipelines: &'static [&'static str],
    /// Reads configs and tokenizers, and applies the overrides. Reads no weights.
    pub open: fn(&ModelFolder, &Overrides) -> Result<Box<dyn Family>>,
}

/// Channels that a latent may have. Released models have 16 to 128.
pub(super) const CHANNELS: RangeInclusive<usize> = 1..=4096;
/// Resolution levels that a VAE may have. Released models have 4.
pub(super) const LEVELS: RangeInclusive<usize> = 1..=8;

/// Settings that override those of the checkpoint. The default changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// The project whose defaults apply.
    pub convention: Convention,
    /// Static shift of the noise schedule (`--flow-shift`).
    pub flow_shift: Option<f64>,
    /// Number of text tokens (`--max-sequence-length`).
    pub text_tokens: Option<usize>,
}

impl Overrides {
    /// The number of text tokens, or `default` where none is given.
    ///
    /// # Errors
    /// A number outside `allowed`.
    pub(super) fn text_tokens(&self, name: &str, allowed: RangeInclusive<usize>, default: usize) -> Result<usize> {
        match self.text_tokens {
            Some(tokens) if !allowed.contains(&tokens) => {
                let (least, most) = allowed.into_inner();
                Err(Error::usage(format!("max_sequence_length {tokens}: {name} reads {least} to {most} tokens")))
            }
            tokens => Ok(tokens.unwrap_or(default)),
        }
    }

    /// For families whose schedule depends on the size of the picture.
    ///
    /// # Errors
    /// A flow shift is given.
    pub(super) fn no_flow_shift(&self, name: &str) -> Result<()> {
        self.flow_shift.map_or(Ok(()), |shift| {
            Err(Error::usage(format!("--flow-shift {shift}: {name} shifts its schedule by the picture's size")))
        })
    }
}

/// The project whose defaults apply where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// diffusers 0.42.1.
    #[default]
    Diffusers,
    /// SGLang diffusion.
    Sglang,
}

/// Size of a picture or video, in pixels and frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Number of frames; 1 for pictures.
    pub frames: usize,
}

impl Size {
    /// A picture of 1024×1024, the default of every picture family.
    pub(super) const SQUARE_1024: Self = Self { height: 1024, width: 1024, frames: 1 };
}

/// A family's default settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Output size.
    pub size: Size,
    /// Denoising steps.
    pub steps: usize,
    /// Frames per second; `None` for pictures.
    pub fps: Option<f32>,
}

/// The guidance options of a request. Each family takes those that it supports and rejects the others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GuidanceRequest {
    /// `--guidance-scale`
    pub scale: Option<f32>,
    /// `--true-cfg-scale`
    pub true_cfg: Option<f32>,
    /// Whether a negative prompt is given.
    pub negative: bool,
    /// `--cfg-normalization`
    pub normalization: Option<f32>,
    /// `--cfg-truncation`
    pub truncation: Option<f32>,
}

/// One call of a text encoder.
#[derive(Debug, Clone)]
pub struct TextCall {
    /// The component's folder: `text_encoder_2`.
    pub component: &'static str,
    /// The network's inputs, by name.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// The output to read.
    pub output: &'static str,
}

/// A prompt as inputs of the transformer. They are the same at every step.
#[derive(Debug, Clone, Default)]
pub struct Conditioning {
    /// The transformer's inputs, by name.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Text tokens in the joint sequence of text and latent; 0 where text enters by cross-attention.
    pub text_tokens: usize,
}

impl Conditioning {
    /// Whether both fit into one batch: all inputs have the same shapes. Prompts of different lengths do not fit, unless the
    /// family pads them.
    pub fn can_batch_with(&self, other: &Self) -> bool {
        let shapes = |c: &Self| c.inputs.iter().map(|(name, t)| (*name, t.shape().to_vec())).collect::<Vec<_>>();
        self.text_tokens == other.text_tokens && shapes(self) == shapes(other)
    }
}

/// From prompts to conditioning.
pub trait TextConditioning {
    /// The negative prompt where guidance needs one and none is given.
    fn negative_prompt(&self) -> &str {
        ""
    }

    /// Text tokens in the transformer's sequence, padding included; 0 where text enters by cross-attention.
    fn text_tokens(&self) -> usize;

    /// Splits a prompt into tokens: one call for each text encoder, always in the same order. Adds a warning to `warnings` where
    /// the prompt is too long and is cut.
    fn tokenize(&self, prompt: &str, warnings: &mut Vec<String>) -> Result<Vec<TextCall>>;

    /// The hidden states to read from `text_encoder`, where it is a decoder language model.
    fn hidden_states(&self) -> Option<HiddenStates> {
        None
    }

    /// The outputs of the text encoders, in the order of the calls, as inputs of the transformer.
    fn conditioning(&self, outputs: Vec<Tensor>) -> Result<Conditioning>;
}

/// The shape and scale of latents.
pub trait LatentLayout {
    /// Channels of a latent.
    fn latent_channels(&self) -> usize;

    /// Pixels per latent row or column.
    fn vae_scale_factor(&self) -> usize;

    /// Frames per latent frame, except for the first, which is one frame; `None` for families of pictures.
    fn temporal_factor(&self) -> Option<usize> {
        None
    }

    /// Side of the transformer's patches: latent rows and columns are multiples of it.
    fn patch_size(&self) -> usize;

    /// The power spectrum of the VAE's latents.
    fn spectrum(&self) -> Spectrum;

    /// A denoised latent as the VAE's decoder takes it.
    fn denormalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32>;

    /// An encoded picture as the transformer takes it, the inverse of [`Self::denormalize`].
    fn normalize(&self, latent: &ArrayD<f32>) -> ArrayD<f32>;

    /// Whether the family generates videos.
    fn is_video(&self) -> bool {
        self.temporal_factor().is_some()
    }

    /// The shape of a latent: [1, c, h, w] or [1, c, t, h, w].
    fn latent_shape(&self, size: Size) -> Vec<usize> {
        let (channels, factor) = (self.latent_channels(), self.vae_scale_factor());
        let frames = self.temporal_factor().map(|factor| size.frames.saturating_sub(1) / factor + 1);
        let plane = [size.height / factor, size.width / factor];
        [1, channels].into_iter().chain(frames).chain(plane).collect()
    }

    /// Tokens of a latent in the transformer, without text.
    fn tokens(&self, latent: &[usize]) -> usize {
        let (before, plane) = latent.split_at(latent.len() - 2);
        before[2..].iter().product::<usize>() * plane.iter().map(|side| side / self.patch_size()).product::<usize>()
    }
}

/// Noise schedule, solver and guidance.
pub trait Sampling {
    /// The noise schedule of the checkpoint.
    fn schedule(&self) -> &FlowMatch;

    /// σ of every step, and a final 0.
    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>>;

    /// How the predictions with and without the prompt are combined.
    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance>;

    /// The solver of the schedule's class, with latents in f32 between steps.
    fn solver(&self) -> Box<dyn Solver + Send> {
        self.schedule().solver(DType::F32)
    }

    /// The element type of the initial noise. `requested`: that of the transformer's weights, or of `--dtype`. `from_input`:
    /// whether the run starts from a picture or clip.
    fn noise_dtype(&self, requested: DType, _from_input: bool) -> DType {
        requested
    }

    /// The default `--strength` of a run that starts from a picture or clip, in (0, 1]: that of diffusers' image-to-image
    /// pipelines.
    fn default_strength(&self) -> f64 {
        0.6
    }

    /// The first step of a run that starts from a picture or clip, in 0..=`steps`. `strength` is in 0..=1.
    fn first_step(&self, steps: usize, strength: f64) -> Result<usize> {
        schedule::first_step(steps, strength)
    }
}

/// Inputs and output of the transformer.
pub trait TransformerIo {
    /// Inputs that stay the same at one resolution: rotary positions. `text_tokens`: [`Conditioning::text_tokens`].
    fn positions(&self, latent: &[usize], text_tokens: usize) -> Vec<(&'static str, Tensor)>;

    /// Inputs of one step. `guidance`: the scale for a transformer that takes it as an input ([`Guidance::embedded`]).
    fn step_inputs(&self, latent: &ArrayD<f32>, sigma: f32, guidance: Option<f32>) -> Vec<(&'static str, Tensor)>;

    /// The transformer's output as a velocity of the latent's shape.
    ///
    /// # Errors
    /// An output of another shape than expected.
    fn velocity(&self, output: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>>;
}

/// A DiT family with the settings of one checkpoint.
pub trait Family: TextConditioning + LatentLayout + Sampling + TransformerIo + Send + Sync {
    /// The model's name in messages and metadata: `FLUX.1-dev`.
    fn name(&self) -> &str;

    /// The default settings.
    fn defaults(&self) -> Defaults;

    /// Checks that the family supports a size.
    ///
    /// # Errors
    /// A size that it does not support. The message names the nearest sizes that it does.
    fn check_size(&self, size: Size) -> Result<()> {
        let (name, multiple) = (self.name(), self.vae_scale_factor() * self.patch_size());
        for (flag, value) in [("--height", size.height), ("--width", size.width)] {
            if value == 0 || !value.is_multiple_of(multiple) {
                let below = (value / multiple) * multiple;
                let near = if below == 0 { multiple.to_string() } else { format!("{below} or {}", below + multiple) };
                return Err(Error::usage(format!("{flag} {value}: {name} needs a multiple of {multiple}; {near}")));
            }
        }
        self.check_frames(size.frames)
    }

    /// Checks that the family supports a number of frames.
    ///
    /// # Errors
    /// A number that it does not support. The message names the nearest numbers that it does.
    fn check_frames(&self, frames: usize) -> Result<()> {
        let name = self.name();
        match self.temporal_factor() {
            None if frames != 1 => Err(Error::usage(format!("--num-frames {frames}: {name} makes single pictures"))),
            Some(factor) if frames == 0 || !(frames - 1).is_multiple_of(factor) => {
                let below = frames.saturating_sub(1) / factor * factor + 1;
                let above = below + factor;
                Err(Error::usage(format!(
                    "--num-frames {frames}: {name} needs a multiple of {factor} and one; {below} or {above}"
                )))
            }
            _ => Ok(()),
        }
    }
}
