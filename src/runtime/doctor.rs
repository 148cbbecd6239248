//! ONNX Runtime and the devices of this machine, for `doctor`.

use std::{env, fs, path::PathBuf, process::Command};

use serde::Serialize;

use super::{
    cores, device, library,
    options::{Device, DeviceChoice, Options},
    probe,
};

/// ONNX Runtime and the devices of this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Path of the library in use.
    pub library: Option<PathBuf>,
    /// Its version.
    pub version: Option<String>,
    /// Why no library is usable, and what to do.
    pub problem: Option<String>,
    /// CPU, CUDA and TensorRT; empty without a usable library.
    pub providers: Vec<ProviderState>,
    /// The CPU, then the NVIDIA GPUs by the driver's names.
    pub devices: Vec<String>,
    /// Threads within one operator.
    pub threads: usize,
    /// Whether the library may collect telemetry. Always false in this program.
    pub telemetry: bool,
}

/// One execution provider.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderState {
    /// `cpu`, `cuda:0`, `tensorrt:0`.
    pub device: String,
    /// Whether the library was built with this provider.
    pub compiled_in: bool,
    /// Why it does not work. `None`: a test graph ran.
    pub problem: Option<String>,
}

/// Describes ONNX Runtime and the devices. Problems are part of the description.
pub fn describe(options: &Options) -> Description {
    let opened = library::open(options.library.as_deref(), options.device != DeviceChoice::Cpu);
    let index = match options.device {
        DeviceChoice::Cuda(index) | DeviceChoice::TensorRt(index) => index,
        DeviceChoice::Auto | DeviceChoice::Cpu => 0,
    };
    let state = |library, device: Device| ProviderState {
        device: device.to_string(),
        compiled_in: device::compiled_in(device),
        problem: probe::test(library, device).err().map(|e| e.to_string()),
    };
    let providers = match &opened {
        Ok(library) => {
            [Device::Cpu, Device::Cuda(index), Device::TensorRt(index)].map(|device| state(library, device)).into()
        }
        Err(_) => Vec::new(),
    };
    Description {
        library: opened.as_ref().ok().map(|library| library.path.clone()),
        version: opened.as_ref().ok().map(|library| library.version.clone()),
        problem: opened.err().map(|e| e.to_string()),
        providers,
        devices: std::iter::once(cpu()).chain(gpus()).collect(),
        threads: options.threads.unwrap_or_else(cores::threads_available),
        telemetry: env::var_os("ORT_DISABLE_TELEMETRY").is_none_or(|value| value != "1"),
    }
}

/// `AMD EPYC 9575F, 2 cores`
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    let name = name.map_or(env::consts::ARCH, |(_, name)| name.trim());
    format!("{name}, {} cores", cores::threads_available())
}

/// `NVIDIA H200, 143771 MiB, driver 570.86.15`, from nvidia-smi or else from the driver's files in `/proc`.
fn gpus() -> Vec<String> {
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    if let Ok(output) = Command::new("nvidia-smi").args(query).output()
        && output.status.success()
    {
        let text = String::from_utf8_lossy(&output.stdout);
        return text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned()).collect();
    }
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("information")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Model:")).map(|name| name.trim().to_owned())
    };
    folders.filter_map(name).collect()
}
