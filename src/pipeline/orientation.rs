//! EXIF orientation of planes and frames.

use ndarray::{Array3, ArrayBase, ArrayView3, Axis, Ix3, RawData};

use crate::{
    error::{Error, Result},
    tensor::{Frame, Samples, collected},
};

/// How a stored picture is shown, as in [`Picture::orientation`](crate::media::picture::Picture::orientation): 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation(pub u8);

impl Orientation {
    /// The orientation of a video that players rotate by `degrees` clockwise; upright for angles that are no quarter turn.
    pub(super) fn of_rotation(degrees: u16) -> Self {
        Self(match degrees {
            90 => 6,
            180 => 3,
            270 => 8,
            _ => 1,
        })
    }

    /// Stored planes as they are shown.
    pub(super) fn upright(self, planes: Array3<f32>) -> Array3<f32> {
        turn(planes, self.0)
    }

    /// A stored frame as it is shown. Errors: the memory cannot be allocated.
    pub(super) fn upright_frame(self, frame: Frame) -> Result<Frame> {
        let (stored, channels) = ((frame.height, frame.width), frame.channels);
        let (height, width) = self.size(stored);
        let shape = (stored.0, stored.1, channels);
        let samples = match &frame.samples {
            _ if self.0 < 2 => return Ok(frame),
            Samples::U8(samples) => Samples::U8(turned(samples, shape, self.0)?),
            Samples::U16(samples) => Samples::U16(turned(samples, shape, self.0)?),
        };
        Ok(Frame { width, height, channels, samples })
    }

    /// Shown planes as they are stored.
    pub(super) fn stored(self, planes: Array3<f32>) -> Array3<f32> {
        // The two quarter turns undo each other; every other orientation undoes itself.
        let inverse = match self.0 {
            6 => 8,
            8 => 6,
            other => other,
        };
        turn(planes, inverse)
    }

    /// A stored size as shown, and the reverse.
    pub(super) fn size(self, (height, width): (usize, usize)) -> (usize, usize) {
        if self.0 > 4 { (width, height) } else { (height, width) }
    }
}

/// Planes in a new order of rows and columns.
fn turn(mut planes: Array3<f32>, orientation: u8) -> Array3<f32> {
    reorder(&mut planes, [Axis(1), Axis(2)], orientation);
    planes.as_standard_layout().into_owned()
}

/// Samples of (rows, columns, channels) in a new order of rows and columns.
fn turned<T: Copy>(samples: &[T], shape: (usize, usize, usize), orientation: u8) -> Result<Vec<T>> {
    let view = ArrayView3::from_shape(shape, samples);
    let mut view = view.map_err(|e| Error::failed(format!("samples of {shape:?}: {e}")))?;
    reorder(&mut view, [Axis(0), Axis(1)], orientation);
    collected(samples.len(), view.iter().copied())
}

/// Turns and mirrors the axes of rows and columns. No sample is moved.
fn reorder<S: RawData>(array: &mut ArrayBase<S, Ix3>, [rows, columns]: [Axis; 2], orientation: u8) {
    if orientation > 4 {
        array.swap_axes(rows.0, columns.0);
    }
    if matches!(orientation, 2 | 3 | 6 | 7) {
        array.invert_axis(columns);
    }
    if matches!(orientation, 3 | 4 | 7 | 8) {
        array.invert_axis(rows);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use image::{DynamicImage, RgbImage, metadata::Orientation};

    use super::*;
    use crate::tensor::{Frame, Samples};

    /// Equal to the image crate's rotation.
    #[test]
    fn upright_is_what_viewers_show() {
        let stored = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let frame = |i: &RgbImage| Frame {
            width: i.width() as usize,
            height: i.height() as usize,
            channels: 3,
            samples: Samples::U8(i.as_raw().clone()),
        };
        let mut wrong = Vec::new();
        for orientation in 1..=8 {
            let mut viewed = DynamicImage::from(stored.clone());
            viewed.apply_orientation(Orientation::from_exif(orientation).unwrap());
            let turned = Orientation(orientation).upright(frame(&stored).planes().unwrap());
            let turned_frame = Orientation(orientation).upright_frame(frame(&stored)).unwrap();
            let viewed = frame(&viewed.to_rgb8());
            if turned != viewed.planes().unwrap() || turned_frame != viewed {
                wrong.push(orientation);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
