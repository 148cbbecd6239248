//! Identifies a checkpoint from its headers.

use std::path::Path;

use serde::Serialize;

use super::detect;
use crate::{arch::NetworkKind, error::Result, weights::Checkpoint};

/// What `inspect` reports about a file or folder of weights.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointInfo {
    /// `upscaling`, `interpolation`, `transformer`, `vae`, `text_encoder` or `unknown`.
    pub kind: &'static str,
    /// Name of the network.
    pub architecture: String,
    /// Elements of all floating-point tensors.
    pub parameters: u64,
    /// Element type of most tensors.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of all tensors in bytes.
    pub bytes: u64,
    /// File format: safetensors, torch zip or torch legacy.
    pub container: String,
    /// Upscalers: output pixels per input pixel, each way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<usize>,
    /// RIFE: released versions with these dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// Upscalers: blocks of an RRDBNet, convolutions between the first and the last of an SRVGGNetCompact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Dictionary key that contained the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<String>,
}

/// Reads the headers of a checkpoint and identifies its network.
pub fn identify(path: &Path) -> Result<CheckpointInfo> {
    let checkpoint = Checkpoint::open(path)?;
    let architecture = detect(&checkpoint);
    let dtypes = checkpoint.dtypes();
    let dtype = dtypes.iter().max_by_key(|(_, n)| **n).map(|(d, _)| d.name()).unwrap_or("none");
    let mut info = CheckpointInfo {
        kind: architecture.map_or("unknown", |a| a.network.kind()),
        architecture: architecture.map_or("unknown", |a| a.name).into(),
        parameters: checkpoint.parameters(),
        dtype: dtype.into(),
        tensors: checkpoint.len(),
        bytes: checkpoint.bytes(),
        container: checkpoint.container().name().into(),
        scale: None,
        version: None,
        depth: None,
        wrapper: checkpoint.wrapper().map(str::to_string),
    };
    match architecture.map(|a| &a.network) {
        Some(NetworkKind::Upscaler { canonical, open, .. }) => {
            let net = open(&canonical(checkpoint)?)?;
            (info.scale, info.depth) = (Some(net.scale()), Some(net.depth()));
        }
        Some(NetworkKind::Interpolator { open, .. }) => info.version = Some(open(&checkpoint)?.version()),
        _ => {}
    }
    Ok(info)
}
