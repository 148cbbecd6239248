//! The ladder of levels: which steps run at which size.

use std::str::FromStr;

use serde::Serialize;

use super::{
    activation::Spectrum,
    growth::{Growth, ratio, rewound},
};
use crate::error::{Error, Result};

/// One level of the ladder. The latent grows before every level except the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Latent rows.
    pub height: usize,
    /// Latent columns.
    pub width: usize,
    /// The first step that runs at this size.
    pub first_step: usize,
    /// One past the last step. Equal to `first_step` where the level has no steps: the latent then grows through this size, as in
    /// the published implementation.
    pub end_step: usize,
    /// σ at `first_step`, after the rewind of the preceding growth.
    pub sigma_start: f32,
    /// σ after this level's steps, before the next growth; 0 at the end.
    pub sigma_end: f32,
}

impl Level {
    /// The number of steps at this size.
    pub fn steps(&self) -> usize {
        self.end_step - self.first_step
    }

    /// The full schedule for this level: `sigmas` with `sigma_start` at `first_step`. A solver that is reset at `first_step` reads
    /// no earlier value.
    pub fn sigmas(&self, sigmas: &[f32]) -> Vec<f32> {
        let mut own = sigmas.to_vec();
        if let Some(sigma) = own.get_mut(self.first_step) {
            *sigma = self.sigma_start;
        }
        own
    }
}

/// The sizes of a ladder.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scales {
    /// Full size only.
    Full,
    /// 2^−n, …, 1/2, 1 of the full size.
    Levels(usize),
    /// Ascending, the last one the full size; see [`Scales::explicit`].
    Explicit(Vec<Scale>),
}

/// Size of one level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Fraction of the full size, in (0, 1].
    Ratio(f64),
    /// Height of the decoded picture in pixels.
    Height(usize),
}

impl Scale {
    fn number(self) -> f64 {
        match self {
            Self::Ratio(ratio) => ratio,
            Self::Height(height) => height as f64,
        }
    }
}

impl FromStr for Scale {
    type Err = Error;

    /// `0.5` or `1/4`, a ratio in (0, 1]; or `480`, a height.
    fn from_str(text: &str) -> Result<Self> {
        let ratio = match text.split_once('/') {
            Some((over, under)) => over.parse::<f64>().ok().zip(under.parse().ok()).map(|(n, d): (f64, f64)| n / d),
            None => text.parse().ok(),
        };
        match ratio {
            Some(x) if x > 0.0 && x <= 1.0 => Ok(Self::Ratio(x)),
            Some(x) if x > 1.0 && x.fract() == 0.0 && x < 1e6 && !text.contains('/') => Ok(Self::Height(x as usize)),
            _ => Err(Error::usage(format!(
                "progressive_scales must be ratios in (0, 1] such as 0.5 or 1/4, or pixel heights such as 480, got '{text}'"
            ))),
        }
    }
}

impl Scales {
    /// Explicit sizes. Errors: an empty list, ratios mixed with heights, a list that does not ascend, ratios that do not end in 1.
    pub fn explicit(scales: &[Scale]) -> Result<Self> {
        let ratios = scales.iter().filter(|scale| matches!(scale, Scale::Ratio(_))).count();
        // `1` is a ratio, so a list of heights cannot contain it.
        if ratios != 0 && ratios != scales.len() {
            return Err(Error::usage("--progressive-scales: give ratios or pixel heights, not both"));
        }
        if let Some(pair) = scales.windows(2).find(|pair| pair[0].number() >= pair[1].number()) {
            let (a, b) = (pair[0].number(), pair[1].number());
            return Err(Error::usage(format!("--progressive-scales must ascend, got {a} before {b}")));
        }
        match scales.last() {
            None => Err(Error::usage("--progressive-scales: at least one scale is required, such as 0.5 1.0")),
            Some(Scale::Ratio(last)) if *last != 1.0 => {
                Err(Error::usage(format!("--progressive-scales must end in 1, full resolution, got {last}")))
            }
            Some(_) => Ok(Self::Explicit(scales.to_vec())),
        }
    }

