//! Decides whether the VAE is tiled, and chooses its tiles.
//!
//! `--vae-tiling auto` tiles a picture if the estimate for the whole exceeds what `--memory-limit` leaves or, without a limit, half of
//! the machine's memory on the CPU. It does not depend on the memory that is currently free, so the same call always uses the same
//! tiles, and `plan` reports them. The memory of a GPU is unknown, so there only `--memory-limit` causes tiles.
//!
//! The estimate is the weights plus peak activation bytes per pixel, from the extents in the checkpoint's config (`pixel_bytes` in
//! `arch/vae_*.rs`) and a number of feature maps measured on networks of the size of FLUX.1 and Wan 2.1.

use super::{
    context::Context,
    memory::{PLANES, tile_memory},
};
use crate::{
    compile::{self, VaeSpec},
    error::{Error, Result},
    model::ModelFolder,
    plan::{RuntimeOptions, Vae, VaeTiling},
    runtime::{Device, DeviceChoice, memory_budget},
    stage::vae::Tiling,
};

/// The smallest side in pixels of a tile that `auto` chooses.
const MIN_SIDE: usize = 128;

/// Bytes per pixel of a tile's picture in ONNX Runtime, and of its copy.
const TILE_COPIES: u64 = 2 * PLANES;

/// The two directions of a VAE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Pictures → latents.
    Encode,
    /// Latents → pictures.
    Decode,
}

/// Chooses the tiles of a run's VAE.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VaeTiler {
    spec: VaeSpec,
    options: Vae,
    limit: Option<u64>,
    /// Bytes that the VAE may allocate. `None`: unknown, so `auto` does not tile.
    memory: Option<u64>,
}

impl VaeTiler {
    /// Reads the VAE's config.
    ///
    /// # Errors
    /// A tile or an overlap that the VAE does not support.
    pub(super) fn new(options: Vae, runtime: &RuntimeOptions, folder: &ModelFolder) -> Result<Self> {
        let spec = compile::autoencoder(&folder.path("vae")?, folder.class_of("vae")?)?;
        let factor = spec.factor;
        let on_cpu = matches!(runtime.engine.device, DeviceChoice::Auto | DeviceChoice::Cpu);
        let this = Self { spec, options, limit: runtime.engine.memory_limit, memory: None }.on(on_cpu);
        let Tiling { side, overlap, .. } = this.tiles(options.tile.unwrap_or(spec.tile));
        for (flag, n, given) in [("--vae-tile", side, options.tile), ("--vae-tile-overlap", overlap, options.overlap)] {
            if given.is_some() && !n.is_multiple_of(factor) {
                let (below, above) = (n / factor * factor, n.div_ceil(factor) * factor);
                return Err(Error::usage(format!(
                    "{flag} {n}: the VAE needs a multiple of {factor}; {below} or {above}"
                )));
            }
        }
        if side == 0 || overlap >= side {
            return Err(Error::usage(format!(
                "--vae-tile-overlap {overlap}: tiles of {side} pixels can overlap by at most {}",
                side.saturating_sub(factor)
            )));
        }
        Ok(this)
    }

    /// Works untiled: for `plan` without the VAE's weights or their headers.
    pub(super) fn unknown(runtime: &RuntimeOptions, factor: usize) -> Self {
        let options = Vae { tiling: VaeTiling::Off, tile: None, overlap: None };
        let spec = VaeSpec { factor, patch: 1, tile: 0, overlap: 0, decode_bytes: 0, encode_bytes: 0, weights: 0 };
        Self { spec, options, limit: runtime.engine.memory_limit, memory: None }
    }

    /// The same, with the memory limit of the device.
    fn on(self, cpu: bool) -> Self {
        let limited = self.limit.map(|limit| tile_memory(Some(limit), 0));
        Self { memory: limited.or_else(|| cpu.then(|| memory_budget(None))), ..self }
    }

    /// Tiles of a side. The overlap is `--vae-tile-overlap`, or the reference's share of the side in whole latent pixels.
    fn tiles(&self, side: usize) -> Tiling {
        let VaeSpec { factor, patch, tile, overlap, .. } = self.spec;
        let share = || side * overlap / tile.max(1) / factor * factor;
        Tiling { side, overlap: self.options.overlap.unwrap_or_else(share), factor, patch }
    }

