//! `plan generate`: what a run would do, without reading weights.

use super::{forecast_memory, run_config::RunConfig, video_form::VideoForm};
use crate::{
    error::Result,
    family::Size,
    pipeline::{
        components::model_name,
        memory,
        report::{GenerateForecast, LevelRow, SizeRow},
        vae::Direction,
    },
    plan::GeneratePlan,
};

/// Forecasts a run. Every graph is built, so missing, misshapen and unused weights are errors.
pub fn plan_generate(plan: &GeneratePlan) -> Result<GenerateForecast> {
    let config = RunConfig::new(plan)?;
    let limit = plan.runtime.engine.memory_limit;
    memory::check_limit(limit)?;
    let levels = levels(&config);
    let mut notes = notes(plan, &config, &levels);
    let (weights, memory) = match plan.model.configs_only {
        true => (None, None),
        false => {
            let (weights, networks) = forecast_memory::networks(plan, &config)?;
            let (program, phase) = (memory::baseline(true), forecast_memory::peak_of(plan, &config, &networks)?);
            notes.extend(networks.notes());
            notes.push(format!("memory: program {} MB, {}", program / 1_000_000, phase.text()));
            notes.extend(memory::check(&phase, limit).err().map(|e| format!("generate refuses this: {e}")));
            (Some(weights), Some(program.saturating_add(phase.bytes())))
        }
    };
    let sizes = sizes(plan, &config)?;
    let outputs = plan.prompts.len() * plan.seeds.len();
    // 3 bytes per pixel of a picture, about a tenth of that per pixel of a video.
    let bytes = |s: &SizeRow| {
        (s.width as u64).saturating_mul(s.height as u64) * if s.fps.is_some() { s.frames.div_ceil(10) } else { 3 }
    };
    let last = sizes.last().map_or(0, bytes);
    Ok(GenerateForecast {
        model: model_name(&config.folder, config.family.as_ref()).into(),
        outputs,
        weights_bytes: weights,
        memory_bytes: memory,
        download_bytes: None,
        disk_bytes: Some(last.saturating_mul(outputs as u64)),
        notes,
        stages: levels,
        sizes,
    })
}

/// The resolution levels with their cost.
fn levels(config: &RunConfig) -> Vec<LevelRow> {
    let mut latent = config.family.latent_shape(config.size);
    let axes = latent.len();
    let row = |level: &crate::spectral::Level| {
        (latent[axes - 2], latent[axes - 1]) = (level.height, level.width);
        let tokens = config.family.tokens(&latent);
        LevelRow {
            height: level.height,
            width: level.width,
            steps: level.steps(),
            tokens,
            sigma_start: level.sigma_start.into(),
            sigma_end: level.sigma_end.into(),
            flop: config.flop.as_ref().map(|flop| flop(tokens) * level.steps() as f64),
        }
    };
    config.levels.iter().map(row).collect()
}

/// Cost of progressive growth, type of the noise, warnings for the input picture, and tiles of the VAE.
fn notes(plan: &GeneratePlan, config: &RunConfig, levels: &[LevelRow]) -> Vec<String> {
    let (family, size) = (config.family.as_ref(), config.size);
    let spent: usize = levels.iter().map(|s| s.tokens * s.steps).sum();
    let full = levels.last().map_or(1, |s| s.tokens) * levels.iter().map(|s| s.steps).sum::<usize>();
    let saved = format!("{:.0} % of the token-steps of full resolution", 100.0 * spent as f64 / full as f64);
    let mut notes = if levels.len() > 1 { vec![saved] } else { vec![] };
    notes.push(match plan.model.configs_only {
        true => {
            "the weights are not cached: their memory, tiles and FLOP are unknown; plan once without --offline".into()
        }
        false => format!("noise is drawn in {}", config.noise.name()),
    });
    notes.extend(config.start.iter().flat_map(|image| image.notes(family, size)));
    let encoded = config.start.as_ref().map(|image| image.encoded_size(family.vae_scale_factor(), size));
    let encoding = encoded.and_then(|size| config.vae.note(Direction::Encode, size));
    notes.extend(encoding.map(|note| format!("the input is {note}")));
    let outputs = if family.is_video() { "videos" } else { "pictures" };
    let decoding = config.vae.note(Direction::Decode, (size.height, size.width));
    notes.extend(decoding.map(|note| format!("{outputs} are {note}")));
    notes
}

/// Size and frames after each stage from decoding on.
fn sizes(plan: &GeneratePlan, config: &RunConfig) -> Result<Vec<SizeRow>> {
    let Size { height, width, frames } = config.size;
    let video = config.family.is_video();
    let row = |stage: &str, (height, width): (usize, usize), frames: usize, fps: f64| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: frames as u64,
        fps: video.then_some(fps),
    };
    let form = VideoForm::new(plan, (height, width), frames, config.fps)?;
    let mut sizes = vec![row("decode", (height, width), frames, config.fps)];
    if plan.interpolation.is_some() {
        sizes.push(row("interpolate", (height, width), form.frames, form.rate.value()));
    }
    if plan.upscaling.is_some() {
        sizes.push(row("upscale", form.size, form.frames, form.rate.value()));
    }
    Ok(sizes)
}
