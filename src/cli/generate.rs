//! `generate`: its flags, and how they become a [`GeneratePlan`].

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    config_file,
    models::Models,
    noise::NoiseArgs,
    output::{DestinationArgs, EncodingArgs},
    postprocess::{InterpolationArgs, InterpolationExtra, UpscalingArgs, UpscalingExtra},
    sampling::SamplingArgs,
    serving::ServingArgs,
    shared::Shared,
    vae::VaeArgs,
    value::{self, Choice},
};
use crate::{
    error::{Error, Result},
    files::{read_text, remove_leftover},
    plan::{Destination, GeneratePlan, Interpolation, Progressive, Sides},
    spectral::{Mode, Scale, Scales, Spectrum, Transform},
};

/// Flags of `generate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GenerateArgs {
    /// Diffusion model: folder in diffusers layout, repository, short name, or folder written by export [default: the built-in demo model]
    #[arg(long, alias = "model", value_name = "MODEL", help_heading = "Prompt")]
    pub model_path: Option<String>,

    /// Prompts, as --prompt
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "prompt_path"])]
    pub prompts: Vec<String>,

    /// One or more prompts
    #[arg(short, long, value_name = "TEXT", num_args = 1.., help_heading = "Prompt")]
    pub prompt: Vec<String>,

    /// Text file with one prompt per line; `-` for standard input
    #[arg(long, value_name = "FILE.txt", help_heading = "Prompt", conflicts_with = "prompt")]
    pub prompt_path: Option<PathBuf>,

    /// Negative prompt [default: the model's]
    #[arg(long, value_name = "TEXT", help_heading = "Prompt")]
    pub negative_prompt: Option<String>,

    /// Size flags.
    #[command(flatten)]
    pub size: SizeArgs,
    /// Sampling flags.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Noise flags.
    #[command(flatten)]
    pub noise: NoiseArgs,
    /// Ignored flags.
    #[command(flatten)]
    pub serving: ServingArgs,
    /// Flags of progressive growth.
    #[command(flatten)]
    pub progressive: ProgressiveArgs,
    /// VAE flags.
    #[command(flatten)]
    pub vae: VaeArgs,
    /// Interpolation flags.
    #[command(flatten)]
    pub interpolation: InterpolationArgs,
    /// Upscaling flags.
    #[command(flatten)]
    pub upscaling: UpscalingArgs,
    /// Flags of the output file.
    #[command(flatten)]
    pub destination: DestinationArgs,
    /// Encoding flags.
    #[command(flatten)]
    pub encoding: EncodingArgs,

    /// File for the latents of every step
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Output")]
    pub save_latents: Option<PathBuf>,

    /// File for the time of every stage and step
    #[arg(long, value_name = "FILE.json", help_heading = "Output")]
    pub perf_dump_path: Option<PathBuf>,
}

/// Size flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Size")]
pub(crate) struct SizeArgs {
    /// Height in pixels [default: the model's]
    #[arg(long, value_name = "N", value_parser = value::positive("height"))]
    pub height: Option<usize>,

    /// Width in pixels [default: the model's]
    #[arg(long, value_name = "N", value_parser = value::positive("width"))]
    pub width: Option<usize>,

    /// Same as --output-size 1280x720
    #[arg(long = "720p", conflicts_with_all = ["p1080", "k2", "k4", "output_size", "height", "width"])]
    pub p720: bool,

    /// Same as --output-size 1920x1080
    #[arg(long = "1080p", conflicts_with_all = ["k2", "k4", "output_size", "height", "width"])]
    pub p1080: bool,

    /// Same as --output-size 2560x1440
    #[arg(long = "2k", conflicts_with_all = ["k4", "output_size", "height", "width"])]
    pub k2: bool,

    /// Same as --output-size 3840x2160
    #[arg(long = "4k", conflicts_with_all = ["output_size", "height", "width"])]
    pub k4: bool,

    /// Width and height in pixels [default: the model's]
    #[arg(long, value_name = "WxH", value_parser = value::size, conflicts_with_all = ["height", "width"])]
    pub output_size: Option<(usize, usize)>,

    /// Number of frames of a video [default: the model's]
    #[arg(long, value_name = "N", value_parser = value::positive("num_frames"))]
    pub num_frames: Option<usize>,

    /// Frames per second of a video [default: the model's]
    #[arg(long, value_name = "N", value_parser = value::frame_rate)]
    pub fps: Option<f64>,
}