    /// Estimate of the bytes that a picture of (height, width) pixels takes untiled.
    fn bytes(&self, direction: Direction, (height, width): (usize, usize)) -> u64 {
        let pixel = if direction == Direction::Decode { self.spec.decode_bytes } else { self.spec.encode_bytes };
        let pixels = (height as u64).saturating_mul(width as u64);
        pixels.saturating_mul(pixel as u64 + TILE_COPIES).saturating_add(self.spec.weights as u64)
    }

    /// Bytes of the assembled planes of a picture that is decoded in tiles, with a row of tiles that wait for their blend.
    fn planes(&self, (height, width): (usize, usize), tiling: Option<Tiling>) -> u64 {
        let pixels = |h: usize| (h as u64).saturating_mul(width as u64).saturating_mul(PLANES);
        tiling.map_or(0, |t| pixels(height).saturating_add(pixels(2 * t.side.min(height))))
    }

    fn fits(&self, direction: Direction, size: (usize, usize)) -> bool {
        self.memory.is_none_or(|memory| self.bytes(direction, size) <= memory)
    }

    /// The tiles of a picture of (height, width) pixels; `None`: untiled.
    fn tiling(&self, direction: Direction, size: (usize, usize)) -> Option<Tiling> {
        let side = match (self.options.tiling, self.options.tile) {
            (VaeTiling::Off, _) => return None,
            (VaeTiling::Auto, _) if self.fits(direction, size) => return None,
            (_, Some(side)) => side,
            (VaeTiling::On, None) => self.spec.tile,
            (VaeTiling::Auto, None) => self.fitting_side(direction, size),
        };
        let tiling = self.tiles(side);
        (!tiling.holds(size)).then_some(tiling)
    }

    /// The reference's side, halved until a tile fits into memory and is smaller than the picture.
    fn fitting_side(&self, direction: Direction, (height, width): (usize, usize)) -> usize {
        let mut side = self.spec.tile;
        let fits = |side: usize| {
            let tile = self.bytes(direction, (side.min(height), side.min(width)));
            let planes = self.planes((height, width), Some(self.tiles(side)));
            self.memory.is_none_or(|memory| tile.saturating_add(planes) <= memory)
        };
        let small = |side: usize| side < height.max(width) && fits(side);
        while !small(side) && side / 2 >= MIN_SIDE && (side / 2).is_multiple_of(self.spec.factor) {
            side /= 2;
        }
        side
    }

    /// A note such as `decoded in tiles of 256 pixels, overlap 64 (about 17.2 GB untiled)`. `None`: untiled, and `--vae-tiling`
    /// does not require tiles.
    pub(super) fn note(&self, direction: Direction, size: (usize, usize)) -> Option<String> {
        let done = if direction == Direction::Decode { "decoded" } else { "encoded" };
        let Some(Tiling { side, overlap, .. }) = self.tiling(direction, size) else {
            let side = self.options.tile.unwrap_or(self.spec.tile);
            let untiled = || format!("{done} untiled: one tile of {side} pixels holds the whole picture");
            return (self.options.tiling == VaeTiling::On).then(untiled);
        };
        let whole = self.bytes(direction, size) as f64 / 1e9;
        Some(format!("{done} in tiles of {side} pixels, overlap {overlap} (about {whole:.1} GB untiled)"))
    }

    /// Whether a picture of (height, width) pixels takes several tiles.
    pub(super) fn is_tiled(&self, direction: Direction, size: (usize, usize)) -> bool {
        self.tiling(direction, size).is_some()
    }

    /// The tiles of a picture on the device of the run, logged.
    pub(super) fn choose(&self, direction: Direction, size: (usize, usize), cx: &Context<'_>) -> Option<Tiling> {
        let this = self.on(cx.device() == Device::Cpu);
        if let Some(note) = this.note(direction, size) {
            tracing::info!("{}×{} pixels are {note}", size.1, size.0);
        }
        this.tiling(direction, size)
    }

    /// Estimate of the bytes that a picture takes with the chosen tiles.
    pub(super) fn planned_bytes(&self, direction: Direction, (height, width): (usize, usize)) -> u64 {
        match self.tiling(direction, (height, width)) {
            Some(t) => {
                let tile = self.bytes(direction, (t.side.min(height), t.side.min(width)));
                tile.saturating_add(self.planes((height, width), Some(t)))
            }
            None => self.bytes(direction, (height, width)),
        }
    }
}
