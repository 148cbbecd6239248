//! Pictures in order → the latent of a video.

use ndarray::{Array3, ArrayD, Axis, concatenate};

use crate::{
    error::{At, Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// The two networks of a video's encoder: of the first picture, and of those after it, several to a latent frame.
pub struct Video {
    first: Network,
    later: Network,
    times: usize,
}

impl Video {
    /// Binds loaded networks.
    pub fn new(first: Network, later: Network) -> Result<Self> {
        let picture = later.inputs().iter().find(|i| i.name == "picture");
        let times = picture.and_then(|i| i.shape.first().copied().flatten());
        let missing = || Error::failed(format!("{}: no input picture of a fixed number of frames", later.name()));
        Ok(Self { times: times.ok_or_else(missing)?, first, later })
    }

    /// Planes [3, h, w] in 0..=1, one size throughout, one and then a multiple of `times` of them → the mean of the latent's
    /// distribution [1, c, t, h/f, w/f], not yet scaled. `times` pictures and what the network keeps of earlier ones are held, however
    /// many there are.
    pub fn encode(&mut self, pictures: &mut dyn Iterator<Item = Result<Array3<f32>>>) -> Result<ArrayD<f32>> {
        let (mut frames, mut seen) = (Vec::new(), 0);
        let mut caches: Vec<(String, Tensor)> = Vec::new();
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
            frames.push(self.call(&some, &mut caches).at(format!("latent frame {}", frames.len() + 1))?);
        }
        let views: Vec<_> = frames.iter().map(|f| f.view()).collect();
        concatenate(Axis(2), &views).map_err(|e| Error::failed(format!("joining latent frames: {e}")))
    }

    /// One latent frame [1, c, 1, h/f, w/f]; `caches` are the last call's, then this one's.
    fn call(&mut self, pictures: &[Array3<f32>], caches: &mut Vec<(String, Tensor)>) -> Result<ArrayD<f32>> {
        let network = if caches.is_empty() { &mut self.first } else { &mut self.later };
        let views: Vec<_> = pictures.iter().map(|p| p.view().insert_axis(Axis(0))).collect();
        let batch = concatenate(Axis(0), &views).map_err(|e| Error::failed(format!("frames of several sizes: {e}")))?;
        let batch = Tensor::F32(batch.mapv_into(|v| v * 2.0 - 1.0).into_dyn());
        let before = std::mem::take(caches);
        let mut inputs = vec![("picture", &batch)];
        inputs.extend(before.iter().map(|(name, t)| (name.as_str(), t)));
        let mut mean = None;
        for (name, tensor) in network.run(&inputs)? {
            if let Some(number) = name.strip_prefix("next.") {
                caches.push((format!("cache.{number}"), tensor));
            } else if name == "mean" {
                finite(&format!("{} {name}", network.name()), &tensor)?;
                mean = Some(tensor);
            }
        }
        match mean {
            Some(Tensor::F32(mean)) => Ok(mean.insert_axis(Axis(2))),
            _ => Err(Error::failed(format!("{}: no floating output mean", network.name()))),
        }
    }
}
