//! The parameters of a refinement: passes, tiles, schedule and guidance, before any weight is read.
//!
//! - **Passes** (`--refine-stages`) multiply both sides by a factor from 1 to 2, but no side exceeds the output size of `--upscale`.
//!   Passes with nothing left to enlarge are skipped. If their product is smaller than the output size, `--filter` resamples the
//!   rest. Both cases log a warning. Without `--refine-stages`, passes double the size until it is reached; without `--upscale`, the
//!   output size is the product of the factors, or the input's size.
//! - **Strength** selects the last part of the family's schedule, as for `generate`, at least one step. Strength 0 disables
//!   refinement.
//! - **Tiles** have one size, by default that of the family's default pictures, and overlap by at least a quarter of a side
//!   ([`Tiles::ramped`]).

use std::path::Path;

use crate::{
    error::{At, Error, Result},
    family::{self, Family, GuidanceRequest, Overrides, Size},
    media::{metadata::Parameters, resize::Filter},
    model::ModelFolder,
    pipeline::{
        components::{model_name, uses_guidance_scale, warn_of_random_weights},
        postprocess::output_size,
        vae::VaeTiler,
    },
    plan::{BUILT_IN, EnhancePlan, Refine, RefineBy, UpscaleTarget, Vae, VaeTiling},
    schedule::Guidance,
    tiling::Tiles,
};

/// Everything about a refinement that is known without weights.
pub(super) struct RefineConfig {
    pub plan: Refine,
    target: Option<UpscaleTarget>,
    /// Resampling to the output size after the last pass.
    pub fit: Filter,
    pub seed: u64,
    pub folder: ModelFolder,
    pub family: Box<dyn Family>,
    pub steps: usize,
    pub guidance: Guidance,
    /// Side and overlap of the tiles in pixels.
    pub tile: (usize, usize),
    /// The VAE's tiles within a refinement tile.
    pub vae: VaeTiler,
}

impl RefineConfig {
    /// Reads the configs of the model. `None`: the plan has no refinement.
    ///
    /// # Errors
    /// A video model; an unsupported strength, factor, tile or guidance.
    pub(super) fn new(plan: &EnhancePlan) -> Result<Option<Self>> {
        let Some(refine) = &plan.refine else { return Ok(None) };
        let folder = ModelFolder::open(&refine.model.path).at("--refine-model")?;
        let family = family::open(&folder, &Overrides::default()).at("--refine-model")?;
        if refine.model.name == BUILT_IN && folder.has_random_weights() {
            return Err(Error::usage(
                "--refine requires --refine-model: the built-in demo model has random weights and would return noise; \
                 give a trained model of pictures, such as --refine-model flux1-dev",
            ));
        }
        if refine.model.configs_only {
            let name = &refine.model.name;
            return Err(Error::failed(format!(
                "--refine-model {name}: its weights are not cached; run without --offline"
            )));
        }
        let name = family.name();
        let error = |why: String| Err(Error::usage(why));
        if family.is_video() {
            return error(format!(
                "--refine-model {}: {name} makes videos, but refinement requires a picture model: {}",
                refine.model.name, "FLUX.1, FLUX.2, Qwen-Image or Z-Image"
            ));
        }
        if !(refine.strength > 0.0 && refine.strength <= 1.0) {
            return error(format!("refine_strength must be in (0, 1], got {}", refine.strength));
        }
        if let Some(factor) = refine.stages.iter().find(|f| !(1.0..=2.0).contains(*f)) {
            return error(format!("refine_stages must be factors in [1, 2], got {factor}"));
        }
        let defaults = family.defaults();
        let steps = refine.steps.unwrap_or(defaults.steps);
        if steps == 0 {
            return error("num_inference_steps must be a positive int, got 0".into());
        }
        let guidance = family.guidance(guidance_request(refine))?;
        let tile = tile(refine, family.as_ref(), defaults.size)?;
        let automatic = Vae { tiling: VaeTiling::Auto, tile: None, overlap: None };
        let vae = VaeTiler::new(automatic, &plan.runtime, &folder)?;
        Ok(Some(Self {
            vae,
            plan: refine.clone(),
            target: plan.upscaling.as_ref().map(|u| u.target),
            fit: plan.upscaling.as_ref().map_or(Filter::Bicubic, |u| u.filter),
            seed: plan.seed,
            steps,
            guidance,
            tile,
            folder,
            family,
        }))
    }

