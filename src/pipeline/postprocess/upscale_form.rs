//! Sizes, tiles and memory of an upscaling stage, without its weights.

use crate::{
    compile::{self, UpscalerSpec},
    error::Result,
    media::resize::{band_reach, band_rows},
    onnx::Target,
    pipeline::memory::{PLANES, SESSION, pixels, tile_memory},
    plan::{UpscaleTarget, Upscaling},
    stage::upscale::UpscaleOptions,
};

/// The halo, in input pixels, of a network whose receptive field is too large for its tiles: six times the halo of Real-ESRGAN's
/// own tiling. Deep RRDBNets have a receptive field of hundreds of pixels; the difference at tile borders is small and logged.
pub(crate) const DEFAULT_HALO: usize = 64;

/// The form of an upscaling stage: its plan, and the network's dimensions.
#[derive(Debug, Clone)]
pub(crate) struct UpscaleForm {
    /// `None`: the filter alone.
    pub spec: Option<UpscalerSpec>,
    /// The plan.
    pub plan: Upscaling,
    limit: Option<u64>,
}

impl UpscaleForm {
    /// The form of a stage with a network of these dimensions.
    pub(crate) fn new(spec: Option<UpscalerSpec>, plan: &Upscaling, limit: Option<u64>) -> Self {
        Self { spec, plan: plan.clone(), limit }
    }

    /// Reads the network's dimensions from the headers of its file. `None`: the file is a third-party graph, or is not downloaded.
    pub(crate) fn read(plan: &Upscaling, limit: Option<u64>) -> Result<Option<Self>> {
        let Some(model) = &plan.model else { return Ok(Some(Self::new(None, plan, limit))) };
        if !model.path.is_file() || model.path.extension().is_some_and(|e| e == "onnx") {
            return Ok(None);
        }
        let spec = compile::upscaler(&model.path, Target::CPU)?.spec;
        Ok(Some(Self::new(Some(spec), plan, limit)))
    }

    /// (height, width) of the upscaled picture.
    pub(crate) fn output_size(&self, (h, w): (usize, usize)) -> (usize, usize) {
        output_size(self.plan.target, h, w)
    }

    /// Passes of the network for a picture of (height, width).
    pub(crate) fn passes(&self, size: (usize, usize)) -> u32 {
        self.spec.map_or(0, |spec| passes(self.plan.target, spec.scale, size))
    }

    /// Whether an RGB frame of (height, width) is upscaled without f32 planes of the whole picture: by one pass to the exact size, or
    /// by the filter.
    pub(crate) fn is_direct(&self, size: (usize, usize)) -> bool {
        let exact =
            |scale: usize| (size.0.saturating_mul(scale), size.1.saturating_mul(scale)) == self.output_size(size);
        match self.passes(size) {
            0 => true,
            1 => self.spec.is_some_and(|spec| exact(spec.scale)),
            _ => false,
        }
    }

    /// Bytes of the network per pixel of a tile: its input, its activations, its output and the copy of the output.
    fn tile_pixel_bytes(&self) -> u64 {
        let spec = self.spec.unwrap_or(UpscalerSpec { scale: 1, multiple: 1, receptive_field: 0, pixel_bytes: 0 });
        let scaled = PLANES * (spec.scale * spec.scale) as u64;
        spec.pixel_bytes as u64 + PLANES + 2 * scaled
    }

    /// The tiles of a picture of (height, width) beside `held` bytes: none if the whole fits into memory, else the largest that fit.
    pub(crate) fn tiles(&self, (h, w): (usize, usize), held: u64) -> UpscaleOptions {
        self.tiles_in((h, w), tile_memory(self.limit, held))
    }

    /// The smallest tiles.
    pub(crate) fn smallest_tiles(&self, size: (usize, usize)) -> UpscaleOptions {
        self.tiles_in(size, 0)
    }

