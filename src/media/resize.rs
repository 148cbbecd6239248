//! Resamples planes to an exact size. It is the last step after a network whose scale differs from the requested one.

use std::borrow::Cow;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use ndarray::Array3;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    progress,
    tensor::{Frame, RowSource, black, check_room, copied},
};

/// Resampling kernels. When downscaling, all but `Nearest` are widened by the ratio (antialiasing), as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The sample under the centre of the output pixel.
    Nearest,
    /// Triangle of radius 1.
    Bilinear,
    /// Cubic convolution with a = −1/2 (Keys 1981, Catmull-Rom), radius 2.
    #[default]
    Bicubic,
    /// Windowed sinc of radius 3.
    Lanczos,
}

impl Filter {
    fn algorithm(self) -> ResizeAlg {
        match self {
            Self::Nearest => ResizeAlg::Nearest,
            Self::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Self::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Self::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
        }
    }
}

/// Resamples `planes` [c, h, w] to [c, `height`, `width`]. Pixel centres are at half integers. Values are not clamped,
/// so bicubic and Lanczos overshoot at edges. Each plane is resampled separately: alpha does not weight colour.
///
/// Errors: an extent of zero.
pub fn resize(planes: &Array3<f32>, height: usize, width: usize, filter: Filter) -> Result<Array3<f32>> {
    let (_, h, w) = planes.dim();
    let failed = |why: String| Error::failed(format!("resampling {w}x{h} to {width}x{height}: {why}"));
    if h * w * height * width == 0 {
        return Err(failed("sides must be at least 1".into()));
    }
    if (h, w) == (height, width) {
        return copied(planes);
    }
    resample(planes, (height, width), filter, None)
}

/// Resamples a part of planes, (left, top, width, height), or all of them.
fn resample(
    planes: &Array3<f32>,
    (height, width): (usize, usize),
    filter: Filter,
    part: Option<(f64, f64, f64, f64)>,
) -> Result<Array3<f32>> {
    let (c, h, w) = planes.dim();
    let failed = |why: String| Error::failed(format!("resampling {w}x{h} to {width}x{height}: {why}"));
    let mut resampling = Resampling::new((h, w), (height, width), filter).map_err(failed)?;
    if let Some((left, top, width, height)) = part {
        resampling.options = resampling.options.crop(left, top, width, height);
    }
    let planes = if planes.is_standard_layout() { Cow::Borrowed(planes) } else { Cow::Owned(copied(planes)?) };
    let from = planes.as_slice().ok_or_else(|| failed("the planes are not contiguous".into()))?;
    let mut resized = black((c, height, width))?;
    // The resampler allocates the rows of the target's width, which would abort the process where memory is short.
    check_room::<f32>(h.saturating_mul(width))?;
    let to = resized.as_slice_mut().ok_or_else(|| failed("the planes are not contiguous".into()))?;
    from.par_chunks(h * w)
        .zip(to.par_chunks_mut(height * width))
        .try_for_each(|(plane, target)| resampling.plane(plane, target))
        .map_err(failed)?;
    Ok(resized)
}

/// Resamples an RGB frame as [`resize`] does, to clamped samples of the same depth. Holds the channels as f32 planes of both sizes, and
/// no other copy.
///
/// Errors: an extent of zero; the memory cannot be allocated.
pub fn resize_frame(frame: &Frame, height: usize, width: usize, filter: Filter) -> Result<Frame> {
    let h = frame.height;
    let mut resized = Frame::zeros((height, width), frame.channels, frame.is_deep())?;
    let Some(step) = band_rows((h, height)) else {
        let planes = resize(&frame.planes()?, height, width, filter)?;
        resized.put(&planes.view(), (0, 0));
        return Ok(resized);
    };
    let mut source = frame;
    resample_bands(&mut source, (height, width), (filter, step), &mut |planes, first| {
        resized.put(&planes.view(), (first, 0));
        Ok(())
    })?;
    Ok(resized)
}

/// Resamples rows of an RGB picture as [`resize_frame`] does, and passes them on in bands.
///
/// Errors: those of `source` and `sink`; sizes without bands (`band_rows`); the memory cannot be allocated.
pub fn resize_rows(
    source: &mut dyn RowSource,
    (height, width): (usize, usize),
    filter: Filter,
    sink: &mut dyn FnMut(&Frame) -> Result<()>,
) -> Result<()> {
    let Frame { height: h, width: w, .. } = *source.header();
    let deep = source.header().is_deep();
    let step = band_rows((h, height));
    let step = step.ok_or_else(|| Error::failed(format!("{w}x{h} to {width}x{height} is not resampled in bands")))?;
    resample_bands(source, (height, width), (filter, step), &mut |planes, _| {
        let band = Frame::from_planes(&planes, deep)?;
        drop(planes);
        sink(&band)
    })
}

/// Rows of the source that a row of the target depends on, to each side.
pub(crate) fn band_reach((h, height): (usize, usize)) -> usize {
    (3.0 * (h as f64 / height as f64).max(1.0)).ceil() as usize + 1
}

/// Resamples bands of `step` rows. `put` receives a band and its first row.
fn resample_bands(
    source: &mut dyn RowSource,
    (height, width): (usize, usize),
    (filter, step): (Filter, usize),
    put: &mut dyn FnMut(Array3<f32>, usize) -> Result<()>,
) -> Result<()> {
    let Frame { height: h, width: w, .. } = *source.header();
    let reach = band_reach((h, height));
    for first in (0..height).step_by(step) {
        progress::check()?;
        let rows = step.min(height - first);
        let (top, end) = (first / (height / gcd(h, height)) * (h / gcd(h, height)), (first + rows) * h / height);
        let window = top.saturating_sub(reach)..(end + reach).min(h);
        let (held, start) = source.window(window.clone())?;
        let planes = held.rows(window.start - start..window.end - start)?;
        let crop = (0.0, (top - window.start) as f64, w as f64, rows as f64 * h as f64 / height as f64);
        put(resample(&planes, (rows, width), filter, Some(crop))?, first)?;
    }
    Ok(())
}

/// Rows of the target per band, such that every band begins at a whole row of the source; `None`: the whole picture is one band.
pub(crate) fn band_rows((h, height): (usize, usize)) -> Option<usize> {
    const ROWS: usize = 256;
    let step = height / gcd(h, height).max(1);
    (step > 0 && step <= 4 * ROWS && height > ROWS).then(|| step * (ROWS / step).max(1))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Resamples single planes from one size to another.
struct Resampling {
    /// (width, height)
    from: (u32, u32),
    /// (width, height)
    to: (u32, u32),
    options: ResizeOptions,
}

impl Resampling {
    fn new((h, w): (usize, usize), (height, width): (usize, usize), filter: Filter) -> Result<Self, String> {
        let extent = |n: usize| u32::try_from(n).map_err(|_| String::from("sides must be below 2³²"));
        let options = ResizeOptions::new().resize_alg(filter.algorithm()).use_alpha(false);
        Ok(Self { from: (extent(w)?, extent(h)?), to: (extent(width)?, extent(height)?), options })
    }

    fn plane(&self, plane: &[f32], target: &mut [f32]) -> Result<(), String> {
        let ((w, h), (width, height)) = (self.from, self.to);
        let source = ImageRef::new(w, h, bytemuck::cast_slice(plane), PixelType::F32).map_err(|e| e.to_string())?;
        let mut target = Image::from_slice_u8(width, height, bytemuck::cast_slice_mut(target), PixelType::F32)
            .map_err(|e| e.to_string())?;
        Resizer::new().resize(&source, &mut target, &self.options).map_err(|e| e.to_string())
    }
}
