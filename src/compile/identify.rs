//! What a checkpoint is, from its headers alone.

use std::path::Path;

use serde::Serialize;

use super::Kind;
use crate::{
    arch::{
        rife::Rife,
        rrdbnet::{self, Rrdb},
        srvgg::Srvgg,
    },
    error::Result,
    weights::Checkpoint,
};

/// What `inspect` tells of a file or folder of weights.
#[derive(Debug, Clone, Serialize)]
pub struct Identity {
    /// `upscaling`, `interpolation`, `transformer`, `vae`, `text_encoder` or `unknown`.
    pub kind: &'static str,
    /// The network's name.
    pub architecture: String,
    /// Elements of all floating tensors.
    pub parameters: u64,
    /// The element type of most tensors.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The container: safetensors, torch zip, torch legacy.
    pub container: String,
    /// An upscaler's factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<usize>,
    /// A RIFE's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
    /// Blocks of an RRDBNet, convolutions between the first and last of an SRVGGNetCompact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// The dictionary key that the weights stood under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<String>,
}

/// Reads headers and tells what the weights are.
pub fn identify(path: &Path) -> Result<Identity> {
    let checkpoint = Checkpoint::open(path)?;
    let kind = Kind::of(&checkpoint);
    let dtypes = checkpoint.dtypes();
    let dtype = dtypes.iter().max_by_key(|(_, n)| **n).map(|(d, _)| d.name()).unwrap_or("none");
    let mut identity = Identity {
        kind: match kind {
            Kind::Rrdb | Kind::Srvgg => "upscaling",
            Kind::Rife => "interpolation",
            Kind::Flux | Kind::Flux2 | Kind::QwenImage | Kind::Wan | Kind::ZImage => "transformer",
            Kind::Vae | Kind::VaeWan => "vae",
            Kind::Clip | Kind::LanguageModel | Kind::T5 => "text_encoder",
            Kind::Unknown => "unknown",
        },
        architecture: kind.name().into(),
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
    match kind {
        Kind::Rrdb => {
            let net = Rrdb::detect(&rrdbnet::canonical(checkpoint)?)?;
            (identity.scale, identity.depth) = (Some(net.scale), Some(net.blocks));
        }
        Kind::Srvgg => {
            let net = Srvgg::detect(&checkpoint)?;
            (identity.scale, identity.depth) = (Some(net.scale), Some(net.depth));
        }
        Kind::Rife => identity.version = Some(Rife::detect(&checkpoint)?.version()),
        _ => {}
    }
    Ok(identity)
}