impl SizeArgs {
    /// The requested sides.
    fn resolve(&self) -> Sides {
        let named =
            [(self.p720, (1280, 720)), (self.p1080, (1920, 1080)), (self.k2, (2560, 1440)), (self.k4, (3840, 2160))];
        let named = named.iter().find(|(given, _)| *given).map(|(_, size)| *size).or(self.output_size);
        match named {
            Some((width, height)) => Sides::of(height, width),
            None => Sides { height: self.height, width: self.width },
        }
    }
}

/// Flags of progressive growth.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Progressive growth")]
pub(crate) struct ProgressiveArgs {
    /// Growth of the resolution while denoising
    #[arg(long, value_name = "MODE", default_value = "fullres", value_parser = MODES)]
    pub progressive_mode: Mode,

    /// Number of levels below full resolution, each half the size of the next [default: 1]
    #[arg(long, value_name = "N", value_parser = value::positive("progressive_levels"))]
    pub progressive_levels: Option<usize>,

    /// Error tolerance of the lower levels, above 0 and below 1. Larger values are faster
    #[arg(long, value_name = "X", default_value = "0.01", value_parser = value::delta)]
    pub progressive_delta: f64,

    /// Levels as ratios (0.5 1.0, or 1/4 1/2 1) or heights in pixels (480 720), ascending, the last at full resolution
    #[arg(long, value_name = "X", num_args = 1.., value_delimiter = ',', value_parser = value::parsed::<Scale>,
          conflicts_with = "progressive_levels")]
    pub progressive_scales: Vec<Scale>,

    /// Transform that enlarges the latent
    #[arg(long, default_value = "dct", value_name = "NAME", value_parser = TRANSFORMS)]
    pub progressive_transform: Transform,

    /// Power spectrum A*f^-BETA of the VAE's latents [default: the model's]
    #[arg(long, value_name = "A,BETA", value_parser = value::parsed::<Spectrum>)]
    pub progressive_spectrum: Option<Spectrum>,
}

const MODES: Choice<Mode> = Choice::named(
    "progressive_mode",
    &[
        ("fullres", "All steps at full resolution", Mode::Fullres),
        ("dct", "Start at a lower resolution and grow", Mode::Dct),
        ("dct_rewind", "As dct, and rewind the noise level after each growth", Mode::DctRewind),
    ],
);

const TRANSFORMS: Choice<Transform> = Choice::named(
    "progressive_transform",
    &[
        ("dct", "Discrete cosine transform", Transform::Dct),
        ("dwt", "Haar wavelet transform; requires a ratio of 2 between levels", Transform::Dwt),
        ("fft", "Fourier transform", Transform::Fft),
    ],
);

impl ProgressiveArgs {
    fn resolve(self) -> Result<Progressive> {
        let scales = match self.progressive_scales.as_slice() {
            [] => Scales::Levels(self.progressive_levels.unwrap_or(1)),
            given => Scales::explicit(given)?,
        };
        if self.progressive_transform == Transform::Dwt
            && let Some((a, b)) = scales.pairs().into_iter().find(|(a, b)| (b / a - 2.0).abs() > 1e-9)
        {
            return Err(Error::usage(format!(
                "--progressive-transform dwt requires a ratio of 2 between levels, got {} ({a} to {b}); use dct, or other --progressive-scales",
                b / a
            )));
        }
        Ok(Progressive {
            mode: self.progressive_mode,
            scales,
            delta: self.progressive_delta,
            transform: self.progressive_transform,
            spectrum: self.progressive_spectrum,
        })
    }
}

fn check_latents(path: Option<&Path>) -> Result<()> {
    match path.filter(|path| path.extension().is_none_or(|e| e != "safetensors")) {
        Some(path) => Err(Error::usage(format!("--save-latents must be a .safetensors file, got {}", path.display()))),
        None => Ok(()),
    }
}

