//! What an enhance call would do: forms, sizes and times, without loading weights.

use super::{
    identity::Recipe,
    throughput::{Keys, Measured},
};
use crate::{
    error::Result,
    pipeline::{self, EnhanceForecast, EnhanceForecastRow},
    plan::EnhancePlan,
};

/// What a plan comes to. Among several inputs, one that cannot be read is named with its cause.
pub fn plan_enhance(plan: &EnhancePlan) -> Result<EnhanceForecast> {
    pipeline::refuse(plan)?;
    let (recipe, measured, device) = (Recipe::of(plan)?, Measured::load(), plan.runtime.engine.device.to_string());
    let keys = Keys { plan, recipe: &recipe, device: &device };
    let (notes, networks) = pipeline::outlook(plan)?;
    let mut forecast = EnhanceForecast { seconds: Some(0.0), notes, ..EnhanceForecast::default() };
    let (mut memory, mut disk) = (0u64, 0u64);
    for job in &plan.jobs {
        let (sizes, cause) = match pipeline::sizes(plan, &job.input) {
            Ok(sizes) => (sizes, None),
            Err(e) if plan.jobs.len() == 1 => return Err(e),
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        if let Some(last) = sizes.last() {
            let pixels = (last.width * last.height) as u64;
            // A handful of f32 frames wait in the line; encoded video takes about a tenth of a byte per pixel.
            memory = memory.max(pixels * 3 * 4 * 8);
            disk += if last.fps.is_none() { pixels * 3 } else { pixels * last.frames / 10 };
            forecast.frames += last.frames;
            forecast.seconds = forecast.seconds.and_then(|all| Some(all + measured.seconds(&sizes, keys)?));
        }
        let (input, output) = (job.input.name().to_path_buf(), job.output.clone());
        forecast.items.push(EnhanceForecastRow { input, output, sizes, cause });
    }
    forecast.memory_bytes = Some(networks + memory * plan.batch.jobs.min(plan.jobs.len()) as u64);
    forecast.disk_bytes = Some(disk);
    Ok(forecast)
}