    /// Checks that heights end in the picture's height in pixels.
    pub fn check_height(&self, height: usize) -> Result<()> {
        match self {
            Self::Explicit(scales) => match scales.last() {
                Some(Scale::Height(last)) if *last != height => Err(Error::usage(format!(
                    "--progressive-scales: the last height must be the picture's, {height}, got {last}"
                ))),
                _ => Ok(()),
            },
            Self::Full | Self::Levels(_) => Ok(()),
        }
    }

    /// Pairs of consecutive explicit sizes, as typed; empty for the other variants.
    pub fn pairs(&self) -> Vec<(f64, f64)> {
        match self {
            Self::Explicit(scales) => scales.windows(2).map(|pair| (pair[0].number(), pair[1].number())).collect(),
            Self::Full | Self::Levels(_) => Vec::new(),
        }
    }

    /// Explicit sizes as ratios of the last one.
    fn ratios(scales: &[Scale]) -> Vec<f64> {
        let full = scales.last().map_or(1.0, |scale| scale.number());
        scales.iter().map(|scale| scale.number() / full).collect()
    }
}

/// `--progressive-delta`: in (0, 1).
pub fn check_delta(delta: f64) -> Result<()> {
    if delta > 0.0 && delta < 1.0 {
        return Ok(());
    }
    Err(Error::usage(format!("progressive_delta must be in (0, 1), got {delta}")))
}

/// The inputs of a ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// Rows and columns of the full latent.
    pub latent: (usize, usize),
    /// Side of the transformer's patches: rows and columns of every level are multiples of it.
    pub patch: usize,
    /// The sizes.
    pub scales: Scales,
    /// The power spectrum of the VAE's latents.
    pub spectrum: Spectrum,
    /// The threshold δ in (0, 1): the larger, the more steps run at small sizes.
    pub delta: f64,
    /// The growth between levels.
    pub growth: Growth,
}

impl Ladder {
    /// Plans the levels for a schedule of steps + 1 `sigmas` that ends in 0.
    ///
    /// A level ends before the first step whose σ is at most the activation time of the level's highest frequency: min(h, w)/2, with
    /// its size before rounding to patches. As published, that is an integer division for [`Scales::Levels`], but not for
    /// [`Scales::Explicit`]. The search uses the original schedule, without rewinds.
    ///
    /// Where σ never falls that far, the growth follows the last step, at σ = 0: the next level has no steps, and the growth is a
    /// spectral upscale. Where a level ends before step 0, it has no steps, and noise grows into noise.
    ///
    /// # Errors
    /// A full size that is no multiple of the patch, two levels of the same size, an invalid δ, and a ratio that the transform does
    /// not support.
    pub fn levels(&self, sigmas: &[f32]) -> Result<Vec<Level>> {
        check_delta(self.delta)?;
        let sizes = self.sizes()?;
        let steps = sigmas.len().saturating_sub(1);
        let mut levels: Vec<Level> = Vec::with_capacity(sizes.len());
        let (mut first_step, mut sigma_start) = (0, sigmas.first().copied().unwrap_or(0.0));
        for (k, &(height, width)) in sizes.iter().enumerate() {
            let end_step = if k + 1 == sizes.len() {
                steps
            } else {
                let threshold = self.spectrum.activation_time(self.highest_frequency(k), self.delta);
                sigmas[..steps].iter().position(|&s| f64::from(s) <= threshold).unwrap_or(steps).max(first_step)
            };
            let sigma_end =
                if end_step == first_step { sigma_start } else { sigmas.get(end_step).copied().unwrap_or(0.0) };
            levels.push(Level { height, width, first_step, end_step, sigma_start, sigma_end });
            first_step = end_step;
            sigma_start = match sizes.get(k + 1) {
                Some(&next) if self.growth.rewind => rewound(sigma_end, ratio((height, width), next)),
                _ => sigma_end,
            };
        }
        Ok(levels)
    }

