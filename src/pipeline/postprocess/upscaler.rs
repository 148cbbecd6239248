//! Upscaling to an exact size: passes of a network, then resampling.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
};

use ndarray::{Array3, Axis};

use crate::sync::lock;
use crate::{
    compile::{self, UpscalerSpec},
    error::{At, Error, Result},
    media::{alpha, resize::resize},
    pipeline::{
        context::{Context, Role},
        diagnose::{check_contrast, name_damaged_tensor},
    },
    plan::{self, Upscaling},
    runtime::{Load, Network, Signature, available_memory, memory_budget},
    stage::upscale::{Upscale, UpscaleOptions},
    tensor::{DType, Tensor},
};

/// The upscaling stage. Clones share the network, which processes one picture at a time on all cores or the whole device.
#[derive(Clone)]
pub(crate) struct Upscaler {
    network: Option<Arc<Mutex<Upscale>>>,
    spec: UpscalerSpec,
    plan: Upscaling,
    /// Bytes that the activations of the network may take.
    memory: u64,
    /// `--memory-limit`.
    limit: Option<u64>,
    /// Keys of the messages that were logged; each is logged once.
    logged: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Upscaler {
    /// Loads the network of a plan; without a network, the filter alone resamples.
    pub(crate) fn load(plan: &Upscaling, cx: &Context<'_>) -> Result<Self> {
        // The other half is for the stages that run at the same time.
        let memory = memory_budget(cx.options.engine.memory_limit) / 2;
        let limit = cx.options.engine.memory_limit;
        let none = UpscalerSpec { scale: 1, multiple: 1, receptive_field: 0, pixel_bytes: 0 };
        let logged = Arc::default();
        let Some(model) = &plan.model else {
            return Ok(Self { network: None, spec: none, plan: plan.clone(), memory, limit, logged });
        };
        let (network, spec) = if model.path.extension().is_some_and(|e| e == "onnx") {
            load_graph(&model.path, cx)?
        } else {
            let target = cx.target(Role::Pictures);
            let built = match &plan.denoise {
                Some(d) => compile::blended_upscaler(&model.path, &d.weak.path, d.strength as f32, target)?,
                None => compile::upscaler(&model.path, target)?,
            };
            (cx.load_beside("the upscaler", &built.model)?, built.spec)
        };
        let untiled = UpscaleOptions { scale: spec.scale, multiple: spec.multiple, tile: 0, halo: 0 };
        let network = Some(Arc::new(Mutex::new(Upscale::new(network, untiled))));
        Ok(Self { network, spec, plan: plan.clone(), memory, limit, logged })
    }

    /// Changes the target size for later pictures.
    pub(crate) fn set_target(&mut self, target: plan::UpscaleTarget) {
        self.plan.target = target;
    }

    /// Upscales planes [3 or 4, h, w] in 0..=1 to the target size, in 0..=1. The same network upscales alpha, the fourth plane,
    /// as a grey picture. Where alpha is 0, colours are taken from the nearest visible pixels, so hidden colours leave no halo.
    ///
    /// # Errors
    /// Those of the network; a result of one colour from a picture of several.
    pub(crate) fn apply(&mut self, picture: Array3<f32>) -> Result<Array3<f32>> {
        if picture.dim().0 == 3 {
            return self.upscale(&picture);
        }
        let (colours, alpha) = alpha::split(picture);
        let colours = self.upscale(&colours)?;
        let alpha = match alpha::constant(&alpha) {
            Some(value) => Array3::from_elem((1, colours.dim().1, colours.dim().2), value),
            None => self.upscale(&alpha::grey(&alpha))?.mean_axis(Axis(0)).unwrap_or_default().insert_axis(Axis(0)),
        };
        alpha::join(&colours, &alpha)
    }

    /// Upscales three planes: runs the network until the target size is reached, then resamples to it. A picture that is already
    /// large enough is only resampled, unless the target is a factor.
    fn upscale(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let (height, width) = output_size(self.plan.target, h, w);
        check_memory(self.planes_bytes((h, w)), self.limit, (h, w), (height, width))?;
        let passes = passes(self.plan.target, self.spec.scale, (h, w));
        if passes == 0 && self.network.is_some() {
            self.log_once("large", format!("{w}×{h} is not below {width}×{height}: resampled without the network"));
        }
        let mut planes = Cow::Borrowed(picture);
        for _ in 0..passes {
            let options = self.tiles(planes.dim().1, planes.dim().2);
            let Some(network) = &self.network else { break };
            let mut network = lock(network);
            network.set_options(options);
            let weights = self.plan.model.as_ref().map(|m| m.path.clone()).unwrap_or_default();
            let upscaled = network.upscale(&planes).map_err(name_damaged_tensor(&weights))?;
            check_contrast(&format!("upscaling with {}", weights.display()), &[&planes], &upscaled)?;
            planes = Cow::Owned(upscaled.mapv_into(|v| v.clamp(0.0, 1.0)));
        }
        if (planes.dim().1, planes.dim().2) == (height, width) {
            return Ok(planes.into_owned());
        }
        Ok(resize(&planes, height, width, self.plan.filter)?.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    /// Bytes of the planes that upscaling a picture of (height, width) holds at most, without the network's activations.
    pub(crate) fn planes_bytes(&self, (h, w): (usize, usize)) -> u64 {
        let (scale, (height, width)) = (self.spec.scale, output_size(self.plan.target, h, w));
        let passes = if self.network.is_some() { passes(self.plan.target, scale, (h, w)) } else { 0 };
        // Three planes of f32.
        let planes = |h: usize, w: usize| (h as u64).saturating_mul(w as u64).saturating_mul(12);
        let after = |n: u32| (h.saturating_mul(scale.saturating_pow(n)), w.saturating_mul(scale.saturating_pow(n)));
        let at = |n: u32| planes(after(n).0, after(n).1);
        // A pass holds its input, padded, and its output.
        let passed = (1..=passes).map(|n| at(n - 1).saturating_mul(2).saturating_add(at(n))).max();
        // Resampling holds two copies of its input and of its output.
        let fitted = (after(passes) != (height, width))
            .then(|| at(passes).saturating_mul(3).saturating_add(planes(height, width).saturating_mul(3)));
        passed.max(fitted).unwrap_or(0)
    }

    /// The tiles of a picture: none if its activations fit into memory untiled, else the largest that fit.
    fn tiles(&mut self, h: usize, w: usize) -> UpscaleOptions {
        let UpscalerSpec { scale, multiple, receptive_field, pixel_bytes } = self.spec;
        let pixels = self.memory as usize / pixel_bytes.max(1);
        let window = ((pixels as f64).sqrt() as usize).max(64);
        let tile = self.plan.tile.unwrap_or(if h * w <= pixels { 0 } else { window });
        let untiled = tile == 0 || (h <= tile && w <= tile);
        // A halo above half the tile more than quadruples the work.
        let affordable = DEFAULT_HALO.max(if self.plan.tile.is_some() { tile / 2 } else { window / 4 });
        let own = if receptive_field <= affordable { receptive_field } else { DEFAULT_HALO };
        let halo = self.plan.tile_overlap.unwrap_or(own);
        if !untiled && halo < receptive_field {
            self.log_once(
                "halo",
                format!("tiles overlap by {halo} pixels, the network's receptive field is {receptive_field}: tile borders may differ slightly (--tile-overlap {receptive_field} is exact; Real-ESRGAN uses 10)"),
            );
        }
        let side = if self.plan.tile.is_some() { tile } else { tile.saturating_sub(2 * halo).max(32) };
        let tile = if untiled { 0 } else { (side / multiple).max(1) * multiple };
        UpscaleOptions { scale, multiple, tile, halo }
    }

    /// Logs a message once.
    fn log_once(&mut self, key: &'static str, message: String) {
        if lock(&self.logged).insert(key) {
            tracing::info!("{message}");
        }
    }
}

/// Checks that memory suffices before anything is allocated. `needed`: bytes; `limit`: `--memory-limit`; then (height, width) of
/// the input and the output.
///
/// # Errors
/// `needed` exceeds the limit or, without one, the memory that is available.
pub(crate) fn check_memory(needed: u64, limit: Option<u64>, from: (usize, usize), to: (usize, usize)) -> Result<()> {
    let (most, what) = match limit {
        Some(limit) => (limit, "of --memory-limit"),
        None => (available_memory(), "that are available"),
    };
    if needed <= most {
        return Ok(());
    }
    let ((h, w), (height, width)) = (from, to);
    let (needed, most) = (gigabytes(needed), gigabytes(most));
    Err(Error::failed(format!(
        "{w}x{h} to {width}x{height} pixels takes about {needed} of memory, more than the {most} {what}; use a smaller size"
    )))
}

fn gigabytes(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.0} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

/// The halo, in input pixels, of a network whose receptive field is too large for its tiles: six times the halo of Real-ESRGAN's
/// own tiling. Deep RRDBNets have a receptive field of hundreds of pixels; the difference at tile borders is small and logged.
const DEFAULT_HALO: usize = 64;

/// How many passes of a network of this scale reach the target size.
fn passes(target: plan::UpscaleTarget, scale: usize, (height, width): (usize, usize)) -> u32 {
    let goal = output_size(target, height, width);
    let least = u32::from(matches!(target, plan::UpscaleTarget::Times(_) | plan::UpscaleTarget::Factor(_)));
    let factor = |n: u32| scale.saturating_pow(n);
    let reached = |n: u32| height.saturating_mul(factor(n)) >= goal.0 && width.saturating_mul(factor(n)) >= goal.1;
    if scale == 1 { 1 } else { (least..=10).find(|&n| reached(n)).unwrap_or(10) }
}

/// (height, width) of the upscaled picture for an input size.
pub(crate) fn output_size(target: plan::UpscaleTarget, height: usize, width: usize) -> (usize, usize) {
    let rounded = |side: usize, factor: f64| (side as f64 * factor).round().max(1.0) as usize;
    match target {
        plan::UpscaleTarget::Times(n) => (height.saturating_mul(n), width.saturating_mul(n)),
        plan::UpscaleTarget::Factor(factor) => (rounded(height, factor), rounded(width, factor)),
        plan::UpscaleTarget::Size { width, height } => (height, width),
        plan::UpscaleTarget::Height(rows) => (rows, ((width * rows) as f64 / height as f64).round().max(1.0) as usize),
    }
}

/// Loads a third-party `.onnx` upscaler: one input, one output, and one integer scale, which a trial run finds.
fn load_graph(path: &Path, cx: &Context<'_>) -> Result<(Network, UpscalerSpec)> {
    let mut network = cx.engine()?.load_file("the upscaler", path, &Load::default())?;
    let name = path.display();
    let fits = |s: &Signature| {
        s.dtype == DType::F32
            && s.shape.len() == 4
            && s.shape[1].is_none_or(|c| c == 3)
            && s.shape[0].is_none_or(|n| n == 1)
    };
    let ([input], [output]) = (network.inputs(), network.outputs()) else {
        return Err(not_an_upscaler(path));
    };
    if !fits(input) || !fits(output) {
        return Err(not_an_upscaler(path));
    }
    if input.shape[2..].iter().any(Option::is_some) {
        let found = &input.shape[2..];
        return Err(Error::failed(format!(
            "{name}: the input's height and width are fixed to {found:?}; export the graph with dynamic ones"
        )));
    }
    const SIDE: usize = 64;
    let trial = Tensor::F32(ndarray::ArrayD::from_elem(ndarray::IxDyn(&[1, 3, SIDE, SIDE]), 0.5));
    let input = input.name.clone();
    let outputs = network.run(&[(&input, &trial)]).at(format!("{name}: a trial with {SIDE}×{SIDE} pixels"))?;
    let shape = outputs[0].1.shape().to_vec();
    let scale = shape[2] / SIDE;
    if scale == 0 || shape != [1, 3, SIDE * scale, SIDE * scale] {
        return Err(Error::failed(format!("{name}: no integer scale: {SIDE}×{SIDE} pixels became {shape:?}")));
    }
    // The architecture is unknown: assume the default halo, and the activation memory of a deep network.
    Ok((network, UpscalerSpec { scale, multiple: 4, receptive_field: DEFAULT_HALO, pixel_bytes: 768 * scale * scale }))
}

fn not_an_upscaler(path: &Path) -> Error {
    let (name, expected) = (path.display(), "one input and one output, f32 [1, 3, height, width]");
    Error::failed(format!("{name}: an upscaler has {expected}; crescendo inspect {name} shows its inputs and outputs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_until_the_size_is_reached() {
        use crate::plan::UpscaleTarget::{Factor, Height, Size, Times};
        let rows = [
            (Times(1), 4, (100, 100), 1),
            (Times(2), 2, (100, 100), 1),
            (Times(3), 2, (100, 100), 2),
            (Times(4), 4, (7, 9), 1),
            (Times(8), 2, (7, 9), 3),
            (Times(8), 4, (7, 9), 2),
            (Times(2), 1, (7, 9), 1),
            (Factor(1.5), 2, (7, 9), 1),
            (Factor(2.5), 2, (7, 9), 2),
            (Height(2160), 2, (1080, 1920), 1),
            (Height(2160), 2, (540, 960), 2),
            (Height(2161), 2, (540, 960), 3),
            (Height(720), 2, (1080, 1920), 0),
            (Height(1080), 4, (1080, 1920), 0),
            (Size { width: 3840, height: 1080 }, 2, (1080, 1920), 1),
        ];
        let bad: Vec<String> = rows
            .iter()
            .filter(|(target, scale, size, want)| passes(*target, *scale, *size) != *want)
            .map(|row| format!("{row:?}: {}", passes(row.0, row.1, row.2)))
            .collect();
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }
}
