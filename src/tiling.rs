//! Tiles over planes `[.., height, width]`: the position of each tile, and the blend of all tiles into the output.
//!
//! Tiling bounds the memory of a network: it processes a picture or latent tile by tile. The three users differ in layout and
//! blend:
//!
//! | constructor | user | layout | blend |
//! |---|---|---|---|
//! | [`Tiles::ramped`] | refinement | one size, spread evenly over the extent | weighted sum with linear ramps |
//! | [`Tiles::faded`] | VAE | fixed stride, cut at the right and bottom edge | cross-fade over the tile before, as in diffusers |
//! | [`Tiles::cropped`] | upscaling | one size with a halo, moved inwards at the edges | none: the halo is cropped |
//!
//! All layouts go row by row from the top, and each row from the left.

use std::ops::Range;

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use crate::error::{Error, Result};

/// Tiles over a plane, and their blend.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    rows: Vec<Span>,
    columns: Vec<Span>,
    /// (height, width) of the output.
    size: (usize, usize),
    blend: Blend,
}

/// One tile along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    /// The range that the network reads.
    window: Range<usize>,
    /// The part of the window that is written to the output. [`Blend::Ramp`] writes all of it.
    written: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blend {
    /// The output is the weighted sum of all tiles. The weights at every position sum to 1.
    Ramp,
    /// The first `overlap` rows or columns of a tile cross-fade from the last of the tile above or to the left. 0: no blend.
    Fade { overlap: usize },
}

impl Tiles {
    /// Tiles of one size, spread evenly, that overlap by at least `overlap`. A weight is the product of a row ramp and a column
    /// ramp, which are linear over the overlap. A single tile has the weight 1 everywhere, so it is bit-identical to untiled.
    ///
    /// Tiles begin at multiples of `multiple`; the extents and `side` are multiples of it. An axis that is not longer than
    /// `side` has one tile. `overlap` is below `side`.
    pub fn ramped(size: (usize, usize), side: usize, overlap: usize, multiple: usize) -> Self {
        let spans = |extent| even_spans(extent, side, overlap, multiple.max(1));
        Self { rows: spans(size.0), columns: spans(size.1), size, blend: Blend::Ramp }
    }

    /// Tiles at a fixed stride of `side` − `overlap`, cut at the right and bottom edge, and blended as by diffusers'
    /// `tiled_decode` and `tiled_encode` (0.42.1 `models/autoencoders/autoencoder_kl.py`, `autoencoder_kl_wan.py`): a tile
    /// cross-fades from the tile above it, then from the tile to its left, and contributes one stride.
    pub fn faded(size: (usize, usize), side: usize, overlap: usize) -> Self {
        let stride = side.saturating_sub(overlap).max(1);
        let span = |from: usize, extent: usize| {
            let window = from..(from + side).min(extent);
            Span { written: from..window.end.min(from + stride), window }
        };
        let spans = |extent: usize| (0..extent).step_by(stride).map(|from| span(from, extent)).collect();
        Self { rows: spans(size.0), columns: spans(size.1), size, blend: Blend::Fade { overlap } }
    }

    /// Tiles of `side` without overlap, each read with `halo` around it, over `size`. `padded` ≥ `size` is the plane that the
    /// windows lie in. All windows have one shape: at the edges a window is moved inwards, not cut, so that the network
    /// allocates for one shape.
    pub fn cropped(size: (usize, usize), padded: (usize, usize), side: usize, halo: usize) -> Self {
        let spans = |extent: usize, padded: usize| {
            let length = (side + 2 * halo).min(padded);
            let span = |from: usize| {
                let start = from.saturating_sub(halo).min(padded - length);
                Span { window: start..start + length, written: from..(from + side).min(extent) }
            };
            (0..extent).step_by(side.max(1)).map(span).collect()
        };
        let blend = Blend::Fade { overlap: 0 };
        Self { rows: spans(size.0, padded.0), columns: spans(size.1, padded.1), size, blend }
    }

    /// The same tiles over planes that are `scale` times as large in each direction.
    pub fn scaled(&self, scale: usize) -> Self {
        let range = |r: &Range<usize>| r.start * scale..r.end * scale;
        let spans = |spans: &[Span]| {
            spans.iter().map(|s| Span { window: range(&s.window), written: range(&s.written) }).collect::<Vec<_>>()
        };
        let blend = match self.blend {
            Blend::Ramp => Blend::Ramp,
            Blend::Fade { overlap } => Blend::Fade { overlap: overlap * scale },
        };
        let size = (self.size.0 * scale, self.size.1 * scale);
        Self { rows: spans(&self.rows), columns: spans(&self.columns), size, blend }
    }

