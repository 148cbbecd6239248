//! What follows a picture or video: interpolation and upscaling networks, loaded once and fed the way they want.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Axis, s};

use super::{
    blame::{alive, blame},
    context::{Context, Role},
};
use crate::{
    compile::{self, UpscalerForm},
    error::{At, Error, Result},
    media::{
        alpha,
        resize::{Filter, resize},
    },
    plan::{self, Interpolation, Upscaling},
    runtime::{Load, Network, available_memory},
    stage::{
        interpolate::{Interpolate, Planes},
        upscale::{Form, HALO, Upscale},
    },
    tensor::{DType, Tensor},
};

/// The upscaling step: a network, or resampling alone, then the fit to the exact size.
pub struct Upscaler {
    network: Option<Network>,
    form: UpscalerForm,
    plan: Upscaling,
    limit: Option<u64>,
    upscale: Option<Upscale>,
}

impl Upscaler {
    /// Loads the network, if the plan has one.
    pub fn load(plan: &Upscaling, cx: &Context<'_>) -> Result<Self> {
        let limit = cx.options.memory_limit;
        let none = UpscalerForm { scale: 1, multiple: 1, reach: 0, pixel_bytes: 0 };
        let Some(model) = &plan.model else {
            return Ok(Self { network: None, form: none, plan: plan.clone(), limit, upscale: None });
        };
        let (network, form) = if model.path.extension().is_some_and(|e| e == "onnx") {
            foreign(&model.path, cx)?
        } else {
            let built = compile::upscaler(&model.path, cx.target(Role::Pictures))?;
            (cx.load_beside("the upscaler", &built.model)?, built.form)
        };
        Ok(Self { network: Some(network), form, plan: plan.clone(), limit, upscale: None })
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

    /// Three planes to the wanted size.
    fn enlarge(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let (height, width) = self.size(h, w);
        let weights = self.plan.model.as_ref().map(|m| m.path.clone()).unwrap_or_default();
        let fitted = match self.bind(h, w) {
            Some(network) => {
                let enlarged = network.enlarge(picture).map_err(blame(&weights))?;
                alive(&format!("upscaling by {}", weights.display()), &[picture], &enlarged)?;
                resize(&enlarged.mapv_into(|v| v.clamp(0.0, 1.0)), height, width, filter(self.plan.filter))?
            }
            None => resize(picture, height, width, filter(self.plan.filter))?,
        };
        Ok(fitted.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    /// The network with its tiles settled for the first picture's size.
    fn bind(&mut self, h: usize, w: usize) -> Option<&mut Upscale> {
        if let Some(network) = self.network.take() {
            let halo = self.plan.tile_overlap.unwrap_or(self.form.reach.min(HALO));
            let form = Form { scale: self.form.scale, multiple: self.form.multiple, tile: 0, halo };
            self.upscale = Some(Upscale::new(network, form));
        }
        let tile = self.plan.tile.unwrap_or_else(|| self.tile(h, w));
        if let Some(upscale) = &mut self.upscale {
            upscale.set_tile(tile);
        }
        self.upscale.as_mut()
    }

    /// The side of a tile whose activations fit half the memory, 0 where the whole picture's do.
    fn tile(&self, h: usize, w: usize) -> usize {
        let memory = self.limit.unwrap_or_else(available_memory) / 2;
        let pixels = memory as usize / self.form.pixel_bytes.max(1);
        if h * w <= pixels {
            return 0;
        }
        let halo = self.plan.tile_overlap.unwrap_or(self.form.reach.min(HALO));
        let side = ((pixels as f64).sqrt() as usize).saturating_sub(2 * halo).max(32);
        side / self.form.multiple * self.form.multiple
    }
}

/// (height, width) of what upscaling makes of a height and width.
pub fn output_size(target: plan::Target, height: usize, width: usize) -> (usize, usize) {
    match target {
        plan::Target::Times(n) => (height * n, width * n),
        plan::Target::Size { width, height } => (height, width),
        plan::Target::Height(rows) => (rows, ((width * rows) as f64 / height as f64).round().max(1.0) as usize),
    }
}

fn filter(f: plan::Filter) -> Filter {
    match f {
        plan::Filter::Lanczos => Filter::Lanczos,
        plan::Filter::Bicubic => Filter::Bicubic,
        plan::Filter::Bilinear => Filter::Bilinear,
        plan::Filter::Nearest => Filter::Nearest,
    }
}

/// Somebody else's `.onnx`: one picture in, one out, of one scale factor, found by a trial.
fn foreign(path: &Path, cx: &Context<'_>) -> Result<(Network, UpscalerForm)> {
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
    Ok((network, UpscalerForm { scale, multiple: 4, reach: HALO, pixel_bytes: 768 * scale * scale }))
}

/// RIFE, and the file of its weights for messages.
pub struct Interpolator {
    network: Interpolate,
    weights: PathBuf,
}

impl Interpolator {
    /// Loads RIFE for a plan.
    pub fn load(plan: &Interpolation, cx: &Context<'_>) -> Result<Self> {
        let built = compile::interpolator(&plan.model.path, plan.scale as f32, cx.target(Role::Exact))?;
        let network = cx.load_beside("the interpolator", &built.model)?;
        Ok(Self { network: Interpolate::new(network, built.multiple, 4), weights: plan.model.path.clone() })
    }

    /// The 2^exp − 1 pictures between two, in order; alpha, where there is a fourth plane, by itself as a grey picture.
    ///
    /// Errors: the network's; a picture of one colour between two of many.
    pub fn between(&mut self, first: &Planes, second: &Planes, exp: u32) -> Result<Vec<Planes>> {
        if first.dim().0 == 3 {
            return self.colours_between(first, second, exp);
        }
        let ((first, above), (second, below)) = (alpha::split(first.clone()), alpha::split(second.clone()));
        let colours = self.colours_between(&first, &second, exp)?;
        let alphas = match (alpha::constant(&above), alpha::constant(&below)) {
            (Some(a), Some(b)) if a == b => vec![above; colours.len()],
            _ => self.colours_between(&alpha::grey(&above), &alpha::grey(&below), exp)?,
        };
        colours.iter().zip(alphas).map(|(c, a)| alpha::join(c, &a.slice_move(s![..1, .., ..]))).collect()
    }

    fn colours_between(&mut self, first: &Planes, second: &Planes, exp: u32) -> Result<Vec<Planes>> {
        let made = self.network.between(first, second, exp).map_err(blame(&self.weights))?;
        let name = format!("interpolating with {}", self.weights.display());
        made.iter().try_for_each(|m| alive(&name, &[first, second], m))?;
        Ok(made)
    }
}
