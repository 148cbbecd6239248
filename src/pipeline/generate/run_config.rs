//! A generate plan and the configs of a checkpoint → all parameters of the run, before any weight is read.

use super::init_image::InitImage;
use crate::{
    compile,
    error::{Error, Result},
    family::{self, Family, GuidanceRequest, Overrides, Size},
    media::PictureFormat,
    model::ModelFolder,
    pipeline::{
        components::{noise_dtype, uses_guidance_scale, warn_of_random_weights},
        pass::Pass,
        vae::{Direction, VaeTiler},
    },
    plan::{Destination, GeneratePlan, Uses, check_generate_effects},
    schedule::{Guidance, NoiseSource},
    spectral::{self, Growth, Ladder, Level, Mode, Scales},
    tensor::DType,
};

/// Floating-point operations of one denoising step, by picture tokens.
type Flop = Box<dyn Fn(usize) -> f64>;

/// All parameters of a run.
pub(crate) struct RunConfig {
    /// The checkpoint's folder.
    pub folder: ModelFolder,
    /// The family of the checkpoint.
    pub family: Box<dyn Family>,
    /// Size of the output before interpolation and upscaling.
    pub size: Size,
    /// Denoising steps.
    pub steps: usize,
    /// σ of every step, and 0, before any rewind.
    pub sigmas: Vec<f32>,
    /// The resolution levels to run. With an input picture, they begin with its first step.
    pub levels: Vec<Level>,
    /// How latents grow.
    pub growth: Growth,
    /// How predictions are combined.
    pub guidance: Guidance,
    /// The input picture or clip.
    pub start: Option<InitImage>,
    /// The share of the schedule that runs from the input picture, in (0, 1].
    pub strength: Option<f64>,
    /// Decoded frames per second of a video; 0 for pictures.
    pub fps: f64,
    /// The type that noise is drawn in.
    pub noise: DType,
    /// The tiles of the VAE.
    pub vae: VaeTiler,
    /// Floating-point operations of one denoising step, by picture tokens. `None`: no weights, for `plan`.
    pub flop: Option<Flop>,
}

impl RunConfig {
    /// Reads the configs of the checkpoint.
    ///
    /// # Errors
    /// Options that the family does not support, or that contradict each other.
    pub(super) fn new(plan: &GeneratePlan) -> Result<Self> {
        let folder = ModelFolder::open(&plan.model.path)?;
        let overrides =
            Overrides { convention: plan.defaults, flow_shift: plan.flow_shift, text_tokens: plan.max_sequence_length };
        let family = family::open(&folder, &overrides)?;
        check_support(plan, family.as_ref())?;
        let defaults = family.defaults();
        let start = plan.start.as_ref().map(|start| InitImage::open(&start.image)).transpose()?;
        let size = output_size(plan, family.as_ref(), start.as_ref())?;
        let steps = plan.steps.unwrap_or(defaults.steps);
        let sigmas = family.sigmas(size, steps)?;
        let growth = Growth { transform: plan.progressive.transform, rewind: plan.progressive.mode == Mode::DctRewind };
        let levels = levels(plan, family.as_ref(), size, &sigmas, growth)?;
        let guidance = guidance(plan, family.as_ref())?;
        let strength = plan.start.as_ref().map(|start| start.strength.unwrap_or(family.default_strength()));
        let first = strength.map_or(Ok(0), |strength| first_step(family.as_ref(), steps, strength))?;
        let levels = spectral::from_step(levels, &sigmas, first);
        let clip_fps = start.as_ref().and_then(|image| image.fps).filter(|_| family.is_video());
        let fps = plan.fps.or(clip_fps).or(defaults.fps.map(f64::from)).unwrap_or(0.0);
        let dtype = if plan.model.configs_only { Some(DType::F32) } else { plan.runtime.dtype };
        let noise = family.noise_dtype(noise_dtype(dtype, &folder)?, start.is_some());
        let (vae, flop) = match plan.model.configs_only {
            true => (VaeTiler::unknown(&plan.runtime, family.vae_scale_factor()), None),
            false => (
                VaeTiler::new(plan.vae, &plan.runtime, &folder)?,
                Some(flop(&folder, family.as_ref(), guidance.needs_negative(sigmas[0]))?),
            ),
        };
        warn_of_random_weights(&folder, "--model-path");
        let config = Self {
            folder,
            family,
            size,
            steps,
            sigmas,
            levels,
            growth,
            guidance,
            start,
            strength,
            fps,
            noise,
            vae,
            flop,
        };
        check_generate_effects(plan, &config.uses(plan))?;
        Ok(config)
    }

