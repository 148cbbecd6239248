//! What a run is given besides its plan: the engine, someone who watches, and the wish to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    error::{Error, Result},
    onnx::{Model, Provider, Target},
    plan::{Precision, RuntimeOptions},
    runtime::{self, Device, DeviceChoice, Engine, Load, Network},
    tensor::DType,
};

/// Somebody who watches a run.
pub trait Observer: Sync {
    /// A stage begins; `total` steps, 0 where that is not known.
    fn begin(&self, stage: &str, total: u64);
    /// One step of the stage is done.
    fn step(&self);
    /// The stage is done.
    fn end(&self);
    /// Something that the person should know.
    fn note(&self, text: &str);
}

/// An observer that looks away.
pub struct Silent;

impl Observer for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn step(&self) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// What a run is given besides its plan.
pub struct Context<'a> {
    /// ONNX Runtime.
    pub engine: Engine,
    /// As asked for.
    pub options: RuntimeOptions,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Becomes true when the run shall stop.
    pub cancel: &'a AtomicBool,
}

/// What a network is for; it decides what a GPU computes it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Transformers and text encoders: bf16 on a GPU.
    Transformer,
    /// Convolutions over pictures: f16 on a GPU.
    Pictures,
    /// Autoencoders and flow: f32 everywhere.
    Exact,
}

impl<'a> Context<'a> {
    /// Starts the engine.
    pub fn start(options: &RuntimeOptions, observer: &'a dyn Observer, cancel: &'a AtomicBool) -> Result<Self> {
        let engine = Engine::start(&engine_options(options))?;
        Ok(Self { engine, options: options.clone(), observer, cancel })
    }

    /// What graphs are written for.
    pub fn target(&self, role: Role) -> Result<Target> {
        let asked = match self.options.dtype {
            Precision::Auto => None,
            Precision::F32 => Some(DType::F32),
            Precision::F16 => Some(DType::F16),
            Precision::Bf16 => Some(DType::BF16),
        };
        if self.engine.device() == Device::Cpu {
            if let Some(other) = asked.filter(|&d| d != DType::F32) {
                self.observer.note(&format!("the CPU computes in f32; --dtype {} decides the noise alone", other.name()));
            }
            return Ok(Target::CPU);
        }
        let compute = asked.unwrap_or(match role {
            Role::Transformer => DType::BF16,
            Role::Pictures => DType::F16,
            Role::Exact => DType::F32,
        });
        Ok(Target { provider: Provider::Cuda, compute })
    }

    /// Loads a network under the run's limits. `half`: whether its weights are stored in 16 bits.
    pub fn load(&self, name: &str, model: &Model, half: bool) -> Result<Network> {
        self.observer.begin(&format!("loading {name}"), 0);
        let limited = self.options.memory_limit.is_some();
        let how = Load { bounded_casts: limited && half, mapped_weights: limited, ..Load::default() };
        let network = self.engine.load(name, &model.bytes, &how);
        self.observer.end();
        network
    }

    /// An error once the run shall stop.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// The engine's options from the command line's.
pub fn engine_options(options: &RuntimeOptions) -> runtime::Options {
    runtime::Options {
        device: match options.device {
            crate::plan::Device::Auto => DeviceChoice::Auto,
            crate::plan::Device::Cpu => DeviceChoice::Cpu,
            crate::plan::Device::Cuda(i) => DeviceChoice::Cuda(i as i32),
            crate::plan::Device::TensorRt => DeviceChoice::TensorRt(0),
        },
        threads: options.threads,
        memory_limit: options.memory_limit,
        library: options.onnxruntime.clone(),
    }
}
