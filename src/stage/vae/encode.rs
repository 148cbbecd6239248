//! Pictures in order → the latent of a video.

use ndarray::{Array3, Array4, ArrayD, Axis, concatenate, s, stack};

use super::{Tiling, caches::Caches, floating, planes};
use crate::{
    error::{At, Error, Result},
    runtime::{InputValue, Network, finite},
    tensor::Tensor,
};

/// The two networks of a video encoder: one for the first picture, one for each later group of `group` pictures.
pub struct VideoEncoder {
    first: Network,
    later: Network,
    group: usize,
    tiling: Option<Tiling>,
}

impl VideoEncoder {
    /// Binds loaded networks.
    ///
    /// # Errors
    /// `later` has no input `picture` with a fixed number of frames.
    pub fn new(first: Network, later: Network, tiling: Option<Tiling>) -> Result<Self> {
        let picture = later.inputs().iter().find(|i| i.name == "picture");
        let group = picture.and_then(|i| i.shape.first().copied().flatten());
        let missing = || Error::failed(format!("{}: no input picture with a fixed number of frames", later.name()));
        Ok(Self { group: group.ok_or_else(missing)?, first, later, tiling })
    }

    /// Encodes planes [3, h, w] in 0..=1 of one size, 1 + n·`group` of them, into the mean of the latent distribution
    /// [1, c, t, h/f, w/f], unscaled. Memory holds one group of pictures and the caches of each tile, however long the video is.
    ///
    /// # Errors
    /// Another number of pictures, pictures of several sizes; those of `pictures` and of the networks.
    pub fn encode(&mut self, pictures: &mut dyn Iterator<Item = Result<Array3<f32>>>) -> Result<ArrayD<f32>> {
        let (mut frames, mut seen) = (Vec::new(), 0);
        let mut caches = Vec::new();
        loop {
            let expected = if frames.is_empty() { 1 } else { self.group };
            let group = pictures.take(expected).collect::<Result<Vec<_>>>()?;
            if group.is_empty() && !frames.is_empty() {
                break;
            }
            seen += group.len();
            if group.len() != expected {
                let n = self.group;
                return Err(Error::failed(format!("expected 1 frame and a multiple of {n} more, got {seen}")));
            }
            let views: Vec<_> = group.iter().map(|p| p.view()).collect();
            let batch = stack(Axis(0), &views).map_err(|e| Error::failed(format!("frames of several sizes: {e}")))?;
            let batch = batch.mapv_into(|v| v * 2.0 - 1.0);
            frames.push(self.frame(&batch, &mut caches).at(format!("latent frame {}", frames.len() + 1))?);
        }
        let views: Vec<_> = frames.iter().map(|f| f.view().insert_axis(Axis(1))).collect();
        let whole = concatenate(Axis(1), &views);
        let whole = whole.map_err(|e| Error::failed(format!("joining latent frames: {e}")))?;
        Ok(whole.insert_axis(Axis(0)).into_dyn())
    }

    /// One latent frame [c, h/f, w/f] of pictures [p, 3, h, w] in −1..=1. `caches` holds one entry per tile.
    fn frame(&mut self, batch: &Array4<f32>, caches: &mut Vec<Caches>) -> Result<Array3<f32>> {
        let (_, _, h, w) = batch.dim();
        let tiled = self.tiling.and_then(|t| Some((t.tiles((h, w), t.factor)?, t.factor)));
        let Some((tiles, f)) = tiled else {
            caches.resize_with(1, Caches::default);
            return self.call(batch.clone(), &mut caches[0]);
        };
        caches.resize_with(tiles.count(), Caches::default);
        let mut caches = caches.iter_mut();
        let whole = tiles.assemble(|rows, columns| {
            let part = batch.slice(s![.., .., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
            let caches = caches.next().ok_or_else(|| Error::failed("more tiles than caches"))?;
            Ok(self.call(part.to_owned(), caches)?.into_dyn())
        });
        planes(whole?)
    }

    fn call(&mut self, batch: Array4<f32>, caches: &mut Caches) -> Result<Array3<f32>> {
        let network = if caches.is_empty() { &mut self.first } else { &mut self.later };
        let batch = Tensor::F32(batch.into_dyn());
        let outputs = caches.step(network, ("picture", InputValue::Tensor(&batch)))?;
        let missing = || Error::failed(format!("{}: no output mean", network.name()));
        let (_, mean) = outputs.iter().find(|(name, _)| name == "mean").ok_or_else(missing)?;
        let mean = mean.read()?;
        finite(&format!("{} mean", network.name()), &mean)?;
        floating(network, mean)
    }
}