    /// What the run uses, for warnings about settings without effect.
    fn uses(&self, plan: &GeneratePlan) -> Uses {
        let (family, output) = (self.family.as_ref(), &plan.output);
        let encoded = self.start.as_ref().map(|image| image.encoded_size(family.vae_scale_factor(), self.size));
        let decoded = (self.size.height, self.size.width);
        let files = matches!(output.destination, Destination::Folder(_) | Destination::File(_));
        let lossy = match &output.destination {
            Destination::File(path) => PictureFormat::of_name(path).is_ok_and(PictureFormat::is_lossy),
            _ => false,
        };
        Uses {
            growth: plan.progressive.mode != Mode::Fullres,
            negative_prompt: self.sigmas.iter().any(|&sigma| self.guidance.needs_negative(sigma)),
            guidance_scale: uses_guidance_scale(family, guidance_request(plan)),
            bf16_noise: self.noise == DType::BF16,
            vae_tiles: self.vae.is_tiled(Direction::Decode, decoded)
                || encoded.is_some_and(|size| self.vae.is_tiled(Direction::Encode, size)),
            upscaling_network: plan.upscaling.as_ref().is_some_and(|u| u.model.is_some()),
            refinement: false,
            videos: files && family.is_video(),
            lossy_pictures: lossy && !family.is_video(),
            files,
            crf: output.crf.is_some(),
        }
    }

    /// The parameters of a pass through the transformer.
    pub(super) fn pass(&self, source: NoiseSource) -> Pass<'_> {
        Pass {
            family: self.family.as_ref(),
            sigmas: &self.sigmas,
            levels: &self.levels,
            growth: self.growth,
            source,
            noise: self.noise,
        }
    }

    /// The steps of each level: `18@64x64 + 32@128x128`.
    pub(super) fn split(&self) -> String {
        spectral::split(&self.levels)
    }
}

/// Floating-point operations of a step, with one or two predictions.
fn flop(folder: &ModelFolder, family: &dyn Family, two: bool) -> Result<Flop> {
    let (calls, text) = (if two { 2.0 } else { 1.0 }, family.text_tokens());
    let cost = compile::transformer_cost(&folder.path("transformer")?, folder.class_of("transformer")?)?;
    Ok(Box::new(move |tokens| calls * cost.of(tokens, text)))
}

/// The size of the output. The default number of frames is that of an input clip, or the family's.
fn output_size(plan: &GeneratePlan, family: &dyn Family, start: Option<&InitImage>) -> Result<Size> {
    let default = family.defaults().size;
    let (height, width) = (plan.size.height.unwrap_or(default.height), plan.size.width.unwrap_or(default.width));
    let name = family.name();
    match (plan.size.height, plan.size.width) {
        (Some(_), None) => tracing::info!("--height {height}: the width is the default of {name}, {width}"),
        (None, Some(_)) => tracing::info!("--width {width}: the height is the default of {name}, {height}"),
        _ => {}
    }
    let clip_frames = start.filter(|image| image.is_clip() && family.is_video()).map(|clip| clip.frames);
    let size = Size { height, width, frames: plan.frames.or(clip_frames).unwrap_or(default.frames) };
    if let Some(image) = start {
        image.check(family, size, plan.frames)?;
    }
    check_maximum(size)?;
    family.check_size(size)?;
    Ok(size)
}

/// The largest side in pixels, and the most frames. Schedules that depend on the number of tokens end beyond f64 above it.
const MAX_SIDE: usize = 16_384;
const MAX_FRAMES: usize = 100_000;

