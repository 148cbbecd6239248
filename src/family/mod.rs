//! One file per DiT family: prompt form, latent layout, schedule, guidance, decode. A family runs no network; it says what the
//! networks are fed and what their answers mean.

pub mod flux;
pub mod flux2;
pub mod qwen_image;
pub mod wan;
pub mod z_image;

use ndarray::ArrayD;

use crate::{
    error::{Error, Result},
    model::{HiddenStates, ModelFolder, read_json},
    schedule::{self, guidance::Guidance, solver::Solver},
    spectral::activation::Spectrum,
    tensor::{DType, Tensor},
};

/// What is to be made, in pixels and frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Pictures; 1 except for videos.
    pub frames: usize,
}

/// What a family does when nothing else is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Size of the result.
    pub size: Size,
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale, in the family's own meaning.
    pub guidance: f32,
    /// Frames per second of a video.
    pub fps: Option<f32>,
}

/// Whose defaults apply where the two projects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Convention {
    /// diffusers 0.42.1.
    #[default]
    Diffusers,
    /// SGLang diffusion.
    Sglang,
}

/// What was asked of guidance; a family takes what it knows and refuses the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GuidanceRequest {
    /// `--guidance-scale`
    pub scale: Option<f32>,
    /// `--true-cfg-scale`
    pub true_cfg: Option<f32>,
    /// Whether a negative prompt was given.
    pub negative: bool,
    /// Whose defaults apply to what was not asked.
    pub convention: Convention,
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
    /// What the network is fed.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Which of its outputs is wanted.
    pub output: &'static str,
}

/// A prompt as the DiT sees it: inputs that stay the same from step to step.
#[derive(Debug, Clone, Default)]
pub struct Conditioning {
    /// Named inputs of the DiT.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// Rows of the text in the joint sequence.
    pub text_rows: usize,
}

impl Conditioning {
    /// Whether the two can be one batch: every input of the same shape. Prompts of other lengths are not, where the family
    /// does not pad them.
    pub fn stacks(&self, other: &Self) -> bool {
        let shapes = |c: &Self| c.inputs.iter().map(|(name, t)| (*name, t.shape().to_vec())).collect::<Vec<_>>();
        self.text_rows == other.text_rows && shapes(self) == shapes(other)
    }
}

/// A DiT family with one checkpoint's settings. Latents are spatial everywhere outside: [1, c, h, w] or [1, c, t, h, w].
pub trait Family: Send + Sync {
    /// The family's name for people: `FLUX.1-dev`.
    fn name(&self) -> &str;

    /// What happens when nothing else is asked.
    fn defaults(&self, convention: Convention) -> Defaults;

    /// Chooses whose schedule and default prompts apply; before everything else is asked.
    fn set_convention(&mut self, _convention: Convention) {}

    /// Chooses the static shift of the schedule (`--flow-shift`); an error where it depends on the picture's size.
    fn set_flow_shift(&mut self, shift: f64) -> Result<()> {
        Err(Error::usage(format!("--flow-shift {shift}: {} shifts its schedule by the picture's size", self.name())))
    }

    /// The negative prompt where none is given and guidance wants one.
    fn negative_prompt(&self) -> &str {
        ""
    }

    /// Rows of the prompt in the transformer's sequence, padding among them.
    fn text_rows(&self) -> usize;

    /// Chooses the rows of the prompt (`--max-sequence-length`); an error where the family has a fixed number or a limit.
    fn set_text_rows(&mut self, rows: usize) -> Result<()>;

    /// Pixels per latent row or column.
    fn factor(&self) -> usize;

    /// Latent rows and columns come in multiples of this.
    fn patch(&self) -> usize;

    /// Whether results are videos.
    fn is_video(&self) -> bool {
        false
    }

    /// Refuses a number of frames that the family cannot do, naming the nearest that it can.
    fn check_frames(&self, frames: usize) -> Result<()> {
        if frames != 1 {
            return Err(Error::usage(format!("--num-frames {frames}: {} makes single pictures", self.name())));
        }
        Ok(())
    }

    /// The latent of a result: [1, c, h, w] or [1, c, t, h, w].
    fn latent_shape(&self, size: Size) -> Vec<usize>;

    /// Tokens of a latent in the DiT, without text.
    fn tokens(&self, latent: &[usize]) -> usize {
        let (before, plane) = latent.split_at(latent.len() - 2);
        before[2..].iter().product::<usize>() * plane.iter().map(|side| side / self.patch()).product::<usize>()
    }

    /// The power law of the VAE's latents.
    fn spectrum(&self) -> Spectrum;

    /// The type that noise is drawn in; `asked` is that of the transformer's weights, or what was asked for. `start`: whether the
    /// run starts from a picture or clip.
    fn noise(&self, asked: DType, _start: bool) -> DType {
        asked
    }

    /// How much of the schedule is done again from a picture or clip when nothing is asked for, in (0, 1]: that of diffusers'
    /// image-to-image pipelines.
    fn strength(&self) -> f64 {
        0.6
    }

