//! What a run needs to know of an autoencoder besides its graphs: the reference's tiles, and how much memory it takes.

use std::path::Path;

use serde::Deserialize;

use super::config;
use crate::{
    arch::{vae_kl::VaeKl, vae_wan::VaeWan},
    error::{Error, Result},
    weights::Checkpoint,
};

/// What a run needs to know of an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaeSpec {
    /// Picture pixels per pixel of the latents outside the network, each way.
    pub factor: usize,
    /// Side of the patches that these latents are of.
    pub patch: usize,
    /// Side of the reference's tiles in picture pixels.
    pub tile: usize,
    /// Pixels that the reference's tiles share.
    pub overlap: usize,
    /// Bytes of anonymous memory per picture pixel while decoding, about.
    pub decode_bytes: usize,
    /// The same while encoding.
    pub encode_bytes: usize,
    /// Bytes that loaded weights take, whatever the picture's size, about.
    pub weights: usize,
}

#[derive(Deserialize)]
struct Sizes {
    sample_size: Option<Side>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    One(usize),
    Two([usize; 2]),
}

/// Side and overlap of tiles where the config has none: `AutoencoderKLWan`'s and `AutoencoderKLQwenImage`'s.
const WAN_TILE: (usize, usize) = (256, 64);

/// Reads the form of a class that [`super::component`] builds an autoencoder of.
pub fn autoencoder(folder: &Path, class: &str) -> Result<VaeSpec> {
    let c = Checkpoint::open(folder)?;
    match class {
        "AutoencoderKL" | "AutoencoderKLFlux2" => {
            let vae = VaeKl::detect(&config(folder)?, &c)?;
            let sizes: Sizes = config(folder)?;
            // The default of diffusers' class.
            let tile = match sizes.sample_size {
                Some(Side::One(n) | Side::Two([n, _])) => n,
                None if class == "AutoencoderKL" => 32,
                None => 1024,
            };
            let [decode_bytes, encode_bytes] = vae.pixel_bytes(&c)?;
            let form = VaeSpec {
                factor: vae.factor(),
                patch: vae.patch(),
                tile,
                overlap: tile / 4,
                decode_bytes,
                encode_bytes,
                weights: half_of_weights(&c),
            };
            Ok(form)
        }
        "AutoencoderKLWan" | "AutoencoderKLQwenImage" => {
            let vae = VaeWan::detect(&config(folder)?, &c)?;
            let video = class == "AutoencoderKLWan";
            let [decode_bytes, encode_bytes] = vae.pixel_bytes(&c, video)?;
            let (tile, overlap) = WAN_TILE;
            // A video's graphs are for the first frame and for later ones.
            let weights = half_of_weights(&c) * if video { 2 } else { 1 };
            Ok(VaeSpec { factor: vae.factor(), patch: 1, tile, overlap, decode_bytes, encode_bytes, weights })
        }
        other => Err(Error::failed(format!("{}: {other} is no autoencoder that is known", folder.display()))),
    }
}

/// Bytes of the decoder's weights in f32.
fn half_of_weights(c: &Checkpoint) -> usize {
    let decoder = c.names().filter(|name| name.starts_with("decoder.")).filter_map(|name| c.get(name));
    decoder.map(|stored| 4 * stored.shape.iter().product::<usize>()).sum()
}
