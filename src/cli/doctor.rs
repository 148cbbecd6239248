//! `doctor`: a report on this machine.

use std::{fmt::Write, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::report::Report;
use crate::hub::cache;

/// Report of `doctor`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Diagnosis {
    /// Version of this program.
    pub version: &'static str,
    /// ONNX Runtime.
    pub onnxruntime: OnnxRuntime,
    /// Execution providers that work: `cpu`, `cuda`, `tensorrt`.
    pub providers: Vec<String>,
    /// Why CUDA does not work, if ONNX Runtime has it and it is not asked for; with `--device cuda` this is a problem.
    pub unusable: Vec<String>,
    /// Devices that networks can run on.
    pub devices: Vec<DeviceRow>,
    /// FFmpeg.
    pub ffmpeg: Ffmpeg,
    /// Processor and memory.
    pub machine: Machine,
    /// Model caches.
    pub cache: Vec<CacheFolder>,
    /// Disks of the caches and of the working folder.
    pub disk: Vec<Disk>,
    /// Problems that keep the program from working. Exit code 3 if there are any.
    pub problems: Vec<String>,
    /// Whether the text lists all encoders and decoders. The document always does.
    #[serde(skip)]
    pub codecs: bool,
}

/// ONNX Runtime.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub(super) struct OnnxRuntime {
    pub version: Option<String>,
    pub path: Option<PathBuf>,
    /// The required version.
    pub wanted: String,
}

/// A device.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct DeviceRow {
    /// As `--device` takes it.
    pub id: String,
    pub name: String,
    pub memory_bytes: Option<u64>,
}

/// FFmpeg.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub(super) struct Ffmpeg {
    pub version: Option<String>,
    /// Names of video encoders, as `--codec` takes them.
    pub encoders: Vec<String>,
    /// Names of video decoders.
    pub decoders: Vec<String>,
}

/// Processor and memory.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
}

/// A model cache.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct CacheFolder {
    pub path: PathBuf,
    pub bytes: u64,
}

/// A disk.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub(super) struct Disk {
    pub path: PathBuf,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Diagnosis {
    /// The report without ONNX Runtime and FFmpeg.
    pub(super) fn new(codecs: bool) -> Self {
        let (caches, problem) = match (cache::hub_cache(), cache::own_cache()) {
            (Ok(hub), Ok(own)) => (vec![hub, own], None),
            (hub, own) => (Vec::new(), hub.and(own).err().map(|e| e.to_string())),
        };
        let here = std::env::current_dir().unwrap_or_else(|_| ".".into());
        let disk = caches.iter().chain([&here]).filter_map(|path| {
            let (free_bytes, total_bytes) = cache::disk(path)?;
            Some(Disk { path: path.clone(), free_bytes, total_bytes })
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            onnxruntime: OnnxRuntime::default(),
            providers: Vec::new(),
            unusable: Vec::new(),
            devices: Vec::new(),
            ffmpeg: Ffmpeg::default(),
            machine: Machine::new(),
            disk: disk.collect(),
            cache: caches.into_iter().map(|path| CacheFolder { bytes: cache::bytes_under(&path), path }).collect(),
            problems: problem.into_iter().collect(),
            codecs,
        }
    }
}

/// Encoders of the formats that are written, and those of graphics cards.
const USUAL_ENCODERS: [&str; 16] = [
    "libx264",
    "libx264rgb",
    "libx265",
    "libvpx-vp9",
    "libaom-av1",
    "libsvtav1",
    "librav1e",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "prores_ks",
    "dnxhd",
    "ffv1",
    "libwebp_anim",
    "apng",
    "gif",
];

impl Machine {
    fn new() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = |key: &str| -> Option<u64> {
            let line = memory.lines().find_map(|l| l.strip_prefix(key))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|k| k * 1024)
        };
        Self {
            cpu: cpu.unwrap_or(std::env::consts::ARCH).into(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: kilobytes("MemTotal:"),
            memory_available_bytes: kilobytes("MemAvailable:"),
        }
    }
}

impl Report for Diagnosis {
    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<14}{value}");
        };
        let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        row("crescendo", self.version.into());
        let path = self.onnxruntime.path.as_ref().map(|p| format!(" ({})", p.display())).unwrap_or_default();
        row("onnxruntime", format!("{}{path}", self.onnxruntime.version.as_deref().unwrap_or("not found")));
        row("providers", or_none(&self.providers));
        for reason in &self.unusable {
            row("unusable", reason.clone());
        }
        for d in &self.devices {
            let memory = d.memory_bytes.map(|b| format!(", {}", cache::gigabytes(b))).unwrap_or_default();
            row("device", format!("{}: {}{memory}", d.id, d.name));
        }
        row("ffmpeg", self.ffmpeg.version.clone().unwrap_or_else(|| "not found".into()));
        if self.codecs {
            row("encoders", or_none(&self.ffmpeg.encoders));
            row("decoders", or_none(&self.ffmpeg.decoders));
        } else {
            let has = |name: &&&str| self.ffmpeg.encoders.iter().any(|e| e == **name);
            let usual: Vec<_> = USUAL_ENCODERS.iter().filter(has).map(|name| (*name).to_owned()).collect();
            row("encoders", format!("{} (--codecs lists all)", or_none(&usual)));
        }
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".into(), cache::gigabytes);
        row("cpu", format!("{}, {} cores", self.machine.cpu, self.machine.cores));
        row(
            "memory",
            format!("{}, {} available", memory(self.machine.memory_bytes), memory(self.machine.memory_available_bytes)),
        );
        for folder in &self.cache {
            row("cache", format!("{} ({})", folder.path.display(), cache::gigabytes(folder.bytes)));
        }
        for disk in &self.disk {
            let (free, total) = (cache::gigabytes(disk.free_bytes), cache::gigabytes(disk.total_bytes));
            row("disk", format!("{}: {free} free of {total}", disk.path.display()));
        }
        for problem in &self.problems {
            row("problem", problem.clone());
        }
        text
    }

    fn exit_code(&self) -> u8 {
        if self.problems.is_empty() { 0 } else { 3 }
    }
}
