//! Prompts → pictures and videos.

pub(super) mod init_image;
pub(super) mod run_config;
mod video;

use run_config::RunConfig;
pub use run_config::plan_generate;
pub use video::Form;

use std::{collections::BTreeMap, io::Write, path::Path, time::Instant};

use ndarray::{Array3, ArrayD};

use crate::pipeline::{
    context::{Context, Role},
    diagnose::name_damaged_tensor,
    generate::init_image::{Encoder, EncoderGraphs, InitImage},
    postprocess::Upscaler,
    prompts,
    report::{Generated, OutputRow},
    timings::Timings,
    vae::Direction,
};
use crate::{
    compile::Subgraph,
    error::{Error, Result},
    family::Conditioning,
    media::{
        PendingFile, PictureFormat,
        metadata::Parameters,
        picture::{self, Picture, PictureOptions},
    },
    onnx::Model,
    plan::{Destination, GeneratePlan, Item},
    progress::{Task, Unit},
    runtime::peak_memory,
    spectral::{self, Level},
    stage::{
        denoise::{Denoiser, Steering},
        vae,
    },
    tensor::Frame,
};

/// The graphs of an autoencoder's half that makes pictures.
enum Decoder {
    Picture(Box<Model>),
    /// Features of the first latent frame and of later ones; the first picture and later ones.
    Video(Box<[Model; 4]>),
}

impl Decoder {
    fn write(r: &RunConfig, cx: &Context<'_>) -> Result<Self> {
        let part = |part| cx.graph(&r.folder, "vae", part, Role::Exact);
        if !r.family.is_video() {
            return part(Subgraph::Decoder).map(|graph| Self::Picture(Box::new(graph)));
        }
        let [a, b, c, d] =
            [Subgraph::DecoderTrunk, Subgraph::CachedDecoderTrunk, Subgraph::DecoderHead, Subgraph::CachedDecoderHead];
        Ok(Self::Video(Box::new([part(a)?, part(b)?, part(c)?, part(d)?])))
    }
}

/// One output on its way.
struct Job<'a> {
    prompt: usize,
    item: Item<'a>,
    latent: ArrayD<f32>,
}

/// Latents by name, for `--save-latents`.
type Kept = BTreeMap<String, ArrayD<f32>>;

/// Runs a plan. Each network is loaded once for all prompts and seeds.
pub fn generate(plan: &GeneratePlan, cx: &Context<'_>) -> Result<Generated> {
    let resolved = RunConfig::new(plan)?;
    let mut perf = Timings::default();
    perf.split = Some(resolved.split());
    let items = items(plan, resolved.family.is_video());
    reserve(plan, &items)?;
    // All graphs first: whatever is wrong with the checkpoint is said before anything heavy is done.
    let (folder, family) = (&resolved.folder, resolved.family.as_ref());
    let transformer = cx.graph(folder, "transformer", Subgraph::Full, Role::Transformer)?;
    let decoder = Decoder::write(&resolved, cx)?;
    if let Some(source) = &resolved.start {
        source.notes(family, resolved.size).iter().for_each(|note| tracing::warn!("{note}"));
    }
    let start =
        resolved.start.as_ref().map(|source| perf.time("encode", || encode(source, &resolved, cx))).transpose()?;
    let (positive, negative) = conditions(plan, &resolved, cx, &mut perf)?;
    if plan.cfg_batch && negative.as_ref().is_some_and(|n| positive.iter().any(|p| !p.can_batch_with(n))) {
        tracing::warn!(
            "--cfg-batch: the prompt and the negative prompt have other numbers of tokens, so they take two calls"
        );
    }
    let mut kept = Kept::new();
    if let Some(start) = start.as_ref().filter(|_| plan.save_latents.is_some()) {
        kept.insert("start".into(), start.clone());
    }
    let mut jobs = Vec::with_capacity(items.len());
    {
        let begin = Instant::now();
        let mut network = cx.load("transformer", &transformer)?;
        perf.add("load transformer", begin.elapsed().as_secs_f64());
        for (k, (prompt, item)) in items.into_iter().enumerate() {
            let steering = Steering {
                family: resolved.family.as_ref(),
                positive: &positive[prompt],
                negative: negative.as_ref(),
                guidance: resolved.guidance,
            };
            let name = |what: &str| if item.count == 1 { what.to_string() } else { format!("{k}.{what}") };
            let steps: usize = resolved.levels.iter().map(Level::steps).sum();
            let mut task = Task::new(cx.progress, "denoise", Some(steps as u64), Unit::Steps);
            let mut last = Instant::now();
            let mut watch = |what: &str, x: &ArrayD<f32>| {
                if plan.save_latents.is_some() {
                    kept.insert(name(what), x.clone());
                }
                if what == "noise" {
                    return Ok(());
                }
                perf.step("denoise", last.elapsed().as_secs_f64());
                last = Instant::now();
                task.step(1)
            };
            let pass = resolved.pass(plan.noise);
            let mut denoiser = Denoiser::new(&mut network, &steering).batched(plan.cfg_batch);
            let shape = family.latent_shape(resolved.size);
            let latent =
                pass.run(&mut |x, sigma| denoiser.velocity(x, sigma), &shape, start.as_ref(), item.seed, &mut watch);
            let latent = latent.map_err(name_damaged_tensor(&folder.root().join("transformer")))?;
            if plan.save_latents.is_some() {
                kept.insert(name("latents"), latent.clone());
            }
            jobs.push(Job { prompt, item, latent });
        }
    }
    if let Some(path) = &plan.save_latents {
        save_latents(path, &kept)?;
    }
    let run = Run { plan, resolved: &resolved, cx };
    let outputs = match decoder {
        Decoder::Video(graphs) => video::finish(&run, &graphs, jobs, &mut perf)?,
        Decoder::Picture(graph) => finish(plan, &resolved, cx, &graph, jobs, &mut perf)?,
    };
    if let Some(path) = &plan.perf_dump {
        perf.write(path)?;
    }
    Ok(Generated { outputs, seconds: perf.seconds(), peak_memory_bytes: peak_memory() })
}

