//! Single files of modules that use FFmpeg or ONNX Runtime in others.

#[path = "../src/pipeline/enhance/chunk_lines.rs"]
pub(crate) mod chunk_lines;
#[path = "../src/cli/config_file.rs"]
pub(crate) mod config_file;
#[path = "../src/batch/record.rs"]
pub(crate) mod record;
#[path = "../src/pipeline/resume_point.rs"]
pub(crate) mod resume_point;
#[path = "../src/stage/timeline.rs"]
pub mod timeline;

pub(crate) mod batch {
    pub(crate) use super::record;
}

pub(crate) mod cli {
    pub(crate) use super::config_file;
}

pub(crate) mod pipeline {
    pub(crate) use super::{chunk_lines, resume_point};
}

pub(crate) mod stage {
    pub(crate) use super::timeline;
}
