//! `plan` for `enhance`: shapes, sizes and estimated times, without loading weights.

use super::{
    identity::Recipe,
    throughput::{Keys, Throughput},
};
use crate::{
    error::{Error, Result},
    pipeline::{self, EnhanceForecast, EnhanceForecastRow},
    plan::EnhancePlan,
};

/// Forecasts an enhance call. Of several inputs, an unreadable one is reported with the cause.
pub fn plan_enhance(plan: &EnhancePlan) -> Result<EnhanceForecast> {
    pipeline::check_enhance(plan)?;
    let (recipe, throughput, device) = (Recipe::of(plan)?, Throughput::load(), plan.runtime.engine.device.to_string());
    let keys = Keys { plan, recipe: &recipe, device: &device };
    let (notes, networks) = pipeline::refine_forecast(plan)?;
    let mut forecast = EnhanceForecast { seconds: Some(0.0), notes, ..EnhanceForecast::default() };
    let (mut memory, mut disk) = (0u64, 0u64);
    for job in &plan.jobs {
        let sizes = match &job.refusal {
            Some(why) => Err(Error::usage(why.clone())),
            None => pipeline::sizes(plan, &job.input),
        };
        let (sizes, cause) = match sizes {
            Ok(sizes) => (sizes, None),
            Err(e) if plan.jobs.len() == 1 => return Err(e),
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        if let Some(last) = sizes.last() {
            let pixels = (last.width * last.height) as u64;
            // About eight f32 frames are in flight; encoded video takes about 0.1 byte per pixel.
            memory = memory.max(pixels * 3 * 4 * 8);
            disk += if last.fps.is_none() { pixels * 3 } else { pixels * last.frames / 10 };
            forecast.frames += last.frames;
            forecast.seconds = forecast.seconds.and_then(|all| Some(all + throughput.seconds(&sizes, keys)?));
        }
        let (input, output) = (job.input.name().to_path_buf(), job.output.clone());
        forecast.items.push(EnhanceForecastRow { input, output, sizes, cause });
    }
    forecast.memory_bytes = Some(networks + memory * plan.batch.jobs.min(plan.jobs.len()) as u64);
    forecast.disk_bytes = Some(disk);
    Ok(forecast)
}
