//! Resamples planes to an exact size. It is the last step after a network whose scale differs from the requested one.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image};
use ndarray::Array3;
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    tensor::{collected, filled},
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
    let (c, h, w) = planes.dim();
    let failed = |why: String| Error::failed(format!("resampling {w}x{h} to {width}x{height}: {why}"));
    if h * w * height * width == 0 {
        return Err(failed("sides must be at least 1".into()));
    }
    if (h, w) == (height, width) {
        return Ok(planes.clone());
    }
    let options = ResizeOptions::new().resize_alg(filter.algorithm()).use_alpha(false);
    let extent = |n: usize| u32::try_from(n).map_err(|_| failed("sides must be below 2³²".into()));
    let (from, to) = ((extent(w)?, extent(h)?), (extent(width)?, extent(height)?));
    let source = collected(planes.len(), planes.iter().copied())?;
    let resized: Vec<Vec<f32>> = source
        .par_chunks(h * w)
        .map(|plane| {
            let bytes = collected(4 * plane.len(), plane.iter().flat_map(|v| v.to_ne_bytes()))?;
            // The target's own buffer would abort the process where memory is short.
            drop(filled::<f32>(height * width)?);
            let source =
                Image::from_vec_u8(from.0, from.1, bytes, PixelType::F32).map_err(|e| failed(e.to_string()))?;
            let mut target = Image::new(to.0, to.1, PixelType::F32);
            Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
            let (samples, _) = target.buffer().as_chunks::<4>();
            collected(samples.len(), samples.iter().map(|b| f32::from_ne_bytes(*b)))
        })
        .collect::<Result<_>>()?;
    Array3::from_shape_vec((c, height, width), collected(c * height * width, resized.into_iter().flatten())?)
        .map_err(|e| failed(e.to_string()))
}
