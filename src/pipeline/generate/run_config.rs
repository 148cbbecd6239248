//! A generate plan and a checkpoint's settings, made one: every number of the run, before any weight is loaded.

use crate::pipeline::{
    generate::Form,
    generate::init_image::InitImage,
    pass::Pass,
    report::{GenerateForecast, LevelRow, SizeRow},
    vae::{Direction, VaeTiler},
};
use crate::{
    compile::{self, Subgraph},
    error::{Error, Result},
    family::{self, Family, GuidanceRequest, Overrides, Size},
    model::ModelFolder,
    onnx::Target,
    plan::{Destination, GeneratePlan},
    schedule::{Guidance, NoiseSource},
    spectral::{self, Growth, Ladder, Level, Mode, Scales},
    tensor::DType,
    weights::Checkpoint,
};

/// Every number of a run.
pub(crate) struct RunConfig {
    /// The checkpoint's folder.
    pub folder: ModelFolder,
    /// Its conventions.
    pub family: Box<dyn Family>,
    /// What is made.
    pub size: Size,
    /// Denoising steps.
    pub steps: usize,
    /// σ of every step, and 0; before any rewind.
    pub sigmas: Vec<f32>,
    /// The resolution levels that are run: with a start, from its first step on.
    pub levels: Vec<Level>,
    /// How latents grow.
    pub growth: Growth,
    /// How predictions are combined.
    pub guidance: Guidance,
    /// The picture or clip that is started from.
    pub start: Option<InitImage>,
    /// How much of the schedule is done again from it, in (0, 1].
    pub strength: Option<f64>,
    /// Decoded frames a second of a video; 0 for pictures.
    pub fps: f64,
    /// The type that noise is drawn in.
    pub noise: DType,
    /// How the autoencoder is run.
    pub vae: VaeTiler,
    /// Floating-point operations of one call of the transformer, by picture tokens.
    flop: Option<Box<dyn Fn(usize) -> f64>>,
}

impl RunConfig {
    /// Reads configs and decides everything; refuses what the family cannot do.
    pub fn new(plan: &GeneratePlan) -> Result<Self> {
        let folder = ModelFolder::open(&plan.model.path)?;
        let convention = plan.defaults;
        let overrides = Overrides { convention, flow_shift: plan.flow_shift, text_tokens: plan.max_sequence_length };
        let family = family::open(&folder, &overrides)?;
        let defaults = family.defaults();
        let (height, width) = plan.size.unwrap_or((defaults.size.height, defaults.size.width));
        refuse(plan, family.as_ref())?;
        let start = plan.start.as_ref().map(|start| InitImage::open(&start.image)).transpose()?;
        let clip = start.as_ref().filter(|source| source.is_clip());
        let frames = plan.frames.or(clip.map(|clip| clip.frames).filter(|_| family.is_video()));
        let size = Size { height, width, frames: frames.unwrap_or(defaults.size.frames) };
        if let Some(source) = &start {
            source.check(family.as_ref(), size, plan.frames)?;
        }
        family.check_size(size)?;
        let steps = plan.steps.unwrap_or(defaults.steps);
        let sigmas = family.sigmas(size, steps)?;
        let growth = Growth { transform: plan.progressive.transform, rewind: plan.progressive.mode == Mode::DctRewind };
        let latent = family.latent_shape(size);
        let scales = match plan.progressive.mode {
            Mode::Fullres => Scales::Full,
            Mode::Dct | Mode::DctRewind => plan.progressive.scales.clone(),
        };
        scales.check_height(height)?;
        let ladder = Ladder {
            latent: (latent[latent.len() - 2], latent[latent.len() - 1]),
            patch: family.patch_size(),
            scales,
            spectrum: plan.progressive.spectrum.unwrap_or_else(|| family.spectrum()),
            delta: plan.progressive.delta,
            growth,
        };
        let levels = ladder.levels(&sigmas)?;
        let asked = GuidanceRequest {
            scale: plan.guidance_scale.map(|s| s as f32),
            true_cfg: plan.true_cfg_scale.map(|s| s as f32),
            negative: plan.negative_prompt.is_some(),
            normalization: plan.cfg_normalization.map(|c| c as f32),
            truncation: plan.cfg_truncation.map(|t| t as f32),
        };
        let guidance = family.guidance(asked)?;
        if !matches!(guidance, Guidance::ZImage { .. }) {
            refuse_shaping(plan, family.as_ref())?;
        }
        let strength = plan.start.as_ref().map(|start| start.strength.unwrap_or(family.default_strength()));
        let first = strength.map_or(Ok(0), |strength| first_step(family.as_ref(), steps, strength))?;
        let levels = spectral::from_step(levels, &sigmas, first);
        let own = start.as_ref().and_then(|source| source.fps).filter(|_| family.is_video());
        let fps = plan.fps.or(own).or(defaults.fps.map(f64::from)).unwrap_or(0.0);
        let noise = family.noise_dtype(noise_type(plan.runtime.dtype, &folder)?, start.is_some());
        let vae = VaeTiler::new(plan.vae, &plan.runtime, &folder)?;
        let calls = if guidance.needs_negative(sigmas[0]) { 2.0 } else { 1.0 };
        let text = family.text_tokens();
        let cost = compile::transformer_cost(&folder.path("transformer")?, folder.class_of("transformer")?)?;
        let flop: Option<Box<dyn Fn(usize) -> f64>> = Some(Box::new(move |tokens| calls * cost.of(tokens, text)));
        Ok(Self {
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
        })
    }