    /// Number of tiles.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// (height, width) of the first tile, which is the largest.
    pub fn tile_size(&self) -> (usize, usize) {
        let length = |spans: &[Span]| spans.first().map_or(0, |s| s.window.len());
        (length(&self.rows), length(&self.columns))
    }

    /// The rows and columns that the network reads for each tile, in order.
    pub fn windows(&self) -> impl Iterator<Item = (&Range<usize>, &Range<usize>)> {
        self.rows.iter().flat_map(|row| self.columns.iter().map(move |column| (&row.window, &column.window)))
    }

    /// What each tile sees and what it contributes, both as (rows, columns) of the whole, in order. Of tiles that blend, a part is
    /// contributed by several.
    pub fn parts(&self) -> impl Iterator<Item = [(&Range<usize>, &Range<usize>); 2]> {
        self.rows.iter().flat_map(|row| {
            self.columns.iter().map(move |column| [(&row.window, &column.window), (&row.written, &column.written)])
        })
    }

    /// Returns the output `[.., height, width]`. `make` returns the tile `[.., rows, columns]` for a range of rows and of columns.
    ///
    /// # Errors
    /// The errors of `make`; a tile of an unexpected shape; a plane without rows or columns.
    pub fn assemble(
        &self,
        make: impl FnMut(&Range<usize>, &Range<usize>) -> Result<ArrayD<f32>>,
    ) -> Result<ArrayD<f32>> {
        let output = match self.blend {
            Blend::Ramp => self.sum(make)?,
            Blend::Fade { overlap } => self.fade(overlap, make)?,
        };
        let (h, w) = self.size;
        output.ok_or_else(|| Error::failed(format!("a plane of {h}×{w} cannot be cut into tiles")))
    }

    fn sum(
        &self,
        mut make: impl FnMut(&Range<usize>, &Range<usize>) -> Result<ArrayD<f32>>,
    ) -> Result<Option<ArrayD<f32>>> {
        let mut output: Option<ArrayD<f32>> = None;
        let (down, across) = (weights(&self.rows, self.size.0), weights(&self.columns, self.size.1));
        for (row, down) in self.rows.iter().zip(&down) {
            for (column, across) in self.columns.iter().zip(&across) {
                let mut tile = make(&row.window, &column.window)?;
                check(&tile, output.as_ref(), row, column)?;
                let axes = tile.ndim();
                for (mut line, down) in tile.axis_iter_mut(Axis(axes - 2)).zip(down) {
                    for (mut values, across) in line.axis_iter_mut(Axis(axes - 2)).zip(across) {
                        values *= down * across;
                    }
                }
                let output = output.get_or_insert_with(|| self.zeros(&tile));
                let mut target = output.slice_axis_mut(Axis(axes - 2), Slice::from(row.window.clone()));
                let mut target = target.slice_axis_mut(Axis(axes - 1), Slice::from(column.window.clone()));
                target += &tile;
            }
        }
        Ok(output)
    }

    fn fade(
        &self,
        overlap: usize,
        mut make: impl FnMut(&Range<usize>, &Range<usize>) -> Result<ArrayD<f32>>,
    ) -> Result<Option<ArrayD<f32>>> {
        let mut output: Option<ArrayD<f32>> = None;
        // Blended tiles of the row above and of this row. Empty without a blend.
        let (mut above, mut line) = (Vec::new(), Vec::new());
        for row in &self.rows {
            for (k, column) in self.columns.iter().enumerate() {
                let mut tile = make(&row.window, &column.window)?;
                check(&tile, output.as_ref(), row, column)?;
                let axes = tile.ndim();
                if let Some(above) = above.get(k) {
                    cross_fade(above, &mut tile, Axis(axes - 2), overlap);
                }
                if let Some(left) = line.last() {
                    cross_fade(left, &mut tile, Axis(axes - 1), overlap);
                }
                let output = output.get_or_insert_with(|| self.zeros(&tile));
                let mut target = output.slice_axis_mut(Axis(axes - 2), Slice::from(row.written.clone()));
                let mut target = target.slice_axis_mut(Axis(axes - 1), Slice::from(column.written.clone()));
                let inside = |s: &Span| Slice::from(s.written.start - s.window.start..s.written.end - s.window.start);
                let written = tile.slice_axis(Axis(axes - 2), inside(row));
                target.assign(&written.slice_axis(Axis(axes - 1), inside(column)));
                if overlap > 0 {
                    line.push(tile);
                }
            }
            above = std::mem::take(&mut line);
        }
        Ok(output)
    }

