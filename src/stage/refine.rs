//! A latent or picture in tiles that are made one at a time and blended without seams, and a latent's denoising in them.
//!
//! All tiles are of one size and lie in rows from the top, each row from the left. Neighbours share at least the overlap that is
//! asked for; what the division leaves over is shared too, so the first tile begins with the picture and the last ends with it. In
//! what two share, the one fades out and the other fades in by a straight ramp, along rows and along columns, and the weights of
//! all tiles at a place add up to 1. A single tile has the weight 1 everywhere: a picture that fits into one is made as if there
//! were no tiles.
//!
//! Denoising is joint (MultiDiffusion, arXiv:2302.08113 eq. 4 and 5): at every step each tile's velocity is predicted from the
//! same latent, the velocities are blended, and one step of the solver is taken on the whole. Tiles thus never drift apart, as they
//! do when one after another is denoised to the end, and noise belongs to the whole: where it is cut does not change it. The paper
//! weights all tiles alike; the ramps are what keeps their borders from showing where two predictions differ.

use std::ops::Range;

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use crate::{
    error::{At, Error, Result},
    schedule::solver::Solver,
};

/// Windows over planes [.., h, w].
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    rows: Cuts,
    columns: Cuts,
}

impl Tiles {
    /// Tiles of `side` over (height, width), which share at least `overlap`; they begin at multiples of `multiple`, and so do the
    /// extents and `side` come. An axis that is not longer than `side` is one tile. `overlap` is below `side`.
    pub fn new((height, width): (usize, usize), side: usize, overlap: usize, multiple: usize) -> Self {
        let cuts = |extent| Cuts::new(extent, side, overlap, multiple.max(1));
        Self { rows: cuts(height), columns: cuts(width) }
    }

    /// The same tiles over planes `times` as large each way.
    pub fn times(&self, times: usize) -> Self {
        Self { rows: self.rows.times(times), columns: self.columns.times(times) }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.rows.starts.len() * self.columns.starts.len()
    }

    /// (height, width) of each.
    pub fn size(&self) -> (usize, usize) {
        (self.rows.length, self.columns.length)
    }

    /// The whole [.., h, w] of what `make` makes of each tile's rows and columns, [.., rows, columns]. Errors: those of `make`; a
    /// tile of another shape.
    pub fn blend(
        &self,
        mut make: impl FnMut(&Range<usize>, &Range<usize>) -> Result<ArrayD<f32>>,
    ) -> Result<ArrayD<f32>> {
        let mut whole: Option<ArrayD<f32>> = None;
        for (rows, down) in self.rows.windows() {
            for (columns, across) in self.columns.windows() {
                let mut tile = make(&rows, &columns)?;
                let (found, axes) = (tile.shape().to_vec(), tile.ndim());
                if axes < 2 || found[axes - 2..] != [rows.len(), columns.len()] {
                    let (h, w) = (rows.len(), columns.len());
                    return Err(Error::failed(format!("a tile is {found:?} where [.., {h}, {w}] was wanted")));
                }
                for (mut row, down) in tile.axis_iter_mut(Axis(axes - 2)).zip(&down) {
                    for (mut column, across) in row.axis_iter_mut(Axis(axes - 2)).zip(&across) {
                        column *= down * across;
                    }
                }
                let whole = whole.get_or_insert_with(|| {
                    let mut shape = found;
                    (shape[axes - 2], shape[axes - 1]) = (self.rows.extent, self.columns.extent);
                    ArrayD::zeros(IxDyn(&shape))
                });
                let mut place = whole.slice_axis_mut(Axis(axes - 2), Slice::from(rows.clone()));
                let mut place = place.slice_axis_mut(Axis(axes - 1), Slice::from(columns.clone()));
                place += &tile;
            }
        }
        whole.ok_or_else(|| Error::failed("planes without rows or columns cannot be cut into tiles"))
    }
}

