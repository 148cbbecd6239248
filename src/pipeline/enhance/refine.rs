//! Diffusion upscaling of a picture (`--refine`): passes that each enlarge it at most twofold and denoise it again, in tiles.
//!
//! ```text
//! --refine-by latent   picture → VAE → [ grow in the DCT domain → noise → denoise ]* → VAE → crop → resample
//! --refine-by picture  picture → [ upscaling network or --filter → VAE → noise → denoise → VAE → crop ]* → resample
//! ```
//!
//! `picture` is the default if `--upscaling-model-path` or `--filter` is given; otherwise `latent`, which needs no network and keeps the
//! latent between passes.
//!
//! - **Any size**: inputs are edge-padded to whole patches and the output is cropped. A latent grown by a fraction of a patch ends a
//!   few pixels above the output size; resampling corrects that.
//! - **Noise** is drawn once for the whole latent of a pass, with the seed + 10000 per pass, so it does not depend on the tiles.
//! - **Denoising** is joint over all tiles ([`stage::denoise`](crate::stage::denoise)). Positions count from each tile's corner. The VAE
//!   encodes and decodes in the same tiles with the same ramps, and splits a tile further if memory requires it. A single
//!   tile is bit-identical to untiled.
//! - **Preserved**: alpha (upscaled without refinement), bit depth, colour profile and EXIF. A picture with an EXIF orientation is
//!   refined upright. A PNG records the settings in `parameters`; an existing text of that name becomes `source parameters`.
//!
//! Text encoders are loaded once per run and freed. Transformer and VAE stay loaded for all pictures, which share them.

use ndarray::{Array3, ArrayD, Ix3, s};

use super::refine_config::RefineConfig;
use crate::{
    compile::Subgraph,
    error::{At, Error, Result},
    family::Conditioning,
    media::{alpha, resize::resize},
    pipeline::{
        components::noise_dtype,
        context::{Context, Role},
        diagnose::{check_contrast, name_damaged_tensor},
        orientation::Orientation,
        pass::Pass,
        postprocess::Upscaler,
        prompts,
        timings::Timings,
        vae::Direction,
    },
    plan::{RefineBy, UpscaleTarget},
    progress::{Progress, Task, Unit},
    runtime::Network,
    schedule::{BfStream, NoiseSource},
    spectral::{self, Growth, Level},
    stage::{
        denoise::{Denoiser, GuidedPrompt, tiled},
        vae::{self, Tiling},
    },
    tensor::{DType, copied},
    tiling::crop,
};

/// The loaded networks of a refinement, and its encoded prompts.
pub(super) struct Refiner<'a> {
    pub config: RefineConfig,
    encoder: Network,
    transformer: Network,
    decoder: Network,
    positive: Conditioning,
    negative: Option<Conditioning>,
    noise: DType,
    /// The VAE's tiles within a refinement tile, for encoding and for decoding.
    tilings: [Option<Tiling>; 2],
    progress: &'a dyn Progress,
}

impl<'a> Refiner<'a> {
    /// Encodes the prompts and loads the networks. Text encoders are freed before the other networks are loaded.
    pub(super) fn load(config: RefineConfig, cx: &'a Context<'_>) -> Result<Self> {
        let RefineConfig { folder, family, plan, .. } = &config;
        let family = family.as_ref();
        let transformer = cx.graph(folder, "transformer", Subgraph::Full, Role::Transformer)?;
        let encoder = cx.graph(folder, "vae", Subgraph::Encoder, Role::Exact)?;
        let decoder = cx.graph(folder, "vae", Subgraph::Decoder, Role::Exact)?;
        let negative = plan.negative_prompt.as_deref().unwrap_or(family.negative_prompt());
        let texts: Vec<&str> =
            std::iter::once(plan.prompt.as_str()).chain(config.is_guided().then_some(negative)).collect();
        let mut conditioning = prompts::encode(&texts, folder, family, cx, &mut Timings::default())?.into_iter();
        let (tile, nothing) = ((config.tile.0, config.tile.0), || Error::failed("no prompt was encoded"));
        Ok(Self {
            positive: conditioning.next().ok_or_else(nothing)?,
            negative: conditioning.next(),
            noise: family.noise_dtype(noise_dtype(cx.options.dtype, folder)?, true),
            tilings: [Direction::Encode, Direction::Decode].map(|direction| config.vae.choose(direction, tile, cx)),
            encoder: cx.load_large("vae encoder", &encoder)?,
            transformer: cx.load("transformer", &transformer)?,
            decoder: cx.load_large("vae", &decoder)?,
            progress: cx.progress,
            config,
        })
    }