    fn tiles_in(&self, (h, w): (usize, usize), memory: u64) -> UpscaleOptions {
        let Some(UpscalerSpec { scale, multiple, receptive_field, .. }) = self.spec else {
            return UpscaleOptions { scale: 1, multiple: 1, tile: 0, halo: 0 };
        };
        let pixels = (memory / self.tile_pixel_bytes()) as usize;
        let window = ((pixels as f64).sqrt() as usize).max(64);
        let tile = self.plan.tile.unwrap_or(if h.saturating_mul(w) <= pixels { 0 } else { window });
        let untiled = tile == 0 || (h <= tile && w <= tile);
        // A halo above half the tile more than quadruples the work.
        let affordable = DEFAULT_HALO.max(if self.plan.tile.is_some() { tile / 2 } else { window / 4 });
        let own = if receptive_field <= affordable { receptive_field } else { DEFAULT_HALO };
        let halo = self.plan.tile_overlap.unwrap_or(own);
        let side = if self.plan.tile.is_some() { tile } else { tile.saturating_sub(2 * halo).max(32) };
        let tile = if untiled { 0 } else { (side / multiple).max(1) * multiple };
        UpscaleOptions { scale, multiple, tile, halo }
    }

    /// Bytes of the network on one tile of a picture of (height, width), or of the filter on one band.
    pub(crate) fn network_bytes(&self, options: UpscaleOptions, (h, w): (usize, usize)) -> u64 {
        if self.passes((h, w)) == 0 {
            return self.filter_bytes((h, w));
        }
        let side = |n: usize| if options.tile == 0 { n } else { n.min(options.tile + 2 * options.halo) };
        (side(h) as u64).saturating_mul(side(w) as u64).saturating_mul(self.tile_pixel_bytes()).saturating_add(SESSION)
    }

    /// Bytes of f32 planes of a band of the filter: of the source, of the target, and of the source's rows at the target's width.
    fn filter_bytes(&self, (h, w): (usize, usize)) -> u64 {
        let (height, width) = self.output_size((h, w));
        let rows = band_rows((h, height)).unwrap_or(height);
        let above = (rows.saturating_mul(h) / height.max(1)).saturating_add(2 * band_reach((h, height))).min(h);
        let planes = |rows: usize, columns: usize| (rows as u64).saturating_mul(columns as u64).saturating_mul(PLANES);
        planes(above, w).saturating_add(planes(rows, width)).saturating_add(planes(above, width))
    }

    /// Whether an RGB picture of (height, width) is upscaled in bands of rows.
    pub(crate) fn has_bands(&self, size: (usize, usize)) -> bool {
        self.is_direct(size) && (self.passes(size) == 1 || band_rows((size.0, self.output_size(size).0)).is_some())
    }

    /// Bytes of the rows of source and output that are held at once while an RGB picture is upscaled in bands: a row of tiles with
    /// its surroundings, or a band of the filter. The encoder holds two more copies of a band.
    pub(crate) fn band_bytes(&self, options: UpscaleOptions, (h, w): (usize, usize), deep: bool) -> u64 {
        let (pixel, (height, width)) = (if deep { 6 } else { 3 }, self.output_size((h, w)));
        let bytes = |rows: usize, width: usize, pixel: u64| (rows as u64).saturating_mul(width as u64) * pixel;
        if self.passes((h, w)) == 0 {
            let rows = band_rows((h, height)).unwrap_or(height).min(height);
            let seen = (rows.saturating_mul(h) / height.max(1) + 2 * band_reach((h, height))).min(h);
            return bytes(seen, w, pixel) + bytes(rows, width, 3 * pixel);
        }
        let side = if options.tile == 0 { h } else { options.tile };
        let (seen, rows) = (side.saturating_add(2 * options.halo).min(h), side.min(h) * options.scale);
        bytes(seen, w, pixel) + bytes(rows, width, 3 * pixel)
    }

