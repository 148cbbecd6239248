//! Pictures and videos → larger, smoother ones.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    answer::{EnhanceForecast, EnhanceForecastRow, Enhanced, ItemRow, SizeRow, Status},
    context::Context,
    perf::Perf,
    post::{self, Upscaler},
    video::{self, Networks},
};
use crate::{
    error::{Error, Kind as ErrorKind, Result},
    media::{
        Kind, Place, picture,
        picture::{Format, Picture, PictureOptions},
        sniff,
        video::probe,
    },
    plan::EnhancePlan,
    progress,
    tensor::Frame,
};

/// One input and where its result goes.
struct Item {
    input: PathBuf,
    output: PathBuf,
}

/// Runs a plan. A failing item does not stop the others; each is named with its cause.
pub fn enhance(plan: &EnhancePlan, cx: &Context<'_>) -> Result<Enhanced> {
    refuse(plan)?;
    let items = items(plan)?;
    for item in items.iter().filter(|i| !plan.batch.skip_existing || !i.output.exists()) {
        plan.encoding.may_write(&item.output)?;
    }
    if let Some(path) = &plan.perf_dump {
        drop(Place::new(path, true)?);
    }
    let mut networks = Networks {
        interpolate: plan.interpolation.as_ref().map(|i| post::Interpolator::load(i, cx)).transpose()?,
        upscale: plan.upscaling.as_ref().map(|u| Upscaler::load(u, cx)).transpose()?,
    };
    let mut perf = Perf::default();
    let mut rows = Vec::with_capacity(items.len());
    for item in &items {
        progress::check()?;
        let row = run(item, plan, &mut networks, cx, &mut perf)?;
        let failed = row.status == Status::Failed;
        rows.push(row);
        if failed && plan.batch.fail_fast {
            break;
        }
    }
    if let Some(path) = &plan.perf_dump {
        perf.write(path)?;
    }
    Ok(Enhanced { items: rows })
}

/// One item; only an interruption is an error of the whole.
fn run(item: &Item, plan: &EnhancePlan, networks: &mut Networks, cx: &Context<'_>, perf: &mut Perf) -> Result<ItemRow> {
    let begin = Instant::now();
    let row = |status, output: Option<&Path>, cause, frames| ItemRow {
        input: item.input.clone(),
        output: output.map(Path::to_path_buf),
        status,
        cause,
        frames,
        seconds: begin.elapsed().as_secs_f64(),
    };
    if plan.batch.skip_existing && item.output.exists() {
        return Ok(row(Status::Skipped, Some(&item.output), None, 0));
    }
    let done = sniff(&item.input).and_then(|kind| match kind {
        Kind::Picture(format) => picture(item, format, plan, networks, perf),
        Kind::Video => video::enhance(&item.input, &item.output, plan, networks, cx, perf),
    });
    match done {
        Ok(frames) => Ok(row(Status::Done, Some(&item.output), None, frames)),
        Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
        Err(e) => Ok(row(Status::Failed, None, Some(e.to_string()), 0)),
    }
}

/// Flags that are understood and not built.
fn refuse(plan: &EnhancePlan) -> Result<()> {
    let interpolation = plan.interpolation.as_ref();
    let rows = [
        (plan.refine.is_some(), "--refine"),
        // Another rate for the same frames would let the sound run away from them.
        (plan.fps.is_some(), "--fps"),
        (plan.cut.start.is_some() || plan.cut.end.is_some(), "--start and --end"),
        (plan.cut.chunk.is_some(), "--chunk"),
        (plan.batch.jobs > 1, "--jobs above 1"),
        (plan.batch.recursive, "--recursive"),
        (plan.batch.report.is_some(), "--report"),
        (interpolation.is_some_and(|i| i.dedup), "--dedup"),
        (interpolation.is_some_and(|i| i.scene_threshold < 1.0), "--scene-threshold below 1"),
    ];
    let asked: Vec<&str> = rows.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    if asked.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("{}: this version cannot do it yet; leave it out", asked.join(", "))))
}

