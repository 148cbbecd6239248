//! `enhance`: flags, rules, and what they come to.

use std::{ffi::OsStr, io::Read, os::unix::ffi::OsStrExt, path::PathBuf};

use clap::Args;

use super::{
    output::EncodingArgs,
    post::{InterpolationArgs, InterpolationExtra, UpscalingArgs, UpscalingExtra},
    resolve::Models,
    shared::Shared,
    value::{self, Choice},
};
use crate::{
    batch::{self, Jobs, Typed},
    error::{Error, Result},
    media::resize::Filter,
    pipeline,
    plan::{Batch, Destination, EnhancePlan, Quality, Rate, Refine, RefineBy, Target, Trim},
};

/// Flags of `enhance`.
#[derive(Debug, Clone, Args)]
pub struct EnhanceArgs {
    /// Pictures, videos, folders, globs in quotes, numbered pictures (frame_%05d.png); `-` reads a list of files from standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// A file for one input, else a folder, in which the tree of the inputs is kept
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<PathBuf>,

    /// Interpolate frames: so many times as 2x, 3x or a rate such as 60fps, 59.94fps, 60000/1001fps
    #[arg(long, value_name = "RATE", value_parser = value::rate, help_heading = "Frame interpolation",
          conflicts_with = "frame_interpolation_exp")]
    pub interpolate: Option<Rate>,

    /// Upscale: a factor, WIDTHxHEIGHT or a height such as 2160p
    #[arg(long, value_name = "SIZE", value_parser = value::upscale, help_heading = "Upscaling",
          conflicts_with = "upscaling_scale")]
    pub upscale: Option<Target>,

    /// Flags of interpolation.
    #[command(flatten)]
    pub interpolation: InterpolationArgs,

    /// Change of a frame above which it begins another scene, up to which the frame before is repeated; 0 to 1, off at 1
    /// [default: 0.1]
    #[arg(long, value_name = "T", help_heading = "Frame interpolation",
          value_parser = value::float_in("scene_threshold", 0.0..=1.0, "[0, 1]"))]
    pub scene_threshold: Option<f64>,

    /// Find repeated frames and interpolate over them, as they are no samples of the motion
    #[arg(long, help_heading = "Frame interpolation")]
    pub dedup: bool,

    /// Flags of upscaling.
    #[command(flatten)]
    pub upscaling: UpscalingArgs,

    /// Plain resampling instead of a network, and the final fit to an exact size
    #[arg(long, value_name = "NAME", help_heading = "Upscaling", value_parser = value::FILTERS)]
    pub filter: Option<Filter>,

    /// Blend of a network with its denoising twin, 0 to 1
    #[arg(long, value_name = "X", help_heading = "Upscaling",
          value_parser = value::float_in("denoise_strength", 0.0..=1.0, "[0, 1]"))]
    pub denoise_strength: Option<f64>,

    /// The weights that denoise weakly [default: the model's -wdn pair]
    #[arg(long, value_name = "MODEL", help_heading = "Upscaling")]
    pub denoise_model_path: Option<String>,

    /// Flags of diffusion passes.
    #[command(flatten)]
    pub refine: RefineArgs,
    /// Flags of time.
    #[command(flatten)]
    pub time: TimeArgs,
    /// Flags of many files.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// Flags of encoding.
    #[command(flatten)]
    pub encoding: EncodingArgs,

    /// Save the seconds of every stage
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    pub perf_dump_path: Option<PathBuf>,

    /// How exact the result has to be
    #[arg(long, default_value = "lossless", value_name = "NAME", help_heading = "Output", value_parser = value::QUALITIES)]
    pub quality: Quality,
}

/// Flags of diffusion passes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Refinement of pictures")]
pub struct RefineArgs {
    /// Enlarge in stages, each at most 2x and followed by a short diffusion pass in tiles
    #[arg(long)]
    pub refine: bool,

    /// Its diffusion model, one of those that make pictures [default: the built-in demo model]
    #[arg(long, value_name = "MODEL", requires = "refine")]
    pub refine_model: Option<String>,

    /// What the pictures show [default: nothing]
    #[arg(long, value_name = "TEXT", requires = "refine")]
    pub refine_prompt: Option<String>,

    /// What a stage enlarges: the latent, in the frequency domain, or the picture, by the upscaling network or --filter
    /// [default: picture where one of these is named, else latent]
    #[arg(long, value_name = "WAY", requires = "refine", value_parser = BY)]
    pub refine_by: Option<RefineBy>,

