//! Whether a frame continues the one before: cuts and repeats, by luma alone.

use ndarray::{Array3, Axis};

/// Side of the squares in pixels by which repeats are told.
const SQUARE: usize = 16;

/// The mean difference of luma in every square of [`SQUARE`]² pixels up to which a frame repeats another, of 1. Repeats that went
/// through x264 at CRF 18 to 23 stay below it; moving things are three times above it and more.
const REPEAT: f32 = 4.0 / 255.0;

/// What a frame is to the last distinct one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// min(m, |m − m'|), 0..=1, where m is the mean absolute difference of luma and m' that of the last two frames of one scene.
    /// It is high at cuts and low in steady motion, however fast (the measure of FFmpeg's `scdet`, in 0..=1 of full-range luma).
    pub score: f32,
    /// The greatest mean difference in a square, 0..=1.
    pub square: f32,
}

impl Change {
    /// Whether the frame shows the same again.
    pub fn is_repeat(self) -> bool {
        self.square <= REPEAT
    }
}

/// Judges frames one after the other.
#[derive(Debug, Clone, Default)]
pub struct ChangeDetector {
    /// Luma of the last distinct frame and its width.
    before: Option<(Vec<f32>, usize)>,
    /// The mean difference of the last two frames that followed each other without a cut.
    usual: f32,
}

impl ChangeDetector {
    /// As it was after a frame that was kept; `usual` as [`ChangeDetector::usual`] told it.
    pub fn after(planes: &Array3<f32>, usual: f32) -> Self {
        Self { before: Some((luma(planes), planes.dim().2)), usual }
    }

    /// The mean difference of the last two frames of one scene.
    pub fn usual(&self) -> f32 {
        self.usual
    }

    /// Compares planes [3 or 4, h, w] in 0..=1 with the last frame that was kept; `None` for the first. `threshold`: the score above
    /// which there is a cut. `skip`: whether repeats are no frames to compare with.
    pub fn see(&mut self, planes: &Array3<f32>, threshold: f32, skip: bool) -> Option<Change> {
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

/// Luma of ITU-R BT.709 from R′G′B′, over black where there is alpha.
fn luma(planes: &Array3<f32>) -> Vec<f32> {
    let [r, g, b] = [0, 1, 2].map(|c| planes.index_axis(Axis(0), c));
    let mut luma: Vec<f32> = r.iter().zip(&g).zip(&b).map(|((r, g), b)| 0.2126 * r + 0.7152 * g + 0.0722 * b).collect();
    for alpha in planes.axis_iter(Axis(0)).skip(3) {
        luma.iter_mut().zip(&alpha).for_each(|(y, a)| *y *= a);
    }
    luma
}

/// The mean absolute difference, and the greatest one of a square.
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
