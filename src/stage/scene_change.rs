//! Scene changes and repeated frames, detected from luma.
//!
//! The score of a frame is min(m, |m − m′|): m is the mean absolute difference of luma (BT.709 of R′G′B′, 0 to 1) to the frame
//! before, m′ that of the last two frames of one scene. It is high at cuts and low in steady motion, however fast. FFmpeg's `scdet`
//! measures the same in percent of 8-bit Y′: a threshold of 0.1 here is 8.6 there.
//!
//! A frame repeats the last distinct one if no 16×16 square of it differs by more than 4/255 in mean luma.

use ndarray::{Array3, Axis};

/// Side in pixels of the squares that are compared to detect repeats.
const SQUARE: usize = 16;

/// The largest mean difference of luma, 0 to 1, in any square of [`SQUARE`]² pixels of a repeat. Repeats that went through x264 at
/// CRF 18 to 23 stay below it; motion is at least three times above it.
const REPEAT: f32 = 4.0 / 255.0;

/// The difference of a frame from the last distinct one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Scene-change score, 0..=1.
    pub score: f32,
    /// The largest mean difference of luma in a square, 0..=1.
    pub square: f32,
}

impl Change {
    /// Whether the frame repeats the last distinct one.
    pub fn is_repeat(self) -> bool {
        self.square <= REPEAT
    }
}

/// Compares each frame of a video with the last distinct one.
#[derive(Debug, Clone, Default)]
pub struct ChangeDetector {
    /// Luma and width of the last distinct frame.
    before: Option<(Vec<f32>, usize)>,
    /// The mean difference of the last two frames without a cut between them (m′).
    usual: f32,
}

impl ChangeDetector {
    /// Restores the state after the frame `planes`, with the value that [`ChangeDetector::usual`] had then.
    pub fn after(planes: &Array3<f32>, usual: f32) -> Self {
        Self { before: Some((luma(planes), planes.dim().2)), usual }
    }

    /// The mean difference of the last two frames of one scene (m′).
    pub fn usual(&self) -> f32 {
        self.usual
    }

    /// Compares planes [3 or 4, h, w] in 0..=1 with the last distinct frame; `None` for the first. A score above `threshold` is a
    /// cut. With `skip`, repeats do not become the frame that later ones are compared with.
    pub fn compare(&mut self, planes: &Array3<f32>, threshold: f32, skip: bool) -> Option<Change> {
        let luma = luma(planes);
        let width = planes.dim().2;
        let change = self.before.as_ref().filter(|(b, w)| b.len() == luma.len() && *w == width).map(|(before, _)| {
            let (mean, square) = differences(before, &luma, width);
            (mean, Change { score: mean.min((mean - self.usual).abs()), square })
        });
        if let Some((mean, change)) = change {
            if skip && change.is_repeat() {
                return Some(change);
            }
            if change.score <= threshold {
                self.usual = mean;
            }
        }
        self.before = Some((luma, width));
        change.map(|(_, change)| change)
    }
}

/// BT.709 luma of R′G′B′, composited over black if there is alpha.
fn luma(planes: &Array3<f32>) -> Vec<f32> {
    let [r, g, b] = [0, 1, 2].map(|c| planes.index_axis(Axis(0), c));
    let mut luma: Vec<f32> = r.iter().zip(&g).zip(&b).map(|((r, g), b)| 0.2126 * r + 0.7152 * g + 0.0722 * b).collect();
    for alpha in planes.axis_iter(Axis(0)).skip(3) {
        luma.iter_mut().zip(&alpha).for_each(|(y, a)| *y *= a);
    }
    luma
}

/// The mean absolute difference of all pixels, and the largest mean difference of a square.
fn differences(a: &[f32], b: &[f32], width: usize) -> (f32, f32) {
    let (mut all, mut worst) = (0f64, 0f32);
    let band = width.max(1) * SQUARE;
    for (a, b) in a.chunks(band).zip(b.chunks(band)) {
        let mut sums = vec![0f32; width.div_ceil(SQUARE)];
        for (a, b) in a.chunks(width.max(1)).zip(b.chunks(width.max(1))) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.chunks(SQUARE).zip(b.chunks(SQUARE))) {
                *sum += a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
            }
        }
        let rows = a.len() / width.max(1);
        for (i, sum) in sums.iter().enumerate() {
            all += f64::from(*sum);
            let pixels = rows * SQUARE.min(width - i * SQUARE);
            worst = worst.max(sum / pixels as f32);
        }
    }
    ((all / a.len().max(1) as f64) as f32, worst)
}