    /// Warns of random weights. Returns whether the negative prompt and the guidance scale have an effect.
    pub(super) fn check(&self) -> (bool, bool) {
        warn_of_random_weights(&self.folder, "--refine-model");
        (self.is_guided(), uses_guidance_scale(self.family.as_ref(), guidance_request(&self.plan)))
    }

    /// Whether the transformer also runs with the negative prompt, at any σ.
    pub(super) fn is_guided(&self) -> bool {
        [0.0, 0.5, 1.0].iter().any(|&sigma| self.guidance.needs_negative(sigma))
    }

    /// (height, width) of the output for an input of (height, width).
    pub(super) fn target(&self, (height, width): (usize, usize)) -> (usize, usize) {
        self.target.map_or((height, width), |target| output_size(target, height, width))
    }

    /// (height, width) after each pass, see [`pass_sizes`].
    pub(super) fn pass_sizes(&self, from: (usize, usize)) -> Vec<(usize, usize)> {
        pass_sizes(&self.plan.stages, from, self.target(from))
    }

    /// The tiles of a latent of (rows, columns).
    pub(super) fn tiles(&self, latent: (usize, usize)) -> Tiles {
        let (f, family) = (self.family.vae_scale_factor(), &self.family);
        Tiles::ramped(latent, self.tile.0 / f, self.tile.1.div_ceil(f), family.patch_size())
    }

    /// σ of every step, and 0: the schedule for a picture of the size of a tile, which the transformer processes.
    pub(super) fn sigmas(&self, tiles: &Tiles) -> Result<Vec<f32>> {
        let (f, (h, w)) = (self.family.vae_scale_factor(), tiles.tile_size());
        self.family.sigmas(Size { height: h * f, width: w * f, frames: 1 }, self.steps)
    }

    /// Inputs are edge-padded to a multiple of this many pixels.
    pub(super) fn multiple(&self) -> usize {
        self.family.vae_scale_factor() * self.family.patch_size()
    }

    /// (rows, columns) of the latent of each pass for an input of (height, width).
    pub(super) fn latent_sizes(&self, from: (usize, usize)) -> Vec<(usize, usize)> {
        let (f, p, m) = (self.family.vae_scale_factor(), self.family.patch_size(), self.multiple());
        let extent = |old: usize, new: usize| match self.plan.by {
            RefineBy::Latent => (old.next_multiple_of(m) / f * new).div_ceil(old).next_multiple_of(p),
            RefineBy::Picture => new.next_multiple_of(m) / f,
        };
        self.pass_sizes(from).into_iter().map(|to| (extent(from.0, to.0), extent(from.1, to.1))).collect()
    }

    /// A note on each pass, and the warnings.
    pub(super) fn notes(&self, from: (usize, usize)) -> Result<Vec<String>> {
        let first = self.family.first_step(self.steps, self.plan.strength)?;
        let (steps, all, name) = (self.steps - first, self.steps, self.family.name());
        let mut notes = Vec::new();
        for (k, latent) in self.latent_sizes(from).into_iter().enumerate() {
            let tiles = self.tiles(latent);
            let ((h, w), sigma) = (latent, self.sigmas(&tiles)?[first]);
            let (count, (th, tw)) = (tiles.count(), tiles.tile_size());
            let tiles = if count == 1 { "one piece".into() } else { format!("{count} tiles of {th}x{tw}") };
            let k = k + 1;
            notes.push(format!(
                "refine {k}: {name}, {steps} of {all} steps from sigma {sigma:.4}, latent {h}x{w} in {tiles}"
            ));
        }
        notes.extend(self.warnings(from));
        Ok(notes)
    }