/// Where each result goes: the file, for one input; else the folder, with the input's name. Folders are made.
fn items(plan: &EnhancePlan) -> Result<Vec<Item>> {
    let single = plan.inputs.len() == 1 && !plan.output.is_dir();
    let output = |input: &Path| {
        if single { plan.output.clone() } else { plan.output.join(input.file_name().unwrap_or_default()) }
    };
    let items: Vec<Item> = plan.inputs.iter().map(|i| Item { input: i.clone(), output: output(i) }).collect();
    for (k, item) in items.iter().enumerate() {
        if items[..k].iter().any(|other| other.output == item.output) {
            let (file, folder) = (item.output.display(), plan.output.display());
            return Err(Error::usage(format!(
                "two inputs would be written to {file}; enhance them into different folders than {folder}"
            )));
        }
        if same(&item.input, &item.output) {
            return Err(Error::usage(format!("{}: input and output are the same file", item.input.display())));
        }
        if let Some(folder) = item.output.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, &e))?;
        }
    }
    Ok(items)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn picture(item: &Item, format: Format, plan: &EnhancePlan, networks: &mut Networks, perf: &mut Perf) -> Result<u64> {
    if plan.interpolation.is_some() && plan.upscaling.is_none() {
        let name = item.input.display();
        return Err(Error::failed(format!(
            "{name} is a picture ({}), between which there is nothing to interpolate",
            format.name()
        )));
    }
    let read = perf.time("decode", || picture::read(&item.input))?;
    for left in &read.left_out {
        tracing::warn!("{}: left out: {left}", item.input.display());
    }
    let deep = read.frame.is_deep();
    let planes = read.frame.planes();
    let planes = match &mut networks.upscale {
        Some(upscaler) => perf.time("upscale", || upscaler.apply(planes))?,
        None => planes,
    };
    let options = PictureOptions {
        quality: plan.encoding.compression(false),
        overwrite: plan.encoding.overwrite,
        ..PictureOptions::default()
    };
    let enlarged = Picture { frame: Frame::from_planes(&planes, deep), ..read };
    perf.time("encode", || picture::write(&item.output, &enlarged, &options))?;
    Ok(1)
}

/// What an enhance call would do: forms and sizes, without loading weights.
pub fn plan_enhance(plan: &EnhancePlan) -> Result<EnhanceForecast> {
    refuse(plan)?;
    let single = plan.inputs.len() == 1 && !plan.output.is_dir();
    let mut items = Vec::new();
    let (mut memory, mut disk) = (0u64, 0u64);
    for input in &plan.inputs {
        let output = if single { plan.output.clone() } else { plan.output.join(input.file_name().unwrap_or_default()) };
        let sizes = match sniff(input)? {
            Kind::Picture(_) => {
                let frame = picture::read(input)?.frame;
                picture_sizes(plan, frame.height, frame.width)
            }
            Kind::Video => video_sizes(plan, input)?,
        };
        if let Some(last) = sizes.last() {
            let pixels = (last.width * last.height) as u64;
            // A handful of f32 frames wait in the line; encoded video takes about a tenth of a byte per pixel.
            memory = memory.max(pixels * 3 * 4 * 8);
            disk += if last.frames == 1 { pixels * 3 } else { pixels * last.frames / 10 };
        }
        items.push(EnhanceForecastRow { input: input.clone(), output, sizes });
    }
    Ok(EnhanceForecast { items, memory_bytes: Some(memory), disk_bytes: Some(disk) })
}

fn picture_sizes(plan: &EnhancePlan, height: usize, width: usize) -> Vec<SizeRow> {
    let row = |stage: &str, (height, width): (usize, usize)| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames: 1,
        fps: None,
    };
    let mut sizes = vec![row("decode", (height, width))];
    sizes.extend(plan.upscaling.as_ref().map(|u| row("upscale", post::output_size(u.target, height, width))));
    sizes
}

fn video_sizes(plan: &EnhancePlan, input: &Path) -> Result<Vec<SizeRow>> {
    let info = probe(input)?;
    let times = 1u64 << video::exponent(plan.interpolation.as_ref())?;
    let row = |stage: &str, (height, width): (usize, usize), frames: u64, fps: f64| SizeRow {
        stage: stage.into(),
        width,
        height,
        frames,
        fps: Some(fps),
    };
    let (frames, fps) = (info.frames.unwrap_or(0), info.frame_rate.value());
    let mut sizes = vec![row("decode", (info.height, info.width), frames, fps)];
    let (mut count, mut rate) = (frames, fps);
    if times > 1 {
        (count, rate) = (frames.saturating_sub(1) * times + 1, fps * times as f64);
        sizes.push(row("interpolate", (info.height, info.width), count, rate));
    }
    if let Some(u) = &plan.upscaling {
        sizes.push(row("upscale", post::output_size(u.target, info.height, info.width), count, rate));
    }
    Ok(sizes)
}
