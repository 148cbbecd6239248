//! `enhance`: its flags, and how they become an [`EnhancePlan`].

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    models::Models,
    output::EncodingArgs,
    postprocess::{InterpolationArgs, InterpolationExtra, UpscalingArgs, UpscalingExtra},
    shared::Shared,
    value::{self, Choice},
};
use crate::{
    batch::{self, Jobs, Typed},
    error::{Error, Result},
    files::remove_leftover,
    media::resize::Filter,
    pipeline,
    plan::{
        self, Batch, Destination, EnhancePlan, Input, Job, Output, Quality, Rate, Refine, RefineBy, Trim, UpscaleTarget,
    },
};

/// Flags of `enhance`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnhanceArgs {
    /// Pictures, videos, folders, quoted globs, numbered pictures (frame_%05d.png), or `-` for a file list on standard input
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Inputs, as FFmpeg's -i
    #[arg(short, long, value_name = "INPUT", hide = true)]
    pub input: Vec<PathBuf>,

    /// File for one input, else a folder, which keeps the folder structure of the inputs
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: Option<PathBuf>,

    /// Factor (2x, 3x) or frame rate (60fps, 60000/1001fps)
    #[arg(long, value_name = "RATE", value_parser = value::rate, help_heading = "Frame interpolation",
          conflicts_with = "frame_interpolation_exp")]
    pub interpolate: Option<Rate>,

    /// Allow interpolation by more than 16x
    #[arg(long, help_heading = "Frame interpolation")]
    pub force: bool,

    /// Factor (2, 1.5x), size (3840x2160) or height (2160p, 4k)
    #[arg(long, value_name = "SIZE", value_parser = value::upscale, help_heading = "Upscaling",
          conflicts_with = "upscaling_scale")]
    pub upscale: Option<UpscaleTarget>,

    /// Interpolation flags.
    #[command(flatten)]
    pub interpolation: InterpolationArgs,

    /// Scene-change threshold, 0 to 1. Across a cut the previous frame is repeated. 1 disables detection [default: 0.1]
    #[arg(long, value_name = "T", help_heading = "Frame interpolation",
          value_parser = value::float_in("scene_threshold", 0.0..=1.0, "[0, 1]"))]
    pub scene_threshold: Option<f64>,

    /// Detect repeated frames and replace them by interpolated ones
    #[arg(long, help_heading = "Frame interpolation")]
    pub dedup: bool,

    /// Upscaling flags.
    #[command(flatten)]
    pub upscaling: UpscalingArgs,

    /// Resample instead of running a network [default: bicubic]
    ///
    /// With --upscaling-model-path: only the final fit to an exact size
    #[arg(long, value_name = "NAME", help_heading = "Upscaling", value_parser = value::FILTERS)]
    pub filter: Option<Filter>,

    /// Denoising strength, 0 to 1: blends the weights of a network with those of its weakly denoising twin
    #[arg(long, value_name = "X", help_heading = "Upscaling",
          value_parser = value::float_in("denoise_strength", 0.0..=1.0, "[0, 1]"))]
    pub denoise_strength: Option<f64>,

    /// Weakly denoising twin of the network [default: the model's -wdn file]
    #[arg(long, value_name = "MODEL", help_heading = "Upscaling")]
    pub denoise_model_path: Option<String>,

    /// Refinement flags.
    #[command(flatten)]
    pub refine: RefineArgs,
    /// Time flags.
    #[command(flatten)]
    pub time: TimeArgs,
    /// Flags for several files.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// Encoding flags.
    #[command(flatten)]
    pub encoding: EncodingArgs,

    /// File for the time of every stage
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    pub perf_dump_path: Option<PathBuf>,

    /// Accuracy of the arithmetic
    #[arg(long, default_value = "lossless", value_name = "NAME", help_heading = "Output", value_parser = value::QUALITIES)]
    pub quality: Quality,
}