impl GenerateArgs {
    /// Checks the flags and finds the models. Models come last, so that an invalid request downloads nothing.
    pub(crate) fn resolve(self, shared: &Shared, models: &Models) -> Result<GeneratePlan> {
        self.serving.warn();
        let prompts = self.prompts()?;
        let size = self.size.resolve();
        let seeds = self.sampling.seeds()?;
        let outputs = count_outputs(&prompts, &seeds)?;
        let start = self.sampling.start()?;
        let progressive = self.progressive.resolve()?;
        let vae = self.vae.resolve()?;
        let destination = self.destination.resolve()?;
        if destination == Destination::StandardOutput && shared.json {
            return Err(Error::usage("--output-file-path - and --json both write to standard output; give a file"));
        }
        if destination == Destination::StandardOutput && outputs > 1 {
            return Err(Error::usage("--output-file-path - takes one output; give one prompt and one seed"));
        }
        let output = self.encoding.resolve(destination, None)?;
        if let Destination::File(path) = &output.destination
            && outputs == 1
        {
            output.may_write(path).inspect_err(|_| remove_leftover(path))?;
        }
        check_latents(self.save_latents.as_deref())?;
        let model = models.folder(self.model_path.as_deref(), "--model-path")?;
        Ok(GeneratePlan {
            model,
            prompts,
            negative_prompt: self.negative_prompt,
            seeds,
            noise: self.noise.resolve()?,
            size,
            frames: self.size.num_frames,
            fps: self.size.fps,
            steps: self.sampling.num_inference_steps,
            guidance_scale: self.sampling.guidance_scale,
            true_cfg_scale: self.sampling.true_cfg_scale,
            cfg_normalization: self.sampling.cfg_normalization,
            cfg_truncation: self.sampling.cfg_truncation,
            cfg_batch: self.sampling.cfg_batch,
            flow_shift: self.sampling.flow_shift,
            max_sequence_length: self.sampling.max_sequence_length,
            progressive,
            start,
            vae,
            // Generated videos have no cuts.
            interpolation: self
                .interpolation
                .resolve(InterpolationExtra::default(), models)?
                .map(|i| Interpolation { scene_threshold: 1.0, ..i }),
            upscaling: self.upscaling.resolve(UpscalingExtra::default(), models)?,
            output,
            save_latents: self.save_latents,
            perf_dump: self.perf_dump_path,
            read_files: shared.config.iter().chain(&self.prompt_path).cloned().collect(),
            quality: self.sampling.quality,
            defaults: self.sampling.defaults,
            runtime: shared.runtime(),
        })
    }

    fn prompts(&self) -> Result<Vec<String>> {
        let typed: Vec<String> = self.prompts.iter().chain(&self.prompt).cloned().collect();
        let path = match (typed.is_empty(), &self.prompt_path) {
            (false, _) => return Ok(typed),
            (true, Some(path)) => path,
            (true, None) => return Err(Error::usage("a prompt is required: give --prompt or --prompt-path")),
        };
        let text = if path.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
                .map_err(|e| Error::usage(format!("--prompt-path -: reading standard input: {e}")))?
        } else if path.extension().is_none_or(|e| e != "txt") {
            return Err(Error::usage(format!("prompt_path must be a txt file, got '{}'", path.display())));
        } else {
            read_text(path).map_err(|e| Error::usage(format!("--prompt-path {}: {e}", path.display())))?
        };
        let prompts: Vec<String> = config_file::prompts(&text).map(Into::into).collect();
        if prompts.is_empty() {
            return Err(Error::usage(format!("--prompt-path {} contains no prompt", path.display())));
        }
        Ok(prompts)
    }
}

