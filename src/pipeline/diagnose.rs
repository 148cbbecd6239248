//! What is wrong with a network's answer: which weight a value that is not finite comes from, and whether anything is left of
//! the picture.

use std::path::Path;

use ndarray::Array3;

use crate::{
    error::{Error, ErrorKind, Result},
    weights::Checkpoint,
};

/// Ends an error about a network's values that are not finite with the damaged tensor of its checkpoint, or with that there
/// is none. Other errors stay as they are. Reads all weights.
pub fn blame(weights: &Path) -> impl Fn(Error) -> Error + '_ {
    move |error| {
        if error.kind() != ErrorKind::NonFinite {
            return error;
        }
        let place = weights.display();
        match Checkpoint::open(weights).and_then(|c| c.non_finite()) {
            Ok(Some(name)) => {
                error.because(format!("tensor {name} of {place} holds a NaN or an infinity; download it again"))
            }
            Ok(None) => error.because(format!("all weights of {place} are finite")),
            // Graphs made elsewhere are no checkpoints.
            Err(_) => error,
        }
    }
}

/// The least difference of two values in a picture that surely shows something, in 0..=1: sixteen grey levels of 255.
const SHOWS: f32 = 16.0 / 255.0;

/// Refuses a result of one colour, such as the black of overflown half precision, made from pictures (planes in 0..=1) that
/// all show something. `what` was done, with which weights.
pub fn alive(what: &str, from: &[&Array3<f32>], made: &Array3<f32>) -> Result<()> {
    let [low, high] = extremes(made);
    if high - low >= 1.0 / 255.0 || from.iter().any(|p| extremes(p)[1] - extremes(p)[0] < SHOWS) {
        return Ok(());
    }
    let grey = (low.clamp(0.0, 1.0) * 255.0).round();
    Err(Error::failed(format!(
        "{what}: every pixel of the result has the value {grey} of 255, though its source shows something; compute with --dtype f32 \
         or on another --device, or the weights do not belong to this network"
    )))
}

/// The least and the greatest value of the plane that varies most: planes of one value each are a picture of one colour.
fn extremes(planes: &Array3<f32>) -> [f32; 2] {
    let spread = |plane: ndarray::ArrayView2<'_, f32>| {
        plane.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[l, h], &v| [l.min(v), h.max(v)])
    };
    planes.outer_iter().map(spread).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap_or([0.0; 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_of_one_colour_is_refused_where_the_source_has_several() {
        let shows = Array3::from_shape_fn((3, 8, 8), |(_, y, _)| y as f32 / 16.0);
        let faint = shows.mapv(|v| v / 16.0);
        let colour = Array3::from_shape_fn((3, 8, 8), |(k, _, _)| k as f32 / 3.0);
        for (name, from, made, good) in [
            ("black", vec![&shows], Array3::zeros((3, 8, 8)), false),
            ("one colour", vec![&shows], colour.clone(), false),
            ("black between two", vec![&shows, &shows], Array3::zeros((3, 8, 8)), false),
            ("the picture", vec![&shows], shows.clone(), true),
            ("of a picture that shows little", vec![&faint], Array3::zeros((3, 8, 8)), true),
            ("of one colour", vec![&colour], Array3::zeros((3, 8, 8)), true),
            ("fade to black", vec![&shows, &colour], Array3::zeros((3, 8, 8)), true),
        ] {
            assert_eq!(alive("upscaling", &from, &made).is_ok(), good, "{name}");
        }
    }
}
