//! Requests of the command line, resolved and checked as far as possible without weights.
//!
//! `plan` prints what `generate` and `enhance` do, because both run from these values. They are plain data: the command line
//! builds them, the pipeline runs them. Each has a [`Default`], the request with no flags.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::{runtime, tensor::DType};

mod effect;
mod enhance;
mod generate;
mod output;
mod postprocess;
mod written;

pub use effect::{Uses, check_enhance_effects, check_generate_effects, warn_unused};
pub use enhance::{Batch, EnhancePlan, Input, Job, Refine, RefineBy, Trim};
pub use generate::{GeneratePlan, Progressive, Sides, Start, Vae, VaeTiling};
pub use output::{Destination, Item, Output};
pub(crate) use output::{check_extension, known_extension};
pub use postprocess::{Interpolation, MAX_FACTOR, Rate, UpscaleTarget, Upscaling, WeightBlend};

/// Name of the built-in demo model.
pub const BUILT_IN: &str = "demo";

/// A model's name and the location of its files.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Model {
    /// As typed: path, repository id or short name; [`BUILT_IN`] where none is given.
    pub name: String,
    /// The catalogue's id. `None`: the catalogue does not list the model.
    pub known: Option<&'static str>,
    /// Local folder (diffusion) or file (interpolation, upscaling).
    pub path: PathBuf,
    /// For `plan`: the weights are not cached. A folder has configs, but neither weights nor their headers; a file does not exist.
    #[serde(skip)]
    pub configs_only: bool,
}

/// Device, precision and memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RuntimeOptions {
    /// Options of ONNX Runtime.
    #[serde(flatten)]
    pub engine: runtime::Options,
    /// Type that networks compute in. `None`: chosen by device and network.
    #[serde(serialize_with = "dtype_name")]
    pub dtype: Option<DType>,
}

fn dtype_name<S: Serializer>(dtype: &Option<DType>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.map_or("auto", DType::name))
}

/// `--quality`: accuracy of the arithmetic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The reference's arithmetic.
    Exact,
    /// Faster arithmetic, equal within rounding.
    #[default]
    Lossless,
    /// Approximations without visible difference. None is implemented, so this is refused.
    High,
}

/// Resolved arguments of `export`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExportPlan {
    /// The model's name as typed.
    pub name: String,
    /// Local folder or file of the checkpoint.
    pub model: PathBuf,
    /// Output folder.
    pub output: PathBuf,
    /// Whether graphs contain standard operators only.
    pub portable: bool,
    /// Whether existing files may be replaced.
    pub overwrite: bool,
    /// (height, width) in pixels of the fixed-shape graphs. `None`: the family's default.
    pub size: Option<(usize, usize)>,
    /// Number of smaller levels, each half of the next, that get a fixed-shape graph too.
    pub levels: usize,
    /// Device and precision of the graphs.
    pub runtime: RuntimeOptions,
}
