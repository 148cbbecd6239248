//! Whether the autoencoder works in tiles, and in which.

use super::context::Context;
use crate::{
    compile::{self, VaeSpec},
    error::{Error, Result},
    model::ModelFolder,
    plan::{self, RuntimeOptions, Vae, VaeTiling},
    runtime::{Device, memory_budget},
    stage::vae::{Tiles, Tiling},
};

/// No tile is made smaller than this, in pixels, to fit into memory.
const LEAST: usize = 128;

/// The two directions of an autoencoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Pictures → latents.
    Encode,
    /// Latents → pictures.
    Decode,
}

/// A run's autoencoder: what it needs, what it may have, and what was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Autoencoder {
    form: VaeSpec,
    asked: Vae,
    limit: Option<u64>,
    /// Bytes that it may take; `None`: nobody knows, so that `auto` makes no tiles.
    memory: Option<u64>,
}

impl Autoencoder {
    /// Reads the form.
    ///
    /// # Errors
    /// A tile or an overlap that the autoencoder cannot do.
    pub fn new(asked: Vae, runtime: &RuntimeOptions, folder: &ModelFolder) -> Result<Self> {
        let form = compile::autoencoder(&folder.path("vae")?, folder.class_of("vae")?)?;
        let factor = form.factor;
        let on_cpu = matches!(runtime.device, plan::Device::Auto | plan::Device::Cpu);
        let this = Self { form, asked, limit: runtime.memory_limit, memory: None }.on(on_cpu);
        let tiles = this.tiles(asked.tile.unwrap_or(form.tile));
        for (flag, n, given) in
            [("--vae-tile", tiles.side, asked.tile), ("--vae-tile-overlap", tiles.overlap, asked.overlap)]
        {
            if given.is_some() && !n.is_multiple_of(factor) {
                let (below, above) = (n / factor * factor, n.div_ceil(factor) * factor);
                return Err(Error::usage(format!(
                    "{flag} {n}: the autoencoder needs a multiple of {factor}; {below} or {above}"
                )));
            }
        }
        if tiles.side == 0 || tiles.overlap >= tiles.side {
            let (side, overlap) = (tiles.side, tiles.overlap);
            return Err(Error::usage(format!(
                "--vae-tile-overlap {overlap}: tiles of {side} pixels can share at most {}",
                side.saturating_sub(factor)
            )));
        }
        Ok(this)
    }

    /// The same on the device that there is. A GPU's memory is not known: there the memory limit alone decides.
    fn on(self, cpu: bool) -> Self {
        Self { memory: self.limit.or_else(|| cpu.then(|| memory_budget(None))), ..self }
    }

    /// Tiles of a side, with the overlap that was asked for or the reference's share of it, in whole latent pixels.
    fn tiles(&self, side: usize) -> Tiles {
        let VaeSpec { factor, tile, overlap, .. } = self.form;
        let share = || side * overlap / tile.max(1) / factor * factor;
        Tiles { side, overlap: self.asked.overlap.unwrap_or_else(share) }
    }

    /// Bytes that a picture of (height, width) pixels takes in one piece, about.
    pub fn bytes(&self, way: Way, (height, width): (usize, usize)) -> u64 {
        let each = if way == Way::Decode { self.form.decode_bytes } else { self.form.encode_bytes };
        (self.form.weights + height * width * each) as u64
    }

    fn fits(&self, way: Way, size: (usize, usize)) -> bool {
        self.memory.is_none_or(|memory| self.bytes(way, size) <= memory)
    }

    /// How a picture of (height, width) pixels is cut; none where it is not.
    pub fn tiling(&self, way: Way, size: (usize, usize)) -> Option<Tiling> {
        let side = match (self.asked.tiling, self.asked.tile) {
            (VaeTiling::Off, _) => return None,
            (VaeTiling::Auto, _) if self.fits(way, size) => return None,
            (_, Some(side)) => side,
            (VaeTiling::On, None) => self.form.tile,
            (VaeTiling::Auto, None) => self.fitting(way, size),
        };
        let tiling = Tiling { tiles: self.tiles(side), factor: self.form.factor, patch: self.form.patch };
        (!tiling.tiles.hold(size)).then_some(tiling)
    }

    /// The reference's tile, halved until it fits and is smaller than the picture.
    fn fitting(&self, way: Way, (height, width): (usize, usize)) -> usize {
        let mut side = self.form.tile;
        let small = |side: usize| side < height.max(width) && self.fits(way, (side.min(height), side.min(width)));
        while !small(side) && side / 2 >= LEAST && (side / 2).is_multiple_of(self.form.factor) {
            side /= 2;
        }
        side
    }

    /// What is done, in words: `decoded in tiles of 256 pixels that share 64 (in one piece about 17.2 GB)`; none without tiles that
    /// nobody asked for.
    pub fn note(&self, way: Way, size: (usize, usize)) -> Option<String> {
        let done = if way == Way::Decode { "decoded" } else { "encoded" };
        let Some(Tiling { tiles: Tiles { side, overlap }, .. }) = self.tiling(way, size) else {
            let side = self.asked.tile.unwrap_or(self.form.tile);
            let whole = || format!("{done} in one piece: a tile of {side} pixels holds all of it");
            return (self.asked.tiling == VaeTiling::On).then(whole);
        };
        let whole = self.bytes(way, size) as f64 / 1e9;
        Some(format!("{done} in tiles of {side} pixels that share {overlap} (about {whole:.1} GB in one piece)"))
    }

    /// How a picture is cut on the device that there is, said in one line where it is.
    pub fn announced(&self, way: Way, size: (usize, usize), cx: &Context<'_>) -> Option<Tiling> {
        let this = self.on(cx.engine.device() == Device::Cpu);
        if let Some(note) = this.note(way, size) {
            tracing::info!("{}×{} pixels are {note}", size.1, size.0);
        }
        this.tiling(way, size)
    }

    /// Bytes that a picture takes as it will be done, about.
    pub fn planned_bytes(&self, way: Way, (height, width): (usize, usize)) -> u64 {
        match self.tiling(way, (height, width)) {
            Some(t) => self.bytes(way, (t.tiles.side.min(height), t.tiles.side.min(width))),
            None => self.bytes(way, (height, width)),
        }
    }
}
