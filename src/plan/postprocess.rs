//! Frame interpolation and upscaling, which `generate` and `enhance` share.

use serde::Serialize;

use super::Model;
use crate::media::resize::Filter;

/// The factor above which interpolation asks for confirmation: `60x` is often a typing error for `60fps`.
pub const MAX_FACTOR: f64 = 16.0;

/// Frame interpolation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interpolation {
    /// Factor or frame rate.
    pub rate: Rate,
    /// Working resolution of RIFE relative to the frame's, 0.25 to 4.
    pub scale: f64,
    /// A `flownet` file.
    pub model: Model,
    /// Scene-change score, 0 to 1, above which a frame begins a new scene. 1 disables detection.
    pub scene_threshold: f64,
    /// Whether repeated frames are replaced by interpolated ones.
    pub dedup: bool,
    /// Whether factors above [`MAX_FACTOR`] are allowed. Does not affect the result.
    #[serde(skip)]
    pub force: bool,
}

impl Default for Interpolation {
    fn default() -> Self {
        // The threshold is that of FFmpeg's `scdet`, 10 %.
        Self {
            rate: Rate::Times(2),
            scale: 1.0,
            model: Model::default(),
            scene_threshold: 0.1,
            dedup: false,
            force: false,
        }
    }
}

/// Frame rate that interpolation produces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// A multiple of the input's rate.
    Times(u32),
    /// Frames per second.
    Fps(f64),
}

impl Rate {
    /// n if the rate is multiplied by 2ⁿ, n in 1..=4 (recursive midpoints).
    pub fn exp(self) -> Option<u32> {
        match self {
            Self::Times(n) if n.is_power_of_two() && (2..=16).contains(&n) => Some(n.trailing_zeros()),
            _ => None,
        }
    }
}

/// Upscaling.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upscaling {
    /// Output size.
    pub target: UpscaleTarget,
    /// File of the network. `None`: resampling with `filter`.
    pub model: Option<Model>,
    /// Filter of plain resampling, and of the final fit to an exact size.
    pub filter: Filter,
    /// Side of a tile in pixels, 0 for no tiles. `None`: from the memory limit and the network's receptive field.
    pub tile: Option<usize>,
    /// Overlap of tiles in pixels. `None`: the network's receptive field.
    pub tile_overlap: Option<usize>,
    /// Blend with a second weight set of the same network.
    pub denoise: Option<WeightBlend>,
}

impl Default for Upscaling {
    fn default() -> Self {
        Self {
            target: UpscaleTarget::Times(4),
            model: None,
            filter: Filter::default(),
            tile: None,
            tile_overlap: None,
            denoise: None,
        }
    }
}

/// The networks of both stages, without the filter.
pub(super) fn networks<'a>(
    interpolation: Option<&'a Interpolation>,
    upscaling: Option<&'a Upscaling>,
) -> impl Iterator<Item = &'a Model> {
    let upscaler = upscaling.and_then(|u| u.model.as_ref());
    let weak = upscaling.and_then(|u| u.denoise.as_ref()).map(|d| &d.weak);
    interpolation.map(|i| &i.model).into_iter().chain(upscaler).chain(weak)
}

/// Blend of two weight sets of one network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightBlend {
    /// Weight of the strongly denoising network, 0 to 1.
    pub strength: f64,
    /// The weakly denoising network ("wdn").
    pub weak: Model,
}

/// Output size of upscaling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpscaleTarget {
    /// A multiple of width and height, 1 to 8.
    Times(usize),
    /// A multiple of width and height that is not an integer, 1 to 8; sides are rounded.
    Factor(f64),
    /// Pixels.
    #[allow(missing_docs)]
    Size { width: usize, height: usize },
    /// Rows; the aspect ratio is kept.
    Height(usize),
}