/// Refinement flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Refinement of pictures")]
pub(crate) struct RefineArgs {
    /// Upscale in passes, each followed by a short denoising run
    ///
    /// A pass enlarges by at most 2x. Denoising is tiled
    #[arg(long)]
    pub refine: bool,

    /// Diffusion model of --refine, required because the built-in demo model has random weights; video models are not supported
    #[arg(long, value_name = "MODEL", requires = "refine")]
    pub refine_model: Option<String>,

    /// Prompt that describes the pictures [default: empty]
    #[arg(long, value_name = "TEXT", requires = "refine")]
    pub refine_prompt: Option<String>,

    /// What a pass enlarges [default: picture if --upscaling-model-path or --filter is given, else latent]
    #[arg(long, value_name = "WAY", requires = "refine", value_parser = BY)]
    pub refine_by: Option<RefineBy>,

    /// Part of the schedule that runs in each pass, 0 to 1. 0 disables refinement [default: 0.3]
    #[arg(long, value_name = "X", requires = "refine",
          value_parser = value::float_in("refine_strength", 0.0..=1.0, "[0, 1]"))]
    pub refine_strength: Option<f64>,

    /// Factor of each pass, 1x to 2x, such as 2x,2x. No pass exceeds the size of --upscale; --filter does the rest
    /// [default: as many doublings as the size needs]
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "refine", value_parser = stage)]
    pub refine_stages: Vec<f64>,

    /// Side of a tile in pixels, a multiple of the model's patch [default: the side of the model's default size]
    #[arg(long, value_name = "N", requires = "refine", value_parser = value::positive("refine_tile"))]
    pub refine_tile: Option<usize>,

    /// Minimum overlap of neighbouring tiles in pixels, at most half a tile [default: a quarter of a tile]
    #[arg(long, value_name = "N", requires = "refine", value_parser = value::count("refine_tile_overlap"))]
    pub refine_tile_overlap: Option<usize>,

    /// Negative prompt [default: the model's]
    #[arg(long, value_name = "TEXT", requires = "refine")]
    pub negative_prompt: Option<String>,

    /// Denoising steps of the whole schedule, of which the part --refine-strength runs [default: the model's]
    #[arg(long, alias = "steps", value_name = "N", requires = "refine",
          value_parser = value::positive("num_inference_steps"))]
    pub num_inference_steps: Option<usize>,

    /// Guidance scale, at least 0 [default: the model's]
    #[arg(long, alias = "cfg", value_name = "X", requires = "refine", value_parser = value::non_negative("guidance_scale"))]
    pub guidance_scale: Option<f64>,

    /// Scale of classifier-free guidance for models whose --guidance-scale is distilled, at least 0 [default: the model's]
    #[arg(long, value_name = "X", requires = "refine", value_parser = value::non_negative("true_cfg_scale"))]
    pub true_cfg_scale: Option<f64>,

    /// Seed of the noise
    #[arg(long, value_name = "N", default_value = "42", value_parser = value::seed)]
    pub seed: u64,
}

const BY: Choice<RefineBy> = Choice::new(&[
    ("latent", "The picture's latent, in the frequency domain", RefineBy::Latent),
    ("picture", "The picture, by the upscaling network or --filter", RefineBy::Picture),
]);

fn stage(typed: &str) -> Result<f64, String> {
    match typed.strip_suffix(['x', 'X']).unwrap_or(typed).parse::<f64>() {
        Ok(factor) if (1.0..=2.0).contains(&factor) => Ok(factor),
        _ => Err(format!("refine_stages must be factors from 1x to 2x such as 2x,2x, got {}", value::shown(typed))),
    }
}

