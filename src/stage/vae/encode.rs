//! Pictures in order → the latent of a video.

use ndarray::{Array3, Array4, ArrayD, Axis, concatenate, s, stack};

use super::{Tiling, caches::Caches, floating};
use crate::{
    error::{At, Error, Result},
    runtime::{Input, Network, finite},
    tensor::Tensor,
};

/// The two networks of a video's encoder: of the first picture, and of those after it, several to a latent frame.
pub struct VideoEncoder {
    first: Network,
    later: Network,
    times: usize,
    tiling: Option<Tiling>,
}

impl VideoEncoder {
    /// Binds loaded networks.
    pub fn new(first: Network, later: Network, tiling: Option<Tiling>) -> Result<Self> {
        let picture = later.inputs().iter().find(|i| i.name == "picture");
        let times = picture.and_then(|i| i.shape.first().copied().flatten());
        let missing = || Error::failed(format!("{}: no input picture of a fixed number of frames", later.name()));
        Ok(Self { times: times.ok_or_else(missing)?, first, later, tiling })
    }

    /// Planes [3, h, w] in 0..=1, one size throughout, one and then a multiple of `times` of them → the mean of the latent's
    /// distribution [1, c, t, h/f, w/f], not yet scaled. `times` pictures and what the network keeps of earlier ones, of each tile for
    /// itself, are held, however many there are.
    pub fn encode(&mut self, pictures: &mut dyn Iterator<Item = Result<Array3<f32>>>) -> Result<ArrayD<f32>> {
        let (mut frames, mut seen) = (Vec::new(), 0);
        let mut caches = Vec::new();
        loop {
            let wanted = if frames.is_empty() { 1 } else { self.times };
            let some = pictures.take(wanted).collect::<Result<Vec<_>>>()?;
            if some.is_empty() && !frames.is_empty() {
                break;
            }
            seen += some.len();
            if some.len() != wanted {
                let times = self.times;
                return Err(Error::failed(format!("{seen} frames, where one and a multiple of {times} were wanted")));
            }
            let views: Vec<_> = some.iter().map(|p| p.view()).collect();
            let batch = stack(Axis(0), &views).map_err(|e| Error::failed(format!("frames of several sizes: {e}")))?;
            let batch = batch.mapv_into(|v| v * 2.0 - 1.0);
            frames.push(self.frame(&batch, &mut caches).at(format!("latent frame {}", frames.len() + 1))?);
        }
        let views: Vec<_> = frames.iter().map(|f| f.view().insert_axis(Axis(1))).collect();
        let whole = concatenate(Axis(1), &views);
        let whole = whole.map_err(|e| Error::failed(format!("joining latent frames: {e}")))?;
        Ok(whole.insert_axis(Axis(0)).into_dyn())
    }

    /// One latent frame [c, h/f, w/f] of pictures [p, 3, h, w] in −1..=1; `caches` are the last call's, then this one's, by tile.
    fn frame(&mut self, batch: &Array4<f32>, caches: &mut Vec<Caches>) -> Result<Array3<f32>> {
        let (_, _, h, w) = batch.dim();
        let Some(t) = self.tiling.and_then(|t| t.of_picture((h, w))) else {
            caches.resize_with(1, Caches::default);
            return self.call(batch.clone(), &mut caches[0]);
        };
        let (f, mut tile) = (t.factor, 0);
        t.tiles.over(f).assemble((h / f, w / f), |rows, columns| {
            let seen = batch.slice(s![.., .., rows.start * f..rows.end * f, columns.start * f..columns.end * f]);
            tile += 1;
            caches.resize_with(caches.len().max(tile), Caches::default);
            self.call(seen.to_owned(), &mut caches[tile - 1])
        })
    }

    fn call(&mut self, batch: Array4<f32>, caches: &mut Caches) -> Result<Array3<f32>> {
        let network = if caches.is_empty() { &mut self.first } else { &mut self.later };
        let batch = Tensor::F32(batch.into_dyn());
        let rest = caches.step(network, ("picture", Input::Tensor(&batch)))?;
        let missing = || Error::failed(format!("{}: no output mean", network.name()));
        let (_, mean) = rest.iter().find(|(name, _)| name == "mean").ok_or_else(missing)?;
        let mean = mean.read()?;
        finite(&format!("{} mean", network.name()), &mean)?;
        floating(network, mean)
    }
}