    /// How much of the schedule is gone through again, as --strength of generate; 0 is upscaling alone [default: 0.3]
    #[arg(long, value_name = "X", requires = "refine",
          value_parser = value::float_in("refine_strength", 0.0..=1.0, "[0, 1]"))]
    pub refine_strength: Option<f64>,

    /// A factor per stage, 1x to 2x, such as 2x,2x; no stage goes beyond the size of --upscale, and --filter does what the
    /// stages leave [default: as many doublings as the size needs]
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "refine", value_parser = stage)]
    pub refine_stages: Vec<f64>,

    /// Side of a tile in pixels, a multiple of the model's patches [default: of the model's own size, 1024 of most]
    #[arg(long, value_name = "N", requires = "refine", value_parser = value::positive("refine_tile"))]
    pub refine_tile: Option<usize>,

    /// Pixels that neighbouring tiles share at least, up to half a tile [default: a quarter of a tile]
    #[arg(long, value_name = "N", requires = "refine")]
    pub refine_tile_overlap: Option<usize>,

    /// What the pictures shall not show, where the model is guided away from it [default: the model's]
    #[arg(long, value_name = "TEXT", requires = "refine")]
    pub negative_prompt: Option<String>,

    /// Steps of the whole schedule, of which --refine-strength is done [default: the model's]
    #[arg(long, value_name = "N", requires = "refine", value_parser = value::positive("num_inference_steps"))]
    pub num_inference_steps: Option<usize>,

    /// Guidance scale [default: the model's]
    #[arg(long, value_name = "X", requires = "refine", value_parser = value::non_negative("guidance_scale"))]
    pub guidance_scale: Option<f64>,

    /// True classifier-free guidance, where the model has it [default: the model's]
    #[arg(long, value_name = "X", requires = "refine", value_parser = value::non_negative("true_cfg_scale"))]
    pub true_cfg_scale: Option<f64>,

    /// Seed of its noise
    #[arg(long, value_name = "N", default_value = "42", value_parser = value::seed)]
    pub seed: u64,
}

const BY: Choice<RefineBy> = Choice(&[
    ("latent", "The picture's latent, in the frequency domain", RefineBy::Latent),
    ("picture", "The picture, by the upscaling network or --filter", RefineBy::Picture),
]);

fn stage(typed: &str) -> Result<f64, String> {
    match typed.strip_suffix(['x', 'X']).unwrap_or(typed).parse::<f64>() {
        Ok(factor) if (1.0..=2.0).contains(&factor) => Ok(factor),
        _ => Err(format!(
            "refine_stages must be factors from 1x to 2x such as 2x,2x, as no stage more than doubles, got {}",
            value::shown(typed)
        )),
    }
}

/// Flags of time.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Time")]
pub struct TimeArgs {
    /// Where to begin in a video: seconds, MM:SS or HH:MM:SS; the first frame is the next to be shown
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub start: Option<f64>,

    /// Where to end in a video: frames that begin to be shown before are in it
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub end: Option<f64>,

    /// Seconds of the source in a chunk, each of which a killed run keeps [default: 10 for what is longer than a minute]
    #[arg(long, value_name = "SECONDS", value_parser = value::positive_float("chunk"))]
    pub chunk: Option<f64>,

    /// Frames a second of numbered pictures; refused for videos, whose sound would run away: --interpolate 60fps gives a rate
    #[arg(long, value_name = "N", value_parser = value::frame_rate)]
    pub fps: Option<f64>,
}

/// Flags of many files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Many files")]
pub struct BatchArgs {
    /// Enter folders within folders
    #[arg(long)]
    pub recursive: bool,

    /// Leave outputs of the same input, models and settings as they are: into a folder this is the default without
    /// --overwrite; with it, the others are replaced
    #[arg(long)]
    pub skip_existing: bool,

    /// Files at the same time
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::positive("jobs"))]
    pub jobs: usize,

    /// Stop at the first failure
    #[arg(long)]
    pub fail_fast: bool,

    /// Add one JSON line an item to this file
    #[arg(long, value_name = "FILE.jsonl")]
    pub report: Option<PathBuf>,
}

impl EnhanceArgs {
    /// Decides everything that does not need weights. Models come last, so that nothing is downloaded for a request that
    /// cannot be done.
    pub fn resolve(self, shared: &Shared, models: &Models) -> Result<EnhancePlan> {
        let typed = typed(self.inputs, self.output, self.batch.recursive, self.time.fps.is_some())?;
        let Jobs { jobs, folder } = batch::jobs(&typed)?;
        if let (Some(start), Some(end)) = (self.time.start, self.time.end)
            && start >= end
        {
            return Err(Error::usage(format!("--start {start} is not before --end {end}, both in seconds")));
        }
        let encoding = self.encoding.resolve(Destination::Nowhere);
        // What a run that was killed has left tells whether the file is its own.
        let left = pipeline::chunks_of(&typed.output).is_dir();
        if folder.is_none() && !self.batch.skip_existing && !left {
            encoding.may_write(&typed.output)?;
        }
        // Of one file no record is kept, unless it is asked for: its folder is not ours.
        let beside = || typed.output.parent().map(|p| if p.as_os_str().is_empty() { ".".into() } else { p.into() });
        let record = folder.or_else(|| self.batch.skip_existing.then(beside).flatten());
        let extra =
            InterpolationExtra { rate: self.interpolate, scene_threshold: self.scene_threshold, dedup: self.dedup };
        let interpolation = self.interpolation.resolve(extra, models)?;
        let (seed, refined) = (self.refine.seed, self.refine.is_on());
        let by = refined.then(|| self.refine.by(&self.upscaling, self.filter));
        let mut target = self.upscale;
        if refined && target.is_none() && !self.upscaling.enable_upscaling {
            target = self.refine.target()?;
        }
        if by == Some(RefineBy::Latent) {
            refuse_network(&self.upscaling, self.denoise_strength)?;
        }
        if self.refine.refine && !refined {
            tracing::warn!("--refine-strength 0: pictures are upscaled and not refined");
        }
        let extra = UpscalingExtra {
            target,
            filter: self.filter,
            denoise_strength: self.denoise_strength,
            denoise_model: self.denoise_model_path,
            no_network: by == Some(RefineBy::Latent),
        };
        let upscaling = self.upscaling.resolve(extra, models)?;
        let refine = by.map(|by| self.refine.resolve(by, models)).transpose()?;
        if interpolation.is_none() && upscaling.is_none() && refine.is_none() {
            return Err(Error::usage("nothing to do: give --interpolate, --upscale or --refine"));
        }
        Ok(EnhancePlan {
            jobs,
            record,
            interpolation,
            upscaling,
            refine,
            fps: self.time.fps,
            encoding,
            trim: Trim { start: self.time.start, end: self.time.end, chunk: self.time.chunk },
            batch: Batch {
                skip_existing: self.batch.skip_existing,
                jobs: self.batch.jobs,
                fail_fast: self.batch.fail_fast,
                report: self.batch.report,
            },
            seed,
            quality: self.quality,
            perf_dump: self.perf_dump_path,
            runtime: shared.runtime(),
        })
    }
}