    /// Refines planes [3 or 4, h, w] in 0..=1 to the output size, in 0..=1. The transformer sees the picture as it is shown. Alpha, the
    /// fourth plane, is upscaled without refinement.
    pub(super) fn apply(
        &mut self,
        picture: Array3<f32>,
        upscaler: Option<&mut Upscaler>,
        orientation: Orientation,
    ) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        match self.config.plan.by {
            RefineBy::Latent => self.by_latent(picture, upscaler, orientation),
            RefineBy::Picture => self.by_picture(picture, upscaler, orientation),
        }
        .at(format!("refining {}×{} pixels", from.1, from.0))
    }

    fn by_latent(
        &mut self,
        picture: Array3<f32>,
        upscaler: Option<&mut Upscaler>,
        orientation: Orientation,
    ) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        let bare = match picture.dim().0 {
            4 => alpha::split(copied(&picture)?)?.0,
            _ => copied(&picture)?,
        };
        let colours = orientation.upright(bare);
        let sizes = self.config.latent_sizes(from).into_iter().map(|size| orientation.size(size)).collect::<Vec<_>>();
        let mut latent = self.encode(&colours)?;
        for (k, size) in sizes.into_iter().enumerate() {
            latent = self.pass(spectral::resized(&latent, size)?, k)?;
        }
        let whole = self.decode(&latent)?;
        // Crop the padding, which has grown with the picture.
        let (m, (h, w)) = (self.config.multiple(), (colours.dim().1, colours.dim().2));
        let cropped = |new: usize, old: usize| ((new * old) as f64 / old.next_multiple_of(m) as f64).round() as usize;
        let (rows, columns) = (cropped(whole.dim().1, h).max(1), cropped(whole.dim().2, w).max(1));
        let refined = whole.slice(s![.., ..rows, ..columns]).to_owned();
        self.check_contrast(&colours, &refined)?;
        let refined = orientation.stored(refined);
        let (height, width) = self.config.target(from);
        let mut fitted = resize(&refined, height, width, self.config.fit)?.mapv_into(|v| v.clamp(0.0, 1.0));
        if picture.dim().0 == 4 {
            let mut upscaled = upscaler.map_or(Ok(picture.clone()), |u| u.apply(picture))?;
            upscaled.slice_mut(s![..3, .., ..]).assign(&fitted);
            fitted = upscaled;
        }
        Ok(fitted)
    }

    fn by_picture(
        &mut self,
        mut picture: Array3<f32>,
        mut upscaler: Option<&mut Upscaler>,
        orientation: Orientation,
    ) -> Result<Array3<f32>> {
        let from = (picture.dim().1, picture.dim().2);
        for (k, (height, width)) in self.config.pass_sizes(from).into_iter().enumerate() {
            if let Some(upscaler) = &mut upscaler {
                upscaler.set_target(UpscaleTarget::Size { width, height });
                picture = upscaler.apply(picture)?;
            }
            let colours = orientation.upright(picture.slice(s![..3, .., ..]).to_owned());
            let latent = self.encode(&colours)?;
            let whole = self.pass(latent, k).and_then(|latent| self.decode(&latent))?;
            let refined = whole.slice(s![.., ..colours.dim().1, ..colours.dim().2]).to_owned();
            self.check_contrast(&colours, &refined)?;
            picture.slice_mut(s![..3, .., ..]).assign(&orientation.stored(refined));
        }
        let (height, width) = self.config.target(from);
        Ok(resize(&picture, height, width, self.config.fit)?.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    /// Checks that the result has contrast.
    fn check_contrast(&self, source: &Array3<f32>, result: &Array3<f32>) -> Result<()> {
        check_contrast(&format!("refining with {}", self.config.folder.root().display()), &[source], result)
    }

    /// Encodes planes [3, h, w], edge-padded to whole patches, into a normalized latent.
    fn encode(&mut self, colours: &Array3<f32>) -> Result<ArrayD<f32>> {
        let (config, encoder, tiling) = (&self.config, &mut self.encoder, self.tilings[0]);
        let f = config.family.vae_scale_factor();
        let padded = pad_edges(colours, config.multiple());
        let tiles = config.tiles((padded.dim().1 / f, padded.dim().2 / f));
        let weights = config.folder.root().join("vae");
        let explain = name_damaged_tensor(&weights);
        let mut task = Task::new(self.progress, "encode", Some(tiles.count() as u64), Unit::Steps);
        tiles.assemble(|rows, columns| {
            let part = padded.slice(s![.., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
            let mean = vae::encode(encoder, &part.to_owned(), tiling).map_err(&explain)?;
            task.step(1)?;
            Ok(config.family.normalize(&mean))
        })
    }

    /// Decodes a latent into planes [3, h·f, w·f] in 0..=1.
    fn decode(&mut self, latent: &ArrayD<f32>) -> Result<Array3<f32>> {
        let (config, decoder, tiling) = (&self.config, &mut self.decoder, self.tilings[1]);
        let f = config.family.vae_scale_factor();
        let tiles = config.tiles((latent.shape()[2], latent.shape()[3]));
        let weights = config.folder.root().join("vae");
        let explain = name_damaged_tensor(&weights);
        let mut task = Task::new(self.progress, "decode", Some(tiles.count() as u64), Unit::Steps);
        let whole = tiles.scaled(f).assemble(|rows, columns| {
            let part = crop(latent, &(rows.start / f..rows.end / f), &(columns.start / f..columns.end / f));
            let planes = vae::decode(decoder, config.family.denormalize(&part), tiling).map_err(&explain)?;
            task.step(1)?;
            Ok(planes.into_dyn())
        })?;
        let shape = whole.shape().to_vec();
        whole
            .into_dimensionality::<Ix3>()
            .map_err(|e| Error::failed(format!("expected planes [c, h, w], got {shape:?}: {e}")))
    }

    /// Runs refinement pass `k`, counted from 0, on a latent.
    fn pass(&mut self, latent: ArrayD<f32>, k: usize) -> Result<ArrayD<f32>> {
        let config = &self.config;
        let tiles = config.tiles((latent.shape()[2], latent.shape()[3]));
        let (sigmas, first) = (config.sigmas(&tiles)?, config.family.first_step(config.steps, config.plan.strength)?);
        let seed = config.seed.wrapping_add(10_000 * k as u64);
        let prompt = GuidedPrompt {
            family: config.family.as_ref(),
            positive: &self.positive,
            negative: self.negative.as_ref(),
            guidance: config.guidance,
        };
        let mut denoiser = Denoiser::new(&mut self.transformer, &prompt);
        let calls = (tiles.count() * (config.steps - first)) as u64;
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
            end_step: config.steps,
            sigma_start: sigmas[first],
            sigma_end: 0.0,
        };
        let pass = Pass {
            family: config.family.as_ref(),
            sigmas: &sigmas,
            levels: &[level],
            growth: Growth::default(),
            source: NoiseSource::Cpu(BfStream::Current),
            noise: self.noise,
        };
        let mut velocity = |x: &ArrayD<f32>, sigma: f32| tiled(x, sigma, &tiles, &mut of_tile);
        let refined = pass.run(&mut velocity, &shape, Some(&latent), seed, &mut |_, _| Ok(()));
        refined.map_err(name_damaged_tensor(&config.folder.root().join("transformer")))
    }
}

/// Planes [c, h, w], edge-padded at the bottom and right to a multiple of `multiple`.
fn pad_edges(planes: &Array3<f32>, multiple: usize) -> Array3<f32> {
    let (c, h, w) = planes.dim();
    let shape = (c, h.next_multiple_of(multiple), w.next_multiple_of(multiple));
    Array3::from_shape_fn(shape, |(c, y, x)| planes[[c, y.min(h - 1), x.min(w - 1)]])
}
