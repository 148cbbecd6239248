//! Hashes that identify a result: of its input, its models and its settings. BLAKE3, hexadecimal.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use walkdir::WalkDir;

use crate::{
    error::{Error, Result},
    files::open_regular,
    plan::{EnhancePlan, Input, Model},
    tensor::DType,
};

/// The hashes that all items of a run share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Hash of the interpolation network.
    pub interpolation: Option<String>,
    /// Hash of the upscaling network.
    pub upscaling: Option<String>,
    /// Hash of all networks.
    pub models: String,
    /// Hash of all settings that affect results. Device, threads, memory and the version of the program are not included.
    pub settings: String,
}

impl Recipe {
    /// Computes the hashes; reads the model files.
    pub(super) fn of(plan: &EnhancePlan) -> Result<Self> {
        let of = |model: Option<&Model>| model.map(|m| tree(&m.path)).transpose();
        let interpolation = of(plan.interpolation.as_ref().map(|i| &i.model))?;
        let upscaling = of(plan.upscaling.as_ref().and_then(|u| u.model.as_ref()))?;
        let weak = of(plan.upscaling.as_ref().and_then(|u| u.denoise.as_ref()).map(|d| &d.weak))?;
        let refine = of(plan.refine.as_ref().map(|r| &r.model))?;
        let mut models = blake3::Hasher::new();
        for (role, hash) in
            [("interpolation", &interpolation), ("upscaling", &upscaling), ("weak", &weak), ("refine", &refine)]
        {
            models.update(format!("{role} {}\n", hash.as_deref().unwrap_or("none")).as_bytes());
        }
        let settings = blake3::hash(settings(plan)?.to_string().as_bytes());
        Ok(Self { interpolation, upscaling, models: hex(&models), settings: settings.to_hex().to_string() })
    }
}

/// The plan without settings that do not affect results: paths, names, device, job control.
fn settings(plan: &EnhancePlan) -> Result<Value> {
    let mut value =
        serde_json::to_value(plan).map_err(|e| Error::failed(format!("the settings cannot be serialized: {e}")))?;
    for (part, names) in [
        ("", &["record", "batch", "perf_dump", "runtime"][..]),
        ("/encoding", &["destination", "overwrite", "verify"]),
        ("/interpolation", &["model"]),
        ("/upscaling", &["model"]),
        ("/upscaling/denoise", &["weak"]),
        ("/refine", &["model"]),
    ] {
        if let Some(map) = value.pointer_mut(part).and_then(Value::as_object_mut) {
            names.iter().for_each(|name| drop(map.remove(*name)));
        }
    }
    value["dtype"] = json!(plan.runtime.dtype.map_or("auto", DType::name));
    Ok(value)
}

/// Hash of a file, or of all files of a folder with their names. Files of a folder above [`SAMPLED_ABOVE`] are sampled: reading
/// the tens of gigabytes of a diffusion model can take longer than the enhancement of a picture.
fn tree(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return file(path);
    }
    let mut hasher = blake3::Hasher::new();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| Error::failed(format!("reading the folder {}: {e}", path.display())))?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(path).unwrap_or(entry.path()).as_os_str().as_encoded_bytes();
            hasher.update(name).update(sampled_file(entry.path())?.as_bytes());
        }
    }
    Ok(hex(&hasher))
}

/// Size in bytes above which a file of a model folder is sampled.
const SAMPLED_ABOVE: u64 = 64 << 20;
/// Number of evenly spaced samples, and bytes of each.
const SAMPLES: (u64, usize) = (256, 16 << 10);

/// Hash of a file; of a large file: of its length and samples.
fn sampled_file(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::io("reading", path, &e);
    let length = fs::metadata(path).map_err(failed)?.len();
    if length <= SAMPLED_ABOVE {
        return file(path);
    }
    let (opened, mut hasher) = (File::open(path).map_err(failed)?, blake3::Hasher::new());
    let (count, bytes) = SAMPLES;
    let mut sample = vec![0; bytes];
    hasher.update(&length.to_le_bytes());
    for k in 0..count {
        opened.read_exact_at(&mut sample, k * (length - bytes as u64) / (count - 1)).map_err(failed)?;
        hasher.update(&sample);
    }
    Ok(hex(&hasher))
}

/// Hash of a file's bytes.
pub(super) fn file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = open_regular(path).and_then(|f| hasher.update_reader(f).map(|_| ()));
    read.map_err(|e| Error::io("reading", path, &e))?;
    Ok(hex(&hasher))
}

/// Hash of an input: of a file, or of the hashes of numbered pictures.
pub(super) fn input_hash(input: &Input) -> Result<String> {
    match input {
        Input::File(path) => file(path),
        Input::Sequence { files, .. } => {
            let mut hasher = blake3::Hasher::new();
            for path in files {
                hasher.update(file(path)?.as_bytes());
            }
            Ok(hex(&hasher))
        }
    }
}

