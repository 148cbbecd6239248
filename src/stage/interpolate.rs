//! Runs RIFE on pairs of frames.

use ndarray::{Array3, Array4, ArrayD, Axis, IxDyn, s};

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::{Tensor, check_room, copied},
};

/// A loaded RIFE network. Its inputs are in 0..=1, zero-padded at the right and bottom to a multiple.
pub struct Interpolate {
    network: Network,
    multiple: usize,
    batch: usize,
}

/// One frame as planes [3, h, w] in 0..=1.
pub type Planes = Array3<f32>;

impl Interpolate {
    /// Binds a loaded network. `multiple`: height and width are padded to it. `batch`: the most pairs per call.
    pub fn new(network: Network, multiple: usize, batch: usize) -> Self {
        Self { network, multiple, batch: batch.max(1) }
    }

    /// The 2^exp − 1 frames between two, in order, as midpoints of midpoints: every call asks for time ½, and all pairs of one
    /// depth are batched. Not clamped.
    ///
    /// # Errors
    /// Those of the network; frames of several sizes; values that are not finite.
    pub fn between(&mut self, first: &Planes, second: &Planes, exp: u32) -> Result<Vec<Planes>> {
        let mut line = vec![copied(first)?, copied(second)?];
        for _ in 0..exp {
            let pairs: Vec<(&Planes, &Planes)> = line.windows(2).map(|w| (&w[0], &w[1])).collect();
            let mut middles = Vec::with_capacity(pairs.len());
            for batch in pairs.chunks(self.batch) {
                middles.extend(self.call(batch, &vec![0.5; batch.len()])?);
            }
            let last = line.pop();
            line = line.into_iter().zip(middles).flat_map(|(frame, middle)| [frame, middle]).chain(last).collect();
        }
        line.pop();
        line.remove(0);
        Ok(line)
    }

    /// The frames at several times in 0..=1 between two. Not clamped.
    ///
    /// # Errors
    /// As [`Interpolate::between`].
    pub fn at_times(&mut self, first: &Planes, second: &Planes, times: &[f32]) -> Result<Vec<Planes>> {
        let mut frames = Vec::with_capacity(times.len());
        for times in times.chunks(self.batch) {
            frames.extend(self.call(&vec![(first, second); times.len()], times)?);
        }
        Ok(frames)
    }

    fn call(&mut self, pairs: &[(&Planes, &Planes)], times: &[f32]) -> Result<Vec<Planes>> {
        let (_, h, w) = pairs[0].0.dim();
        if let Some((_, odd)) = pairs.iter().find(|(a, b)| a.dim() != (3, h, w) || b.dim() != (3, h, w)) {
            let (found, expected) = (odd.dim(), (3, h, w));
            return Err(Error::failed(format!(
                "interpolation: expected frames [c, h, w] of {expected:?}, got {found:?}"
            )));
        }
        // Both inputs, padded, the output, and a copy of it. Their allocation cannot fail without ending the process.
        let padded = h.next_multiple_of(self.multiple) * w.next_multiple_of(self.multiple);
        check_room::<f32>(4 * pairs.len() * 3 * padded)?;
        let (first, second) = (self.batch(pairs.iter().map(|p| p.0)), self.batch(pairs.iter().map(|p| p.1)));
        let time = Tensor::F32(ArrayD::from_shape_vec(IxDyn(&[times.len()]), times.to_vec()).unwrap_or_default());
        let outputs = self.network.run(&[("first", &first), ("second", &second), ("time", &time)])?;
        let Some((_, frames)) = outputs.into_iter().next() else {
            return Err(Error::failed(format!("{}: no output", self.network.name())));
        };
        finite(&format!("{}'s frames", self.network.name()), &frames)?;
        let Tensor::F32(frames) = frames else {
            return Err(Error::failed(format!("{}: the output is not floating-point", self.network.name())));
        };
        let crop = |i: usize| {
            let item = frames.index_axis(Axis(0), i);
            let item = item.slice(s![.., ..h, ..w]).to_owned();
            item.into_dimensionality().map_err(|e| Error::failed(format!("interpolation: {e}")))
        };
        (0..pairs.len()).map(crop).collect()
    }

    /// Frames of one size as one input [n, 3, h, w], padded.
    fn batch<'f>(&self, frames: impl ExactSizeIterator<Item = &'f Planes> + Clone) -> Tensor {
        let (h, w) = frames.clone().next().map_or((0, 0), |f| (f.dim().1, f.dim().2));
        let round = |n: usize| n.div_ceil(self.multiple) * self.multiple;
        let mut all = Array4::<f32>::zeros((frames.len(), 3, round(h), round(w)));
        for (mut item, frame) in all.outer_iter_mut().zip(frames) {
            item.slice_mut(s![.., ..h, ..w]).assign(frame);
        }
        Tensor::F32(all.into_dyn())
    }
}