    /// The tiles of an RGB picture that is upscaled in bands beside `held` bytes: the largest that leave room for their bands.
    pub(crate) fn band_tiles(&self, size: (usize, usize), deep: bool, held: u64) -> UpscaleOptions {
        let memory = tile_memory(self.limit, held);
        let eighths = (1..=8).rev().map(|part| self.tiles_in(size, memory / 8 * part));
        let mut fitting = eighths.filter(|options| {
            let bands = self.band_bytes(*options, size, deep);
            self.network_bytes(*options, size).saturating_sub(SESSION).saturating_add(bands) <= memory
        });
        fitting.next().unwrap_or_else(|| self.smallest_tiles(size))
    }

    /// Bytes of f32 planes of a picture of (height, width) and `channels` while it is upscaled, beside the network's tiles: the input
    /// and the output of the last pass, and of the filter if it follows.
    pub(crate) fn plane_bytes(&self, (h, w): (usize, usize), channels: usize) -> u64 {
        let scale = self.spec.map_or(1, |spec| spec.scale);
        let (passes, output) = (self.passes((h, w)), pixels(self.output_size((h, w))));
        let power = |n: u32| pixels((h, w)).saturating_mul((scale as u64).saturating_pow(2 * n));
        let (last, before) = (power(passes), power(passes.saturating_sub(1)));
        let fitted = if last == output { 0 } else { output.saturating_add(last) };
        let colours = PLANES.saturating_mul(fitted.max(last.saturating_add(before)).max(output));
        // Alpha is kept beside the colours with a copy, upscaled as a grey picture, and joined to them.
        let alpha = PLANES.saturating_mul(output).saturating_add((PLANES + 8).saturating_mul(pixels((h, w))));
        if channels == 4 { colours.saturating_add(alpha) } else { colours }
    }
}

/// How many passes of a network of this scale reach the target size.
fn passes(target: UpscaleTarget, scale: usize, (height, width): (usize, usize)) -> u32 {
    let goal = output_size(target, height, width);
    let least = u32::from(matches!(target, UpscaleTarget::Times(_) | UpscaleTarget::Factor(_)));
    let reached = |n: u32| {
        let times = scale.saturating_pow(n);
        height.saturating_mul(times) >= goal.0 && width.saturating_mul(times) >= goal.1
    };
    if scale == 1 { 1 } else { (least..=10).find(|&n| reached(n)).unwrap_or(10) }
}

/// (height, width) of the upscaled picture for an input size. Sizes that do not exist saturate; memory refuses them.
pub(crate) fn output_size(target: UpscaleTarget, height: usize, width: usize) -> (usize, usize) {
    let rounded = |side: usize, factor: f64| (side as f64 * factor).round().max(1.0) as usize;
    match target {
        UpscaleTarget::Factor(factor) => (rounded(height, factor), rounded(width, factor)),
        UpscaleTarget::Times(n) => (height.saturating_mul(n), width.saturating_mul(n)),
        UpscaleTarget::Size { width, height } => (height, width),
        UpscaleTarget::Height(rows) => (rows, (width as f64 * rows as f64 / height as f64).round().max(1.0) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_until_the_size_is_reached() {
        use crate::plan::UpscaleTarget::{Factor, Height, Size, Times};
        let rows = [
            (Times(1), 4, (100, 100), 1),
            (Times(2), 2, (100, 100), 1),
            (Times(3), 2, (100, 100), 2),
            (Times(4), 4, (7, 9), 1),
            (Times(8), 2, (7, 9), 3),
            (Times(8), 4, (7, 9), 2),
            (Times(2), 1, (7, 9), 1),
            (Factor(1.5), 2, (7, 9), 1),
            (Factor(2.5), 2, (7, 9), 2),
            (Height(2160), 2, (1080, 1920), 1),
            (Height(2160), 2, (540, 960), 2),
            (Height(2161), 2, (540, 960), 3),
            (Height(720), 2, (1080, 1920), 0),
            (Height(1080), 4, (1080, 1920), 0),
            (Size { width: 3840, height: 1080 }, 2, (1080, 1920), 1),
        ];
        let bad: Vec<String> = rows
            .iter()
            .filter(|(target, scale, size, want)| passes(*target, *scale, *size) != *want)
            .map(|row| format!("{row:?}: {}", passes(row.0, row.1, row.2)))
            .collect();
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }
}