    /// The sizes, rounded to patches, smallest first.
    fn sizes(&self) -> Result<Vec<(usize, usize)>> {
        let (h, w) = self.latent;
        let patch = self.patch.max(1);
        if h == 0 || w == 0 || h % patch != 0 || w % patch != 0 {
            return Err(Error::usage(format!(
                "a latent of {h}x{w} cannot be cut into {patch}x{patch} patches; the nearest sizes are {}x{} and {}x{}",
                (h / patch).max(1) * patch,
                (w / patch).max(1) * patch,
                h.div_ceil(patch).max(1) * patch,
                w.div_ceil(patch).max(1) * patch
            )));
        }
        let scales = self.factors()?;
        let sizes: Vec<_> = scales.iter().map(|&s| (snap(h as f64 * s, patch), snap(w as f64 * s, patch))).collect();
        for (pair, scale) in sizes.windows(2).zip(&scales) {
            if pair[0] == pair[1] {
                return Err(Error::usage(format!(
                    "the level at scale {scale} of a {h}x{w} latent would be {}x{}, the same size as the next; \
                     leave it out, or choose a larger picture",
                    pair[0].0, pair[0].1
                )));
            }
            self.growth.check(pair[0], pair[1])?;
        }
        Ok(sizes)
    }

    fn factors(&self) -> Result<Vec<f64>> {
        let deepest = self.latent.0.max(self.latent.1).ilog2() as usize + 1;
        match &self.scales {
            Scales::Full => Ok(vec![1.0]),
            Scales::Levels(n) if *n > deepest => Err(Error::usage(format!(
                "progressive_levels {n} is too many for a latent of {}x{}; at most {deepest} halvings are possible",
                self.latent.0, self.latent.1
            ))),
            Scales::Levels(n) => Ok((0..=*n).rev().map(|k| 0.5f64.powi(k as i32)).collect()),
            Scales::Explicit(scales) => Ok(Scales::ratios(scales)),
        }
    }

    /// The highest frequency ω of level `k`, which is not the last. At least half a cycle, so that its power is finite.
    fn highest_frequency(&self, k: usize) -> f64 {
        let side = self.latent.0.min(self.latent.1);
        let omega = match &self.scales {
            Scales::Full => side as f64 / 2.0,
            Scales::Levels(n) => ((side >> (n - k)) / 2) as f64,
            Scales::Explicit(scales) => Scales::ratios(scales)[k] * side as f64 / 2.0,
        };
        omega.max(0.5)
    }
}

/// The levels of a run that starts from a picture at step `first`: levels that end before it are dropped. The first remaining level
/// starts at the schedule's σ, because no growth precedes it. `first` is below the number of steps.
pub fn from_step(mut levels: Vec<Level>, sigmas: &[f32], first: usize) -> Vec<Level> {
    if first > 0 {
        levels.retain(|level| level.end_step > first);
        if let Some(level) = levels.first_mut() {
            (level.first_step, level.sigma_start) = (first, sigmas[first]);
        }
    }
    levels
}

/// The nearest multiple of `patch`, at least one patch; the lower of two equally near ones.
fn snap(length: f64, patch: usize) -> usize {
    // A factor such as 1/3 may give a value slightly above an integer or half-integer.
    let patches = (length / patch as f64 - 0.5 - 1e-9).ceil();
    (patches as usize).max(1) * patch
}

/// The steps of each level in the published notation, `18@64x64 + 32@128x128`: steps @ latent rows × columns.
pub fn split(levels: &[Level]) -> String {
    let part = |l: &Level| format!("{}@{}x{}", l.steps(), l.height, l.width);
    levels.iter().map(part).collect::<Vec<_>>().join(" + ")
}
