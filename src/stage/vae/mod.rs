//! Autoencoders: latents → pictures, and back; whole or in tiles.

mod caches;
mod decode;
mod encode;
mod scratch;
mod tiles;

use ndarray::{Array3, ArrayD, Axis, s};

pub use decode::{Frames, Networks, VideoDecoder};
pub use encode::VideoEncoder;
pub use tiles::Tiles;

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// How an autoencoder's pictures are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Tiles in pixels of the picture, multiples of `factor`.
    pub tiles: Tiles,
    /// Picture pixels per latent pixel, each way.
    pub factor: usize,
    /// Side of the patches that latents are of: FLUX.2's are blended as the pixels inside.
    pub patch: usize,
}

impl Tiling {
    /// Tiles of a picture; none where one holds the whole.
    fn of_picture(self, size: (usize, usize)) -> Option<Self> {
        (!self.tiles.hold(size)).then_some(self)
    }
}

/// One un-scaled latent [1, c, h, w] → planes [3, h·f, w·f] in 0..=1, clamped.
pub fn decode(network: &mut Network, latent: ArrayD<f32>, tiling: Option<Tiling>) -> Result<Array3<f32>> {
    let latent = first_item(latent, network.name())?;
    let (_, h, w) = latent.dim();
    let mut part = |latent: Array3<f32>| only(network, "latents", latent, "picture");
    let tiled = tiling.and_then(|t| t.of_picture((h * t.factor, w * t.factor)));
    let Some(Tiling { tiles, factor: f, .. }) = tiled else { return part(latent).map(shown) };
    let whole = tiles.assemble((h * f, w * f), |rows, columns| {
        part(latent.slice(s![.., rows.start / f..rows.end / f, columns.start / f..columns.end / f]).to_owned())
    });
    whole.map(shown)
}

/// Planes [3, h, w] in 0..=1 → the mean of the latent's distribution [1, c, h/f, w/f], not yet scaled.
pub fn encode(network: &mut Network, picture: &Array3<f32>, tiling: Option<Tiling>) -> Result<ArrayD<f32>> {
    let (_, h, w) = picture.dim();
    let mut part = |picture: Array3<f32>| only(network, "picture", picture.mapv_into(|v| v * 2.0 - 1.0), "mean");
    let batch = |mean: Array3<f32>| mean.insert_axis(Axis(0)).into_dyn();
    let Some(t) = tiling.and_then(|t| t.of_picture((h, w))) else { return part(picture.clone()).map(batch) };
    let f = t.factor / t.patch;
    let whole = t.tiles.over(f).assemble((h / f, w / f), |rows, columns| {
        let seen = picture.slice(s![.., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
        part(seen.to_owned()).map(|mean| apart(&mean, t.patch))
    });
    whole.map(|mean| batch(patches(&mean, t.patch)))
}

/// −1..=1 → 0..=1, clamped.
fn shown(picture: Array3<f32>) -> Array3<f32> {
    picture.mapv_into(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0))
}

/// [c·p², h, w] → [c, h·p, w·p].
fn apart(a: &Array3<f32>, p: usize) -> Array3<f32> {
    let (c, h, w) = a.dim();
    let at = |(c, y, x): (usize, usize, usize)| a[[(c * p + y % p) * p + x % p, y / p, x / p]];
    Array3::from_shape_fn((c / (p * p), h * p, w * p), at)
}

/// [c, h·p, w·p] → [c·p², h, w].
fn patches(a: &Array3<f32>, p: usize) -> Array3<f32> {
    let (c, h, w) = a.dim();
    let at = |(c, y, x): (usize, usize, usize)| a[[c / (p * p), y * p + c / p % p, x * p + c % p]];
    Array3::from_shape_fn((c * p * p, h / p, w / p), at)
}

fn only(network: &mut Network, input: &str, value: Array3<f32>, output: &str) -> Result<Array3<f32>> {
    let value = Tensor::F32(value.insert_axis(Axis(0)).into_dyn());
    let answer = network.run(&[(input, &value)])?.into_iter().find(|(name, _)| name == output);
    let Some((name, tensor)) = answer else {
        return Err(Error::failed(format!("{}: no output {output}", network.name())));
    };
    finite(&format!("{} {name}", network.name()), &tensor)?;
    floating(network, tensor)
}

/// Item 0 of a network's answer.
fn floating(network: &Network, answer: Tensor) -> Result<Array3<f32>> {
    match answer {
        Tensor::F32(a) => first_item(a, network.name()),
        Tensor::I64(_) => Err(Error::failed(format!("{}: an output is not floating", network.name()))),
    }
}

/// Item 0 of [1, c, h, w].
pub(crate) fn first_item(a: ArrayD<f32>, name: &str) -> Result<Array3<f32>> {
    let shape = a.shape().to_vec();
    if shape.len() != 4 || shape[0] != 1 {
        return Err(Error::failed(format!("{name}: {shape:?} where [1, c, h, w] was wanted")));
    }
    let wrong = |e| Error::failed(format!("{name}: {shape:?}: {e}"));
    a.index_axis_move(Axis(0), 0).into_dimensionality().map_err(wrong)
}