fn items(plan: &GeneratePlan, video: bool) -> Vec<(usize, Item<'_>)> {
    let count = plan.prompts.len() * plan.seeds.len();
    let pairs = plan.prompts.iter().enumerate().flat_map(|(p, text)| plan.seeds.iter().map(move |&s| (p, text, s)));
    pairs.enumerate().map(|(index, (p, prompt, seed))| (p, Item { prompt, seed, index, count, video })).collect()
}

/// Finds out before the work whether the results can be written.
fn reserve(plan: &GeneratePlan, items: &[(usize, Item<'_>)]) -> Result<()> {
    for (_, item) in items {
        let Some(path) = plan.output.path(*item)? else { continue };
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, &e))?;
        }
        if !item.video {
            PictureFormat::of_name(&path)?;
        }
        drop(PendingFile::create(&path, true)?);
    }
    for path in plan.save_latents.iter().chain(&plan.perf_dump) {
        drop(PendingFile::create(path, true)?);
    }
    Ok(())
}

/// The start's latent at the size of the first level.
fn encode(source: &InitImage, r: &RunConfig, cx: &Context<'_>) -> Result<ArrayD<f32>> {
    let tiling = r.vae.choose(Direction::Encode, source.encoded(r.family.vae_scale_factor(), r.size), cx);
    let graphs = EncoderGraphs::new(&r.folder, r.family.as_ref(), cx)?;
    let mut encoder = Encoder::load(&graphs, r.family.as_ref(), tiling, cx)?;
    let latent =
        source.latent(&mut encoder, r.size, cx.progress).map_err(name_damaged_tensor(&r.folder.root().join("vae")))?;
    spectral::resized(&latent, (r.levels[0].height, r.levels[0].width))
}

/// Every prompt's condition, and the negative prompt's where guidance wants it.
fn conditions(
    plan: &GeneratePlan,
    r: &RunConfig,
    cx: &Context<'_>,
    perf: &mut Timings,
) -> Result<(Vec<Conditioning>, Option<Conditioning>)> {
    let wants_negative = r.sigmas.iter().any(|&s| r.guidance.needs_negative(s));
    let negative = plan.negative_prompt.as_deref().unwrap_or(r.family.negative_prompt());
    let negative = wants_negative.then_some(negative);
    let texts: Vec<&str> = plan.prompts.iter().map(String::as_str).chain(negative).collect();
    let mut conditions = prompts::encode(&texts, &r.folder, r.family.as_ref(), cx, perf)?;
    let negative = negative.and_then(|_| conditions.pop());
    Ok((conditions, negative))
}

