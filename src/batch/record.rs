//! A line of the journal of an output folder.

use serde::{Deserialize, Serialize};

/// A finished output: the file with this name and hash is the complete result of the input, models and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Path relative to the folder.
    pub output: String,
    /// Hash of the input.
    pub input: String,
    /// [`identity::stamp`](super::identity::stamp) of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    /// [`Recipe::models`](super::identity::Recipe::models).
    pub models: String,
    /// [`Recipe::settings`](super::identity::Recipe::settings).
    pub settings: String,
    /// Hash of the output.
    pub hash: String,
    /// Size of the output in bytes.
    pub bytes: u64,
    /// Modification time of the output, nanoseconds since 1970.
    pub modified: i64,
    /// Frames of the output.
    pub frames: u64,
}
