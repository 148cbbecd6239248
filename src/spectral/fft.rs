//! Growth in the Fourier basis: the spectrum of the small plane becomes the low frequencies of the large spectrum.

use rustfft::{Fft, FftPlanner, num_complex::Complex};
use std::sync::Arc;

/// The transforms for one small and one large size of planes.
pub(super) struct FourierGrowth {
    small: Plane,
    large: Plane,
}

impl FourierGrowth {
    pub(super) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { small: Plane::new(from), large: Plane::new(to) }
    }

    /// Grows `x`, a small plane, with `noise`, a large plane that is already scaled by σ. Returns a large plane.
    ///
    /// The noise is real, so its spectrum and the sum are Hermitian, and the result has no imaginary part. Where a side of the small
    /// plane is even, its highest frequency stands for both signs. In the large plane each sign gets half of it, and noise makes up
    /// for the missing power.
    pub(super) fn grow(&self, x: &[f32], noise: &[f32]) -> Vec<f64> {
        let (low, mut high) = (self.small.forward(x), self.large.forward(noise));
        let rows = bins(self.small.height, self.large.height);
        let columns = bins(self.small.width, self.large.width);
        for &(from_row, to_row, row_share) in &rows {
            for &(from_column, to_column, column_share) in &columns {
                let share = row_share * column_share;
                let bin = &mut high[to_row * self.large.width + to_column];
                *bin = low[from_row * self.small.width + from_column] * share + *bin * (1.0 - share * share).sqrt();
            }
        }
        self.large.inverse_real(high)
    }
}

/// For each signed frequency of `small` bins: its index among them, its index among `large` bins, and its weight.
fn bins(small: usize, large: usize) -> Vec<(usize, usize, f64)> {
    let half = (small / 2) as isize;
    let wrap = |k: isize, n: usize| k.rem_euclid(n as isize) as usize;
    let shared = small.is_multiple_of(2) && large > small;
    let range = if small.is_multiple_of(2) && !shared { -half..=half - 1 } else { -half..=half };
    range.map(|k| (wrap(k, small), wrap(k, large), if shared && k.abs() == half { 0.5 } else { 1.0 })).collect()
}

struct Plane {
    height: usize,
    width: usize,
    rows: [Arc<dyn Fft<f64>>; 2],
    columns: [Arc<dyn Fft<f64>>; 2],
}

impl Plane {
    fn new((height, width): (usize, usize)) -> Self {
        let mut planner = FftPlanner::new();
        let mut both = |n| [planner.plan_fft_forward(n), planner.plan_fft_inverse(n)];
        Self { height, width, rows: both(width), columns: both(height) }
    }

    fn forward(&self, plane: &[f32]) -> Vec<Complex<f64>> {
        let mut spectrum: Vec<_> = plane.iter().map(|&v| Complex::new(f64::from(v), 0.0)).collect();
        self.transform(&mut spectrum, 0);
        spectrum
    }

    fn inverse_real(&self, mut spectrum: Vec<Complex<f64>>) -> Vec<f64> {
        self.transform(&mut spectrum, 1);
        spectrum.into_iter().map(|v| v.re).collect()
    }

    fn transform(&self, plane: &mut [Complex<f64>], direction: usize) {
        self.rows[direction].process(plane);
        let mut column = vec![Complex::default(); self.height];
        for x in 0..self.width {
            column.iter_mut().zip(plane[x..].iter().step_by(self.width)).for_each(|(to, v)| *to = *v);
            self.columns[direction].process(&mut column);
            plane[x..].iter_mut().step_by(self.width).zip(&column).for_each(|(to, v)| *to = *v);
        }
        let scale = 1.0 / ((self.height * self.width) as f64).sqrt();
        plane.iter_mut().for_each(|v| *v *= scale);
    }
}
