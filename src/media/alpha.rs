//! Splits and joins colour and alpha planes, and fills the colour of transparent pixels.
//!
//! Alpha is straight (not premultiplied). A fully transparent pixel has an arbitrary colour, often black. Resampling
//! and networks would mix that colour into the visible pixels beside it, so `bleed` replaces it first.

use ndarray::{Array3, ArrayView3, Axis, s};

use crate::{
    error::{Error, Result},
    tensor::{black, collected, planes_of},
};

/// Splits planes [4, h, w] into colour [3, h, w], filled by `bleed`, and alpha [1, h, w]. Errors: the memory cannot be allocated.
pub fn split(picture: Array3<f32>) -> Result<(Array3<f32>, Array3<f32>)> {
    let (_, h, w) = picture.dim();
    let alpha = planes_of((1, h, w), collected(h * w, picture.index_axis(Axis(0), 3).iter().copied())?)?;
    Ok((bleed(picture.slice_move(s![..3, .., ..]), &alpha)?, alpha))
}

/// Joins colour [3, h, w] and alpha [1, h, w] to planes [4, h, w]. Errors: different extents; the memory cannot be allocated.
pub fn join(colours: &Array3<f32>, alpha: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
    let (_, h, w) = colours.dim();
    if alpha.dim() != (1, h, w) {
        return Err(Error::failed(format!(
            "joining alpha: colours of {:?}, alpha of {:?}",
            colours.dim(),
            alpha.dim()
        )));
    }
    planes_of((4, h, w), collected(4 * h * w, colours.iter().chain(alpha.iter()).copied())?)
}

/// The value of a plane whose samples are all equal; `None`: they differ.
pub fn constant(plane: &Array3<f32>) -> Option<f32> {
    let first = *plane.first()?;
    plane.iter().all(|&v| v == first).then_some(first)
}

/// Repeats alpha [1, h, w] as a grey picture [3, h, w]. Errors: the memory cannot be allocated.
pub fn grey(alpha: &Array3<f32>) -> Result<Array3<f32>> {
    let (_, h, w) = alpha.dim();
    planes_of((3, h, w), collected(3 * h * w, alpha.iter().chain(alpha).chain(alpha).copied())?)
}

/// The mean of three planes as alpha [1, h, w], in the memory of the first plane.
pub fn of_grey(mut planes: Array3<f32>) -> Array3<f32> {
    for mut pixel in planes.lanes_mut(Axis(0)) {
        pixel[0] = pixel.sum() / pixel.len() as f32;
    }
    planes.slice_move(s![..1, .., ..])
}

/// Fills colours [c, h, w] where alpha [1, h, w] is 0 (pull-push: Gortler et al., The Lumigraph, 1996, §3.4). The fill
/// colour is the alpha-weighted mean over the smallest block of 2ⁿ×2ⁿ pixels that has a visible pixel. Visible pixels
/// do not change.
fn bleed(mut colours: Array3<f32>, alpha: &Array3<f32>) -> Result<Array3<f32>> {
    if alpha.iter().all(|&a| a > 0.0) {
        return Ok(colours);
    }
    let (c, h, w) = colours.dim();
    let (half_h, half_w) = (h.div_ceil(2), w.div_ceil(2));
    if (half_h, half_w) == (h, w) {
        return Ok(colours);
    }
    let mut sums = black((c, half_h, half_w))?;
    let mut weights = black((1, half_h, half_w))?;
    for ((_, y, x), &a) in alpha.indexed_iter() {
        weights[[0, y / 2, x / 2]] += a;
        for k in 0..c {
            sums[[k, y / 2, x / 2]] += a * colours[[k, y, x]];
        }
    }
    for ((_, y, x), &weight) in weights.indexed_iter().filter(|(_, weight)| **weight > 0.0) {
        (0..c).for_each(|k| sums[[k, y, x]] /= weight);
    }
    weights.mapv_inplace(|weight| weight.min(1.0));
    let coarse = bleed(sums, &weights)?;
    for ((_, y, x), _) in alpha.indexed_iter().filter(|(_, a)| **a <= 0.0) {
        (0..c).for_each(|k| colours[[k, y, x]] = coarse[[k, y / 2, x / 2]]);
    }
    Ok(colours)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn clear_pixels_take_the_colour_of_what_is_seen_around_them() {
        for (h, w) in [(1, 1), (1, 9), (7, 5), (16, 16), (33, 20)] {
            // Red is visible on the left, blue on the right. The transparent middle is green.
            let third = |x: usize| 3 * x / w;
            let colours = Array3::from_shape_fn((3, h, w), |(k, _, x)| f32::from(u8::from(k == [0, 1, 2][third(x)])));
            let alpha = Array3::from_shape_fn((1, h, w), |(_, _, x)| if third(x) == 1 { 0.0 } else { 0.5 });
            let filled = bleed(colours.clone(), &alpha).unwrap();
            for y in 0..h {
                for x in 0..w {
                    let pixel = filled.slice(s![.., y, x]);
                    let seen = alpha[[0, y, x]] > 0.0;
                    let right = if seen { pixel == colours.slice(s![.., y, x]) } else { pixel[1] == 0.0 };
                    assert!(right && (pixel.sum() - 1.0).abs() < 1e-5, "{h}x{w} at {y},{x}: {pixel}");
                }
            }
        }
        let clear = bleed(Array3::from_elem((3, 4, 4), 0.3), &Array3::zeros((1, 4, 4))).unwrap();
        assert!(clear.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn apart_and_together() {
        let picture = Array3::from_shape_fn((4, 3, 5), |(k, y, x)| (1 + k + 2 * y + 3 * x) as f32 / 30.0);
        let (colours, alpha) = split(picture.clone()).unwrap();
        assert_eq!(join(&colours, alpha.view()).unwrap(), picture);
        assert!(join(&colours, alpha.slice(s![.., ..2, ..])).is_err());
        let mixed = Array3::from_shape_fn((3, 2, 2), |(k, y, x)| (k + 3 * (y + x)) as f32);
        assert_eq!(of_grey(mixed).into_raw_vec_and_offset().0[..4], [1.0, 4.0, 4.0, 7.0]);
        assert_eq!((constant(&alpha), constant(&Array3::from_elem((1, 2, 2), 0.5))), (None, Some(0.5)));
        assert_eq!(grey(&alpha).unwrap().slice(s![2..3, .., ..]), alpha);
    }
}