    /// The first step that is done from a picture or clip, in 0..=`steps`; `strength` in 0..=1.
    fn first_step(&self, steps: usize, strength: f64) -> Result<usize> {
        schedule::first_step(steps, strength)
    }

    /// σ of every step, and 0.
    fn sigmas(&self, size: Size, steps: usize) -> Result<Vec<f32>>;

    /// The solver that the schedule asks for; `latents` is the type that latents live in between steps.
    fn solver(&self, latents: DType) -> Box<dyn Solver + Send>;

    /// How the predictions with and without the prompt are combined.
    fn guidance(&self, request: GuidanceRequest) -> Result<Guidance>;

    /// A prompt as calls of text encoders, in a fixed order. What had to be cut is added to `notes`.
    fn tokenize(&self, prompt: &str, notes: &mut Vec<String>) -> Result<Vec<TextCall>>;

    /// What is read of `text_encoder`, where that is a decoder language model.
    fn states(&self) -> Option<HiddenStates> {
        None
    }

    /// The encoders' answers, in the order of the calls, as the DiT's inputs.
    fn condition(&self, states: Vec<Tensor>) -> Result<Conditioning>;

    /// Inputs of the DiT that stay the same at one resolution: positions.
    fn positions(&self, latent: &[usize], text_rows: usize) -> Vec<(&'static str, Tensor)>;

    /// Inputs of the DiT at one step. `scale` is the guidance scale, for networks that are told it.
    fn step(&self, latent: &ArrayD<f32>, sigma: f32, scale: f32) -> Vec<(&'static str, Tensor)>;

    /// The DiT's answer as a velocity of the latent's shape.
    fn velocity(&self, answer: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>>;

    /// A finished latent as the VAE's decoder takes it.
    fn unscale(&self, latent: &ArrayD<f32>) -> ArrayD<f32>;

    /// An encoded picture as the DiT takes it, the inverse of [`Family::unscale`].
    fn scale(&self, latent: &ArrayD<f32>) -> ArrayD<f32>;

    /// Refuses a size that the family cannot do, naming the nearest that it can.
    fn check(&self, size: Size) -> Result<()> {
        let multiple = self.factor() * self.patch();
        for (flag, value) in [("--height", size.height), ("--width", size.width)] {
            if value == 0 || !value.is_multiple_of(multiple) {
                let below = (value / multiple) * multiple;
                let near = if below == 0 { multiple.to_string() } else { format!("{below} or {}", below + multiple) };
                let name = self.name();
                return Err(Error::usage(format!("{flag} {value}: {name} needs a multiple of {multiple}; {near}")));
            }
        }
        self.check_frames(size.frames)
    }
}

/// Pipeline classes of diffusers that can be run.
pub const PIPELINES: &[&str] =
    &["Flux2KleinPipeline", "Flux2Pipeline", "FluxPipeline", "QwenImagePipeline", "WanPipeline", "ZImagePipeline"];

/// The family of a checkpoint folder, by its pipeline's class.
pub fn open(folder: &ModelFolder) -> Result<Box<dyn Family>> {
    same_scheduler(folder)?;
    match folder.class.as_str() {
        "Flux2KleinPipeline" => Ok(Box::new(flux2::Flux2::open(folder)?)),
        "Flux2Pipeline" => Ok(Box::new(flux2::Flux2::open(folder)?)),
        "FluxPipeline" => Ok(Box::new(flux::Flux::open(folder)?)),
        "QwenImagePipeline" => Ok(Box::new(qwen_image::QwenImage::open(folder)?)),
        "WanPipeline" => Ok(Box::new(wan::Wan::open(folder)?)),
        "ZImagePipeline" => Ok(Box::new(z_image::ZImage::open(folder)?)),
        other => {
            let (root, known) = (folder.root().display(), PIPELINES.join(", "));
            Err(Error::failed(format!("{root}: pipeline class {other:?} is not known; known are {known}")))
        }
    }
}

/// The index and the scheduler's own file must name one class: which of the two the weights were made for nobody can tell.
fn same_scheduler(folder: &ModelFolder) -> Result<()> {
    let Ok(indexed) = folder.class_of("scheduler") else { return Ok(()) };
    let path = folder.path("scheduler")?.join("scheduler_config.json");
    let config: serde_json::Value = read_json(&path)?;
    match config.get("_class_name").and_then(serde_json::Value::as_str) {
        Some(own) if own != indexed => {
            let (path, wanted) = (path.display(), "one of them was changed: download both again");
            Err(Error::failed(format!("{path}: is of class {own}, and model_index.json says {indexed}; {wanted}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a number of prompt rows (`--max-sequence-length`) that a family does not read.
fn check_rows(name: &str, rows: usize, read: std::ops::RangeInclusive<usize>) -> Result<()> {
    if read.contains(&rows) {
        return Ok(());
    }
    let (least, most) = read.into_inner();
    Err(Error::usage(format!("max_sequence_length {rows}: {name} reads {least} to {most} tokens")))
}