/// Rows and columns of planes [.., h, w].
pub fn part(planes: &ArrayD<f32>, rows: &Range<usize>, columns: &Range<usize>) -> ArrayD<f32> {
    let axes = planes.ndim();
    let seen = planes.slice_axis(Axis(axes - 2), Slice::from(rows.clone()));
    seen.slice_axis_move(Axis(axes - 1), Slice::from(columns.clone())).as_standard_layout().into_owned()
}

/// The velocity of a tile [1, c, h, w] at a σ, of its shape.
pub type Velocity<'a> = &'a mut dyn FnMut(&ArrayD<f32>, f32) -> Result<ArrayD<f32>>;

/// Takes `x` [1, c, h, w] through `steps` of the schedule, each step jointly in all tiles. What a
/// step holds besides the latent is one tile's.
pub fn denoise(
    mut x: ArrayD<f32>,
    sigmas: &[f32],
    steps: Range<usize>,
    tiles: &Tiles,
    solver: &mut dyn Solver,
    velocity: Velocity<'_>,
) -> Result<ArrayD<f32>> {
    for i in steps {
        let whole = tiles.blend(|rows, columns| {
            velocity(&part(&x, rows, columns), sigmas[i]).at(format!("the tile at {}, {}", rows.start, columns.start))
        });
        x = solver.step(x, &whole.at(format!("step {}", i + 1))?, sigmas, i);
    }
    Ok(x)
}

/// One axis, cut.
#[derive(Debug, Clone, PartialEq)]
struct Cuts {
    starts: Vec<usize>,
    length: usize,
    extent: usize,
}

impl Cuts {
    fn new(extent: usize, side: usize, overlap: usize, multiple: usize) -> Self {
        if extent <= side {
            return Self { starts: vec![0], length: extent, extent };
        }
        let overlap = overlap.next_multiple_of(multiple).min(side.saturating_sub(multiple));
        let count = (extent - overlap).div_ceil(side - overlap);
        let start = |k: usize| k * (extent - side) / (count - 1) / multiple * multiple;
        Self { starts: (0..count).map(start).collect(), length: side, extent }
    }

    fn times(&self, times: usize) -> Self {
        let starts = self.starts.iter().map(|s| s * times).collect();
        Self { starts, length: self.length * times, extent: self.extent * times }
    }

    /// The ramp of tile `k` at its `i`th place, in (0, 1].
    fn ramp(&self, k: usize, i: usize) -> f64 {
        let shared = |k: usize| (self.starts[k] + self.length).saturating_sub(self.starts[k + 1]) as f64;
        let rise = if k > 0 { (i as f64 + 0.5) / shared(k - 1) } else { 1.0 };
        let fall = if k + 1 < self.starts.len() { ((self.length - i) as f64 - 0.5) / shared(k) } else { 1.0 };
        rise.min(fall).min(1.0)
    }