/// The number of outputs. Errors: too many.
fn count_outputs(prompts: &[String], seeds: &[u64]) -> Result<usize> {
    let (prompts, seeds, most) = (prompts.len(), seeds.len(), value::MOST);
    let outputs = prompts.saturating_mul(seeds);
    if outputs > most {
        return Err(Error::usage(format!(
            "{prompts} prompts with {seeds} seeds each make {outputs} outputs; a call makes at most {most}"
        )));
    }
    Ok(outputs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::too_many_lines)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        cli::args::{Cli, Command},
        progress::Silent,
    };

    fn plan(args: &str) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let net = folder.path().join("net.pth");
        std::fs::write(&net, "").unwrap();
        let (folder, net) = (folder.path().to_str().unwrap(), net.to_str().unwrap());
        let mut argv = vec!["crescendo", "generate", "--model-path", folder, "--upscaling-model-path", net];
        argv.extend(["--frame-interpolation-model-path", net]);
        argv.extend(args.split(' '));
        let cli = Cli::try_parse_from(argv).unwrap();
        let Command::Generate(args) = cli.command else { panic!("not generate") };
        serde_json::to_value(args.resolve(&cli.shared, &Models::new(&cli.shared, &Silent, false)).unwrap()).unwrap()
    }

    /// Arguments, a JSON pointer into the plan, and the expected value. Sizes are (height, width).
    #[test]
    fn resolved() {
        let mut bad = Vec::new();
        for (args, place, want) in [
            ("--prompt x", "/seeds", json!([42])),
            ("--prompt x", "/size/height", json!(null)),
            ("--prompt x --height 720", "/size", json!({"height": 720, "width": null})),
            ("x", "/prompts", json!(["x"])),
            ("-p x --steps 7", "/steps", json!(7)),
            ("-p x --cfg 2.5", "/guidance_scale", json!(2.5)),
            ("-p x -y", "/output/overwrite", json!(true)),
            ("-p x -o a.png", "/output/destination", json!({"file": "a.png"})),
            ("-p x -i Cargo.toml", "/start/image", json!("Cargo.toml")),
            ("--prompt a b", "/prompts", json!(["a", "b"])),
            ("--prompt x --seed 7 --num-outputs 3", "/seeds", json!([7, 8, 9])),
            ("--prompt x --seed 7 3", "/seeds", json!([7, 3])),
            ("--prompt x --seed=7,3", "/seeds", json!([7, 3])),
            ("--prompt x --720p", "/size", json!({"height": 720, "width": 1280})),
            ("--prompt x --1080p", "/size", json!({"height": 1080, "width": 1920})),
            ("--prompt x --2k", "/size", json!({"height": 1440, "width": 2560})),
            ("--prompt x --4k", "/size", json!({"height": 2160, "width": 3840})),
            ("--prompt x --output-size 640x480", "/size", json!({"height": 480, "width": 640})),
            ("--prompt x --height 480 --width 832", "/size", json!({"height": 480, "width": 832})),
            ("--prompt x", "/progressive/mode", json!("fullres")),
            ("--prompt x", "/progressive/delta", json!(0.01)),
            ("--prompt x", "/progressive/scales", json!({"levels": 1})),
            ("--prompt x --progressive-mode dct_rewind", "/progressive/mode", json!("dct_rewind")),
            ("--prompt x --progressive-scales 1/4 0.5 1.0", "/progressive/scales/explicit/0", json!({"ratio": 0.25})),
            ("--prompt x --progressive-scales 480 720", "/progressive/scales/explicit/1", json!({"height": 720})),
            ("--prompt x --progressive-spectrum 2.5,1.75", "/progressive/spectrum", json!({"a": 2.5, "beta": 1.75})),
            ("--prompt x", "/interpolation", json!(null)),
            ("--prompt x --enable-frame-interpolation", "/interpolation/rate", json!({"times": 2})),
            (
                "--prompt x --enable-frame-interpolation --frame-interpolation-exp 3",
                "/interpolation/rate",
                json!({"times": 8}),
            ),
            ("--prompt x --enable-upscaling", "/upscaling/target", json!({"times": 4})),
            ("--prompt x --enable-upscaling --upscaling-scale 2", "/upscaling/target", json!({"times": 2})),
            ("--prompt x", "/output/destination", json!({"folder": "outputs/"})),
            ("--prompt x --output-path o --output-file-name n.png", "/output/destination", json!({"file": "o/n.png"})),
            ("--prompt x --no-save-output", "/output/destination", json!("nowhere")),
            ("--prompt x --no-save-output --save-output", "/output/destination", json!({"folder": "outputs/"})),
            ("--prompt x --output-file-path -", "/output/destination", json!("standard_output")),
            ("--prompt x -o new.png", "/output/destination", json!({"file": "new.png"})),
            ("--prompt x -o new/", "/output/destination", json!({"folder": "new/"})),
            ("--prompt x -o src", "/output/destination", json!({"folder": "src"})),
            ("--prompt x -o .", "/output/destination", json!({"folder": "."})),
            ("--prompt x --output-quality medium", "/output/compression", json!(55)),
            ("--prompt x --output-quality low --output-compression 80", "/output/compression", json!(80)),
            ("--prompt x -e a=b -e c=d=e", "/output/encoder_options", json!([["a", "b"], ["c", "d=e"]])),
            ("--prompt x --device cuda:1", "/runtime/device", json!({"cuda": 1})),
            ("--prompt x --memory-limit 8GiB", "/runtime/memory_limit", json!(8_589_934_592_u64)),
            ("--prompt x", "/noise/cpu", json!("current")),
            ("--prompt x --generator-torch old", "/noise/cpu", json!("old")),
            ("--prompt x --generator-device cuda", "/noise/cuda/sms", json!(132)),
            ("--prompt x --generator-device cuda --generator-gpu 84x1536", "/noise/cuda/threads_per_sm", json!(1536)),
            ("--prompt x", "/vae/tiling", json!("auto")),
            ("--vae-tiling --prompt x", "/vae/tiling", json!("on")),
            ("--prompt x --vae-tiling false", "/vae/tiling", json!("off")),
            ("--prompt x --vae-config.use-tiling true", "/vae/tiling", json!("on")),
            ("--prompt x --vae-tile 256 --vae-tile-overlap 0", "/vae/overlap", json!(0)),
            ("--prompt x --fps 24000/1001 --num-frames 81", "/fps", json!(24000.0 / 1001.0)),
        ] {
            let got = plan(args).pointer(place).cloned().unwrap_or(Value::Null);
            if got != want {
                bad.push(format!("{args}: {place}: wanted {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
