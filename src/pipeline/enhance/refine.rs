//! Diffusion upscaling of a picture: stages that each make it at most twice as large and then denoise it again a little, in tiles.
//!
//! Two ways, told apart by `--refine-by`:
//!
//! ```text
//! latent:   picture → VAE → [ grow in the frequency domain → noise → denoise ]* → VAE → crop → fit → picture
//! picture:  picture → [ upscaling network or filter → VAE → noise → denoise → VAE → crop ]* → fit → picture
//! ```
//!
//! A picture whose sides are no multiples of the transformer's patches is continued at its right and bottom edge by its last row
//! and column, and what comes of that is cropped. Noise is drawn once for the whole latent of a stage, with the seed + 10000 a
//! stage. VaeTiler and transformer work in the tiles of [`tiling`](crate::tiling), so what a stage holds besides
//! the picture itself is one tile's.

use ndarray::{Array3, ArrayD, Ix3, s};

use crate::pipeline::{
    context::{Context, Role},
    diagnose::{check_contrast, name_damaged_tensor},
    generate::init_image::upright,
    generate::run_config::noise_type,
    pass::Pass,
    postprocess::{Upscaler, output_size},
    prompts,
    timings::Timings,
    vae::{Direction, VaeTiler},
};
use crate::{
    compile::{self, Subgraph},
    error::{At, Error, Result},
    family::{self, Conditioning, Family, GuidanceRequest, Overrides, Size},
    media::{
        alpha,
        metadata::Parameters,
        picture,
        resize::{Filter, resize},
    },
    model::ModelFolder,
    onnx,
    plan::{EnhancePlan, Input, Refine, RefineBy, Target, Vae, VaeTiling},
    progress::{Progress, Task, Unit},
    runtime::Network,
    schedule::{BfStream, Guidance, NoiseSource},
    spectral::{self, Growth, Level},
    stage::{
        denoise::{Denoiser, Steering, tiled},
        vae::{self, Tiling},
    },
    tensor::DType,
    tiling::{Tiles, crop},
};

/// Everything of a refinement that is known without weights.
pub struct Refinement {
    plan: Refine,
    target: Option<Target>,
    fit: Filter,
    seed: u64,
    folder: ModelFolder,
    family: Box<dyn Family>,
    steps: usize,
    guidance: Guidance,
    /// Pixels of a tile's side and of what two share.
    tile: (usize, usize),
    /// How the autoencoder does such a tile.
    autoencoder: VaeTiler,
}

