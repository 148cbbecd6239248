//! Interpolation and upscaling flags, which `generate` and `enhance` share.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    models::{Models, shipped_upscaler},
    value,
};
use crate::{
    catalog,
    error::{Error, Result},
    media::resize::Filter,
    plan::{Interpolation, MAX_FACTOR, Model, Rate, UpscaleTarget, Upscaling, WeightBlend, warn_unused},
};

/// SGLang's default for `--frame-interpolation-model-path`.
pub(super) const RIFE: &str = "rife-4.22.lite";

/// Interpolation flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Frame interpolation")]
pub(crate) struct InterpolationArgs {
    /// Enable frame interpolation
    #[arg(long)]
    pub enable_frame_interpolation: bool,

    /// Multiply the frame rate by 2^N; N is 1 to 4 [default: 1]
    #[arg(long, value_name = "N", value_parser = value::int_in("frame_interpolation_exp", 1..=4))]
    pub frame_interpolation_exp: Option<u32>,

    /// Working resolution of RIFE relative to the frame, 0.25 to 4.0; 0.5 suits 4K [default: 1.0]
    #[arg(long, value_name = "X",
          value_parser = value::float_in("frame_interpolation_scale", 0.25..=4.0, "[0.25, 4.0]"))]
    pub frame_interpolation_scale: Option<f64>,

    /// RIFE weights: folder, file, repository or short name [default: rife-4.22.lite]
    #[arg(long, value_name = "MODEL")]
    pub frame_interpolation_model_path: Option<String>,
}

/// Interpolation flags that only `enhance` has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InterpolationExtra {
    /// From `--interpolate`.
    pub rate: Option<Rate>,
    /// From `--scene-threshold`.
    pub scene_threshold: Option<f64>,
    /// From `--dedup`.
    pub dedup: bool,
    /// From `--force`.
    pub force: bool,
}

impl InterpolationArgs {
    /// The interpolation settings, with the model's file. `None`: interpolation is off.
    pub(crate) fn resolve(self, extra: InterpolationExtra, models: &Models) -> Result<Option<Interpolation>> {
        if !self.enable_frame_interpolation && extra.rate.is_none() {
            let flags = [
                (self.frame_interpolation_exp.is_some(), "--frame-interpolation-exp"),
                (self.frame_interpolation_scale.is_some(), "--frame-interpolation-scale"),
                (self.frame_interpolation_model_path.is_some(), "--frame-interpolation-model-path"),
                (extra.scene_threshold.is_some(), "--scene-threshold"),
                (extra.dedup, "--dedup"),
            ];
            warn_unused(&flags, "frame interpolation is not enabled");
            return Ok(None);
        }
        if let Some(Rate::Times(n)) = extra.rate
            && f64::from(n) > MAX_FACTOR
            && !extra.force
        {
            return Err(Error::usage(format!(
                "--interpolate {n}x makes {n} frames of each frame; give a rate such as {n}fps, a factor of at most {MAX_FACTOR}, or --force"
            )));
        }
        let name = self.frame_interpolation_model_path.as_deref().unwrap_or(RIFE);
        let default = Interpolation::default();
        Ok(Some(Interpolation {
            rate: extra.rate.unwrap_or(Rate::Times(1 << self.frame_interpolation_exp.unwrap_or(1))),
            scale: self.frame_interpolation_scale.unwrap_or(default.scale),
            model: models.file(name, "--frame-interpolation-model-path")?,
            scene_threshold: extra.scene_threshold.unwrap_or(default.scene_threshold),
            dedup: extra.dedup,
            force: extra.force,
        }))
    }
}

/// Upscaling flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Upscaling")]
pub(crate) struct UpscalingArgs {
    /// Enable upscaling
    #[arg(long)]
    pub enable_upscaling: bool,

    /// Factor of width and height, 1 to 8 [default: 4]
    #[arg(long, value_name = "N", value_parser = value::int_in("upscaling_scale", 1..=8))]
    pub upscaling_scale: Option<u32>,

    /// Upscaling network: file, repository, URL or short name [default: Real-ESRGAN of the nearest factor]
    ///
    /// A .pth, .safetensors or .onnx file, owner/name, or owner/name:file
    #[arg(long, value_name = "MODEL")]
    pub upscaling_model_path: Option<String>,

    /// Side of a tile in pixels; 0 disables tiling [default: from the memory limit and the network's receptive field]
    #[arg(long, value_name = "N", value_parser = value::count("tile"))]
    pub tile: Option<usize>,

    /// Overlap of tiles in pixels [default: the network's receptive field]
    #[arg(long, value_name = "N", value_parser = value::count("tile_overlap"))]
    pub tile_overlap: Option<usize>,
}

/// Upscaling flags that only `enhance` has.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpscalingExtra {
    /// From `--upscale`.
    pub target: Option<UpscaleTarget>,
    /// From `--filter`.
    pub filter: Option<Filter>,
    /// From `--denoise-strength`.
    pub denoise_strength: Option<f64>,
    /// From `--denoise-model-path`.
    pub denoise_model: Option<String>,
    /// Whether the subcommand has `--filter`.
    pub has_filter: bool,
    /// Whether the default is no network.
    pub no_network: bool,
}

