//! `--vae-…`: tiles of the autoencoder.

use clap::Args;

use super::value;
use crate::{
    error::{Error, Result},
    plan,
};

/// Flags of the autoencoder.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Autoencoder")]
pub struct VaeArgs {
    /// Tiles in decoding and encoding: auto where the whole would not fit into the memory limit, or free memory
    #[arg(long, alias = "vae-config.use-tiling", value_name = "auto|on|off", default_value = "auto", num_args = 0..=1,
          default_missing_value = "on", value_parser = tiling)]
    pub vae_tiling: plan::VaeTiling,

    /// Side of a tile in pixels [default: the reference's, smaller with auto where memory wants it]
    #[arg(long, value_name = "N", value_parser = value::positive("vae_tile"))]
    pub vae_tile: Option<usize>,

    /// Pixels that neighbouring tiles share [default: a quarter of a tile]
    #[arg(long, value_name = "N")]
    pub vae_tile_overlap: Option<usize>,
}

/// The published spelling is a truth value.
fn tiling(typed: &str) -> Result<plan::VaeTiling, String> {
    match typed.to_ascii_lowercase().as_str() {
        "auto" => Ok(plan::VaeTiling::Auto),
        "on" | "true" | "1" => Ok(plan::VaeTiling::On),
        "off" | "false" | "0" => Ok(plan::VaeTiling::Off),
        _ => Err(format!("vae_tiling must be one of 'auto', 'on' or 'off', got {}", value::shown(typed))),
    }
}

impl VaeArgs {
    /// Checks what does not need the autoencoder.
    pub fn resolve(self) -> Result<plan::Vae> {
        if self.vae_tiling == plan::VaeTiling::Off {
            let asked = [("--vae-tile", self.vae_tile), ("--vae-tile-overlap", self.vae_tile_overlap)];
            if let Some((flag, n)) = asked.into_iter().find_map(|(flag, n)| Some((flag, n?))) {
                return Err(Error::usage(format!(
                    "{flag} {n}: --vae-tiling off makes no tiles; leave one of them out"
                )));
            }
        }
        Ok(plan::Vae { tiling: self.vae_tiling, tile: self.vae_tile, overlap: self.vae_tile_overlap })
    }
}
