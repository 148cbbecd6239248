//! VAE flags.

use clap::Args;

use super::value;
use crate::{
    error::{Error, Result},
    plan,
};

/// VAE flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "VAE")]
pub(crate) struct VaeArgs {
    /// Decode and encode in tiles. auto: only if the whole picture exceeds the memory limit or, without one, half of the memory
    #[arg(long, alias = "vae-config.use-tiling", value_name = "auto|on|off", default_value = "auto", num_args = 0..=1,
          default_missing_value = "on", value_parser = tiling)]
    pub vae_tiling: plan::VaeTiling,

    /// Side of a tile in pixels [default: the reference's; less with auto if memory requires it]
    #[arg(long, value_name = "N", value_parser = value::positive("vae_tile"))]
    pub vae_tile: Option<usize>,

    /// Overlap of neighbouring tiles in pixels [default: a quarter of a tile]
    #[arg(long, value_name = "N", value_parser = value::count("vae_tile_overlap"))]
    pub vae_tile_overlap: Option<usize>,
}

// SGLang's `--vae-config.use-tiling` takes a boolean.
fn tiling(typed: &str) -> Result<plan::VaeTiling, String> {
    match typed.to_ascii_lowercase().as_str() {
        "auto" => Ok(plan::VaeTiling::Auto),
        "on" | "true" | "1" => Ok(plan::VaeTiling::On),
        "off" | "false" | "0" => Ok(plan::VaeTiling::Off),
        _ => Err(format!("vae_tiling must be one of 'auto', 'on' or 'off', got {}", value::shown(typed))),
    }
}

impl VaeArgs {
    /// Checks the flags as far as possible without the VAE.
    pub(crate) fn resolve(self) -> Result<plan::Vae> {
        if self.vae_tiling == plan::VaeTiling::Off {
            let asked = [("--vae-tile", self.vae_tile), ("--vae-tile-overlap", self.vae_tile_overlap)];
            if let Some((flag, n)) = asked.into_iter().find_map(|(flag, n)| Some((flag, n?))) {
                return Err(Error::usage(format!(
                    "{flag} {n} has no effect with --vae-tiling off; leave out one of them"
                )));
            }
        }
        Ok(plan::Vae { tiling: self.vae_tiling, tile: self.vae_tile, overlap: self.vae_tile_overlap })
    }
}