    /// Zeros of the output's size, with the leading extents of `tile`.
    fn zeros(&self, tile: &ArrayD<f32>) -> ArrayD<f32> {
        let (mut shape, axes) = (tile.shape().to_vec(), tile.ndim());
        (shape[axes - 2], shape[axes - 1]) = self.size;
        ArrayD::zeros(IxDyn(&shape))
    }
}

/// Rows and columns of planes `[.., h, w]`, copied.
pub fn crop(planes: &ArrayD<f32>, rows: &Range<usize>, columns: &Range<usize>) -> ArrayD<f32> {
    let axes = planes.ndim();
    let part = planes.slice_axis(Axis(axes - 2), Slice::from(rows.clone()));
    part.slice_axis_move(Axis(axes - 1), Slice::from(columns.clone())).as_standard_layout().into_owned()
}

/// A tile is `[.., rows, columns]` of its windows, with the leading extents of the output.
fn check(tile: &ArrayD<f32>, output: Option<&ArrayD<f32>>, row: &Span, column: &Span) -> Result<()> {
    let found = tile.shape();
    let mut expected = output.map_or(found, |output| output.shape()).to_vec();
    if let [.., rows, columns] = expected.as_mut_slice() {
        (*rows, *columns) = (row.window.len(), column.window.len());
        if found == expected {
            return Ok(());
        }
    }
    let (y, x) = (row.window.start, column.window.start);
    Err(Error::failed(format!("tile at {y}, {x}: expected the shape {expected:?}, got {found:?}")))
}

/// Spans of one length, spread evenly, that overlap by at least `overlap`.
fn even_spans(extent: usize, side: usize, overlap: usize, multiple: usize) -> Vec<Span> {
    let span = |start: usize, length: usize| Span { window: start..start + length, written: start..start + length };
    if extent <= side {
        return vec![span(0, extent)];
    }
    let overlap = overlap.next_multiple_of(multiple).min(side.saturating_sub(multiple));
    let count = (extent - overlap).div_ceil(side - overlap);
    let start = |k: usize| k * (extent - side) / (count - 1) / multiple * multiple;
    (0..count).map(|k| span(start(k), side)).collect()
}

/// The ramp of span `k` at its `i`th position, in (0, 1].
fn ramp(spans: &[Span], k: usize, i: usize) -> f64 {
    let shared = |k: usize| spans[k].window.end.saturating_sub(spans[k + 1].window.start) as f64;
    let rise = if k > 0 { (i as f64 + 0.5) / shared(k - 1) } else { 1.0 };
    let fall = if k + 1 < spans.len() { ((spans[k].window.len() - i) as f64 - 0.5) / shared(k) } else { 1.0 };
    rise.min(fall).min(1.0)
}

/// The weights of each span's positions: its ramp, divided by the sum of all ramps there.
fn weights(spans: &[Span], extent: usize) -> Vec<Vec<f32>> {
    let ramps: Vec<Vec<f64>> =
        spans.iter().enumerate().map(|(k, span)| (0..span.window.len()).map(|i| ramp(spans, k, i)).collect()).collect();
    let mut sums = vec![0.0; extent];
    for (span, ramp) in spans.iter().zip(&ramps) {
        sums[span.window.clone()].iter_mut().zip(ramp).for_each(|(sum, r)| *sum += r);
    }
    let share = |(span, ramp): (&Span, &Vec<f64>)| {
        ramp.iter().zip(&sums[span.window.start..]).map(|(r, sum)| (r / sum) as f32).collect()
    };
    spans.iter().zip(&ramps).map(share).collect()
}

