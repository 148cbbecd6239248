//! A generate plan and a checkpoint's settings, made one: every number of the run, before any weight is loaded.

use serde::Serialize;

use crate::{
    compile::{self, Part},
    error::{Error, Result},
    family::{self, Convention, Family, GuidanceRequest, ModelFolder, Size},
    onnx::Target,
    plan::{Defaults, GeneratePlan, Mode, Scale, Scales, Transform},
    schedule::guidance::Guidance,
    spectral::{self, Growth, Ladder, Level, Spectrum},
    tensor::DType,
    weights::Checkpoint,
};

/// Every number of a run.
pub struct Resolved {
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
    /// The resolution levels.
    pub levels: Vec<Level>,
    /// How latents grow.
    pub growth: Growth,
    /// How predictions are combined.
    pub guidance: Guidance,
    /// What the network is told of guidance.
    pub scale: f32,
    /// The type that noise is drawn in.
    pub noise: DType,
}

impl Resolved {
    /// Reads configs and decides everything; refuses what the family cannot do.
    pub fn new(plan: &GeneratePlan) -> Result<Self> {
        let folder = ModelFolder::open(&plan.model.path)?;
        let family = family::open(&folder)?;
        let convention = match plan.defaults {
            Defaults::Diffusers => Convention::Diffusers,
            Defaults::Sglang => Convention::Sglang,
        };
        let defaults = family.defaults(convention);
        let (height, width) = plan.size.unwrap_or((defaults.size.height, defaults.size.width));
        let size = Size { height, width, frames: plan.frames.unwrap_or(defaults.size.frames) };
        family.check(size)?;
        refuse(plan, family.as_ref())?;
        let steps = plan.steps.unwrap_or(defaults.steps);
        let sigmas = family.sigmas(size, steps)?;
        let growth = Growth { transform: transform(plan.progressive.transform), rewind: plan.progressive.mode == Mode::DctRewind };
        let latent = family.latent_shape(size);
        let ladder = Ladder {
            latent: (latent[latent.len() - 2], latent[latent.len() - 1]),
            patch: family.patch(),
            scales: scales(plan, height)?,
            spectrum: plan.progressive.spectrum.map_or_else(|| family.spectrum(), |(a, beta)| Spectrum { a, beta }),
            delta: plan.progressive.delta,
            growth,
        };
        let levels = ladder.levels(&sigmas)?;
        let asked = GuidanceRequest {
            scale: plan.guidance_scale.map(|s| s as f32),
            true_cfg: plan.true_cfg_scale.map(|s| s as f32),
            negative: plan.negative_prompt.is_some(),
        };
        let guidance = family.guidance(asked)?;
        let scale = asked.scale.unwrap_or(defaults.guidance);
        let noise = noise_type(plan, &folder)?;
        Ok(Self { folder, family, size, steps, sigmas, levels, growth, guidance, scale, noise })
    }

    /// The stages as `plan` prints them.
    pub fn stages(&self) -> Vec<PlannedStage> {
        let mut latent = self.family.latent_shape(self.size);
        let axes = latent.len();
        self.levels
            .iter()
            .map(|level| {
                (latent[axes - 2], latent[axes - 1]) = (level.height, level.width);
                PlannedStage {
                    height: level.height,
                    width: level.width,
                    steps: level.steps(),
                    tokens: self.family.tokens(&latent),
                    sigma_start: level.sigma_start,
                    sigma_end: level.sigma_end,
                }
            })
            .collect()
    }

    /// The stage split: `18@64x64 + 32@128x128`.
    pub fn split(&self) -> String {
        spectral::split(&self.levels)
    }
}

/// Noise is drawn in the type that the reference pipeline runs in: that of the transformer's weights, unless asked otherwise.
fn noise_type(plan: &GeneratePlan, folder: &ModelFolder) -> Result<DType> {
    use crate::plan::Precision;
    match plan.runtime.dtype {
        Precision::F32 => return Ok(DType::F32),
        Precision::Bf16 => return Ok(DType::BF16),
        Precision::F16 => return Err(Error::usage("--dtype f16: no published model draws its noise in f16; bf16 or f32")),
        Precision::Auto => {}
    }
    let weights = Checkpoint::open(&folder.path("transformer")?)?;
    let bf16 = weights.dtypes().into_iter().max_by_key(|(_, n)| *n).is_some_and(|(d, _)| d == DType::BF16);
    Ok(if bf16 { DType::BF16 } else { DType::F32 })
}