impl UpscalingArgs {
    /// The upscaling settings, with the model's files. `None`: upscaling is off.
    pub(crate) fn resolve(self, extra: UpscalingExtra, models: &Models) -> Result<Option<Upscaling>> {
        if !self.enable_upscaling && extra.target.is_none() {
            let flags = [
                (self.upscaling_scale.is_some(), "--upscaling-scale"),
                (self.upscaling_model_path.is_some(), "--upscaling-model-path"),
                (self.tile.is_some(), "--tile"),
                (self.tile_overlap.is_some(), "--tile-overlap"),
                (extra.filter.is_some(), "--filter"),
                (extra.denoise_strength.is_some(), "--denoise-strength"),
                (extra.denoise_model.is_some(), "--denoise-model-path"),
            ];
            warn_unused(&flags, "upscaling is not enabled");
            return Ok(None);
        }
        let target = extra.target.unwrap_or(UpscaleTarget::Times(self.upscaling_scale.unwrap_or(4) as usize));
        let name = match (&self.upscaling_model_path, extra.filter) {
            (Some(name), _) => Some(name.as_str()),
            (None, Some(_)) => None,
            (None, None) if extra.no_network => None,
            // The only network in the catalogue with a weakly denoising twin.
            (None, None) if extra.denoise_strength.is_some() => Some("realesr-general-x4v3"),
            (None, None) => Some(default_upscaler(target)),
        };
        let by_default = self.upscaling_model_path.is_none();
        let found = name.map(|name| models.file(name, "--upscaling-model-path")).transpose();
        let model = found.map_err(|e| if by_default { e.advise(without_download(extra.has_filter)) } else { e })?;
        Ok(Some(Upscaling {
            target,
            denoise: denoise(model.as_ref(), &extra, models)?,
            model,
            filter: extra.filter.unwrap_or_default(),
            tile: self.tile,
            tile_overlap: self.tile_overlap,
        }))
    }
}

/// What upscales if the default network cannot be downloaded.
fn without_download(has_filter: bool) -> String {
    let shipped =
        shipped_upscaler().map(|path| format!("--upscaling-model-path {} (2x, ships with Crescendo)", path.display()));
    let filter = has_filter.then(|| "--filter bicubic (no network)".to_owned());
    let ways: Vec<String> = shipped.into_iter().chain(filter).collect();
    if ways.is_empty() { "give --upscaling-model-path".into() } else { format!("or give {}", ways.join(" or ")) }
}

/// SGLang's default for `--upscaling-model-path`: Real-ESRGAN of that factor, or x4.
fn default_upscaler(target: UpscaleTarget) -> &'static str {
    match target {
        UpscaleTarget::Times(1 | 2) => "realesrgan-x2",
        UpscaleTarget::Factor(factor) if factor <= 2.0 => "realesrgan-x2",
        UpscaleTarget::Times(8) => "realesrgan-x8",
        _ => "realesrgan-x4",
    }
}

/// The blend of `--denoise-strength`. The second weight set is that of `--denoise-model-path`, else the catalogue's pair, else the
/// `-wdn` file in the same folder, named as in Real-ESRGAN's releases.
fn denoise(model: Option<&Model>, extra: &UpscalingExtra, models: &Models) -> Result<Option<WeightBlend>> {
    let Some(strength) = extra.denoise_strength else {
        return match &extra.denoise_model {
            Some(_) => Err(Error::usage("--denoise-model-path requires --denoise-strength")),
            None => Ok(None),
        };
    };
    let flag = "--denoise-model-path";
    let Some(model) = model else {
        return Err(Error::usage("--denoise-strength requires an upscaling network; add --upscaling-model-path"));
    };
    if model.path.extension().is_some_and(|e| e == "onnx") {
        let name = &model.name;
        return Err(Error::usage(format!(
            "--denoise-strength blends weights, but {name} is an ONNX graph; give a .pth or .safetensors file"
        )));
    }
    let pair = model.known.and_then(catalog::find).and_then(|e| e.pair.as_deref());
    let weak = match (&extra.denoise_model, pair) {
        (Some(name), _) => models.file(name, flag)?,
        (None, Some(pair)) => models.file(pair, flag)?,
        (None, None) => {
            let beside = wdn(&model.path).filter(|p| p.is_file());
            let path = beside.ok_or_else(|| {
                let name = &model.name;
                Error::usage(format!(
                    "--denoise-strength {strength}: {name} has no -wdn file in its folder; give one with {flag}"
                ))
            })?;
            Model { name: path.display().to_string(), path, ..Model::default() }
        }
    };
    Ok(Some(WeightBlend { strength, weak }))
}

/// `realesr-general-x4v3.pth` → `realesr-general-wdn-x4v3.pth`.
fn wdn(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let (head, tail) = name.rsplit_once('-')?;
    Some(path.with_file_name(format!("{head}-wdn-{tail}")))
}
