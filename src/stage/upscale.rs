//! Runs an upscaling network on a picture, untiled or in tiles.
//!
//! A tile is upscaled together with a halo of its surroundings, and the halo is cropped ([`Tiles::cropped`]). With a halo of at
//! least the network's receptive field, tiled equals untiled. All windows of a picture have one shape, so the network
//! allocates for one shape.

use std::ops::Range;

use ndarray::{Array3, ArrayViewMut3, Axis, s};

use crate::{
    error::{Error, Result},
    progress,
    runtime::{Network, finite},
    tensor::{Frame, RowSource, Tensor, black},
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

/// Returns rows and columns of a picture as planes.
type Window<'w> = dyn FnMut(&Range<usize>, &Range<usize>) -> Result<Array3<f32>> + 'w;
/// Receives planes, and their first row and column.
type Put<'p> = dyn FnMut(ArrayViewMut3<'_, f32>, (usize, usize)) -> Result<()> + 'p;

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
        if self.tiles((h, w)).count() == 1 {
            let scale = self.options.scale;
            let (rows, columns) = (0..self.padded(h), 0..self.padded(w));
            let window = planes_window(picture, &rows, &columns)?;
            return Ok(self.call(window)?.slice_move(s![.., ..h * scale, ..w * scale]));
        }
        let scale = self.options.scale;
        let mut whole = black((3, h * scale, w * scale))?;
        self.each_tile((h, w), &mut |rows, columns| planes_window(picture, rows, columns), &mut |tile, (y, x)| {
            let (_, rows, columns) = tile.dim();
            whole.slice_mut(s![.., y..y + rows, x..x + columns]).assign(&tile);
            Ok(())
        })?;
        Ok(whole)
    }

    /// Upscales an RGB frame to one of the same depth, tile by tile: only tiles are held as f32. `finish` changes what a tile
    /// contributes before it is rounded.
    ///
    /// # Errors
    /// Those of [`Upscale::upscale`]; the memory cannot be allocated.
    pub fn upscale_frame(&mut self, frame: &Frame, finish: impl Fn(ArrayViewMut3<'_, f32>)) -> Result<Frame> {
        let (scale, size) = (self.options.scale, (frame.height, frame.width));
        let mut whole = Frame::zeros((size.0 * scale, size.1 * scale), 3, frame.is_deep())?;
        let mut window = |rows: &Range<usize>, columns: &Range<usize>| frame_window(&mut &*frame, rows, columns);
        self.each_tile(size, &mut window, &mut |mut tile, at| {
            finish(tile.view_mut());
            whole.put(&tile.view(), at);
            Ok(())
        })?;
        Ok(whole)
    }

    /// Upscales the rows of an RGB picture as [`Upscale::upscale_frame`] does, and passes each row of tiles on.
    ///
    /// # Errors
    /// Those of [`Upscale::upscale_frame`], `source` and `sink`.
    pub fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        finish: impl Fn(ArrayViewMut3<'_, f32>),
        sink: &mut dyn FnMut(&Frame) -> Result<()>,
    ) -> Result<()> {
        let Frame { height, width, .. } = *source.header();
        let (deep, scaled) = (source.header().is_deep(), width * self.options.scale);
        let mut band = Frame::default();
        let mut window = |rows: &Range<usize>, columns: &Range<usize>| frame_window(source, rows, columns);
        self.each_tile((height, width), &mut window, &mut |mut tile, (_, x)| {
            finish(tile.view_mut());
            let (_, rows, columns) = tile.dim();
            if x == 0 {
                drop(std::mem::take(&mut band));
                band = Frame::zeros((rows, scaled), 3, deep)?;
            }
            band.put(&tile.view(), (0, x));
            if x + columns == scaled { sink(&band) } else { Ok(()) }
        })
    }

    /// Runs the network on every tile of a picture of (height, width). `window` returns the picture's rows and columns, reflected
    /// beyond its end; `put` receives what a tile contributes, and its first row and column.
    fn each_tile(&mut self, size: (usize, usize), window: &mut Window<'_>, put: &mut Put<'_>) -> Result<()> {
        let scale = self.options.scale;
        for [seen, kept] in self.tiles(size).parts() {
            progress::check()?;
            let mut tile = self.call(window(seen.0, seen.1)?)?;
            let inside = |seen: &Range<usize>, kept: &Range<usize>| {
                (kept.start - seen.start) * scale..(kept.end - seen.start) * scale
            };
            let part = tile.slice_mut(s![.., inside(seen.0, kept.0), inside(seen.1, kept.1)]);
            put(part, (kept.0.start * scale, kept.1.start * scale))?;
        }
        Ok(())
    }

    /// The tiles of a picture of (height, width), in its pixels.
    fn tiles(&self, (h, w): (usize, usize)) -> Tiles {
        let UpscaleOptions { tile, halo, .. } = self.options;
        let padded = (self.padded(h), self.padded(w));
        let side = if tile == 0 { padded.0.max(padded.1) } else { self.padded(tile) };
        let halo = if padded.0 <= side && padded.1 <= side { 0 } else { self.padded(halo) };
        Tiles::cropped((h, w), padded, side, halo)
    }

    fn padded(&self, n: usize) -> usize {
        n.next_multiple_of(self.options.multiple)
    }

    /// One call of the network. Height and width are multiples of [`UpscaleOptions::multiple`].
    fn call(&mut self, picture: Array3<f32>) -> Result<Array3<f32>> {
        let (_, h, w) = picture.dim();
        let scale = self.options.scale;
        let input = Tensor::F32(picture.insert_axis(Axis(0)).into_dyn());
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

/// Rows and columns of planes [3, h, w], reflected beyond their end.
fn planes_window(source: &Array3<f32>, rows: &Range<usize>, columns: &Range<usize>) -> Result<Array3<f32>> {
    let (_, h, w) = source.dim();
    if rows.end > h || columns.end > w {
        return window((h, w), rows, columns, |c, y, x| source[[c, y, x]]);
    }
    let mut window = black((3, rows.len(), columns.len()))?;
    window.assign(&source.slice(s![.., rows.clone(), columns.clone()]));
    Ok(window)
}

/// Rows and columns of an RGB picture as planes, reflected beyond its end.
fn frame_window(source: &mut dyn RowSource, rows: &Range<usize>, columns: &Range<usize>) -> Result<Array3<f32>> {
    let Frame { height, width, .. } = *source.header();
    // Rows beyond the end are reflections of rows that may lie before the window.
    let start = rows.clone().map(|y| reflect(y, height)).min().unwrap_or(0);
    let (frame, first) = source.window(start..rows.end.min(height))?;
    window((height, width), rows, columns, |c, y, x| frame.sample(c, y - first, x))
}

fn window(
    (h, w): (usize, usize),
    rows: &Range<usize>,
    columns: &Range<usize>,
    sample: impl Fn(usize, usize, usize) -> f32,
) -> Result<Array3<f32>> {
    let mut window = black((3, rows.len(), columns.len()))?;
    for ((c, y, x), value) in window.indexed_iter_mut() {
        *value = sample(c, reflect(rows.start + y, h), reflect(columns.start + x, w));
    }
    Ok(window)
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
