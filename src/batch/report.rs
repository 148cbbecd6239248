//! `--report`: one JSON line per finished item.

use serde::Serialize;

use crate::pipeline::ItemRow;

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct ReportLine<'a> {
    /// Input, output, status, cause, frames, seconds.
    #[serde(flatten)]
    pub row: &'a ItemRow,
    /// BLAKE3 of the input's bytes. `None`: the input is unreadable.
    pub input_hash: Option<String>,
    /// BLAKE3 of the models.
    pub model_hash: &'a str,
    /// BLAKE3 of the settings.
    pub settings_hash: &'a str,
    /// Peak memory of the process so far.
    pub peak_memory_bytes: u64,
}