/// Time flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct TimeArgs {
    /// Start time in a video: seconds, MM:SS or HH:MM:SS
    ///
    /// The output starts with the next frame at or after it
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub start: Option<f64>,

    /// End time in a video. The output ends with the last frame before it
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub end: Option<f64>,

    /// Length of a resumable chunk in seconds of the input [default: 10 for videos longer than a minute]
    #[arg(long, value_name = "SECONDS", value_parser = value::positive_float("chunk"))]
    pub chunk: Option<f64>,

    /// Process what decodes of a damaged video; what does not decode repeats the frame before. A warning says what was lost
    #[arg(long)]
    pub conceal_errors: bool,

    /// Do not warn that a video is interlaced. Frames are never deinterlaced
    #[arg(long)]
    pub assume_progressive: bool,

    /// Frames per second of numbered pictures. Rejected for videos, whose audio would lose sync: use --interpolate 60fps
    #[arg(long, value_name = "N", value_parser = value::frame_rate)]
    pub fps: Option<f64>,
}

/// Flags for several files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Several files")]
pub(crate) struct BatchArgs {
    /// Include subfolders
    #[arg(long)]
    pub recursive: bool,

    /// Keep finished outputs of the same input, models and settings. This is the default for an output folder without
    /// --overwrite. With --overwrite, only other outputs are replaced
    #[arg(long)]
    pub skip_existing: bool,

    /// Number of files processed at the same time
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::positive_to("jobs", value::MOST_THREADS))]
    pub jobs: usize,

    /// Stop at the first failure
    #[arg(long)]
    pub fail_fast: bool,

    /// Append one JSON line per item to this file
    #[arg(long, value_name = "FILE.jsonl")]
    pub report: Option<PathBuf>,
}

impl EnhanceArgs {
    /// Checks the flags and finds inputs and models. Models come last, so that an invalid request downloads nothing.
    pub(crate) fn resolve(self, shared: &Shared, models: &Models) -> Result<EnhancePlan> {
        let inputs = self.inputs.into_iter().chain(self.input).collect();
        let typed = typed(inputs, self.output, self.batch.recursive, self.time.fps.is_some())?;
        let Jobs { jobs, folder } = batch::jobs(&typed)?;
        let trim = self.time.trim()?;
        let encoding = self.encoding.resolve(Destination::Nowhere, folder.is_none().then_some(&*typed.output))?;
        if folder.is_none() {
            check_file(&typed.output, &jobs, &encoding, self.batch.skip_existing)?;
        }
        // A single output gets a journal only with --skip-existing: its folder is the user's.
        let beside = || typed.output.parent().map(|p| if p.as_os_str().is_empty() { ".".into() } else { p.into() });
        let record = folder.or_else(|| self.batch.skip_existing.then(beside).flatten());
        let extra = InterpolationExtra {
            rate: self.interpolate,
            scene_threshold: self.scene_threshold,
            dedup: self.dedup,
            force: self.force,
        };
        let interpolation = self.interpolation.resolve(extra, models)?;
        let (seed, refined) = (self.refine.seed, self.refine.is_on());
        let by = refined.then(|| self.refine.by(&self.upscaling, self.filter));
        let mut target = self.upscale;
        // Strength 0 leaves the upscaling of the stages.
        if self.refine.refine && target.is_none() && !self.upscaling.enable_upscaling {
            target = self.refine.target()?;
        }
        if by == Some(RefineBy::Latent) {
            refuse_network(&self.upscaling, self.denoise_strength)?;
        }
        if self.refine.refine && !refined {
            tracing::warn!("--refine-strength 0 disables refinement; pictures are only upscaled");
        }
        let extra = UpscalingExtra {
            target,
            filter: self.filter,
            denoise_strength: self.denoise_strength,
            denoise_model: self.denoise_model_path,
            has_filter: true,
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
            trim,
            conceal_errors: self.time.conceal_errors,
            assume_progressive: self.time.assume_progressive,
            batch: self.batch.resolve(),
            seed,
            quality: self.quality,
            perf_dump: self.perf_dump_path,
            read_files: shared.config.iter().cloned().collect(),
            runtime: shared.runtime(),
        })
    }
}

