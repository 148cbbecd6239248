//! Tiles of a picture that overlap, and their blend into the whole, as diffusers' `tiled_decode` and `tiled_encode` cut and blend
//! them (0.42.1 `models/autoencoders/autoencoder_kl.py`, `autoencoder_kl_wan.py`).

use std::ops::Range;

use ndarray::{Array3, Axis, s};

use crate::error::{Error, Result};

/// Square tiles; those at the right and bottom edge are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Pixels of a side.
    pub side: usize,
    /// Pixels that a tile shares with the one before it, fewer than `side`: there the one fades into the other.
    pub overlap: usize,
}

impl Tiles {
    /// The same tiles in pixels that are `times` as large each way; `side` and `overlap` are multiples of `times`.
    pub fn over(self, times: usize) -> Self {
        Self { side: self.side / times, overlap: self.overlap / times }
    }

    /// Whether one tile holds a whole picture.
    pub fn hold(self, (height, width): (usize, usize)) -> bool {
        height <= self.side && width <= self.side
    }

    /// Pixels from one tile to the next.
    fn stride(self) -> usize {
        (self.side - self.overlap).max(1)
    }

    /// What tiles see of a length of so many pixels.
    pub fn spans(self, length: usize) -> Vec<Range<usize>> {
        (0..length).step_by(self.stride()).map(|from| from..(from + self.side).min(length)).collect()
    }

    /// The whole of (height, width) pixels from its tiles, which `tile` makes, [c, h, w] of a row and a column of [`Tiles::spans`].
    /// A tile fades in over that above it, then over that to its left, and gives what the next one does not.
    pub fn assemble(
        self,
        (height, width): (usize, usize),
        mut tile: impl FnMut(&Range<usize>, &Range<usize>) -> Result<Array3<f32>>,
    ) -> Result<Array3<f32>> {
        let (rows, columns) = (self.spans(height), self.spans(width));
        let mut whole: Option<Array3<f32>> = None;
        let mut above: Vec<Array3<f32>> = Vec::new();
        for row in &rows {
            let mut line: Vec<Array3<f32>> = Vec::with_capacity(columns.len());
            for (k, column) in columns.iter().enumerate() {
                let mut here = tile(row, column)?;
                let (channels, h, w) = here.dim();
                let wanted = (whole.as_ref().map_or(channels, |a| a.dim().0), row.len(), column.len());
                if here.dim() != wanted {
                    let found = here.dim();
                    return Err(Error::failed(format!("a tile has the shape {found:?} where {wanted:?} was wanted")));
                }
                if let Some(above) = above.get(k) {
                    fade(above, &mut here, Axis(1), self.overlap);
                }
                if let Some(left) = line.last() {
                    fade(left, &mut here, Axis(2), self.overlap);
                }
                let (h, w) = (h.min(self.stride()), w.min(self.stride()));
                let whole = whole.get_or_insert_with(|| Array3::zeros((channels, height, width)));
                let (top, left) = (row.start, column.start);
                whole.slice_mut(s![.., top..top + h, left..left + w]).assign(&here.slice(s![.., ..h, ..w]));
                line.push(here);
            }
            above = line;
        }
        whole.ok_or_else(|| Error::failed("a picture without pixels cannot be cut into tiles"))
    }
}

/// The first `overlap` rows or columns of `next` fade in over the last of `before`.
fn fade(before: &Array3<f32>, next: &mut Array3<f32>, axis: Axis, overlap: usize) {
    let length = before.len_of(axis);
    let extent = overlap.min(length).min(next.len_of(axis));
    for i in 0..extent {
        let part = i as f64 / extent as f64;
        let (old, new) = ((1.0 - part) as f32, part as f32);
        let from = before.index_axis(axis, length - extent + i);
        next.index_axis_mut(axis, i).zip_mut_with(&from, |next, before| *next = before * old + *next * new);
    }
}
