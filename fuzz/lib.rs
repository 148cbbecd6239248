//! Functions that read files from outside, as fuzz targets. Includes the package's source files directly, so that fuzzers need
//! neither FFmpeg nor ONNX Runtime. `tests/fuzz` runs the same targets on `corpus/` and on mutations of it.
//!
//! ```text
//! cargo +nightly fuzz run torch_zip -- -max_total_time=60
//! RUSTC_BOOTSTRAP=1 cargo fuzz run -s none torch_zip        without a nightly toolchain
//! scripts/soak fuzz                                         one minute for each target
//! ```
//!
//! A target returns normally for any input: a parser that rejects it returns an error. A panic is a fault.

// A target uses a part of the included files.
#![allow(dead_code, unused_imports)]

#[path = "../src/arch/mod.rs"]
pub mod arch;
#[path = "../src/compile/mod.rs"]
pub mod compile;
#[path = "../src/error.rs"]
pub mod error;
#[path = "../src/family/mod.rs"]
pub mod family;
#[path = "../src/files/mod.rs"]
pub mod files;
#[path = "../src/json_lines.rs"]
pub mod json_lines;
#[path = "../src/model/mod.rs"]
pub mod model;
#[path = "../src/onnx/mod.rs"]
pub mod onnx;
#[path = "../src/progress.rs"]
pub mod progress;
#[path = "../src/schedule/mod.rs"]
pub mod schedule;
#[path = "../src/spectral/mod.rs"]
pub mod spectral;
#[path = "../src/sync.rs"]
pub mod sync;
#[path = "../src/tensor.rs"]
pub mod tensor;
#[path = "../src/weights/mod.rs"]
pub mod weights;

mod media;
mod mutation;
mod parts;
mod targets;

use parts::{batch, cli, pipeline, stage};

pub use mutation::Mutations;
pub use targets::*;