/// What every output shares.
struct Run<'a> {
    plan: &'a GeneratePlan,
    resolved: &'a RunConfig,
    cx: &'a Context<'a>,
}

/// Decodes, enlarges and writes.
fn finish(
    plan: &GeneratePlan,
    r: &RunConfig,
    cx: &Context<'_>,
    decoder: &Model,
    jobs: Vec<Job<'_>>,
    perf: &mut Timings,
) -> Result<Vec<OutputRow>> {
    let begin = Instant::now();
    let tiling = r.vae.choose(Direction::Decode, (r.size.height, r.size.width), cx);
    let mut network = cx.load_large("vae", decoder)?;
    perf.add("load vae", begin.elapsed().as_secs_f64());
    let mut upscaler = plan.upscaling.as_ref().map(|u| Upscaler::load(u, cx)).transpose()?;
    let mut task = Task::new(cx.progress, "decode", Some(jobs.len() as u64), Unit::Steps);
    let mut made = Vec::with_capacity(jobs.len());
    for job in jobs {
        let planes = perf.time("decode", || vae::decode(&mut network, r.family.denormalize(&job.latent), tiling));
        let mut planes = planes.map_err(name_damaged_tensor(&r.folder.root().join("vae")))?;
        if let Some(upscaler) = &mut upscaler {
            planes = perf.time("upscale", || upscaler.apply(planes))?;
        }
        made.push(perf.time("write", || write(plan, r, &job, &planes))?);
        task.step(1)?;
    }
    Ok(made)
}

fn write(plan: &GeneratePlan, r: &RunConfig, job: &Job<'_>, planes: &Array3<f32>) -> Result<OutputRow> {
    let (_, height, width) = planes.dim();
    let mut picture = Picture::from(Frame::from_planes(planes, false));
    parameters(plan, r, job).sign_picture(&mut picture);
    let options = PictureOptions {
        quality: plan.output.compression(false),
        overwrite: plan.output.overwrite,
        verify: plan.output.verify,
        ..PictureOptions::default()
    };
    let path = plan.output.path(job.item)?;
    match &path {
        Some(path) => {
            picture::write(path, &picture, &options)?;
        }
        None if plan.output.destination == Destination::StandardOutput => {
            let bytes = picture::encode(&picture, PictureFormat::Png, &options)?;
            let mut out = std::io::stdout().lock();
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            written.map_err(|e| Error::failed(format!("writing to standard output: {e}")))?;
        }
        None => {}
    }
    Ok(OutputRow { path, seed: job.item.seed, width, height, frames: 1 })
}

/// The settings that the output's metadata names.
fn parameters<'a>(plan: &'a GeneratePlan, r: &'a RunConfig, job: &Job<'_>) -> Parameters<'a> {
    let split = (r.levels.len() > 1).then(|| ("Progressive", r.split()));
    Parameters {
        prompt: &plan.prompts[job.prompt],
        negative_prompt: plan.negative_prompt.as_deref(),
        steps: r.steps,
        sampler: r.family.solver().name(),
        guidance_scale: r.guidance.scale(),
        seed: job.item.seed,
        size: (r.size.width, r.size.height),
        model: r.family.name(),
        strength: r.strength,
        more: split.into_iter().collect(),
    }
}

/// Latents as f32 tensors in a safetensors file, written beside and renamed.
fn save_latents(path: &Path, kept: &Kept) -> Result<()> {
    let bytes: Vec<(&String, Vec<u8>, &ArrayD<f32>)> =
        kept.iter().map(|(n, x)| (n, x.iter().flat_map(|v| v.to_le_bytes()).collect(), x)).collect();
    let broken = |e: safetensors::SafeTensorError| Error::failed(format!("{}: {e}", path.display()));
    let views = bytes
        .iter()
        .map(|(name, bytes, x)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, x.shape().to_vec(), bytes);
            Ok((name.as_str(), view.map_err(broken)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let file = safetensors::serialize(views, None).map_err(broken)?;
    let mut place = PendingFile::create(path, true)?;
    place.write(&file)?;
    place.commit()?;
    Ok(())
}
