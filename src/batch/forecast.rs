//! `plan` for `enhance`: shapes, sizes and estimated times, without loading weights.

use super::{
    identity::Recipe,
    journal::check_written,
    throughput::{Keys, Throughput},
};
use crate::{
    error::{Error, ErrorKind, Result},
    pipeline::{self, EnhanceForecast, EnhanceForecastRow, SizeRow},
    plan::EnhancePlan,
};

/// The throughput of earlier runs with the networks of a plan.
struct Estimate {
    throughput: Throughput,
    /// `None`: a network is not cached, so its hash is unknown.
    recipe: Option<Recipe>,
    device: String,
}

impl Estimate {
    fn new(plan: &EnhancePlan) -> Result<Self> {
        let cached = plan.networks().all(|model| !model.configs_only);
        let recipe = cached.then(|| Recipe::of(plan)).transpose()?;
        Ok(Self { throughput: Throughput::load(), recipe, device: plan.runtime.engine.device.to_string() })
    }

    /// Estimated seconds of an item. `None`: a stage has no measurement.
    fn seconds(&self, plan: &EnhancePlan, sizes: &[SizeRow]) -> Option<f64> {
        let keys = Keys { plan, recipe: self.recipe.as_ref()?, device: &self.device };
        self.throughput.seconds(sizes, keys)
    }
}

/// Forecasts an enhance call. Of several inputs, an unreadable one is reported with the cause.
pub fn plan_enhance(plan: &EnhancePlan) -> Result<EnhanceForecast> {
    check_written(plan)?;
    pipeline::check_enhance(plan)?;
    let estimate = Estimate::new(plan)?;
    let (notes, networks) = pipeline::refine_forecast(plan)?;
    let mut forecast = EnhanceForecast { seconds: Some(0.0), notes, ..EnhanceForecast::default() };
    let mut memory = pipeline::MemoryForecast::new(plan)?;
    let mut disk = 0u64;
    for job in &plan.jobs {
        let sizes = match &job.refusal {
            Some(why) => Err(Error::usage(why.clone())),
            None => pipeline::sizes(plan, &job.input).and_then(|sizes| memory.add(job, &sizes).map(|()| sizes)),
        };
        let (sizes, cause) = match sizes {
            Ok(sizes) => (sizes, None),
            // The code of a run, whose only item fails. An interruption stays one.
            Err(e) if plan.jobs.len() == 1 && e.kind() == ErrorKind::Usage => return Err(Error::failed(e.to_string())),
            Err(e) if plan.jobs.len() == 1 || e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        if let Some(last) = sizes.last() {
            let pixels = (last.width as u64).saturating_mul(last.height as u64);
            // Encoded video takes about 0.1 byte per pixel.
            disk += if last.fps.is_none() { pixels * 3 } else { pixels * last.frames / 10 };
            forecast.frames += last.frames;
            forecast.seconds = forecast.seconds.and_then(|all| Some(all + estimate.seconds(plan, &sizes)?));
        }
        let (input, output) = (job.input.name().to_path_buf(), job.output.clone());
        forecast.items.push(EnhanceForecastRow { input, output, sizes, cause });
    }
    let (bytes, note) = memory.finish(networks);
    forecast.memory_bytes = Some(bytes);
    forecast.notes.push(note);
    forecast.disk_bytes = Some(disk);
    Ok(forecast)
}
