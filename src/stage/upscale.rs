//! Pictures to larger pictures, whole or in tiles.
//!
//! A tile is enlarged together with a halo of its surroundings, and only the tile itself is kept. With a halo as wide as the
//! network's reach ([`crate::onnx::Graph::reach`]) tiled equals untiled. All windows of a picture have one shape: at the borders the
//! window is moved, not cut, so that the network's memory is that of one shape.

use ndarray::{Array3, ArrayView3, Axis, s};

use crate::{
    error::{Error, Result},
    progress,
    runtime::{Network, finite},
    tensor::Tensor,
};

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

    /// Changes the tiles.
    pub fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    /// How the network is fed.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Planes [3, h, w] in 0..=1 → [3, h·scale, w·scale], not clamped.
    pub fn enlarge(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let Form { scale, multiple, tile, halo } = self.form;
        let round = |n: usize| n.next_multiple_of(multiple);
        let (ph, pw) = (round(h), round(w));
        let padded = Array3::from_shape_fn((3, ph, pw), |(c, y, x)| picture[[c, mirror(y, h), mirror(x, w)]]);
        let side = if tile == 0 { ph.max(pw) } else { round(tile) };
        if ph <= side && pw <= side {
            return Ok(self.call(padded.view())?.slice_move(s![.., ..h * scale, ..w * scale]));
        }
        let mut out = Array3::zeros((3, h * scale, w * scale));
        for top in (0..h).step_by(side) {
            for left in (0..w).step_by(side) {
                progress::check()?;
                let rows = Span::new(top, side, round(halo), ph);
                let columns = Span::new(left, side, round(halo), pw);
                let seen = padded.slice(s![.., rows.seen(), columns.seen()]);
                let enlarged = self.call(seen)?;
                let (y, x) = ((top - rows.from) * scale, (left - columns.from) * scale);
                let (bottom, right) = ((top + side).min(h), (left + side).min(w));
                let (th, tw) = ((bottom - top) * scale, (right - left) * scale);
                out.slice_mut(s![.., top * scale..bottom * scale, left * scale..right * scale])
                    .assign(&enlarged.slice(s![.., y..y + th, x..x + tw]));
            }
        }
        Ok(out)
    }

    /// One call of the network; rows and columns are multiples of [`Form::multiple`].
    fn call(&mut self, picture: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let scale = self.form.scale;
        let input = Tensor::F32(picture.to_owned().insert_axis(Axis(0)).into_dyn());
        let answer = self.network.run(&[(&self.input, &input)])?.into_iter().next();
        let Some((name, enlarged)) = answer else {
            return Err(Error::failed(format!("{}: no output", self.network.name())));
        };
        finite(&format!("{} {name}", self.network.name()), &enlarged)?;
        let wanted = [1, 3, h * scale, w * scale];
        match enlarged {
            Tensor::F32(enlarged) if enlarged.shape() == wanted => Ok(enlarged.slice_move(s![0, .., .., ..])),
            other => {
                let found = other.shape();
                Err(Error::failed(format!("{}: gave {found:?} where f32 {wanted:?} was wanted", self.network.name())))
            }
        }
    }
}

/// Along one axis: the window in which a tile is seen.
struct Span {
    from: usize,
    length: usize,
}

impl Span {
    /// The window of the tile that begins at `top`, inside 0..extent.
    fn new(top: usize, tile: usize, halo: usize, extent: usize) -> Self {
        let length = (tile + 2 * halo).min(extent);
        Self { from: top.saturating_sub(halo).min(extent - length), length }
    }

    fn seen(&self) -> std::ops::Range<usize> {
        self.from..self.from + self.length
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
