//! The orthonormal two-dimensional DCT-II over the last two axes, for any size.

use std::sync::Arc;

use ndarray::ArrayD;
use rayon::prelude::*;
use rustdct::{DctPlanner, TransformType2And3};

/// The orthonormal DCT-II of every plane. `x`: [.., h, w] with at least two axes → the same shape. Computed in f64.
pub fn dct2(x: &ArrayD<f32>) -> ArrayD<f32> {
    map_planes(x, Dct::forward)
}

/// The inverse of [`dct2`] (an orthonormal DCT-III). `x`: [.., h, w] with at least two axes → the same shape.
pub fn idct2(x: &ArrayD<f32>) -> ArrayD<f32> {
    map_planes(x, Dct::inverse)
}

fn map_planes(x: &ArrayD<f32>, transform: fn(&Dct, &mut [f64])) -> ArrayD<f32> {
    let mut out = x.as_standard_layout().into_owned();
    let (h, w) = plane_size(x);
    if let Some(values) = out.as_slice_mut().filter(|v| !v.is_empty()) {
        let dct = Dct::new(h, w);
        values.par_chunks_exact_mut(h * w).for_each(|plane| {
            let mut wide: Vec<f64> = plane.iter().map(|&v| f64::from(v)).collect();
            transform(&dct, &mut wide);
            plane.iter_mut().zip(wide).for_each(|(to, v)| *to = v as f32);
        });
    }
    out
}

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