impl Refinement {
    /// Reads the model's configs; `None` where the plan has no refinement. Errors: a model of videos; a strength, a stage, a tile
    /// or guidance that cannot be.
    pub fn new(plan: &EnhancePlan) -> Result<Option<Self>> {
        let Some(refine) = &plan.refine else { return Ok(None) };
        let folder = ModelFolder::open(&refine.model.path).at("--refine-model")?;
        let family = family::open(&folder, &Overrides::default()).at("--refine-model")?;
        let name = family.name();
        let refused = |why: String| Err(Error::usage(why));
        if family.is_video() {
            return refused(format!(
                "--refine-model {}: {name} makes videos, and refinement is of single pictures; give one of {}",
                refine.model.name, "FLUX.1, FLUX.2, Qwen-Image or Z-Image"
            ));
        }
        if !(refine.strength > 0.0 && refine.strength <= 1.0) {
            return refused(format!("refine_strength must be in (0, 1], got {}", refine.strength));
        }
        if let Some(stage) = refine.stages.iter().find(|f| !(1.0..=2.0).contains(*f)) {
            return refused(format!("refine_stages must be factors in [1, 2], got {stage}"));
        }
        let defaults = family.defaults();
        let steps = refine.steps.unwrap_or(defaults.steps);
        if steps == 0 {
            return refused("num_inference_steps must be a positive int, got 0".into());
        }
        let asked = GuidanceRequest {
            scale: refine.guidance_scale.map(|s| s as f32),
            true_cfg: refine.true_cfg_scale.map(|s| s as f32),
            negative: refine.negative_prompt.is_some(),
            ..GuidanceRequest::default()
        };
        let guidance = family.guidance(asked)?;
        let tile = tile(refine, family.as_ref(), defaults.size)?;
        let usual = Vae { tiling: VaeTiling::Auto, tile: None, overlap: None };
        let autoencoder = VaeTiler::new(usual, &plan.runtime, &folder)?;
        Ok(Some(Self {
            autoencoder,
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

    /// (height, width) of the result.
    fn target(&self, (height, width): (usize, usize)) -> (usize, usize) {
        self.target.map_or((height, width), |target| output_size(target, height, width))
    }

    /// As [`stages`] says.
    fn stages(&self, from: (usize, usize)) -> Vec<(usize, usize)> {
        stages(&self.plan.stages, from, self.target(from))
    }

    /// How the latent of a picture of (height, width) is cut.
    fn tiles(&self, latent: (usize, usize)) -> Tiles {
        let (f, family) = (self.family.vae_scale_factor(), &self.family);
        Tiles::ramped(latent, self.tile.0 / f, self.tile.1.div_ceil(f), family.patch_size())
    }

    /// σ of every step and 0, as the family schedules a picture of a tile's size: that is what the transformer sees.
    fn sigmas(&self, tiles: &Tiles) -> Result<Vec<f32>> {
        let (f, (h, w)) = (self.family.vae_scale_factor(), tiles.tile_size());
        self.family.sigmas(Size { height: h * f, width: w * f, frames: 1 }, self.steps)
    }

    /// Pixels that sides are continued to a multiple of.
    fn multiple(&self) -> usize {
        self.family.vae_scale_factor() * self.family.patch_size()
    }

    /// (rows, columns) of the latent of each stage for a picture of (height, width): in the latent way grown from one another.
    fn latents(&self, from: (usize, usize)) -> Vec<(usize, usize)> {
        let (f, p, m) = (self.family.vae_scale_factor(), self.family.patch_size(), self.multiple());
        let extent = |old: usize, new: usize| match self.plan.by {
            RefineBy::Latent => (old.next_multiple_of(m) / f * new).div_ceil(old).next_multiple_of(p),
            RefineBy::Picture => new.next_multiple_of(m) / f,
        };
        self.stages(from).into_iter().map(|to| (extent(from.0, to.0), extent(from.1, to.1))).collect()
    }

    /// What each stage does, in words.
    fn notes(&self, from: (usize, usize)) -> Result<Vec<String>> {
        let first = self.family.first_step(self.steps, self.plan.strength)?;
        let (steps, all, name) = (self.steps - first, self.steps, self.family.name());
        let mut notes = Vec::new();
        for (k, latent) in self.latents(from).into_iter().enumerate() {
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

    /// What of the request is done in another way than its words say.
    pub fn warnings(&self, from: (usize, usize)) -> Vec<String> {
        let (sizes, target) = (self.stages(from), self.target(from));
        let mut warnings = Vec::new();
        let (asked, done) = (self.plan.stages.len(), sizes.len());
        if asked > done {
            warnings.push(format!("--refine-stages: the size is reached after {done} of {asked} stages"));
        }
        if let Some(&(h, w)) = sizes.last().filter(|last| **last != target) {
            let (height, width) = target;
            warnings.push(format!("--refine-stages ends at {w}x{h}; --filter does the rest to {width}x{height}"));
        }
        warnings
    }

    /// The settings that the output's metadata names, for an input of `from` (height, width).
    pub fn parameters(&self, from: (usize, usize)) -> Parameters<'_> {
        let by = if self.plan.by == RefineBy::Latent { "latent" } else { "picture" };
        let stages: Vec<String> = self.stages(from).iter().map(|(h, w)| format!("{w}x{h}")).collect();
        let (height, width) = self.target(from);
        Parameters {
            prompt: &self.plan.prompt,
            negative_prompt: self.plan.negative_prompt.as_deref(),
            steps: self.steps,
            sampler: self.family.solver().name(),
            guidance_scale: self.guidance.scale(),
            seed: self.seed,
            size: (width, height),
            model: self.family.name(),
            strength: Some(self.plan.strength),
            more: vec![("Refine by", by.into()), ("Refine stages", stages.join(" + "))],
        }
    }
}

/// (height, width) after each stage. A stage multiplies both by its factor, but goes no further than the result's size, `target`;
/// where that is reached, further stages that enlarge are left out. Without factors: as many doublings as it takes.
pub fn stages(factors: &[f64], from: (usize, usize), target: (usize, usize)) -> Vec<(usize, usize)> {
    let limited = |n: usize, factor: f64, most: usize| ((n as f64 * factor).round() as usize).min(most.max(1));
    let (mut sizes, mut product) = (Vec::new(), 1.0);
    let mut typed = factors.iter().copied();
    loop {
        let done = sizes.last() == Some(&target);
        let next = if factors.is_empty() { (!done).then_some(2.0) } else { typed.next() };
        let Some(factor) = next else { return sizes };
        if done && factor > 1.0 {
            continue;
        }
        product *= factor;
        sizes.push((limited(from.0, product, target.0), limited(from.1, product, target.1)));
    }
}

/// (side, overlap) of a tile in pixels. By default the side of what the family makes by itself, and a quarter of a side.
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
        return Err(Error::usage(format!("--refine-tile-overlap {overlap}: at most half a tile, {most}, is shared")));
    }
    Ok((side, overlap))
}

/// A refinement with its networks, which are loaded once, and its prompt, which is encoded once.
pub struct Refiner<'a> {
    /// What is known without them.
    pub settings: Refinement,
    encoder: Network,
    transformer: Network,
    decoder: Network,
    positive: Conditioning,
    negative: Option<Conditioning>,
    noise: DType,
    /// Where a tile is too large for the autoencoder: how it is cut to be encoded, and to be decoded.
    tilings: [Option<Tiling>; 2],
    progress: &'a dyn Progress,
}

impl<'a> Refiner<'a> {
    /// Loads the networks; the text encoders come first and go again.
    pub fn load(settings: Refinement, cx: &'a Context<'_>) -> Result<Self> {
        let Refinement { folder, family, plan, .. } = &settings;
        let family = family.as_ref();
        let transformer = cx.graph(folder, "transformer", Subgraph::Full, Role::Transformer)?;
        let encoder = cx.graph(folder, "vae", Subgraph::Encoder, Role::Exact)?;
        let decoder = cx.graph(folder, "vae", Subgraph::Decoder, Role::Exact)?;
        let guided = [0.0, 0.5, 1.0].iter().any(|&sigma| settings.guidance.needs_negative(sigma));
        let negative = plan.negative_prompt.as_deref().unwrap_or(family.negative_prompt());
        let texts: Vec<&str> = std::iter::once(plan.prompt.as_str()).chain(guided.then_some(negative)).collect();
        let mut conditions = prompts::encode(&texts, folder, family, cx, &mut Timings::default())?.into_iter();
        let (tile, nothing) = ((settings.tile.0, settings.tile.0), || Error::failed("no prompt was encoded"));
        Ok(Self {
            positive: conditions.next().ok_or_else(nothing)?,
            negative: conditions.next(),
            noise: family.noise_dtype(noise_type(cx.options.dtype, folder)?, true),
            tilings: [Direction::Encode, Direction::Decode].map(|way| settings.autoencoder.choose(way, tile, cx)),
            encoder: cx.load_large("vae encoder", &encoder)?,
            transformer: cx.load("transformer", &transformer)?,
            decoder: cx.load_large("vae", &decoder)?,
            progress: cx.progress,
            settings,
        })
    }

    /// Planes [3 or 4, h, w] in 0..=1 → the wanted size, in 0..=1. `turn` shows planes as they are viewed, and back. A fourth plane,
    /// alpha, is what upscaling alone makes of it.
    pub fn apply(&mut self, picture: Array3<f32>, upscaler: Option<&mut Upscaler>, turn: Turn) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        let place = || format!("refining {}×{} pixels", from.1, from.0);
        match self.settings.plan.by {
            RefineBy::Latent => self.by_latent(picture, upscaler, turn),
            RefineBy::Picture => self.by_picture(picture, upscaler, turn),
        }
        .at(place())
    }

    fn by_latent(&mut self, picture: Array3<f32>, upscaler: Option<&mut Upscaler>, turn: Turn) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        let bare = match picture.dim().0 {
            4 => alpha::split(picture.clone()).0,
            _ => picture.clone(),
        };
        let colours = turn.shown(bare);
        let sizes = self.settings.latents(from).into_iter().map(|size| turn.size(size)).collect::<Vec<_>>();
        let mut latent = self.encode(&colours)?;
        for (k, size) in sizes.into_iter().enumerate() {
            latent = self.pass(spectral::resized(&latent, size)?, k)?;
        }
        let whole = self.decode(&latent)?;
        // What was continued has grown along.
        let (m, (h, w)) = (self.settings.multiple(), (colours.dim().1, colours.dim().2));
        let kept = |new: usize, old: usize| ((new * old) as f64 / old.next_multiple_of(m) as f64).round() as usize;
        let kept = (kept(whole.dim().1, h).max(1), kept(whole.dim().2, w).max(1));
        let made = whole.slice(s![.., ..kept.0, ..kept.1]).to_owned();
        self.alive(&colours, &made)?;
        let made = turn.stored(made);
        let (height, width) = self.settings.target(from);
        let mut fitted = resize(&made, height, width, self.settings.fit)?.mapv_into(|v| v.clamp(0.0, 1.0));
        if picture.dim().0 == 4 {
            let mut plain = upscaler.map_or(Ok(picture.clone()), |u| u.apply(picture))?;
            plain.slice_mut(s![..3, .., ..]).assign(&fitted);
            fitted = plain;
        }
        Ok(fitted)
    }

