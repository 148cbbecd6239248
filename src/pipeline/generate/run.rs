//! Runs a generate plan: text encoders → VAE encoder → transformer → VAE decoder → files.

use super::{
    denoise::{Inputs, denoise},
    forecast_memory,
    jobs::{Run, check_outputs, check_rates},
    latents::Latents,
    picture::write_pictures,
    run_config::RunConfig,
    vae_encoder::{EncoderGraphs, VaeEncoder},
    video::write_videos,
};
use crate::{
    compile::Subgraph,
    error::Result,
    family::Conditioning,
    onnx::Model,
    pipeline::{
        context::{Context, Role},
        diagnose::name_damaged_tensor,
        memory, prompts,
        report::Generated,
        timings::Timings,
        vae::Direction,
    },
    plan::GeneratePlan,
    runtime::{Device, peak_memory},
    spectral,
};

/// Runs a plan. Each network is loaded once for all prompts and seeds.
pub fn generate(plan: &GeneratePlan, cx: &Context<'_>) -> Result<Generated> {
    let config = RunConfig::new(plan)?;
    let mut timings = Timings::default();
    timings.split = Some(config.split());
    let run = Run { plan, config: &config, cx };
    let video = config.family.is_video();
    check_outputs(plan, video)?;
    if video {
        check_rates(plan, &config)?;
    }
    // Graphs come first, so that errors in the checkpoint are reported before anything slow runs.
    let transformer = cx.graph(&config.folder, "transformer", Subgraph::Full, Role::Transformer)?;
    let decoder = DecoderGraphs::new(&config, cx)?;
    check_memory(&run)?;
    let mut latents = Latents::new(plan.save_latents.as_deref(), plan.output.overwrite);
    let inputs = inputs(&run, &mut timings)?;
    if let Some(start) = &inputs.start {
        latents.add("start".into(), start);
    }
    let jobs = denoise(&run, &transformer, plan.items(video), &inputs, &mut latents, &mut timings)?;
    latents.write()?;
    let outputs = match decoder {
        DecoderGraphs::Video(graphs) => write_videos(&run, &graphs, jobs, &mut timings)?,
        DecoderGraphs::Picture(graph) => write_pictures(&run, &graph, jobs, &mut timings)?,
    };
    if let Some(path) = &plan.perf_dump {
        timings.write(path)?;
    }
    Ok(Generated { outputs, seconds: timings.seconds(), peak_memory_bytes: peak_memory() })
}

/// Checks that the run fits into memory before weights are read. On a GPU, the weights and activations are not in this memory.
fn check_memory(run: &Run<'_>) -> Result<()> {
    if run.cx.device() != Device::Cpu {
        return Ok(());
    }
    let (_, networks) = forecast_memory::networks(run.plan, run.config)?;
    let limit = run.plan.runtime.engine.memory_limit;
    memory::check(&forecast_memory::peak_of(run.plan, run.config, &networks)?, limit)
}

/// The graphs of a VAE decoder.
enum DecoderGraphs {
    Picture(Box<Model>),
    /// Features of the first latent frame and of later ones; the first picture and later ones.
    Video(Box<[Model; 4]>),
}

impl DecoderGraphs {
    fn new(config: &RunConfig, cx: &Context<'_>) -> Result<Self> {
        let graph = |subgraph| cx.graph(&config.folder, "vae", subgraph, Role::Exact);
        if !config.family.is_video() {
            return graph(Subgraph::Decoder).map(|graph| Self::Picture(Box::new(graph)));
        }
        Ok(Self::Video(Box::new([
            graph(Subgraph::DecoderTrunk)?,
            graph(Subgraph::CachedDecoderTrunk)?,
            graph(Subgraph::DecoderHead)?,
            graph(Subgraph::CachedDecoderHead)?,
        ])))
    }
}

/// Encodes the input picture and the prompts.
fn inputs(run: &Run<'_>, timings: &mut Timings) -> Result<Inputs> {
    let (config, plan) = (run.config, run.plan);
    if let Some(image) = &config.start {
        image.notes(config.family.as_ref(), config.size).iter().for_each(|note| tracing::warn!("{note}"));
    }
    let start = config.start.is_some().then(|| timings.time("encode", || encode_start(run))).transpose()?.flatten();
    let (positive, negative) = conditioning(run, timings)?;
    if plan.cfg_batch && negative.as_ref().is_some_and(|n| positive.iter().any(|p| !p.can_batch_with(n))) {
        tracing::warn!("--cfg-batch: prompt and negative prompt differ in their number of tokens and take two calls");
    }
    Ok(Inputs { start, positive, negative })
}

/// The latent of the input picture at the size of the first level.
fn encode_start(run: &Run<'_>) -> Result<Option<ndarray::ArrayD<f32>>> {
    let Run { config, cx, .. } = *run;
    let (family, folder) = (config.family.as_ref(), &config.folder);
    let Some(image) = &config.start else { return Ok(None) };
    let tiling = config.vae.choose(Direction::Encode, image.encoded_size(family.vae_scale_factor(), config.size), cx);
    let graphs = EncoderGraphs::new(folder, family, cx)?;
    let mut encoder = VaeEncoder::load(&graphs, family, tiling, cx)?;
    let latent = image.latent(&mut encoder, config.size, cx.progress);
    let latent = latent.map_err(name_damaged_tensor(&folder.root().join("vae")))?;
    spectral::resized(&latent, (config.levels[0].height, config.levels[0].width)).map(Some)
}

/// The conditioning of every prompt, and of the negative prompt if guidance needs it.
fn conditioning(run: &Run<'_>, timings: &mut Timings) -> Result<(Vec<Conditioning>, Option<Conditioning>)> {
    let Run { plan, config, cx } = *run;
    let needs_negative = config.sigmas.iter().any(|&s| config.guidance.needs_negative(s));
    let negative = plan.negative_prompt.as_deref().unwrap_or(config.family.negative_prompt());
    let negative = needs_negative.then_some(negative);
    let texts: Vec<&str> = plan.prompts.iter().map(String::as_str).chain(negative).collect();
    let mut conditioning = prompts::encode(&texts, &config.folder, config.family.as_ref(), cx, timings)?;
    let negative = negative.and_then(|_| conditioning.pop());
    Ok((conditioning, negative))
}
