//! VAEs: latents → pictures (decode) and pictures → latents (encode), untiled or in tiles.
//!
//! Image VAEs are one network per direction, called once per picture or tile.
//!
//! The video decoder (Wan) is two networks. The first turns a latent frame into the features of its pictures, the second turns the
//! features of one picture into the picture. Both keep the last two frames of every convolution between calls, as values that
//! ONNX Runtime holds ([`Held`](crate::runtime::Held)), so the next call takes them without a copy. Most of the memory of
//! decoding is for these caches. A tiled video is therefore decoded tile by tile through all frames, and the tiles wait in an unnamed
//! temporary file until the pictures are assembled: the file grows with the length of the video, memory does not.
//!
//! Tiles, overlaps and blends are those of diffusers ([`Tiles::faded`]).

mod caches;
mod decode;
mod encode;
mod tile_file;

use ndarray::{Array3, ArrayD, Axis, Ix3, s};

pub use decode::{DecodedFrames, DecoderNetworks, VideoDecoder};
pub use encode::VideoEncoder;

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
    tiling::Tiles,
};

/// How a VAE's pictures are cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile in pixels, a multiple of `factor`.
    pub side: usize,
    /// Pixels that neighbouring tiles share, a multiple of `factor` below `side`.
    pub overlap: usize,
    /// Pixels per latent pixel, each way.
    pub factor: usize,
    /// Side of the patches that latents are packed in. Packed latents (FLUX.2) are blended unpacked.
    pub patch: usize,
}

impl Tiling {
    /// Whether one tile holds a picture of (height, width) pixels.
    pub fn holds(&self, (height, width): (usize, usize)) -> bool {
        height <= self.side && width <= self.side
    }

    /// The tiles of a picture of (height, width) pixels, in units of `unit` pixels. `None`: one tile holds the picture.
    fn tiles(&self, size: (usize, usize), unit: usize) -> Option<Tiles> {
        let tiles = || Tiles::faded((size.0 / unit, size.1 / unit), self.side / unit, self.overlap / unit);
        (!self.holds(size)).then(tiles)
    }
}

/// Decodes one unscaled latent [1, c, h, w] into planes [3, h·f, w·f] in 0..=1, clamped.
///
/// # Errors
/// Those of the network; values that are not finite.
pub fn decode(network: &mut Network, latent: ArrayD<f32>, tiling: Option<Tiling>) -> Result<Array3<f32>> {
    let latent = first_item(latent, network.name())?;
    let (_, h, w) = latent.dim();
    let mut run = |latent: Array3<f32>| run_single(network, "latents", latent, "picture");
    let tiled = tiling.and_then(|t| Some((t.tiles((h * t.factor, w * t.factor), 1)?, t.factor)));
    let Some((tiles, f)) = tiled else { return run(latent).map(from_signed) };
    let whole = tiles.assemble(|rows, columns| {
        let part = latent.slice(s![.., rows.start / f..rows.end / f, columns.start / f..columns.end / f]);
        Ok(run(part.to_owned())?.into_dyn())
    })?;
    planes(whole).map(from_signed)
}

/// Encodes planes [3, h, w] in 0..=1 into the mean of the latent distribution [1, c, h/f, w/f], unscaled.
///
/// # Errors
/// Those of the network; values that are not finite.
pub fn encode(network: &mut Network, picture: &Array3<f32>, tiling: Option<Tiling>) -> Result<ArrayD<f32>> {
    let (_, h, w) = picture.dim();
    let mut run = |picture: Array3<f32>| run_single(network, "picture", picture.mapv_into(|v| v * 2.0 - 1.0), "mean");
    let with_batch = |mean: Array3<f32>| mean.insert_axis(Axis(0)).into_dyn();
    let tiled = tiling.and_then(|t| Some((t.tiles((h, w), t.factor / t.patch)?, t)));
    let Some((tiles, t)) = tiled else { return run(picture.clone()).map(with_batch) };
    let f = t.factor / t.patch;
    let whole = tiles.assemble(|rows, columns| {
        let part = picture.slice(s![.., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
        Ok(unpack(&run(part.to_owned())?, t.patch).into_dyn())
    })?;
    Ok(with_batch(pack(&planes(whole)?, t.patch)))
}

/// −1..=1 → 0..=1, clamped.
fn from_signed(picture: Array3<f32>) -> Array3<f32> {
    picture.mapv_into(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0))
}

/// [c·p², h, w] → [c, h·p, w·p].
fn unpack(a: &Array3<f32>, p: usize) -> Array3<f32> {
    let (c, h, w) = a.dim();
    let at = |(c, y, x): (usize, usize, usize)| a[[(c * p + y % p) * p + x % p, y / p, x / p]];
    Array3::from_shape_fn((c / (p * p), h * p, w * p), at)
}

/// [c, h·p, w·p] → [c·p², h, w].
fn pack(a: &Array3<f32>, p: usize) -> Array3<f32> {
    let (c, h, w) = a.dim();
    let at = |(c, y, x): (usize, usize, usize)| a[[c / (p * p), y * p + c / p % p, x * p + c % p]];
    Array3::from_shape_fn((c * p * p, h / p, w / p), at)
}

/// Runs a network on one item without a batch axis, and returns item 0 of the named output.
fn run_single(network: &mut Network, input: &str, value: Array3<f32>, output: &str) -> Result<Array3<f32>> {
    let value = Tensor::F32(value.insert_axis(Axis(0)).into_dyn());
    let found = network.run(&[(input, &value)])?.into_iter().find(|(name, _)| name == output);
    let Some((name, tensor)) = found else {
        return Err(Error::failed(format!("{}: no output {output}", network.name())));
    };
    finite(&format!("{} {name}", network.name()), &tensor)?;
    floating(network, tensor)
}

/// Item 0 of a floating-point output [1, c, h, w].
fn floating(network: &Network, output: Tensor) -> Result<Array3<f32>> {
    match output {
        Tensor::F32(a) => first_item(a, network.name()),
        Tensor::I64(_) => Err(Error::failed(format!("{}: an output is not floating-point", network.name()))),
    }
}

/// Item 0 of [1, c, h, w].
fn first_item(a: ArrayD<f32>, name: &str) -> Result<Array3<f32>> {
    let shape = a.shape().to_vec();
    if shape.len() != 4 || shape[0] != 1 {
        return Err(Error::failed(format!("{name}: expected the shape [1, c, h, w], got {shape:?}")));
    }
    let wrong = |e| Error::failed(format!("{name}: {shape:?}: {e}"));
    a.index_axis_move(Axis(0), 0).into_dimensionality().map_err(wrong)
}

/// [c, h, w] with its number of axes known.
fn planes(a: ArrayD<f32>) -> Result<Array3<f32>> {
    let shape = a.shape().to_vec();
    a.into_dimensionality::<Ix3>().map_err(|e| Error::failed(format!("expected planes [c, h, w], got {shape:?}: {e}")))
}
