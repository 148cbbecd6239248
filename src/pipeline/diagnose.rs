//! Finds the cause of a wrong network output: a damaged weight, or a result without contrast.

use std::{ops::Range, path::Path};

use ndarray::Array3;

use crate::{
    error::{Error, ErrorKind, Result},
    tensor::{Frame, Samples},
    weights::Checkpoint,
};

/// Adds the first non-finite tensor of the checkpoint `weights` to an error about non-finite values, or that there is none. Other
/// errors are unchanged. Reads all weights.
pub(crate) fn name_damaged_tensor(weights: &Path) -> impl Fn(Error) -> Error + '_ {
    move |error| {
        if error.kind() != ErrorKind::NonFinite {
            return error;
        }
        let checkpoint = weights.display();
        match Checkpoint::open(weights).and_then(|c| c.non_finite()) {
            Ok(Some(name)) => {
                error.because(format!("tensor {name} of {checkpoint} contains NaN or infinity; download it again"))
            }
            Ok(None) => {
                error.advise(format!("all weights of {checkpoint} are finite: use --dtype f32, or less guidance"))
            }
            // Third-party graphs are not checkpoints.
            Err(_) => error.advise("use --dtype f32; if that does not help, the weights are damaged"),
        }
    }
}

/// The smallest range of values, in 0..=1, of a picture with contrast: 16 of 255 grey levels.
const CONTRAST: f32 = 16.0 / 255.0;

/// Checks that `result` has contrast if all `sources` (planes in 0..=1) have. Overflow in half precision, for example, gives a black
/// picture. `what` names the operation and its weights.
///
/// # Errors
/// A result of one colour.
pub(crate) fn check_contrast(what: &str, sources: &[&Array3<f32>], result: &Array3<f32>) -> Result<()> {
    let sources: Vec<_> = sources.iter().map(|planes| extremes(planes)).collect();
    check_extremes(what, &sources, extremes(result))
}

/// As [`check_contrast`], for RGB frames.
pub(crate) fn check_frame_contrast(what: &str, source: &Frame, result: &Frame) -> Result<()> {
    let [mut seen, mut made] = [Extremes::default(), Extremes::default()];
    seen.add(source, 0..source.height);
    made.add(result, 0..result.height);
    check_row_contrast(what, &seen, &made)
}

/// As [`check_contrast`], for the rows of RGB frames.
pub(crate) fn check_row_contrast(what: &str, source: &Extremes, result: &Extremes) -> Result<()> {
    check_extremes(what, &[source.widest()], result.widest())
}

fn check_extremes(what: &str, sources: &[[f32; 2]], [low, high]: [f32; 2]) -> Result<()> {
    // Samples of a frame are rounded: 1/255 may come out as slightly less.
    if high - low >= 0.999 / 255.0 || sources.iter().any(|[low, high]| high - low < CONTRAST) {
        return Ok(());
    }
    let grey = (low.clamp(0.0, 1.0) * 255.0).round();
    Err(Error::failed(format!(
        "{what}: every pixel of the result is {grey} of 255, although the source has contrast; use --dtype f32 or another --device, \
         or check that the weights belong to this network"
    )))
}

/// The smallest and largest value of the plane with the largest range. A picture of one colour has planes of one value each.
fn extremes(planes: &Array3<f32>) -> [f32; 2] {
    let spread = |plane: ndarray::ArrayView2<'_, f32>| {
        plane.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[l, h], &v| [l.min(v), h.max(v)])
    };
    planes.outer_iter().map(spread).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap_or([0.0; 2])
}

/// The smallest and largest value of each channel of rows of RGB frames, as [`extremes`].
#[derive(Debug, Default)]
pub(crate) struct Extremes(Vec<[f32; 2]>);

impl Extremes {
    /// Adds rows of a frame.
    pub(crate) fn add(&mut self, frame: &Frame, rows: Range<usize>) {
        fn channels<T: Copy + PartialOrd>(samples: &[T], n: usize, [least, most]: [T; 2]) -> Vec<[T; 2]> {
            let mut found = vec![[most, least]; n];
            for pixel in samples.chunks_exact(n) {
                for ([low, high], &v) in found.iter_mut().zip(pixel) {
                    *low = if v < *low { v } else { *low };
                    *high = if v > *high { v } else { *high };
                }
            }
            found
        }
        let row = frame.width * frame.channels;
        let part = rows.start * row..rows.end * row;
        let found: Vec<[f32; 2]> = match &frame.samples {
            Samples::U8(s) => {
                let of = |v: u8| f32::from(v) / 255.0;
                channels(&s[part], frame.channels, [0, u8::MAX]).into_iter().map(|e| e.map(of)).collect()
            }
            Samples::U16(s) => {
                let of = |v: u16| f32::from(v) / 65535.0;
                channels(&s[part], frame.channels, [0, u16::MAX]).into_iter().map(|e| e.map(of)).collect()
            }
        };
        match self.0.len() == found.len() {
            true => self.0.iter_mut().zip(found).for_each(|(all, [l, h])| *all = [all[0].min(l), all[1].max(h)]),
            false => self.0 = found,
        }
    }

    fn widest(&self) -> [f32; 2] {
        self.0.iter().copied().max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap_or([0.0; 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_one_colour_is_an_error_if_the_source_has_contrast() {
        let picture = Array3::from_shape_fn((3, 8, 8), |(_, y, _)| y as f32 / 16.0);
        let faint = picture.mapv(|v| v / 16.0);
        let colour = Array3::from_shape_fn((3, 8, 8), |(k, _, _)| k as f32 / 3.0);
        for (name, sources, result, good) in [
            ("black", vec![&picture], Array3::zeros((3, 8, 8)), false),
            ("one colour", vec![&picture], colour.clone(), false),
            ("black between two", vec![&picture, &picture], Array3::zeros((3, 8, 8)), false),
            ("the picture", vec![&picture], picture.clone(), true),
            ("of a picture with little contrast", vec![&faint], Array3::zeros((3, 8, 8)), true),
            ("of one colour", vec![&colour], Array3::zeros((3, 8, 8)), true),
            ("fade to black", vec![&picture, &colour], Array3::zeros((3, 8, 8)), true),
        ] {
            assert_eq!(check_contrast("upscaling", &sources, &result).is_ok(), good, "{name}");
        }
    }
}