impl RefineArgs {
    /// Whether pictures are refined at all: at strength 0 nothing is left of it.
    fn is_on(&self) -> bool {
        self.refine && self.refine_strength != Some(0.0)
    }

    /// What a stage enlarges.
    fn by(&self, upscaling: &UpscalingArgs, filter: Option<Filter>) -> RefineBy {
        let named = upscaling.upscaling_model_path.is_some() || filter.is_some();
        self.refine_by.unwrap_or(if named { RefineBy::Picture } else { RefineBy::Latent })
    }

    /// The size that the stages come to, where no other is asked for.
    fn target(&self) -> Result<Option<Target>> {
        let product: f64 = self.refine_stages.iter().product();
        if self.refine_stages.is_empty() || product == 1.0 {
            return Ok(None);
        }
        match product.round() {
            whole if (product - whole).abs() < 1e-9 && whole <= 8.0 => Ok(Some(Target::Times(whole as usize))),
            _ => Err(Error::usage(format!(
                "--refine-stages: {product} times as large is no whole factor up to 8; name the size too, as --upscale WIDTHxHEIGHT"
            ))),
        }
    }

    fn resolve(self, by: RefineBy, models: &Models) -> Result<Refine> {
        Ok(Refine {
            model: models.folder(self.refine_model.as_deref(), "--refine-model")?,
            by,
            strength: self.refine_strength.unwrap_or(0.3),
            stages: self.refine_stages,
            prompt: self.refine_prompt.unwrap_or_default(),
            negative_prompt: self.negative_prompt,
            steps: self.num_inference_steps,
            guidance_scale: self.guidance_scale,
            true_cfg_scale: self.true_cfg_scale,
            tile: self.refine_tile,
            tile_overlap: self.refine_tile_overlap,
        })
    }
}

/// Flags of an upscaling network, where latents grow without one.
fn refuse_network(upscaling: &UpscalingArgs, denoise_strength: Option<f64>) -> Result<()> {
    let rows = [
        (upscaling.upscaling_model_path.is_some(), "--upscaling-model-path"),
        (upscaling.tile.is_some(), "--tile"),
        (upscaling.tile_overlap.is_some(), "--tile-overlap"),
        (denoise_strength.is_some(), "--denoise-strength"),
    ];
    match rows.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(Error::usage(format!(
            "{flag}: latents grow without an upscaling network; leave it out, or give --refine-by picture"
        ))),
        None => Ok(()),
    }
}

/// What was typed, with the list of standard input. Where the list has zero bytes, they part its names; else line ends do.
fn typed(inputs: Vec<PathBuf>, output: Option<PathBuf>, recursive: bool, has_rate: bool) -> Result<Typed> {
    if inputs.is_empty() {
        return Err(Error::usage("an input is needed: name pictures, videos or folders"));
    }
    let Some(output) = output else {
        return Err(Error::usage("an output is needed: give -o FILE, or -o FOLDER for several inputs"));
    };
    if output.as_os_str() == "-" {
        return Err(Error::usage("enhance does not write to standard output; give -o FILE"));
    }
    let (lists, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|path| path.as_os_str() == "-");
    let list = if lists.is_empty() { None } else { Some(list()?) };
    Ok(Typed { inputs, list, output, recursive, has_rate })
}

fn list() -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| Error::usage(format!("the list of files on standard input cannot be read: {e}")))?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = bytes.split(|b| *b == end).map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let files: Vec<_> = lines.filter(|l| !l.is_empty()).map(|l| OsStr::from_bytes(l).into()).collect();
    if files.is_empty() {
        return Err(Error::usage("standard input lists no file"));
    }
    Ok(files)
}
