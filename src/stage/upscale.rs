//! Runs an upscaling network on a picture, untiled or in tiles.
//!
//! A tile is upscaled together with a halo of its surroundings, and the halo is cropped ([`Tiles::cropped`]). With a halo of at
//! least the network's receptive field, tiled equals untiled. All windows of a picture have one shape, so the network
//! allocates for one shape.

use ndarray::{Array3, ArrayView3, Axis, Ix3, s};

use crate::{
    error::{Error, Result},
    progress,
    runtime::{Network, finite},
    tensor::Tensor,
    tiling::Tiles,
};

/// How pictures are fed to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpscaleOptions {
    /// Output pixels per input pixel, each way.
    pub scale: usize,
    /// Height and width of an input are padded to a multiple of this by reflection at the right and bottom; the output is
    /// cropped.
    pub multiple: usize,
    /// Side of a tile in input pixels; 0: no tiles.
    pub tile: usize,
    /// Input pixels that the network sees around a tile.
    pub halo: usize,
}

/// A loaded upscaling network.
pub struct Upscale {
    network: Network,
    options: UpscaleOptions,
    input: String,
}

impl Upscale {
    /// Binds a loaded network.
    pub fn new(network: Network, options: UpscaleOptions) -> Self {
        let input = network.inputs().first().map(|i| i.name.clone()).unwrap_or_default();
        Self { network, options, input }
    }

    /// Changes the options for later pictures.
    pub fn set_options(&mut self, options: UpscaleOptions) {
        self.options = options;
    }

    /// Upscales planes [3, h, w] in 0..=1 to [3, h·scale, w·scale], not clamped.
    ///
    /// # Errors
    /// Those of the network; values that are not finite; a stop request between tiles.
    pub fn upscale(&mut self, picture: &Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let UpscaleOptions { scale, multiple, tile, halo } = self.options;
        let round = |n: usize| n.next_multiple_of(multiple);
        let (ph, pw) = (round(h), round(w));
        let padded = Array3::from_shape_fn((3, ph, pw), |(c, y, x)| picture[[c, reflect(y, h), reflect(x, w)]]);
        let side = if tile == 0 { ph.max(pw) } else { round(tile) };
        if ph <= side && pw <= side {
            return Ok(self.call(padded.view())?.slice_move(s![.., ..h * scale, ..w * scale]));
        }
        let tiles = Tiles::cropped((h, w), (ph, pw), side, round(halo)).scaled(scale);
        let whole = tiles.assemble(|rows, columns| {
            progress::check()?;
            let (rows, columns) = (rows.start / scale..rows.end / scale, columns.start / scale..columns.end / scale);
            Ok(self.call(padded.slice(s![.., rows, columns]))?.into_dyn())
        })?;
        whole.into_dimensionality::<Ix3>().map_err(|e| Error::failed(format!("{}: {e}", self.network.name())))
    }

    /// One call of the network. Height and width are multiples of [`UpscaleOptions::multiple`].
    fn call(&mut self, picture: ArrayView3<'_, f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let scale = self.options.scale;
        let input = Tensor::F32(picture.to_owned().insert_axis(Axis(0)).into_dyn());
        let output = self.network.run(&[(&self.input, &input)])?.into_iter().next();
        let Some((name, upscaled)) = output else {
            return Err(Error::failed(format!("{}: no output", self.network.name())));
        };
        finite(&format!("{} {name}", self.network.name()), &upscaled)?;
        let expected = [1, 3, h * scale, w * scale];
        match upscaled {
            Tensor::F32(upscaled) if upscaled.shape() == expected => Ok(upscaled.slice_move(s![0, .., .., ..])),
            other => {
                let found = other.shape();
                Err(Error::failed(format!(
                    "{}: expected an f32 output {expected:?}, got {found:?}",
                    self.network.name()
                )))
            }
        }
    }
}

/// Index `i` reflected into 0..n without repeating the border.
fn reflect(i: usize, n: usize) -> usize {
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
