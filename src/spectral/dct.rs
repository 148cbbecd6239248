//! The orthonormal two-dimensional DCT-II over the last two axes, for any size.

use std::sync::Arc;

use ndarray::ArrayD;
use rustdct::{DctPlanner, TransformType2And3};

/// The sizes of the last two axes; 1 for missing axes.
pub(super) fn plane_size(x: &ArrayD<f32>) -> (usize, usize) {
    let extent = |back: usize| x.ndim().checked_sub(back).map_or(1, |axis| x.shape()[axis]);
    (extent(2), extent(1))
}

/// The transforms for one size of planes, row-major [h, w].
pub(super) struct Dct {
    height: usize,
    width: usize,
    along_rows: Arc<dyn TransformType2And3<f64>>,
    along_columns: Arc<dyn TransformType2And3<f64>>,
}

impl Dct {
    pub(super) fn new(height: usize, width: usize) -> Self {
        let mut planner = DctPlanner::new();
        let (along_rows, along_columns) = (planner.plan_dct2(width), planner.plan_dct2(height));
        Self { height, width, along_rows, along_columns }
    }

    pub(super) fn forward(&self, plane: &mut [f64]) {
        self.separable(plane, |dct, line| {
            dct.process_dct2(line);
            weigh(line, 1.0);
        });
    }

    pub(super) fn inverse(&self, plane: &mut [f64]) {
        self.separable(plane, |dct, line| {
            weigh(line, 2.0);
            dct.process_dct3(line);
        });
    }

    fn separable(&self, plane: &mut [f64], line: impl Fn(&dyn TransformType2And3<f64>, &mut [f64])) {
        plane.chunks_exact_mut(self.width).for_each(|row| line(&*self.along_rows, row));
        let mut column = vec![0.0; self.height];
        for x in 0..self.width {
            column.iter_mut().zip(plane[x..].iter().step_by(self.width)).for_each(|(to, v)| *to = *v);
            line(&*self.along_columns, &mut column);
            plane[x..].iter_mut().step_by(self.width).zip(&column).for_each(|(to, v)| *to = *v);
        }
    }
}

/// Applies the orthonormal weights. rustdct's DCT-II is the plain cosine sum; its DCT-III uses half of the first coefficient.
fn weigh(line: &mut [f64], first: f64) {
    let n = line.len() as f64;
    line[0] *= first * (1.0 / n).sqrt();
    line[1..].iter_mut().for_each(|v| *v *= (2.0 / n).sqrt());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        schedule::{BfStream, NoiseSource},
        tensor::DType,
    };

    /// Goldens of `scripts/reference/spectral.py`: every `stride`th coefficient of standard normal planes.
    #[test]
    fn dct_equals_scipy_and_inverts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/spectral/spectral.json");
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let numbers = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
        let mut bad = Vec::new();
        for row in golden["dct"].as_array().unwrap() {
            let shape: Vec<usize> = numbers(&row["shape"]).into_iter().map(|n| n as usize).collect();
            let x = NoiseSource::Cpu(BfStream::Current).seeded(3).randn(&shape, DType::F32).unwrap();
            let (h, w) = plane_size(&x);
            let dct = Dct::new(h, w);
            let start: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let mut planes = start.clone();
            planes.chunks_exact_mut(h * w).for_each(|plane| dct.forward(plane));
            let (want, stride) = (numbers(&row["values"]), row["stride"].as_u64().unwrap() as usize);
            let got: Vec<f64> = planes.iter().step_by(stride).copied().collect();
            planes.chunks_exact_mut(h * w).for_each(|plane| dct.inverse(plane));
            let off = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
            let (forward, back) = (off(&got, &want), off(&planes, &start));
            if got.len() != want.len() || forward.max(back) > 1e-6 {
                bad.push(format!("{shape:?}: {forward:e}, round trip {back:e}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
