//! The engine: the loaded library and the selected device.

use std::{path::Path, sync::Arc};

use super::{
    cores::threads_available,
    device::{self, Settings},
    library,
    network::{Network, RunMode},
    options::{Device, DeviceChoice, Load, Options},
    ort_error, probe,
};
use crate::error::{Error, Result};

/// The loaded library and the selected device. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Settings>);

impl Engine {
    /// Loads the library (once per process) and tests the device with a small graph.
    ///
    /// # Errors
    /// No library of a supported version; the requested device does not work; another library is already loaded.
    pub fn start(options: &Options) -> Result<Self> {
        let wants_gpu = options.device != DeviceChoice::Cpu;
        let library = library::open(options.library.as_deref(), wants_gpu)?;
        let device = match options.device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => probe::test(library, Device::Cuda(index))?,
            DeviceChoice::TensorRt(index) => probe::test(library, Device::TensorRt(index))?,
            DeviceChoice::Auto => probe::test(library, Device::Cuda(0)).unwrap_or_else(|cause| {
                tracing::debug!("no GPU: {cause}");
                Device::Cpu
            }),
        };
        let threads = options.threads.unwrap_or_else(threads_available).max(1);
        tracing::debug!("{}", library.path.display());
        tracing::info!("ONNX Runtime {} on {device}, {threads} threads", library.version);
        Ok(Self(Arc::new(Settings { library, device, threads, memory_limit: options.memory_limit })))
    }

    /// The device that networks run on.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Loads an encoded `ModelProto`. Messages contain `name`: `transformer`. External data locations are absolute paths
    /// without the leading slash.
    ///
    /// # Errors
    /// ONNX Runtime rejects the graph: one sentence that starts with `name`.
    pub fn load(&self, name: &str, model: &[u8], how: &Load) -> Result<Network> {
        let _loading = device::loading();
        let session = device::builder(&self.0, self.0.device, how)
            .and_then(|b| Ok(b.with_config_entry("session.model_external_initializers_file_folder_path", "/")?))
            .and_then(|mut b| b.commit_from_memory(model))
            .map_err(|e| ort_error::explain(name, &e))?;
        Network::new(name, session, self.run_mode(how))
    }

    /// Loads an `.onnx` file from elsewhere; its external data is in the same folder.
    ///
    /// # Errors
    /// ONNX Runtime rejects the file: one sentence that starts with `name`.
    pub fn load_file(&self, name: &str, path: &Path, how: &Load) -> Result<Network> {
        std::fs::File::open(path).map_err(|e| Error::io("reading", path, &e).at(name))?;
        let _loading = device::loading();
        let session = device::builder(&self.0, self.0.device, how)
            .and_then(|mut b| b.commit_from_file(path))
            .map_err(|e| ort_error::explain(name, &e).at(path.display()))?;
        Network::new(name, session, self.run_mode(how))
    }

    fn run_mode(&self, how: &Load) -> RunMode {
        RunMode {
            device: self.0.device,
            cuda_graph: how.cuda_graph,
            // Without an arena, the shrink option is an error.
            shrink: (how.shrink || self.0.memory_limit.is_some()) && !how.no_arena,
        }
    }
}
