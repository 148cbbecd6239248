//! Throughput: seconds per megapixel of each stage, stored in the cache folder for the time estimate of `plan`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::identity::Recipe;
use crate::{
    error::{Error, Result},
    files::read_text,
    hub::cache::own_cache,
    media::PendingFile,
    pipeline::SizeRow,
    plan::EnhancePlan,
};

/// Seconds per megapixel by stage, network and device.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Throughput(BTreeMap<String, f64>);

/// The key of a measurement, in addition to the stage.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    /// The requested run.
    pub plan: &'a EnhancePlan,
    /// Hashes of the networks.
    pub recipe: &'a Recipe,
    /// The device: `cpu`, `cuda:0`, or as requested.
    pub device: &'a str,
}

impl Keys<'_> {
    /// `video upscale 1a2b3c4d on cpu`
    fn key(&self, stage: &str, video: bool) -> String {
        let kind = if video { "video" } else { "picture" };
        let short = |hash: &Option<String>| hash.as_ref().map(|h| h[..16.min(h.len())].to_string());
        let on = self.device;
        match stage {
            "interpolate" => {
                format!("{kind} interpolate {} on {on}", short(&self.recipe.interpolation).unwrap_or_default())
            }
            "upscale" => format!("{kind} upscale {} on {on}", short(&self.recipe.upscaling).unwrap_or("filter".into())),
            "refine" => {
                let (models, r) = (&self.recipe.models, self.plan.refine.as_ref());
                let work = r.map(|r| (r.strength, r.steps, r.tile, r.tile_overlap));
                format!("{kind} refine {} {work:?} on {on}", &models[..16.min(models.len())])
            }
            "encode" if video => format!("{kind} encode {}", self.plan.encoding.codec.as_deref().unwrap_or("default")),
            _ => format!("{kind} {stage}"),
        }
    }
}

/// Megapixels that each stage processes: decoded frames, interpolated frames, upscaled frames (input size), refined pictures
/// (output size of each pass), encoded frames.
pub(super) fn megapixels(sizes: &[SizeRow]) -> Vec<(&'static str, f64)> {
    let of = |name: &str| sizes.iter().find(|row| row.stage == name);
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { return Vec::new() };
    let area = |row: &SizeRow| (row.width * row.height) as f64 / 1e6;
    let mut stages = vec![("decode", area(first) * first.frames as f64)];
    let between = of("interpolate").map(|row| area(first) * row.frames.saturating_sub(first.frames) as f64);
    stages.extend(between.map(|work| ("interpolate", work)));
    stages.extend(of("upscale").map(|row| ("upscale", area(first) * row.frames as f64)));
    let refined: f64 = sizes.iter().filter(|row| row.stage.starts_with("refine")).map(area).sum();
    stages.extend((refined > 0.0).then_some(("refine", refined)));
    stages.push(("encode", area(last) * last.frames as f64));
    stages
}

impl Throughput {
    /// Reads the stored measurements; empty if there are none.
    pub(super) fn load() -> Self {
        let text = storage().ok().and_then(|path| read_text(&path).ok()).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Replaces the measurement of a stage.
    fn set(&mut self, key: String, seconds: f64, work: f64) {
        if work > 0.0 && seconds > 0.0 {
            self.0.insert(key, seconds / work);
        }
    }

    /// Estimated seconds of an item: the sum over the stages of a picture, the maximum over the concurrent stages of a video.
    /// `None`: a stage has no measurement.
    pub(super) fn seconds(&self, sizes: &[SizeRow], keys: Keys<'_>) -> Option<f64> {
        let video = sizes.first()?.fps.is_some();
        let stages = megapixels(sizes);
        let times = stages.iter().map(|(stage, work)| Some(self.0.get(&keys.key(stage, video))? * work));
        let times: Vec<f64> = times.collect::<Option<_>>()?;
        Some(if video { times.into_iter().fold(0.0, f64::max) } else { times.into_iter().sum() })
    }
}

/// Seconds and megapixels of a run by stage.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<(bool, &'static str), (f64, f64)>);

impl Tally {
    /// Adds a finished item. `seconds`: time of a stage by name.
    pub(super) fn add(&mut self, sizes: &[SizeRow], seconds: impl Fn(&str) -> f64) {
        let video = sizes.first().is_some_and(|row| row.fps.is_some());
        for (stage, work) in megapixels(sizes) {
            let sum = self.0.entry((video, stage)).or_default();
            *sum = (sum.0 + seconds(stage), sum.1 + work);
        }
    }

    /// Stores the measurements under each name of the device. `jobs`: concurrent jobs, which share the time.
    pub(super) fn save(&self, jobs: usize, keys: Keys<'_>, devices: &[&str]) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut throughput = Throughput::load();
        for device in devices {
            for ((video, stage), (seconds, work)) in &self.0 {
                throughput.set(Keys { device, ..keys }.key(stage, *video), seconds / jobs as f64, *work);
            }
        }
        let path = storage()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, &e))?;
        let text = serde_json::to_string_pretty(&throughput.0).map_err(|e| Error::failed(e.to_string()))?;
        let mut file = PendingFile::create(&path, true)?;
        file.write((text + "\n").as_bytes())?;
        file.commit().map(drop)
    }
}

fn storage() -> Result<PathBuf> {
    Ok(own_cache()?.join("measured.json"))
}
