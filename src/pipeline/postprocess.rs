//! What follows a picture or video: interpolation and upscaling networks, loaded once and fed the way they want.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ndarray::{Array3, Axis, s};

use super::{
    context::{Context, Role},
    diagnose::{alive, blame},
};
use crate::{
    compile::{self, UpscalerSpec},
    error::{At, Error, Result},
    media::{
        alpha,
        resize::{Filter, resize},
    },
    plan::{self, Interpolation, Upscaling},
    runtime::{Load, Network, memory_budget},
    stage::{
        interpolate::{Interpolate, Planes},
        upscale::{Form, Upscale},
    },
    tensor::{DType, Tensor},
};

/// The upscaling step: passes of a network, or resampling alone, then the fit to the exact size. Clones share the network, which
/// does one picture at a time: it uses all cores, or the whole device, by itself.
#[derive(Clone)]
pub struct Upscaler {
    network: Option<Arc<Mutex<Upscale>>>,
    form: UpscalerSpec,
    plan: Upscaling,
    /// Bytes that a network's activations may take.
    memory: u64,
    /// What was said once and need not be again.
    told: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Upscaler {
    /// Loads the network, if the plan has one.
    pub fn load(plan: &Upscaling, cx: &Context<'_>) -> Result<Self> {
        // The other half is for what runs beside it in the line.
        let memory = memory_budget(cx.options.memory_limit) / 2;
        let none = UpscalerSpec { scale: 1, multiple: 1, receptive_field: 0, pixel_bytes: 0 };
        let told = Arc::default();
        let Some(model) = &plan.model else {
            return Ok(Self { network: None, form: none, plan: plan.clone(), memory, told });
        };
        let (network, form) = if model.path.extension().is_some_and(|e| e == "onnx") {
            foreign(&model.path, cx)?
        } else {
            let target = cx.target(Role::Pictures);
            let built = match &plan.denoise {
                Some(d) => compile::blended_upscaler(&model.path, &d.weak.path, d.strength as f32, target)?,
                None => compile::upscaler(&model.path, target)?,
            };
            (cx.load_beside("the upscaler", &built.model)?, built.spec)
        };
        let whole = Form { scale: form.scale, multiple: form.multiple, tile: 0, halo: 0 };
        Ok(Self {
            network: Some(Arc::new(Mutex::new(Upscale::new(network, whole)))),
            form,
            plan: plan.clone(),
            memory,
            told,
        })
    }

    /// Aims at another size from the next picture on.
    pub fn set_target(&mut self, target: plan::Target) {
        self.plan.target = target;
    }

    /// Output size for an input size, (height, width).
    pub fn size(&self, height: usize, width: usize) -> (usize, usize) {
        output_size(self.plan.target, height, width)
    }

    /// Planes [3 or 4, h, w] in 0..=1 → the wanted size, in 0..=1. A fourth plane, alpha, is enlarged by the same network as a
    /// grey picture; where it is 0, colours are those of their nearest visible surroundings, so that no halo of what nobody
    /// saw comes out.
    ///
    /// Errors: a network's; a result of one colour from a picture of many.
    pub fn apply(&mut self, picture: Array3<f32>) -> Result<Array3<f32>> {
        if picture.dim().0 == 3 {
            return self.enlarge(&picture);
        }
        let (colours, alpha) = alpha::split(picture);
        let colours = self.enlarge(&colours)?;
        let alpha = match alpha::constant(&alpha) {
            Some(value) => Array3::from_elem((1, colours.dim().1, colours.dim().2), value),
            None => self.enlarge(&alpha::grey(&alpha))?.mean_axis(Axis(0)).unwrap_or_default().insert_axis(Axis(0)),
        };
        alpha::join(&colours, &alpha)
    }

    /// Three planes to the wanted size: as many passes as the size wants, each of which multiplies it by the network's scale, then
    /// the fit. A picture that is that large already is only fitted, unless the size was asked for as a factor.
    fn enlarge(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let (height, width) = self.size(h, w);
        let passes = passes(self.plan.target, self.form.scale, (h, w));
        if passes == 0 && self.network.is_some() {
            self.tell("large", format!("{w}×{h} is no smaller than {width}×{height}: resampled, without the network"));
        }
        let mut planes = Cow::Borrowed(picture);
        for _ in 0..passes {
            let form = self.tiles(planes.dim().1, planes.dim().2);
            let Some(network) = &self.network else { break };
            let mut network = lock(network);
            network.set_form(form);
            let weights = self.plan.model.as_ref().map(|m| m.path.clone()).unwrap_or_default();
            let enlarged = network.enlarge(&planes).map_err(blame(&weights))?;
            alive(&format!("upscaling by {}", weights.display()), &[&planes], &enlarged)?;
            planes = Cow::Owned(enlarged.mapv_into(|v| v.clamp(0.0, 1.0)));
        }
        Ok(resize(&planes, height, width, filter(self.plan.filter))?.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    /// Tiles for a picture of this size: none where the whole picture's activations fit, else the largest that do.
    fn tiles(&mut self, h: usize, w: usize) -> Form {
        let UpscalerSpec { scale, multiple, receptive_field, pixel_bytes } = self.form;
        let pixels = self.memory as usize / pixel_bytes.max(1);
        let window = ((pixels as f64).sqrt() as usize).max(64);
        let tile = self.plan.tile.unwrap_or(if h * w <= pixels { 0 } else { window });
        let whole = tile == 0 || (h <= tile && w <= tile);
        // A halo of more than half the tile makes more than four times the work.
        let affordable = HALO.max(if self.plan.tile.is_some() { tile / 2 } else { window / 4 });
        let halo = self.plan.tile_overlap.unwrap_or(if receptive_field <= affordable { receptive_field } else { HALO });
        if !whole && halo < receptive_field {
            self.tell(
                "halo",
                format!("tiles overlap by {halo} of the {receptive_field} pixels that the network can see to each side, so a little may differ at their borders (Real-ESRGAN's own tiles overlap by 10; --tile-overlap {receptive_field} is exact)"),
            );
        }
        let side = if self.plan.tile.is_some() { tile } else { tile.saturating_sub(2 * halo).max(32) };
        Form { scale, multiple, tile: if whole { 0 } else { (side / multiple).max(1) * multiple }, halo }
    }

    /// Says something once.
    fn tell(&mut self, what: &'static str, sentence: String) {
        if lock(&self.told).insert(what) {
            tracing::info!("{sentence}");
        }
    }
}

/// The halo, in input pixels, of a network that sees farther than its tiles can afford: six times that of Real-ESRGAN's own tiling. Deep
/// RRDBNets can see hundreds of pixels; what little comes from beyond may differ at the borders of tiles, which is told.
const HALO: usize = 64;

/// How often a network of this scale is run: until the picture is at least as large as wanted.
fn passes(target: plan::Target, scale: usize, (height, width): (usize, usize)) -> u32 {
    let wanted = output_size(target, height, width);
    let least = u32::from(matches!(target, plan::Target::Times(_)));
    let reached = |n: u32| height * scale.pow(n) >= wanted.0 && width * scale.pow(n) >= wanted.1;
    if scale == 1 { 1 } else { (least..=10).find(|&n| reached(n)).unwrap_or(10) }
}

/// (height, width) of what upscaling makes of a height and width.
pub fn output_size(target: plan::Target, height: usize, width: usize) -> (usize, usize) {
    match target {
        plan::Target::Times(n) => (height * n, width * n),
        plan::Target::Size { width, height } => (height, width),
        plan::Target::Height(rows) => (rows, ((width * rows) as f64 / height as f64).round().max(1.0) as usize),
    }
}

/// The kernel of a plan's filter.
pub fn filter(f: plan::Filter) -> Filter {
    match f {
        plan::Filter::Lanczos => Filter::Lanczos,
        plan::Filter::Bicubic => Filter::Bicubic,
        plan::Filter::Bilinear => Filter::Bilinear,
        plan::Filter::Nearest => Filter::Nearest,
    }
}

/// Somebody else's `.onnx`: one picture in, one out, of one scale factor, found by a trial.
fn foreign(path: &Path, cx: &Context<'_>) -> Result<(Network, UpscalerSpec)> {
    let mut network = cx.engine.load_file("the upscaler", path, &Load::default())?;
    let place = path.display();
    let fits = |s: &crate::runtime::Signature| {
        s.dtype == DType::F32
            && s.shape.len() == 4
            && s.shape[1].is_none_or(|c| c == 3)
            && s.shape[0].is_none_or(|n| n == 1)
    };
    if network.inputs().len() != 1
        || network.outputs().len() != 1
        || !fits(&network.inputs()[0])
        || !fits(&network.outputs()[0])
    {
        let wanted = "one input and one output, f32 [1, 3, height, width]";
        return Err(Error::failed(format!(
            "{place}: an upscaler has {wanted}; crescendo inspect {place} shows what this has"
        )));
    }
    if network.inputs()[0].shape[2..].iter().any(Option::is_some) {
        let found = &network.inputs()[0].shape[2..];
        return Err(Error::failed(format!(
            "{place}: the input's rows and columns are fixed to {found:?}; export it with free ones"
        )));
    }
    const SIDE: usize = 64;
    let trial = Tensor::F32(ndarray::ArrayD::from_elem(ndarray::IxDyn(&[1, 3, SIDE, SIDE]), 0.5));
    let name = network.inputs()[0].name.clone();
    let answer = network.run(&[(&name, &trial)]).at(format!("{place}: a trial with {SIDE}×{SIDE} pixels"))?;
    let shape = answer[0].1.shape().to_vec();
    let scale = shape[2] / SIDE;
    if scale == 0 || shape != [1, 3, SIDE * scale, SIDE * scale] {
        return Err(Error::failed(format!(
            "{place}: {SIDE}×{SIDE} pixels became {shape:?}, which is no whole scale factor"
        )));
    }
    // Nothing is known of its inside: tiles overlap by the default halo, memory is taken to be a deep network's.
    Ok((network, UpscalerSpec { scale, multiple: 4, receptive_field: HALO, pixel_bytes: 768 * scale * scale }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// RIFE, and the file of its weights for messages. Clones share the network, as those of [`Upscaler`] do.
#[derive(Clone)]
pub struct Interpolator {
    network: Arc<Mutex<Interpolate>>,
    weights: PathBuf,
}

impl Interpolator {
    /// Loads RIFE for a plan.
    pub fn load(plan: &Interpolation, cx: &Context<'_>) -> Result<Self> {
        let built = compile::interpolator(&plan.model.path, plan.scale as f32, cx.target(Role::Exact))?;
        let network = cx.load_beside("the interpolator", &built.model)?;
        let network = Arc::new(Mutex::new(Interpolate::new(network, built.multiple, 4)));
        Ok(Self { network, weights: plan.model.path.clone() })
    }

    /// Pictures between two, in order; alpha, where there is a fourth plane, by itself as a grey picture.
    ///
    /// Errors: the network's; a picture of one colour between two of many.
    pub fn between(&mut self, first: &Planes, second: &Planes, times: Times<'_>) -> Result<Vec<Planes>> {
        if first.dim().0 == 3 {
            return self.colours_between(first, second, times);
        }
        let ((first, above), (second, below)) = (alpha::split(first.clone()), alpha::split(second.clone()));
        let colours = self.colours_between(&first, &second, times)?;
        let alphas = match (alpha::constant(&above), alpha::constant(&below)) {
            (Some(a), Some(b)) if a == b => vec![above; colours.len()],
            _ => self.colours_between(&alpha::grey(&above), &alpha::grey(&below), times)?,
        };
        colours.iter().zip(alphas).map(|(c, a)| alpha::join(c, &a.slice_move(s![..1, .., ..]))).collect()
    }

    fn colours_between(&mut self, first: &Planes, second: &Planes, times: Times<'_>) -> Result<Vec<Planes>> {
        let mut network = lock(&self.network);
        let made = match times {
            Times::Halved(exp) => network.between(first, second, exp),
            Times::At(times) => network.at_times(first, second, times),
        };
        let made = made.map_err(blame(&self.weights))?;
        let name = format!("interpolating with {}", self.weights.display());
        made.iter().try_for_each(|m| alive(&name, &[first, second], m))?;
        Ok(made)
    }
}

/// The times of pictures between two.
#[derive(Debug, Clone, Copy)]
pub enum Times<'a> {
    /// The 2^exp − 1 that midpoints of midpoints give.
    Halved(u32),
    /// These, in 0..1, one call each.
    At(&'a [f32]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_until_the_size_is_reached() {
        use crate::plan::Target::{Height, Size, Times};
        let rows = [
            (Times(1), 4, (100, 100), 1),
            (Times(2), 2, (100, 100), 1),
            (Times(3), 2, (100, 100), 2),
            (Times(4), 4, (7, 9), 1),
            (Times(8), 2, (7, 9), 3),
            (Times(8), 4, (7, 9), 2),
            (Times(2), 1, (7, 9), 1),
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
