//! Upscaling to an exact size: passes of a network, then resampling.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ndarray::{Array3, ArrayViewMut3, Axis, aview0};

use super::upscale_form::{DEFAULT_HALO, UpscaleForm};
use crate::{
    compile::{self, UpscalerSpec},
    error::{At, Error, Result},
    media::{
        alpha,
        resize::{resize, resize_frame, resize_rows},
    },
    pipeline::{
        context::{Context, Role},
        diagnose::{Extremes, check_contrast, check_frame_contrast, check_row_contrast, name_damaged_tensor},
    },
    plan::{self, Upscaling},
    runtime::{Load, Network, Signature},
    stage::upscale::{Upscale, UpscaleOptions},
    sync::lock,
    tensor::{DType, Frame, RowSource, Tensor, copied},
};

/// The upscaling stage. Clones share the network, which processes one picture at a time on all cores or the whole device.
#[derive(Clone)]
pub(crate) struct Upscaler {
    network: Option<Arc<Mutex<Upscale>>>,
    form: UpscaleForm,
    /// Bytes that are held besides the pictures that are upscaled: those of the other stages and jobs.
    reserved: u64,
    /// Keys of the messages that were logged; each is logged once.
    logged: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Upscaler {
    /// Loads the network of a plan; without a network, the filter alone resamples.
    pub(crate) fn load(plan: &Upscaling, cx: &Context<'_>) -> Result<Self> {
        let (logged, limit) = (Arc::default(), cx.options.engine.memory_limit);
        let Some(model) = &plan.model else {
            return Ok(Self { network: None, form: UpscaleForm::new(None, plan, limit), reserved: 0, logged });
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
        Ok(Self { network, form: UpscaleForm::new(Some(spec), plan, limit), reserved: 0, logged })
    }

    /// Sizes, tiles and memory.
    pub(crate) fn form(&self) -> &UpscaleForm {
        &self.form
    }

    /// Sets the bytes that are held besides the pictures that are upscaled.
    pub(crate) fn reserve(&mut self, bytes: u64) {
        self.reserved = bytes;
    }

    /// The file of the network, for messages.
    fn weights(&self) -> PathBuf {
        self.form.plan.model.as_ref().map(|model| model.path.clone()).unwrap_or_default()
    }

    /// Changes the target size for later pictures.
    pub(crate) fn set_target(&mut self, target: plan::UpscaleTarget) {
        self.form.plan.target = target;
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
        let (colours, alpha) = alpha::split(picture)?;
        let colours = self.upscale(&colours)?;
        let size = (1, colours.dim().1, colours.dim().2);
        let alpha = match alpha::constant(&alpha) {
            Some(value) => return alpha::join(&colours, aview0(&value).broadcast(size).unwrap_or(alpha.view())),
            None => alpha::of_grey(self.upscale(&alpha::grey(&alpha)?)?),
        };
        alpha::join(&colours, alpha.view())
    }

    /// Upscales a frame to the target size, with the same depth. An RGB frame that takes one pass of the network to the exact size, or
    /// the filter alone, is never held as f32 planes beside the network's tiles. `grey`: red, green and blue of the frame are equal,
    /// and those of the result become its luma.
    ///
    /// # Errors
    /// Those of [`Upscaler::apply`]; the memory cannot be allocated.
    pub(crate) fn apply_frame(&mut self, frame: Frame, grey: bool) -> Result<Frame> {
        let (h, w, deep) = (frame.height, frame.width, frame.is_deep());
        let (height, width) = self.form.output_size((h, w));
        if frame.channels != 3 || !self.form.is_direct((h, w)) {
            let planes = frame.planes()?;
            drop(frame);
            let mut upscaled = self.apply(planes)?;
            if grey {
                to_luma(upscaled.view_mut());
            }
            return Frame::from_planes(&upscaled, deep);
        }
        let bytes = if deep { 6 } else { 3 } * (h * w).saturating_add(height.saturating_mul(width)) as u64;
        let options = self.tiles((h, w), bytes);
        let Some(network) = self.network.as_ref().filter(|_| self.form.passes((h, w)) == 1) else {
            self.log_resampled((h, w), (height, width));
            return resize_frame(&frame, height, width, self.form.plan.filter);
        };
        let mut network = lock(network);
        network.set_options(options);
        let weights = self.weights();
        let upscaled = network.upscale_frame(&frame, finish(grey));
        let upscaled = upscaled.map_err(name_damaged_tensor(&weights))?;
        check_frame_contrast(&format!("upscaling with {}", weights.display()), &frame, &upscaled)?;
        Ok(upscaled)
    }

    /// Upscales the rows of an RGB picture as [`Upscaler::apply_frame`] does, and passes them on in bands. The picture takes one pass
    /// of the network to the exact size, or the filter alone. `held`: bytes of the picture that `source` holds.
    ///
    /// # Errors
    /// Those of [`Upscaler::apply_frame`], `source` and `sink`.
    pub(crate) fn apply_rows(
        &mut self,
        source: &mut dyn RowSource,
        (grey, held): (bool, u64),
        sink: &mut dyn FnMut(&Frame) -> Result<()>,
    ) -> Result<()> {
        let (size, deep) = ((source.header().height, source.header().width), source.header().is_deep());
        let target = self.form.output_size(size);
        let options = self.form.band_tiles(size, deep, self.reserved.saturating_add(held));
        self.log_halo(options);
        let Some(network) = self.network.as_ref().filter(|_| self.form.passes(size) == 1) else {
            self.log_resampled(size, target);
            return resize_rows(source, target, self.form.plan.filter, sink);
        };
        let mut network = lock(network);
        network.set_options(options);
        let weights = self.weights();
        let (mut watched, mut made) = (Watched { source, read: 0, extremes: Extremes::default() }, Extremes::default());
        let upscaled = network.upscale_rows(&mut watched, finish(grey), &mut |band| {
            made.add(band, 0..band.height);
            sink(band)
        });
        upscaled.map_err(name_damaged_tensor(&weights))?;
        check_row_contrast(&format!("upscaling with {}", weights.display()), &watched.extremes, &made)
    }

    /// Upscales three planes: runs the network until the target size is reached, then resamples to it. A picture that is already
    /// large enough is only resampled, unless the target is a factor.
    fn upscale(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let (height, width) = self.form.output_size((h, w));
        let passes = self.form.passes((h, w));
        let held = self.form.plane_bytes((h, w), 3);
        if passes == 0 {
            self.log_resampled((h, w), (height, width));
        }
        let mut planes = Cow::Borrowed(picture);
        for _ in 0..passes {
            let options = self.tiles((planes.dim().1, planes.dim().2), held);
            let Some(network) = &self.network else { break };
            let mut network = lock(network);
            network.set_options(options);
            let weights = self.weights();
            let upscaled = network.upscale(&planes).map_err(name_damaged_tensor(&weights))?;
            check_contrast(&format!("upscaling with {}", weights.display()), &[&planes], &upscaled)?;
            planes = Cow::Owned(upscaled.mapv_into(|v| v.clamp(0.0, 1.0)));
        }
        if (planes.dim().1, planes.dim().2) == (height, width) {
            let planes = match planes {
                Cow::Borrowed(planes) => copied(planes)?,
                Cow::Owned(planes) => planes,
            };
            return Ok(planes.mapv_into(|v| v.clamp(0.0, 1.0)));
        }
        Ok(resize(&planes, height, width, self.form.plan.filter)?.mapv_into(|v| v.clamp(0.0, 1.0)))
    }

    fn log_resampled(&mut self, (h, w): (usize, usize), (height, width): (usize, usize)) {
        if self.network.is_some() {
            self.log_once("large", format!("{w}×{h} is not below {width}×{height}: resampled without the network"));
        }
    }

    /// The tiles of a picture of (height, width) beside `held` bytes.
    fn tiles(&mut self, size: (usize, usize), held: u64) -> UpscaleOptions {
        let options = self.form.tiles(size, self.reserved.saturating_add(held));
        self.log_halo(options);
        options
    }

    /// Logs a halo that is too small for tiles to equal the untiled picture.
    fn log_halo(&mut self, options: UpscaleOptions) {
        let (halo, receptive_field) = (options.halo, self.form.spec.map_or(0, |spec| spec.receptive_field));
        if options.tile > 0 && halo < receptive_field {
            self.log_once(
                "halo",
                format!("tiles overlap by {halo} pixels, the network's receptive field is {receptive_field}: tile borders may differ slightly (--tile-overlap {receptive_field} is exact; Real-ESRGAN uses 10)"),
            );
        }
    }

    /// Logs a message once.
    fn log_once(&mut self, key: &'static str, message: String) {
        if lock(&self.logged).insert(key) {
            tracing::info!("{message}");
        }
    }
}

/// Rows, and the extremes of those that were read.
struct Watched<'s> {
    source: &'s mut dyn RowSource,
    read: usize,
    extremes: Extremes,
}

impl RowSource for Watched<'_> {
    fn header(&self) -> &Frame {
        self.source.header()
    }

