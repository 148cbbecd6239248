//! Latents → pictures, and back.

use std::{collections::VecDeque, mem};

use ndarray::{Array3, ArrayD, Axis, Slice};

use crate::{
    error::{At, Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// One un-scaled latent [1, c, h, w] → planes [3, h·f, w·f] in 0..=1, clamped.
pub fn decode(network: &mut Network, latent: ArrayD<f32>) -> Result<Array3<f32>> {
    let picture = only(network, "latents", latent, "picture")?;
    let planes = picture.mapv(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0));
    first_item(planes, network.name())
}

/// The two networks of a video's decoder: of the first latent frame, and of those after it.
pub struct Video {
    first: Network,
    later: Network,
}

impl Video {
    /// Binds loaded networks.
    pub fn new(first: Network, later: Network) -> Self {
        Self { first, later }
    }

    /// The pictures of an un-scaled latent [1, c, t, h, w] in order: planes [3, h·f, w·f] in 0..=1, clamped. Latent frames are
    /// decoded as pictures are asked for; what is held does not grow with their number.
    pub fn frames(&mut self, latent: ArrayD<f32>) -> Frames<'_> {
        Frames { video: self, latent, next: 0, caches: vec![], ready: VecDeque::new() }
    }
}

/// A video while it is decoded. After an error there are no more pictures.
pub struct Frames<'a> {
    video: &'a mut Video,
    latent: ArrayD<f32>,
    next: usize,
    /// What the last call keeps for the next.
    caches: Vec<(String, Tensor)>,
    ready: VecDeque<Array3<f32>>,
}

impl Frames<'_> {
    /// Decodes the next latent frame.
    fn advance(&mut self) -> Result<()> {
        let network = if self.next == 0 { &mut self.video.first } else { &mut self.video.later };
        let frame = self.latent.slice_axis(Axis(2), Slice::from(self.next..self.next + 1));
        let frame = Tensor::F32(frame.index_axis_move(Axis(2), 0).as_standard_layout().into_owned());
        self.next += 1;
        let caches = mem::take(&mut self.caches);
        let mut inputs = vec![("latents", &frame)];
        inputs.extend(caches.iter().map(|(name, t)| (name.as_str(), t)));
        let answer = network.run(&inputs).at(format!("latent frame {}", self.next))?;
        for (name, tensor) in answer {
            match (name.strip_prefix("next."), tensor) {
                (Some(number), tensor) => self.caches.push((format!("cache.{number}"), tensor)),
                (None, tensor) => {
                    finite(&format!("{} {name} of latent frame {}", network.name(), self.next), &tensor)?;
                    let Tensor::F32(pictures) = tensor else {
                        return Err(Error::failed(format!("{}: output {name} is not floating", network.name())));
                    };
                    for picture in pictures.outer_iter() {
                        let planes = picture.mapv(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0)).insert_axis(Axis(0));
                        self.ready.push_back(first_item(planes, network.name())?);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Array3<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && self.next < self.latent.shape()[2] {
            if let Err(e) = self.advance() {
                self.next = self.latent.shape()[2];
                return Some(Err(e));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Planes [3, h, w] in 0..=1 → the mean of the latent's distribution [1, c, h/f, w/f], not yet scaled.
pub fn encode(network: &mut Network, picture: &Array3<f32>) -> Result<ArrayD<f32>> {
    let input = picture.mapv(|v| v * 2.0 - 1.0).insert_axis(Axis(0)).into_dyn();
    only(network, "picture", input, "mean")
}

fn only(network: &mut Network, input: &str, value: ArrayD<f32>, output: &str) -> Result<ArrayD<f32>> {
    let value = Tensor::F32(value);
    let answer = network.run(&[(input, &value)])?.into_iter().find(|(name, _)| name == output);
    let Some((name, tensor)) = answer else {
        return Err(Error::failed(format!("{}: no output {output}", network.name())));
    };
    finite(&format!("{} {name}", network.name()), &tensor)?;
    match tensor {
        Tensor::F32(a) => Ok(a),
        Tensor::I64(_) => Err(Error::failed(format!("{}: output {name} is not floating", network.name()))),
    }
}

/// Item 0 of [1, c, h, w].
pub(crate) fn first_item(a: ArrayD<f32>, name: &str) -> Result<Array3<f32>> {
    let shape = a.shape().to_vec();
    a.index_axis_move(Axis(0), 0)
        .into_dimensionality()
        .map_err(|_| Error::failed(format!("{name}: {shape:?} where [1, c, h, w] was wanted")))
}
