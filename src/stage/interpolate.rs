//! Frames between frames.

use ndarray::{Array3, Array4, ArrayD, Axis, IxDyn, s};

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// RIFE under the conventions of its inputs: 0..=1, zeros to the right and below up to a multiple.
pub struct Interpolate {
    network: Network,
    multiple: usize,
    batch: usize,
}

/// One picture as planes [3, h, w] in 0..=1.
pub type Planes = Array3<f32>;

impl Interpolate {
    /// Binds a loaded network. `batch`: pairs in one call at most.
    pub fn new(network: Network, multiple: usize, batch: usize) -> Self {
        Self { network, multiple, batch: batch.max(1) }
    }

    /// The 2^exp − 1 pictures between two, in order: midpoints of midpoints, so each call asks for the time ½ only, and all
    /// pairs of one depth go together. Not clamped.
    pub fn between(&mut self, first: &Planes, second: &Planes, exp: u32) -> Result<Vec<Planes>> {
        let mut line = vec![first.clone(), second.clone()];
        for _ in 0..exp {
            let pairs: Vec<(&Planes, &Planes)> = line.windows(2).map(|w| (&w[0], &w[1])).collect();
            let mut middles = Vec::with_capacity(pairs.len());
            for some in pairs.chunks(self.batch) {
                middles.extend(self.call(some, &vec![0.5; some.len()])?);
            }
            let mut denser = Vec::with_capacity(2 * line.len());
            for (picture, middle) in line.iter().zip(&middles) {
                denser.extend([picture.clone(), middle.clone()]);
            }
            denser.extend(line.pop());
            line = denser;
        }
        line.pop();
        line.remove(0);
        Ok(line)
    }

    /// One picture at `time` in 0..=1 between two.
    pub fn at(&mut self, first: &Planes, second: &Planes, time: f32) -> Result<Planes> {
        Ok(self.call(&[(first, second)], &[time])?.remove(0))
    }

    /// Pictures at several times between two.
    pub fn at_times(&mut self, first: &Planes, second: &Planes, times: &[f32]) -> Result<Vec<Planes>> {
        let mut made = Vec::with_capacity(times.len());
        for some in times.chunks(self.batch) {
            made.extend(self.call(&vec![(first, second); some.len()], some)?);
        }
        Ok(made)
    }

    fn call(&mut self, pairs: &[(&Planes, &Planes)], times: &[f32]) -> Result<Vec<Planes>> {
        let (_, h, w) = pairs[0].0.dim();
        let round = |n: usize| n.div_ceil(self.multiple) * self.multiple;
        let stack = |pick: &dyn Fn(&(&Planes, &Planes)) -> Planes| {
            let mut all = Array4::<f32>::zeros((pairs.len(), 3, round(h), round(w)));
            for (mut item, pair) in all.outer_iter_mut().zip(pairs) {
                item.slice_mut(s![.., ..h, ..w]).assign(&pick(pair));
            }
            Tensor::F32(all.into_dyn())
        };
        if let Some((_, odd)) = pairs.iter().find(|(a, b)| a.dim() != (3, h, w) || b.dim() != (3, h, w)) {
            let found = odd.dim();
            return Err(Error::failed(format!(
                "interpolation: frames of {found:?} and {:?} (planes, rows, columns)",
                (3, h, w)
            )));
        }
        let (first, second) = (stack(&|p| p.0.clone()), stack(&|p| p.1.clone()));
        let time = Tensor::F32(ArrayD::from_shape_vec(IxDyn(&[times.len()]), times.to_vec()).unwrap_or_default());
        let answer = self.network.run(&[("first", &first), ("second", &second), ("time", &time)])?;
        let Some((_, between)) = answer.into_iter().next() else {
            return Err(Error::failed(format!("{}: no output", self.network.name())));
        };
        finite(&format!("{}'s frames", self.network.name()), &between)?;
        let Tensor::F32(between) = between else {
            return Err(Error::failed(format!("{}: the output is not floating", self.network.name())));
        };
        let crop = |i: usize| {
            let item = between.index_axis(Axis(0), i);
            let item = item.slice(s![.., ..h, ..w]).to_owned();
            item.into_dimensionality().map_err(|e| Error::failed(format!("interpolation: {e}")))
        };
        (0..pairs.len()).map(crop).collect()
    }
}