fn hex(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex().to_string()
}

/// Inode, length and times of a file. An equal stamp means an unchanged file, so that a large input is not read again. `None` for
/// numbered pictures and for a file changed within the last 3 seconds: a further change could leave the stamp equal.
pub(super) fn stamp(input: &Input) -> Option<String> {
    let Input::File(path) = input else { return None };
    let data = fs::metadata(path).ok()?;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(data.ctime()).ok()?);
    let age = SystemTime::now().duration_since(changed).ok()?;
    (age > Duration::from_secs(3)).then(|| written(&data))
}

/// Inode, length and times of an input, to detect a change during the run.
pub(super) fn state(input: &Input) -> String {
    let of = |path: &Path| fs::metadata(path).map(|data| written(&data)).unwrap_or_default();
    match input {
        Input::File(path) => of(path),
        Input::Sequence { files, .. } => files.iter().map(|path| of(path)).collect::<Vec<_>>().join(" "),
    }
}

fn written(data: &Metadata) -> String {
    let (inode, length) = (data.ino(), data.len());
    format!("{inode}.{length}.{}.{}.{}.{}", data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec())
}

/// Modification time of a file, nanoseconds since 1970.
pub(super) fn modified(data: &Metadata) -> i64 {
    data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    /// A sparse file of 100 MB: a change of the first byte, of the last byte or of the length changes the hash.
    #[test]
    fn large_files_of_a_model_are_sampled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let with = |at: u64, length: u64| {
            let mut file = File::create(&path).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"x").unwrap();
            file.set_len(length).unwrap();
            tree(folder.path()).unwrap()
        };
        let rows = [with(0, 100 << 20), with((100 << 20) - 1, 100 << 20), with(0, (100 << 20) + 1), with(0, 100 << 20)];
        assert_eq!(rows[0], rows[3]);
        assert!(rows[0] != rows[1] && rows[0] != rows[2] && rows[1] != rows[2], "{rows:?}");
    }

    /// The hash of the settings of an `enhance` call. It identifies finished outputs, so it must not change between versions.
    #[test]
    fn hashes_of_settings_are_stable() {
        use crate::{
            cli::{
                args::{Cli, Command},
                models::Models,
            },
            progress::Silent,
        };
        use clap::Parser;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let rows = [
            ("--upscale 2 --filter lanczos", "2c6025a6df277283"),
            (
                "--upscale 640x480 --filter nearest --fps 23.976 --dtype bf16 --crf 20.5 -e a=b --codec libx265",
                "f4b38c23dfe9bbb7",
            ),
            (
                "--interpolate 4x --frame-interpolation-scale 0.5 --dedup --start 1:30 --end 100 --chunk 5 --dtype fp32",
                "dad4de75456a428c",
            ),
            (
                "--interpolate 60fps --scene-threshold 0.3 --upscale 2160p --tile 256 --tile-overlap 8 --seed 7",
                "0c82617216626fd6",
            ),
            (
                "--upscale 4 --denoise-strength 0.5 --denoise-model-path NET --output-quality high --quality exact",
                "3cb1278a2e6b0a22",
            ),
            (
                "--refine --upscale 2 --refine-stages 2x,1.5x --refine-prompt fox --quality high --x264-preset slow",
                "a4c4f242cd9d248e",
            ),
            (
                "--refine --refine-by picture --filter bilinear --refine-strength 0.5 --upscale 3 --dtype f16",
                "71956e985041e5cf",
            ),
        ];
        std::fs::write(folder.path().join("in.mp4"), "").unwrap();
        std::fs::write(folder.path().join("net.pth"), "").unwrap();
        let (net, model) = (at("net.pth"), format!("{}/models/demo/flux1-tiny", env!("CARGO_MANIFEST_DIR")));
        let mut wrong = vec![];
        for (args, want) in rows {
            let files = format!("{} -o {}", at("in.mp4"), at("out.mp4"));
            let network = args.contains("--filter") || args.contains("--refine ");
            let network = if network { String::new() } else { format!(" --upscaling-model-path {net}") };
            let refine = if args.contains("--refine ") { format!(" --refine-model {model}") } else { String::new() };
            let all = format!(
                "crescendo enhance {files}{network} --frame-interpolation-model-path {net}{refine} {}",
                args.replace("NET", &net)
            );
            let cli = Cli::try_parse_from(all.split(' ')).unwrap();
            let Command::Enhance(args) = cli.command else { panic!("not enhance") };
            let plan = args.resolve(&cli.shared, &Models::new(&cli.shared, &Silent, false)).unwrap();
            let found = blake3::hash(settings(&plan).unwrap().to_string().as_bytes()).to_hex().to_string();
            if found[..16] != *want {
                wrong.push(format!("{all}: {found}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
