//! Frame interpolation with RIFE.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use ndarray::s;

use crate::sync::lock;
use crate::{
    compile,
    error::Result,
    media::alpha,
    pipeline::{
        context::{Context, Role},
        diagnose::{check_contrast, name_damaged_tensor},
    },
    plan::Interpolation,
    stage::interpolate::{Interpolate, Planes},
    tensor::copied,
};

/// Maximum number of frame pairs per call.
const BATCH: usize = 4;

/// RIFE. Clones share the network.
#[derive(Clone)]
pub(crate) struct Interpolator {
    network: Arc<Mutex<Interpolate>>,
    /// For messages.
    weights: PathBuf,
    /// Peak activation memory in bytes per pixel of a pair of frames.
    pub pixel_bytes: u64,
}

/// The times of frames between two frames.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Times<'a> {
    /// 2^exp − 1 evenly spaced frames, as midpoints of midpoints.
    Halved(u32),
    /// Times in 0..1, each predicted directly.
    At(&'a [f32]),
}

impl Interpolator {
    /// Loads the network of a plan.
    pub(crate) fn load(plan: &Interpolation, cx: &Context<'_>) -> Result<Self> {
        let built = compile::interpolator(&plan.model.path, plan.scale as f32, cx.target(Role::Exact))?;
        let network = cx.load_beside("the interpolator", &built.model)?;
        let network = Arc::new(Mutex::new(Interpolate::new(network, built.multiple, BATCH)));
        Ok(Self { network, weights: plan.model.path.clone(), pixel_bytes: built.pixel_bytes as u64 })
    }

    /// Frames between two, in order. Alpha, the fourth plane, is interpolated separately as a grey picture.
    ///
    /// # Errors
    /// Those of the network; a result of one colour between two frames of several.
    pub(crate) fn between(&mut self, first: &Planes, second: &Planes, times: Times<'_>) -> Result<Vec<Planes>> {
        if first.dim().0 == 3 {
            return self.colours_between(first, second, times);
        }
        let ((first, first_alpha), (second, second_alpha)) =
            (alpha::split(copied(first)?)?, alpha::split(copied(second)?)?);
        let colours = self.colours_between(&first, &second, times)?;
        let constant = alpha::constant(&first_alpha).filter(|a| alpha::constant(&second_alpha) == Some(*a));
        let alphas = match constant {
            Some(_) => Vec::new(),
            None => self.colours_between(&alpha::grey(&first_alpha)?, &alpha::grey(&second_alpha)?, times)?,
        };
        let joined = |(k, colours): (usize, &Planes)| {
            let alpha = alphas.get(k).unwrap_or(&first_alpha);
            alpha::join(colours, alpha.slice(s![..1, .., ..]))
        };
        colours.iter().enumerate().map(joined).collect()
    }

    fn colours_between(&mut self, first: &Planes, second: &Planes, times: Times<'_>) -> Result<Vec<Planes>> {
        let mut network = lock(&self.network);
        let frames = match times {
            Times::Halved(exp) => network.between(first, second, exp),
            Times::At(times) => network.at_times(first, second, times),
        };
        let frames = frames.map_err(name_damaged_tensor(&self.weights))?;
        let name = format!("interpolating with {}", self.weights.display());
        frames.iter().try_for_each(|frame| check_contrast(&name, &[first, second], frame))?;
        Ok(frames)
    }
}