/// Blends the first `overlap` rows or columns of `next` with the last of `before`, with weights that change linearly.
fn cross_fade(before: &ArrayD<f32>, next: &mut ArrayD<f32>, axis: Axis, overlap: usize) {
    let length = before.len_of(axis);
    let extent = overlap.min(length).min(next.len_of(axis));
    for i in 0..extent {
        let part = i as f64 / extent as f64;
        let (old, new) = ((1.0 - part) as f32, part as f32);
        let from = before.index_axis(axis, length - extent + i);
        next.index_axis_mut(axis, i).zip_mut_with(&from, |next, before| *next = before * old + *next * new);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A plane without symmetry.
    fn plane(h: usize, w: usize) -> ArrayD<f32> {
        let value = |i: IxDyn| ((i[2] * 7 + i[3] * 13 + i[1] * 5) % 31) as f32 / 31.0 - 0.4;
        ArrayD::from_shape_fn(IxDyn(&[1, 2, h, w]), value)
    }

    #[test]
    fn ramped_tiles_cover_an_axis_and_share_the_overlap() {
        let mut bad = Vec::new();
        for (extent, side, overlap, multiple, wanted) in [
            (16, 16, 4, 2, vec![0]),
            (10, 16, 4, 2, vec![0]),
            (18, 16, 4, 2, vec![0, 2]),
            (28, 16, 4, 2, vec![0, 12]),
            (30, 16, 4, 2, vec![0, 6, 14]),
            (40, 16, 0, 2, vec![0, 12, 24]),
            (32, 16, 0, 2, vec![0, 16]),
            (17, 6, 3, 1, vec![0, 2, 5, 8, 11]),
            (17, 6, 6, 1, (0..=11).collect()),
            (480, 128, 32, 2, vec![0, 88, 176, 264, 352]),
        ] {
            let spans = even_spans(extent, side, overlap, multiple);
            let mut sums = vec![0.0; extent];
            for (span, weights) in spans.iter().zip(weights(&spans, extent)) {
                sums[span.window.clone()].iter_mut().zip(weights).for_each(|(sum, w)| *sum += w);
            }
            let least = overlap.min(side - multiple);
            let shared = spans.windows(2).all(|s| s[0].window.end >= s[1].window.start + least);
            let starts: Vec<usize> = spans.iter().map(|s| s.window.start).collect();
            if starts != wanted || !shared || sums.iter().any(|s: &f32| (s - 1.0).abs() > 1e-6) {
                bad.push(format!("{extent} by {side} sharing {overlap}: {starts:?}, sums {sums:?}"));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }

    /// Neighbouring tiles predict constant 1 and constant 0. The blend changes in even steps, the smaller the wider the overlap.
    #[test]
    fn tiles_that_disagree_leave_no_edge() {
        let mut bad = Vec::new();
        for (size, side, overlap) in [((32, 48), 16, 4), ((32, 48), 16, 8), ((48, 16), 16, 4), ((40, 72), 32, 8)] {
            let tiles = Tiles::ramped(size, side, overlap, 2);
            let mut number = 0.0;
            let x = tiles.assemble(|rows, columns| {
                number = 1.0 - number;
                Ok(ArrayD::from_elem(IxDyn(&[1, 1, rows.len(), columns.len()]), number))
            });
            let x = x.unwrap();
            let steps = |axis: usize| {
                let (near, far) =
                    (x.slice_axis(Axis(axis), Slice::from(1..)), x.slice_axis(Axis(axis), Slice::from(..-1)));
                (&near - &far).iter().fold(0f32, |m, d| m.max(d.abs()))
            };
            let most = steps(2).max(steps(3));
            if most > 1.01 / overlap as f32 || x.iter().any(|v| !(-1e-6..=1.0 + 1e-6).contains(v)) {
                bad.push(format!("{size:?} by {side} sharing {overlap}: a step of {most}"));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }

    #[test]
    fn a_tile_of_another_shape_is_an_error() {
        let tiles = Tiles::ramped((20, 28), 16, 4, 2);
        let error = tiles.assemble(|_, _| Ok(plane(16, 14))).unwrap_err().to_string();
        assert_eq!(error, "tile at 0, 0: expected the shape [1, 2, 16, 16], got [1, 2, 16, 14]");
    }

    /// Every layout reassembles a plane from its crops, at its own size and scaled.
    #[test]
    fn crops_of_a_plane_are_the_plane() {
        let size = (20, 28);
        for tiles in [Tiles::ramped(size, 16, 4, 2), Tiles::faded(size, 16, 4), Tiles::cropped(size, (20, 28), 8, 4)] {
            for scale in [1, 8] {
                let (scaled, x) = (tiles.scaled(scale), plane(20 * scale, 28 * scale));
                assert_eq!(scaled.count(), tiles.count());
                assert_eq!(scaled.tile_size(), (16 * scale, 16 * scale));
                let copy = scaled.assemble(|rows, columns| Ok(crop(&x, rows, columns))).unwrap();
                let error = (&copy - &x).iter().fold(0f32, |m, d| m.max(d.abs()));
                assert!(error < 1e-6, "{tiles:?} × {scale}: {error}");
            }
        }
    }

    /// A halo is read and not written, and windows at the edges are moved inwards.
    #[test]
    fn a_halo_is_cropped() {
        let tiles = Tiles::cropped((10, 7), (12, 8), 4, 2);
        let windows: Vec<_> = tiles.windows().map(|(rows, columns)| (rows.clone(), columns.clone())).collect();
        let rows = [0..8, 2..10, 4..12];
        assert_eq!(windows, rows.iter().flat_map(|r| [(r.clone(), 0..8), (r.clone(), 0..8)]).collect::<Vec<_>>());
        let x = plane(12, 8);
        let output = tiles.assemble(|rows, columns| Ok(crop(&x, rows, columns))).unwrap();
        assert_eq!(output, crop(&x, &(0..10), &(0..7)));
    }
}