    /// The numbers of a pass through the transformer.
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

    /// The stages as `plan` prints them.
    pub fn stages(&self) -> Vec<LevelRow> {
        let mut latent = self.family.latent_shape(self.size);
        let axes = latent.len();
        self.levels
            .iter()
            .map(|level| {
                (latent[axes - 2], latent[axes - 1]) = (level.height, level.width);
                let tokens = self.family.tokens(&latent);
                LevelRow {
                    height: level.height,
                    width: level.width,
                    steps: level.steps(),
                    tokens,
                    sigma_start: level.sigma_start.into(),
                    sigma_end: level.sigma_end.into(),
                    flop: self.flop.as_ref().map(|flop| flop(tokens) * level.steps() as f64),
                }
            })
            .collect()
    }

    /// What growth saves of the cost that is linear in tokens, in words.
    fn notes(&self, stages: &[LevelRow]) -> Vec<String> {
        let spent: usize = stages.iter().map(|s| s.tokens * s.steps).sum();
        let full = stages.last().map_or(1, |s| s.tokens) * stages.iter().map(|s| s.steps).sum::<usize>();
        let saved =
            format!("{:.0} % of the token-steps that full resolution takes", 100.0 * spent as f64 / full as f64);
        let noise = format!("noise is drawn in {}", self.noise.name());
        let mut notes = if stages.len() > 1 { vec![saved, noise] } else { vec![noise] };
        notes.extend(self.start.iter().flat_map(|source| source.notes(self.family.as_ref(), self.size)));
        let made = if self.family.is_video() { "videos" } else { "pictures" };
        let size = (self.size.height, self.size.width);
        let start = self.start.as_ref().map(|source| source.encoded(self.family.vae_scale_factor(), self.size));
        notes.extend(
            start.and_then(|size| self.vae.note(Direction::Encode, size)).map(|note| format!("the start is {note}")),
        );
        notes.extend(self.vae.note(Direction::Decode, size).map(|note| format!("{made} are {note}")));
        notes
    }

    /// The stage split: `18@64x64 + 32@128x128`.
    pub fn split(&self) -> String {
        spectral::split(&self.levels)
    }
}

/// The first step from a picture or clip, where one is left.
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
    Err(Error::usage(format!("--strength {strength} leaves none of {steps} steps to do; give more of either{least}")))
}

/// The part of a component that a family's runs need; `otherwise` where there is no choice.
pub(in crate::pipeline) fn part_of(family: &dyn Family, component: &str, otherwise: Subgraph) -> Subgraph {
    match family.hidden_states() {
        Some(states) if component == "text_encoder" => Subgraph::HiddenStates(states),
        _ => otherwise,
    }
}

/// Noise is drawn in the type that the reference pipeline runs in: that of the transformer's weights, unless asked otherwise.
pub(in crate::pipeline) fn noise_type(asked: Option<DType>, folder: &ModelFolder) -> Result<DType> {
    match asked {
        Some(DType::F16) => {
            return Err(Error::usage("--dtype f16: no published model draws its noise in f16; bf16 or f32"));
        }
        Some(dtype) => return Ok(dtype),
        None => {}
    }
    let weights = Checkpoint::open(&folder.path("transformer")?)?;
    let bf16 = weights.dtypes().into_iter().max_by_key(|(_, n)| *n).is_some_and(|(d, _)| d == DType::BF16);
    Ok(if bf16 { DType::BF16 } else { DType::F32 })
}