    /// Every tile's places and their weights.
    fn windows(&self) -> Vec<(Range<usize>, Vec<f32>)> {
        let ramps: Vec<Vec<f64>> =
            (0..self.starts.len()).map(|k| (0..self.length).map(|i| self.ramp(k, i)).collect()).collect();
        let mut sums = vec![0.0; self.extent];
        for (start, ramp) in self.starts.iter().zip(&ramps) {
            sums[*start..].iter_mut().zip(ramp).for_each(|(sum, r)| *sum += r);
        }
        let weights = |(start, ramp): (&usize, Vec<f64>)| {
            let shares = ramp.iter().zip(&sums[*start..]).map(|(r, sum)| (r / sum) as f32).collect();
            (*start..start + self.length, shares)
        };
        self.starts.iter().zip(ramps).map(weights).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{schedule::Euler, tensor::DType};

    /// A plane without any symmetry.
    fn plane(h: usize, w: usize) -> ArrayD<f32> {
        let value = |i: IxDyn| ((i[2] * 7 + i[3] * 13 + i[1] * 5) % 31) as f32 / 31.0 - 0.4;
        ArrayD::from_shape_fn(IxDyn(&[1, 2, h, w]), value)
    }

    #[test]
    fn tiles_cover_an_axis_and_share_what_is_asked() {
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
            let cuts = Cuts::new(extent, side, overlap, multiple);
            let mut sums = vec![0.0; extent];
            for (window, weights) in cuts.windows() {
                sums[window].iter_mut().zip(weights).for_each(|(sum, w)| *sum += w);
            }
            let least = overlap.min(side - multiple);
            let shared = cuts.starts.windows(2).all(|s| s[0] + cuts.length >= s[1] + least);
            if cuts.starts != wanted || !shared || sums.iter().any(|s: &f32| (s - 1.0).abs() > 1e-6) {
                bad.push(format!("{extent} by {side} sharing {overlap}: {:?}, sums {sums:?}", cuts.starts));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }

    /// Tiles that agree on nothing: each predicts a number of its own. What is blended climbs from one to the other in even steps, the
    /// wider the overlap the smaller.
    #[test]
    fn tiles_that_disagree_leave_no_edge() {
        let mut bad = Vec::new();
        for (size, side, overlap) in [((32, 48), 16, 4), ((32, 48), 16, 8), ((48, 16), 16, 4), ((40, 72), 32, 8)] {
            let tiles = Tiles::new(size, side, overlap, 2);
            let mut number = 0.0;
            let x = tiles.blend(|rows, columns| {
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

    /// Against the solver alone, for predictions that need not see beyond a pixel: to the last bit in one tile, to rounding in many.
    #[test]
    fn joint_denoising_is_denoising() {
        let sigmas = [1.0f32, 0.8, 0.5, 0.2, 0.0];
        let pointwise = |x: &ArrayD<f32>, sigma: f32| Ok(x.mapv(|v| (3.0 * v).sin() - sigma * v * v));
        let start = plane(20, 28);
        let mut wanted = start.clone();
        for i in 1..4 {
            let v: Result<ArrayD<f32>> = pointwise(&wanted, sigmas[i]);
            wanted = Euler { latents: DType::F32 }.step(wanted, &v.unwrap(), &sigmas, i);
        }
        let mut bad = Vec::new();
        for (side, overlap, limit) in [(28, 8, 0.0), (64, 8, 0.0), (16, 4, 1e-6), (8, 4, 1e-6), (8, 0, 1e-6)] {
            let tiles = Tiles::new((20, 28), side, overlap, 2);
            let mut solver = Euler { latents: DType::F32 };
            let mut velocity = pointwise;
            let x = denoise(start.clone(), &sigmas, 1..4, &tiles, &mut solver, &mut velocity).unwrap();
            let error = (&x - &wanted).iter().fold(0f32, |m, d| m.max(d.abs()));
            if error > limit {
                bad.push(format!("{} tiles of {:?}: differ by {error}", tiles.count(), tiles.size()));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }

    #[test]
    fn a_tile_of_another_shape_is_refused() {
        let tiles = Tiles::new((20, 28), 16, 4, 2);
        let error = tiles.blend(|_, _| Ok(plane(16, 14))).unwrap_err().to_string();
        assert!(error.contains("a tile is [1, 2, 16, 14] where [.., 16, 16] was wanted"), "{error}");
    }

    /// A larger plane is cut where the smaller one is.
    #[test]
    fn tiles_scale() {
        let (small, large) = (Tiles::new((20, 28), 16, 4, 2), Tiles::new((20, 28), 16, 4, 2).times(8));
        let copy = |x: &ArrayD<f32>, t: &Tiles| t.blend(|r, c| Ok(part(x, r, c))).unwrap();
        assert_eq!(large.size(), (128, 128));
        assert_eq!(large.count(), small.count());
        let x = plane(160, 224);
        let error = (&copy(&x, &large) - &x).iter().fold(0f32, |m, d| m.max(d.abs()));
        assert!(error < 1e-6, "{error}");
    }
}