    /// Warnings about `--refine-stages` that do not match the output size.
    pub(super) fn warnings(&self, from: (usize, usize)) -> Vec<String> {
        let (sizes, target) = (self.pass_sizes(from), self.target(from));
        let mut warnings = Vec::new();
        let (given, done) = (self.plan.stages.len(), sizes.len());
        if given > done {
            warnings.push(format!("--refine-stages: the output size is reached after {done} of {given} passes"));
        }
        if let Some(&(h, w)) = sizes.last().filter(|last| **last != target) {
            let (height, width) = target;
            warnings.push(format!("--refine-stages ends at {w}x{h}; --filter resamples to {width}x{height}"));
        }
        warnings
    }

    /// The settings in the metadata of the output, for an input of (height, width).
    pub(super) fn parameters(&self, from: (usize, usize)) -> Parameters<'_> {
        let by = if self.plan.by == RefineBy::Latent { "latent" } else { "picture" };
        let stages: Vec<String> = self.pass_sizes(from).iter().map(|(h, w)| format!("{w}x{h}")).collect();
        let (height, width) = self.target(from);
        Parameters {
            prompt: &self.plan.prompt,
            negative_prompt: self.plan.negative_prompt.as_deref(),
            steps: self.steps,
            sampler: self.family.solver().name(),
            guidance_scale: self.guidance.scale(),
            seed: self.seed,
            size: (width, height),
            model: model_name(&self.folder, self.family.as_ref()),
            strength: Some(self.plan.strength),
            more: vec![("Refine by", by.into()), ("Refine stages", stages.join(" + "))],
        }
    }
}

fn guidance_request(refine: &Refine) -> GuidanceRequest {
    GuidanceRequest {
        scale: refine.guidance_scale.map(|s| s as f32),
        true_cfg: refine.true_cfg_scale.map(|s| s as f32),
        negative: refine.negative_prompt.is_some(),
        ..GuidanceRequest::default()
    }
}

/// (height, width) after each refinement pass. A pass multiplies both sides by its factor, up to the output size `target`. Once that
/// is reached, further factors above 1 are skipped. Without factors, passes double the size until it is reached.
pub(super) fn pass_sizes(factors: &[f64], from: (usize, usize), target: (usize, usize)) -> Vec<(usize, usize)> {
    let limited = |n: usize, factor: f64, most: usize| ((n as f64 * factor).round() as usize).min(most.max(1));
    let (mut sizes, mut product) = (Vec::new(), 1.0);
    let mut given = factors.iter().copied();
    loop {
        let done = sizes.last() == Some(&target);
        let next = if factors.is_empty() { (!done).then_some(2.0) } else { given.next() };
        let Some(factor) = next else { return sizes };
        if done && factor > 1.0 {
            continue;
        }
        product *= factor;
        sizes.push((limited(from.0, product, target.0), limited(from.1, product, target.1)));
    }
}

/// (side, overlap) of the tiles in pixels. Default: the side of the family's default pictures, and a quarter of the side.
fn tile(plan: &Refine, family: &dyn Family, size: Size) -> Result<(usize, usize)> {
    let (m, name) = (family.vae_scale_factor() * family.patch_size(), family.name());
    let side = plan.tile.unwrap_or(size.height.min(size.width) / m * m);
    if side == 0 || !side.is_multiple_of(m) {
        let below = side / m * m;
        let near = if below == 0 { m.to_string() } else { format!("{below} or {}", below + m) };
        return Err(Error::usage(format!("--refine-tile {side}: {name} needs a multiple of {m}; {near}")));
    }
    let overlap = plan.tile_overlap.unwrap_or(side / 4);
    if overlap > side / 2 {
        let most = side / 2;
        return Err(Error::usage(format!("--refine-tile-overlap {overlap}: at most half a tile, {most}")));
    }
    Ok((side, overlap))
}

/// Refinement of a video is not supported.
pub(super) fn video_error(name: &Path) -> Error {
    let why = "is a video, and refinement supports pictures only: it would process every frame separately, so frames would differ";
    Error::usage(format!("{} {why}; leave out --refine", name.display()))
}