/// Checks a single output file before any work.
fn check_file(output: &Path, jobs: &[Job], encoding: &Output, skip_existing: bool) -> Result<()> {
    if let [job] = jobs {
        let input = match &job.input {
            Input::File(path) => Some(path.as_path()),
            Input::Sequence { .. } => None,
        };
        plan::check_extension(input, &job.output)?;
    }
    // With chunks of a killed run, the new run decides whether it resumes or fails.
    if skip_existing || pipeline::chunk_folder(output).is_dir() {
        return Ok(());
    }
    encoding.may_write(output).inspect_err(|_| remove_leftover(output))
}

impl TimeArgs {
    fn trim(&self) -> Result<Trim> {
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start >= end
        {
            return Err(Error::usage(format!("--start {start} must be before --end {end} (seconds)")));
        }
        Ok(Trim { start: self.start, end: self.end, chunk: self.chunk })
    }
}

impl BatchArgs {
    fn resolve(self) -> Batch {
        let Self { skip_existing, jobs, fail_fast, report, .. } = self;
        Batch { skip_existing, jobs, fail_fast, report }
    }
}

impl RefineArgs {
    /// Whether refinement is on. Strength 0 disables it.
    fn is_on(&self) -> bool {
        self.refine && self.refine_strength != Some(0.0)
    }

    /// `--refine-by`, or its default.
    fn by(&self, upscaling: &UpscalingArgs, filter: Option<Filter>) -> RefineBy {
        let named = upscaling.upscaling_model_path.is_some() || filter.is_some();
        self.refine_by.unwrap_or(if named { RefineBy::Picture } else { RefineBy::Latent })
    }

    /// The product of `--refine-stages`. `None`: no factors, or a product of 1. Errors: not an integer up to 8.
    fn target(&self) -> Result<Option<UpscaleTarget>> {
        let product: f64 = self.refine_stages.iter().product();
        if self.refine_stages.is_empty() || product == 1.0 {
            return Ok(None);
        }
        match product.round() {
            whole if (product - whole).abs() < 1e-9 && whole <= 8.0 => Ok(Some(UpscaleTarget::Times(whole as usize))),
            _ => Err(Error::usage(format!(
                "--refine-stages: their product, {product}, must be an integer of at most 8; or add --upscale WIDTHxHEIGHT"
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

/// Rejects flags of an upscaling network with `--refine-by latent`, which runs none.
fn refuse_network(upscaling: &UpscalingArgs, denoise_strength: Option<f64>) -> Result<()> {
    let rows = [
        (upscaling.upscaling_model_path.is_some(), "--upscaling-model-path"),
        (upscaling.tile.is_some(), "--tile"),
        (upscaling.tile_overlap.is_some(), "--tile-overlap"),
        (denoise_strength.is_some(), "--denoise-strength"),
    ];
    match rows.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(Error::usage(format!(
            "{flag}: --refine-by latent runs no upscaling network; leave it out, or give --refine-by picture"
        ))),
        None => Ok(()),
    }
}

/// The inputs and output, with the file list on standard input for `-`.
fn typed(inputs: Vec<PathBuf>, output: Option<PathBuf>, recursive: bool, has_rate: bool) -> Result<Typed> {
    if inputs.is_empty() {
        return Err(Error::usage("an input is required: give pictures, videos or folders"));
    }
    let Some(output) = output else {
        return Err(Error::usage("an output is required: give -o FILE, or -o FOLDER for several inputs"));
    };
    if output.as_os_str() == "-" {
        return Err(Error::usage("-o -: enhance cannot write to standard output; give -o FILE"));
    }
    let (lists, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|path| path.as_os_str() == "-");
    let list = if lists.is_empty() { None } else { Some(list()?) };
    Ok(Typed { inputs, list, output, recursive, has_rate })
}

/// The file list on standard input, separated by zero bytes if there are any, else by line ends.
fn list() -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| Error::usage(format!("reading the file list on standard input: {e}")))?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = bytes.split(|b| *b == end).map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let files: Vec<_> = lines.filter(|l| !l.is_empty()).map(|l| OsStr::from_bytes(l).into()).collect();
    if files.is_empty() {
        return Err(Error::usage("the file list on standard input is empty"));
    }
    Ok(files)
}