    fn by_picture(
        &mut self,
        mut picture: Array3<f32>,
        mut upscaler: Option<&mut Upscaler>,
        turn: Turn,
    ) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        for (k, (height, width)) in self.settings.stages(from).into_iter().enumerate() {
            if let Some(upscaler) = &mut upscaler {
                upscaler.set_target(Target::Size { width, height });
                picture = upscaler.apply(picture)?;
            }
            let colours = turn.shown(picture.slice(s![..3, .., ..]).to_owned());
            let latent = self.encode(&colours)?;
            let whole = self.pass(latent, k).and_then(|latent| self.decode(&latent))?;
            let made = whole.slice(s![.., ..colours.dim().1, ..colours.dim().2]).to_owned();
            self.alive(&colours, &made)?;
            picture.slice_mut(s![..3, .., ..]).assign(&turn.stored(made));
        }
        let (height, width) = self.settings.target(from);
        Ok(resize(&picture, height, width, self.settings.fit)?.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    /// Refuses one colour made of many.
    fn alive(&self, from: &Array3<f32>, made: &Array3<f32>) -> Result<()> {
        check_contrast(&format!("refining with {}", self.settings.folder.root().display()), &[from], made)
    }

    /// Colours [3, h, w], continued to whole patches → their latent as the transformer takes it.
    fn encode(&mut self, colours: &Array3<f32>) -> Result<ArrayD<f32>> {
        let (r, encoder, tiling) = (&self.settings, &mut self.encoder, self.tilings[0]);
        let f = r.family.vae_scale_factor();
        let whole = continued(colours, r.multiple());
        let tiles = r.tiles((whole.dim().1 / f, whole.dim().2 / f));
        let weights = r.folder.root().join("vae");
        let blamed = name_damaged_tensor(&weights);
        let mut task = Task::new(self.progress, "encode", Some(tiles.count() as u64), Unit::Steps);
        tiles.assemble(|rows, columns| {
            let seen = whole.slice(s![.., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
            let mean = vae::encode(encoder, &seen.to_owned(), tiling).map_err(&blamed)?;
            task.step(1)?;
            Ok(r.family.normalize(&mean))
        })
    }

    /// A latent → planes [3, h·f, w·f] in 0..=1.
    fn decode(&mut self, latent: &ArrayD<f32>) -> Result<Array3<f32>> {
        let (r, decoder, tiling) = (&self.settings, &mut self.decoder, self.tilings[1]);
        let f = r.family.vae_scale_factor();
        let tiles = r.tiles((latent.shape()[2], latent.shape()[3]));
        let weights = r.folder.root().join("vae");
        let blamed = name_damaged_tensor(&weights);
        let mut task = Task::new(self.progress, "decode", Some(tiles.count() as u64), Unit::Steps);
        let whole = tiles.scaled(f).assemble(|rows, columns| {
            let seen = crop(latent, &(rows.start / f..rows.end / f), &(columns.start / f..columns.end / f));
            let planes = vae::decode(decoder, r.family.denormalize(&seen), tiling).map_err(&blamed)?;
            task.step(1)?;
            Ok(planes.into_dyn())
        })?;
        let shape = whole.shape().to_vec();
        whole.into_dimensionality::<Ix3>().map_err(|e| Error::failed(format!("a picture {shape:?}: {e}")))
    }

    /// Noise to the strength, and its steps; `k` counts stages from 0.
    fn pass(&mut self, latent: ArrayD<f32>, k: usize) -> Result<ArrayD<f32>> {
        let r = &self.settings;
        let tiles = r.tiles((latent.shape()[2], latent.shape()[3]));
        let (sigmas, first) = (r.sigmas(&tiles)?, r.family.first_step(r.steps, r.plan.strength)?);
        let seed = r.seed.wrapping_add(10_000 * k as u64);
        let steering = Steering {
            family: r.family.as_ref(),
            positive: &self.positive,
            negative: self.negative.as_ref(),
            guidance: r.guidance,
        };
        let mut denoiser = Denoiser::new(&mut self.transformer, &steering);
        let calls = (tiles.count() * (r.steps - first)) as u64;
        let mut task = Task::new(self.progress, format!("refine {}", k + 1), Some(calls), Unit::Steps);
        let mut of_tile = |x: &ArrayD<f32>, sigma: f32| {
            let velocity = denoiser.velocity(x, sigma)?;
            task.step(1)?;
            Ok(velocity)
        };
        let shape = latent.shape().to_vec();
        let level = Level {
            height: shape[2],
            width: shape[3],
            first_step: first,
            end_step: r.steps,
            sigma_start: sigmas[first],
            sigma_end: 0.0,
        };
        let pass = Pass {
            family: r.family.as_ref(),
            sigmas: &sigmas,
            levels: &[level],
            growth: Growth::default(),
            source: NoiseSource::Cpu(BfStream::Current),
            noise: self.noise,
        };
        let mut velocity = |x: &ArrayD<f32>, sigma: f32| tiled(x, sigma, &tiles, &mut of_tile);
        let refined = pass.run(&mut velocity, &shape, Some(&latent), seed, &mut |_, _| Ok(()));
        refined.map_err(name_damaged_tensor(&r.folder.root().join("transformer")))
    }
}

/// What `plan` tells of a refinement: a line for each stage of each size, and the bytes that its networks take; nothing without one.
pub fn outlook(plan: &EnhancePlan) -> Result<(Vec<String>, u64)> {
    let Some(r) = Refinement::new(plan)? else { return Ok((Vec::new(), 0)) };
    let mut notes = Vec::new();
    for job in &plan.jobs {
        // What cannot be read is told beside its name.
        let Input::File(path) = &job.input else { continue };
        let Ok((width, height)) = picture::size(path) else { continue };
        notes.extend(r.notes((height, width))?.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    }
    let mut bytes = r.autoencoder.planned_bytes(Direction::Decode, (r.tile.0, r.tile.0));
    for (name, part) in [("transformer", Subgraph::Full), ("vae", Subgraph::Encoder), ("vae", Subgraph::Decoder)] {
        let model = compile::component(&r.folder.path(name)?, r.folder.class_of(name)?, part, None, onnx::Target::CPU)?;
        // The CPU computes in f32: weights are widened once, or stay mapped under a memory limit.
        bytes += if plan.runtime.engine.memory_limit.is_some() { 0 } else { 4 * model.parameters };
    }
    Ok((notes, bytes))
}

/// How stored pictures are turned to be viewed; the number is [`picture::Picture::orientation`](crate::media::picture::Picture::orientation).
#[derive(Debug, Clone, Copy)]
pub struct Turn(pub u8);

impl Turn {
    /// Stored planes as they are viewed.
    fn shown(self, planes: Array3<f32>) -> Array3<f32> {
        upright(planes, self.0)
    }

    /// Viewed planes as they are stored.
    fn stored(self, planes: Array3<f32>) -> Array3<f32> {
        // Quarters undo one another, everything else itself.
        let back = match self.0 {
            6 => 8,
            8 => 6,
            other => other,
        };
        upright(planes, back)
    }

    /// A stored size as viewed.
    fn size(self, (height, width): (usize, usize)) -> (usize, usize) {
        if self.0 > 4 { (width, height) } else { (height, width) }
    }
}

/// Planes [c, h, w] with their last row and column repeated up to multiples of `multiple`.
fn continued(planes: &Array3<f32>, multiple: usize) -> Array3<f32> {
    let (c, h, w) = planes.dim();
    let shape = (c, h.next_multiple_of(multiple), w.next_multiple_of(multiple));
    Array3::from_shape_fn(shape, |(c, y, x)| planes[[c, y.min(h - 1), x.min(w - 1)]])
}