/// Flags that shape the guidance of Z-Image alone; a cap of 0 is none.
fn refuse_shaping(plan: &GeneratePlan, family: &dyn Family) -> Result<()> {
    let cap = ("--cfg-normalization", plan.cfg_normalization.filter(|&c| c > 0.0));
    let asked = [cap, ("--cfg-truncation", plan.cfg_truncation)];
    let name = family.name();
    match asked.into_iter().find_map(|(flag, value)| Some((flag, value?))) {
        Some((flag, value)) => Err(Error::usage(format!(
            "{flag} {value}: it shapes the guidance of Z-Image, and {name} is not guided in that way here"
        ))),
        None => Ok(()),
    }
}

/// Flags that this family, or any yet, does not know.
fn refuse(plan: &GeneratePlan, family: &dyn Family) -> Result<()> {
    let name = family.name();
    let unfit = |flag: &str, why: &str| Err(Error::usage(format!("{flag}: {name} {why}")));
    if plan.interpolation.is_some() && !family.is_video() {
        return unfit("--enable-frame-interpolation", "makes single pictures, between which there is nothing");
    }
    if plan.fps.is_some() && !family.is_video() {
        return unfit("--fps", "makes single pictures");
    }
    if plan.output.destination == Destination::StandardOutput && family.is_video() {
        return unfit("--output-file-path -", "makes videos, which need a file of a name");
    }
    if plan.steps == Some(0) {
        return Err(Error::usage("--num-inference-steps must be at least 1, got 0"));
    }
    Ok(())
}

/// What a generate call would do, without loading weights. Every graph is written, so missing, misshapen and unused weights are found.
pub fn plan_generate(plan: &GeneratePlan) -> Result<GenerateForecast> {
    let resolved = RunConfig::new(plan)?;
    let (mut weights, mut largest) = (0, 0);
    for (name, class) in resolved.folder.components().filter(|(_, class)| compile::supports(class)) {
        let part = part_of(resolved.family.as_ref(), name, Subgraph::Decoder);
        let model = compile::component(&resolved.folder.path(name)?, class, part, None, Target::CPU)?;
        weights += model.weight_bytes;
        // The CPU computes in f32: weights are widened once, or stay mapped under a memory limit.
        largest = largest.max(if plan.runtime.engine.memory_limit.is_some() { 0 } else { 4 * model.parameters });
    }
    let Size { height, width, .. } = resolved.size;
    let decoding = resolved.vae.planned_bytes(Direction::Decode, (height, width));
    let sizes = sizes(plan, &resolved)?;
    let outputs = plan.prompts.len() * plan.seeds.len();
    // Three bytes a pixel of a picture, about a tenth of one of a video.
    let bytes = |s: &SizeRow| (s.width * s.height) as u64 * if s.fps.is_some() { s.frames.div_ceil(10) } else { 3 };
    let last = sizes.last().map_or(0, bytes);
    let stages = resolved.stages();
    Ok(GenerateForecast {
        model: resolved.family.name().into(),
        outputs,
        weights_bytes: Some(weights),
        memory_bytes: Some(largest.max(decoding)),
        disk_bytes: Some(last * outputs as u64),
        notes: resolved.notes(&stages),
        stages,
        sizes,
    })
}

/// What comes out of each stage after the transformer.
fn sizes(plan: &GeneratePlan, resolved: &RunConfig) -> Result<Vec<SizeRow>> {
    let Size { height, width, frames } = resolved.size;
    let video = resolved.family.is_video();
    let row = |stage: &str, (height, width): (usize, usize), frames: usize, fps: f64| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: frames as u64,
        fps: video.then_some(fps),
    };
    let form = Form::new(plan, (height, width), frames, resolved.fps)?;
    let mut sizes = vec![row("decode", (height, width), frames, resolved.fps)];
    if plan.interpolation.is_some() {
        sizes.push(row("interpolate", (height, width), form.frames, form.rate.value()));
    }
    if plan.upscaling.is_some() {
        sizes.push(row("upscale", form.size, form.frames, form.rate.value()));
    }
    Ok(sizes)
}