/// Sizes beyond the maximum are errors.
fn check_maximum(size: Size) -> Result<()> {
    let rows = [
        ("--width", size.width, MAX_SIDE, "pixels"),
        ("--height", size.height, MAX_SIDE, "pixels"),
        ("--num-frames", size.frames, MAX_FRAMES, "frames"),
    ];
    match rows.into_iter().find(|(_, n, most, _)| n > most) {
        Some((flag, n, most, unit)) => Err(Error::usage(format!("{flag} {n}: at most {most} {unit} are supported"))),
        None => Ok(()),
    }
}

/// The resolution levels of the whole schedule.
fn levels(plan: &GeneratePlan, family: &dyn Family, size: Size, sigmas: &[f32], growth: Growth) -> Result<Vec<Level>> {
    let latent = family.latent_shape(size);
    let scales = match plan.progressive.mode {
        Mode::Fullres => Scales::Full,
        Mode::Dct | Mode::DctRewind => plan.progressive.scales.clone(),
    };
    scales.check_height(size.height)?;
    let ladder = Ladder {
        latent: (latent[latent.len() - 2], latent[latent.len() - 1]),
        patch: family.patch_size(),
        scales,
        spectrum: plan.progressive.spectrum.unwrap_or_else(|| family.spectrum()),
        delta: plan.progressive.delta,
        growth,
    };
    ladder.levels(sigmas)
}

/// The guidance that the plan selects.
fn guidance(plan: &GeneratePlan, family: &dyn Family) -> Result<Guidance> {
    let guidance = family.guidance(guidance_request(plan))?;
    if !matches!(guidance, Guidance::ZImage { .. }) {
        check_shaping(plan, family)?;
    }
    Ok(guidance)
}

fn guidance_request(plan: &GeneratePlan) -> GuidanceRequest {
    GuidanceRequest {
        scale: plan.guidance_scale.map(|s| s as f32),
        true_cfg: plan.true_cfg_scale.map(|s| s as f32),
        negative: plan.negative_prompt.is_some(),
        normalization: plan.cfg_normalization.map(|c| c as f32),
        truncation: plan.cfg_truncation.map(|t| t as f32),
    }
}

/// The first step that runs from an input picture.
fn first_step(family: &dyn Family, steps: usize, strength: f64) -> Result<usize> {
    if !(strength > 0.0 && strength <= 1.0) {
        return Err(Error::usage(format!("strength must be in (0, 1], got {strength}")));
    }
    let first = family.first_step(steps, strength)?;
    if first < steps {
        return Ok(first);
    }
    let least = (1..=100).map(|n| f64::from(n) / 100.0).find(|&s| family.first_step(steps, s).is_ok_and(|n| n < steps));
    let least = least.map(|s| format!(", such as --strength {s}")).unwrap_or_default();
    Err(Error::usage(format!("--strength {strength} leaves none of {steps} steps; increase either{least}")))
}

/// Flags that only the guidance of Z-Image supports are errors. A normalization of 0 is none.
fn check_shaping(plan: &GeneratePlan, family: &dyn Family) -> Result<()> {
    let cap = ("--cfg-normalization", plan.cfg_normalization.filter(|&c| c > 0.0));
    let flags = [cap, ("--cfg-truncation", plan.cfg_truncation)];
    let name = family.name();
    match flags.into_iter().find_map(|(flag, value)| Some((flag, value?))) {
        Some((flag, value)) => Err(Error::usage(format!(
            "{flag} {value}: it needs the guidance of Z-Image, which {name} does not use; leave it out"
        ))),
        None => Ok(()),
    }
}

/// Flags that the family does not support are errors.
fn check_support(plan: &GeneratePlan, family: &dyn Family) -> Result<()> {
    let name = family.name();
    let unsupported = |flag: &str, why: &str| Err(Error::usage(format!("{flag}: {name} {why}")));
    if plan.interpolation.is_some() && !family.is_video() {
        return unsupported("--enable-frame-interpolation", "makes single pictures, which cannot be interpolated");
    }
    if plan.fps.is_some() && !family.is_video() {
        return unsupported("--fps", "makes single pictures");
    }
    if plan.output.destination == Destination::StandardOutput && family.is_video() {
        return unsupported("--output-file-path -", "makes videos, which need a named file");
    }
    if plan.steps == Some(0) {
        return Err(Error::usage("--num-inference-steps must be at least 1, got 0"));
    }
    Ok(())
}
