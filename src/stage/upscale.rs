//! Pictures to larger pictures, whole or in tiles.
//!
//! A tile is enlarged together with a halo of its surroundings, and only the tile itself is kept. With a halo as wide as the
//! network's reach, tiled equals untiled; by default it is that, but at most [`HALO`] pixels: deep RRDBNets reach hundreds
//! of pixels in theory, and what comes from beyond is below a grey level.

use ndarray::{Array3, ArrayView3, Axis, s};

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// The widest halo by default, in input pixels.
pub const HALO: usize = 64;

/// How a network is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Output pixels per input pixel, each way.
    pub scale: usize,
    /// Rows and columns must be multiples of this; what is missing is mirrored at the right and bottom edge, and cropped after.
    pub multiple: usize,
    /// Side of a tile in input pixels; 0 for none.
    pub tile: usize,
    /// Pixels around a tile.
    pub halo: usize,
}

/// A loaded upscaling network.
pub struct Upscale {
    network: Network,
    form: Form,
    input: String,
}

impl Upscale {
    /// Binds a loaded network.
    pub fn new(network: Network, form: Form) -> Self {
        let input = network.inputs().first().map(|i| i.name.clone()).unwrap_or_default();
        Self { network, form, input }
    }

    /// Sets the side of tiles in input pixels; 0 for none.
    pub fn set_tile(&mut self, tile: usize) {
        self.form.tile = tile;
    }

    /// How the network is fed.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Planes [3, h, w] in 0..=1 → [3, h·scale, w·scale], not clamped.
    pub fn enlarge(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let Form { scale, tile, halo, .. } = self.form;
        if tile == 0 || (h <= tile && w <= tile) {
            return self.call(picture.view());
        }
        let mut out = Array3::zeros((3, h * scale, w * scale));
        for top in (0..h).step_by(tile) {
            for left in (0..w).step_by(tile) {
                let (rows, columns) = (Span::new(top, tile, halo, h), Span::new(left, tile, halo, w));
                let seen = picture.slice(s![.., rows.seen_from..rows.seen_to, columns.seen_from..columns.seen_to]);
                let enlarged = self.call(seen)?;
                let (y, x) = ((top - rows.seen_from) * scale, (left - columns.seen_from) * scale);
                let (th, tw) = ((rows.to - top) * scale, (columns.to - left) * scale);
                out.slice_mut(s![.., top * scale..rows.to * scale, left * scale..columns.to * scale])
                    .assign(&enlarged.slice(s![.., y..y + th, x..x + tw]));
            }
        }
        Ok(out)
    }

    fn call(&mut self, picture: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let Form { scale, multiple, .. } = self.form;
        let round = |n: usize| n.div_ceil(multiple) * multiple;
        let (ph, pw) = (round(h), round(w));
        let padded = Array3::from_shape_fn((3, ph, pw), |(c, y, x)| picture[[c, mirror(y, h), mirror(x, w)]]);
        let input = Tensor::F32(padded.insert_axis(Axis(0)).into_dyn());
        let answer = self.network.run(&[(&self.input, &input)])?.into_iter().next();
        let Some((name, enlarged)) = answer else {
            return Err(Error::failed(format!("{}: no output", self.network.name())));
        };
        finite(&format!("{} {name}", self.network.name()), &enlarged)?;
        let wanted = [1, 3, ph * scale, pw * scale];
        let Tensor::F32(enlarged) = enlarged else {
            return Err(Error::failed(format!("{}: the output is not floating", self.network.name())));
        };
        if enlarged.shape() != wanted {
            let found = enlarged.shape();
            return Err(Error::failed(format!("{}: gave {found:?} where {wanted:?} was wanted", self.network.name())));
        }
        let cropped = enlarged.slice(s![0, .., ..h * scale, ..w * scale]).to_owned();
        Ok(cropped)
    }
}

/// Along one axis: the tile and what is seen around it.
struct Span {
    to: usize,
    seen_from: usize,
    seen_to: usize,
}

impl Span {
    fn new(from: usize, tile: usize, halo: usize, length: usize) -> Self {
        let to = (from + tile).min(length);
        Self { to, seen_from: from.saturating_sub(halo), seen_to: (to + halo).min(length) }
    }
}

/// Index `i` reflected into 0..n without repeating the border.
fn mirror(i: usize, n: usize) -> usize {
    if i < n {
        i
    } else if n == 1 {
        0
    } else {
        let period = 2 * (n - 1);
        let i = i % period;
        if i < n { i } else { period - i }
    }
}