    fn window(&mut self, rows: Range<usize>) -> Result<(&Frame, usize)> {
        let (frame, first) = self.source.window(rows.clone())?;
        if rows.end > self.read {
            self.extremes.add(frame, self.read.max(first) - first..rows.end - first);
            self.read = rows.end;
        }
        Ok((frame, first))
    }
}

/// What changes a tile of the result: a grey picture stays grey.
fn finish(grey: bool) -> impl Fn(ArrayViewMut3<'_, f32>) {
    move |tile| {
        if grey {
            to_luma(tile);
        }
    }
}

/// Replaces red, green and blue by the luma of Rec. 601, as Real-ESRGAN does with grey pictures: a network makes three channels.
pub(crate) fn to_luma(mut planes: ArrayViewMut3<'_, f32>) {
    let (mut colours, _) = planes.view_mut().split_at(Axis(0), 3);
    for mut pixel in colours.lanes_mut(Axis(0)) {
        let (r, g, b) = (pixel[0], pixel[1], pixel[2]);
        if r != g || g != b {
            pixel.fill(0.299 * r + 0.587 * g + 0.114 * b);
        }
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
    fn grey_is_the_luma() {
        let mut planes = Array3::from_shape_fn((4, 1, 3), |(k, _, x)| {
            [[1.0, 0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 1.0], [0.2, 0.3, 0.4]][k][x]
        });
        to_luma(planes.view_mut());
        for (x, want) in [0.299_f32, 0.5, 0.114].into_iter().enumerate() {
            assert!((0..3).all(|k| planes[[k, 0, x]] == want), "{planes}");
        }
        assert_eq!(planes[[3, 0, 1]], 0.3);
    }
}
