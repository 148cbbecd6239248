//! `plan enhance`: memory and notes, without reading weights.

use super::{
    forecast_memory::{self, Clip, NetworkForms, Tiles},
    refine_config::RefineConfig,
};
use crate::{
    compile::{self, Subgraph},
    error::Result,
    media::{picture, video::probe},
    onnx::Target,
    pipeline::{
        context::maps_weights,
        memory::{self, Phase},
        report::SizeRow,
        vae::Direction,
    },
    plan::{EnhancePlan, Input, Job},
};

/// Forecasts the memory of inputs.
pub struct MemoryForecast<'a> {
    plan: &'a EnhancePlan,
    forms: NetworkForms,
    peak: Phase,
}

impl<'a> MemoryForecast<'a> {
    /// Reads the headers of the plan's networks.
    ///
    /// # Errors
    /// A network of the wrong kind; a memory limit below what the program needs.
    pub fn new(plan: &'a EnhancePlan) -> Result<Self> {
        memory::check_limit(plan.runtime.engine.memory_limit)?;
        Ok(Self { plan, forms: forecast_memory::forms(plan)?, peak: Phase::default() })
    }

    /// Adds an input with the rows of [`sizes`](super::sizes()).
    ///
    /// # Errors
    /// An input whose smallest form exceeds the limit.
    pub fn add(&mut self, job: &Job, sizes: &[SizeRow]) -> Result<()> {
        let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return Ok(()) };
        let (channels, deep) = if first.fps.is_some() { samples(&job.input)? } else { (3, false) };
        let clip = Clip { size: (first.height, first.width), frames: last.frames, channels, deep };
        let of = |tiles| match &job.input {
            Input::File(path) if first.fps.is_none() => {
                let header = picture::Header::read(path)?;
                let form = self.forms.upscale.as_ref();
                Ok(forecast_memory::picture((&header, path), &job.output, self.plan, form, tiles).0)
            }
            _ => Ok(forecast_memory::video(clip, self.plan, &self.forms, tiles)),
        };
        memory::check(&of(Tiles::Smallest)?, self.plan.runtime.engine.memory_limit)?;
        let phase = of(Tiles::Chosen)?;
        self.peak = memory::peak([std::mem::take(&mut self.peak), phase]);
        Ok(())
    }

    /// The peak of all inputs with `networks` bytes of a refinement, and a note with its terms.
    pub fn finish(self, networks: u64) -> (u64, String) {
        let program = memory::baseline(self.plan.has_network());
        let phase = self.peak.with("refinement", networks);
        (program + phase.bytes(), format!("memory: program {} MB, {}", program / 1_000_000, phase.text()))
    }
}

/// Channels of a video's frames, and whether they have more than 8 bits.
fn samples(input: &Input) -> Result<(usize, bool)> {
    match input {
        Input::File(path) => probe(path).map(|info| (if info.alpha { 4 } else { 3 }, info.bit_depth > 8)),
        Input::Sequence { files, .. } => {
            let first = files.first().map(|path| picture::Header::read(path)).transpose()?;
            Ok(first.map_or((3, false), |header| (header.channels, header.deep)))
        }
    }
}

/// Notes on every refinement pass of every input size, and the bytes that the networks take; empty without `--refine`.
pub fn refine_forecast(plan: &EnhancePlan) -> Result<(Vec<String>, u64)> {
    let Some(config) = RefineConfig::new(plan)? else { return Ok((Vec::new(), 0)) };
    let mut notes = Vec::new();
    for job in &plan.jobs {
        // Unreadable inputs are reported with their own row.
        let Input::File(path) = &job.input else { continue };
        let Ok((width, height)) = picture::size(path) else { continue };
        notes.extend(
            config.notes((height, width))?.into_iter().filter(|note| !notes.contains(note)).collect::<Vec<_>>(),
        );
    }
    let mut bytes = config.vae.planned_bytes(Direction::Decode, (config.tile.0, config.tile.0));
    for (name, part) in [("transformer", Subgraph::Full), ("vae", Subgraph::Encoder), ("vae", Subgraph::Decoder)] {
        let model =
            compile::component(&config.folder.path(name)?, config.folder.class_of(name)?, part, None, Target::CPU)?;
        // The CPU computes in f32: weights are converted once, or stay mapped.
        bytes += if maps_weights(&model, &plan.runtime) { 0 } else { 4 * model.parameters };
    }
    Ok((notes, bytes))
}