/// Flags that this family, or any yet, does not know.
fn refuse(plan: &GeneratePlan, family: &dyn Family) -> Result<()> {
    let name = family.name();
    let unfit = |flag: &str, why: &str| Err(Error::usage(format!("{flag}: {name} {why}")));
    if plan.interpolation.is_some() {
        return unfit("--enable-frame-interpolation", "makes single pictures, between which there is nothing");
    }
    if plan.fps.is_some() {
        return unfit("--fps", "makes single pictures");
    }
    if plan.steps == Some(0) {
        return Err(Error::usage("--num-inference-steps must be at least 1, got 0"));
    }
    if plan.flow_shift.is_some() {
        return unfit("--flow-shift", "shifts its schedule by the picture's size");
    }
    Ok(())
}

fn transform(t: Transform) -> spectral::Transform {
    match t {
        Transform::Dct => spectral::Transform::Dct,
        Transform::Dwt => spectral::Transform::Dwt,
        Transform::Fft => spectral::Transform::Fft,
    }
}

fn scales(plan: &GeneratePlan, height: usize) -> Result<spectral::Scales> {
    if plan.progressive.mode == Mode::FullRes {
        return Ok(spectral::Scales::Full);
    }
    match &plan.progressive.scales {
        Scales::Levels(n) => Ok(spectral::Scales::Levels(*n)),
        Scales::Explicit(scales) => {
            let text: Vec<String> = scales
                .iter()
                .map(|s| match s {
                    Scale::Ratio(r) => r.to_string(),
                    Scale::Height(h) => h.to_string(),
                })
                .collect();
            spectral::Scales::parse(&text.join(" "), height)
        }
    }
}

/// One stage of the denoising, as `plan` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedStage {
    /// Latent rows.
    pub height: usize,
    /// Latent columns.
    pub width: usize,
    /// Steps at this size.
    pub steps: usize,
    /// Picture tokens in the DiT.
    pub tokens: usize,
    /// σ at the first step, after the rewind.
    pub sigma_start: f32,
    /// σ after the last step.
    pub sigma_end: f32,
}

/// One network of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Component {
    /// The folder's name.
    pub name: String,
    /// The class in `model_index.json`.
    pub class: String,
    /// Elements of its weights.
    pub parameters: u64,
    /// Bytes of its weights as stored.
    pub bytes: u64,
    /// Number of its tensors.
    pub tensors: usize,
}

/// What `plan generate` tells, from headers and configs alone.
#[derive(Debug, Clone, Serialize)]
pub struct GenerateReport {
    /// The family's name.
    pub model: String,
    /// Rows and columns of the result.
    pub height: usize,
    #[allow(missing_docs)]
    pub width: usize,
    /// Denoising steps of all stages.
    pub steps: usize,
    /// `18@64x64 + 32@128x128`
    pub split: String,
    /// The stages.
    pub stages: Vec<PlannedStage>,
    /// Token·steps against the same steps all at full resolution: what growth saves of the cost that is linear in tokens.
    pub relative_tokens: f64,
    /// The networks.
    pub components: Vec<Component>,
    /// The type that noise is drawn in.
    pub noise: &'static str,
    /// Bytes of memory for the largest network's weights as they are computed on the CPU (f32), without `--memory-limit`.
    pub weights_memory_bytes: u64,
    /// Bytes of all weights on disk.
    pub disk_bytes: u64,
    /// Outputs of the call.
    pub outputs: usize,
}

/// What a generate call would do, without loading weights. Every graph is written, so missing, misshapen and unused weights are found.
pub fn plan_generate(plan: &GeneratePlan) -> Result<GenerateReport> {
    let resolved = Resolved::new(plan)?;
    let mut components = Vec::new();
    for (name, class) in resolved.folder.components().filter(|(_, class)| compile::CLASSES.contains(class)) {
        let model = compile::component(&resolved.folder.path(name)?, class, Part::Decoder, None, Target::CPU)?;
        components.push(Component {
            name: name.into(),
            class: class.into(),
            parameters: model.parameters,
            bytes: model.weight_bytes,
            tensors: model.weights,
        });
    }
    let stages = resolved.stages();
    let spent: usize = stages.iter().map(|s| s.tokens * s.steps).sum();
    let full = stages.last().map_or(1, |s| s.tokens) * resolved.steps;
    Ok(GenerateReport {
        model: resolved.family.name().into(),
        height: resolved.size.height,
        width: resolved.size.width,
        steps: resolved.steps,
        split: resolved.split(),
        relative_tokens: spent as f64 / full as f64,
        weights_memory_bytes: components.iter().map(|c| c.parameters * 4).max().unwrap_or(0),
        disk_bytes: components.iter().map(|c| c.bytes).sum(),
        stages,
        components,
        noise: resolved.noise.name(),
        outputs: plan.prompts.len() * plan.seeds.len(),
    })
}
