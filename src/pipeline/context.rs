//! The engine and the progress reporting of a run.

use super::memory;
use crate::{
    compile::{self, Subgraph},
    error::{Error, Result},
    model::ModelFolder,
    onnx::{Model, Provider, Target},
    plan::RuntimeOptions,
    progress::{Progress, Task, Unit},
    runtime::{Device, Engine, Load, Network, memory_budget},
    tensor::DType,
};

/// The engine, options and progress of a run.
pub struct Context<'a> {
    /// ONNX Runtime. `None`: the run has no network.
    engine: Option<Engine>,
    /// The options of the plan.
    pub options: RuntimeOptions,
    /// Receives progress.
    pub progress: &'a dyn Progress,
}

/// The role of a network decides its type on a GPU. The CPU computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Transformers and text encoders: `--dtype`, by default bf16.
    Transformer,
    /// Upscalers: f16, or f32 with `--dtype f32`. CUDA has no bf16 kernels for their activations and pixel shuffles.
    Pictures,
    /// VAEs and interpolation: f32. A VAE can overflow f16, and a flow of 100 pixels in bf16 is exact to half a pixel.
    Exact,
}

impl Role {
    /// The type that a network with this role computes in on a GPU, where `--dtype` is `asked`.
    pub(crate) fn compute(self, asked: Option<DType>) -> DType {
        match (self, asked) {
            (Self::Transformer, asked) => asked.unwrap_or(DType::BF16),
            (Self::Pictures, Some(DType::F32)) | (Self::Exact, _) => DType::F32,
            (Self::Pictures, _) => DType::F16,
        }
    }
}

impl<'a> Context<'a> {
    /// Starts the engine.
    pub fn start(options: &RuntimeOptions, progress: &'a dyn Progress) -> Result<Self> {
        memory::check_limit(options.engine.memory_limit)?;
        let engine = Engine::start(&options.engine)?;
        if engine.device() == Device::Cpu && options.dtype.is_some_and(|dtype| dtype != DType::F32) {
            tracing::warn!("the CPU computes in f32; --dtype only affects the noise");
        }
        Ok(Self { engine: Some(engine), options: options.clone(), progress })
    }

    /// For a run without networks: ONNX Runtime is not loaded.
    pub fn without_networks(options: &RuntimeOptions, progress: &'a dyn Progress) -> Self {
        Self { engine: None, options: options.clone(), progress }
    }

    /// The device that networks run on. Without networks: the CPU.
    pub fn device(&self) -> Device {
        self.engine.as_ref().map_or(Device::Cpu, Engine::device)
    }

    /// ONNX Runtime.
    ///
    /// # Errors
    /// The run was started without networks.
    pub(crate) fn engine(&self) -> Result<&Engine> {
        self.engine.as_ref().ok_or_else(|| Error::failed("a network is requested in a run without networks"))
    }

    /// The target of graphs with a role.
    pub(crate) fn target(&self, role: Role) -> Target {
        if self.device() == Device::Cpu {
            return Target::CPU;
        }
        let compute = role.compute(self.options.dtype);
        if role == Role::Pictures && self.options.dtype.is_some_and(|asked| asked != compute) {
            tracing::warn!("--dtype bf16: upscalers have no kernels in bf16 on a GPU; they compute in f16");
        }
        Target { provider: Provider::Cuda, compute }
    }

    /// Builds a subgraph of a component of a diffusers folder, such as `vae`.
    pub(crate) fn graph(&self, folder: &ModelFolder, name: &str, subgraph: Subgraph, role: Role) -> Result<Model> {
        compile::component(&folder.path(name)?, folder.class_of(name)?, subgraph, None, self.target(role))
    }

    /// Loads a network. With a memory limit, weights stay mapped and are converted on use.
    pub(crate) fn load(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load::default())
    }

    /// Loads a network that shares the cores with the other stages of a stream.
    pub(crate) fn load_beside(&self, name: &str, model: &Model) -> Result<Network> {
        // An arena holds more than its values. Under a limit, only the values are held.
        let no_arena = self.options.engine.memory_limit.is_some() && self.device() == Device::Cpu;
        self.open(name, model, Load { shares_cores: true, no_arena, ..Load::default() })
    }

    /// Loads a network with few and large activations, without a memory arena: memory is returned as soon as it is unused.
    pub(crate) fn load_large(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load { no_arena: true, ..Load::default() })
    }

    fn open(&self, name: &str, model: &Model, load: Load) -> Result<Network> {
        let _task = Task::new(self.progress, format!("load {name}"), None, Unit::Steps);
        let limited = self.options.engine.memory_limit.is_some()
            || (self.device() == Device::Cpu && maps_weights(model, &self.options));
        if limited && self.options.engine.memory_limit.is_none() {
            let (weights, budget) = (4e-9 * model.parameters as f64, memory_budget(None) as f64 / 1e9);
            tracing::warn!(
                "{name}: {weights:.0} GB of f32 weights exceed half of the memory ({budget:.0} GB); they stay mapped and are converted on use, which is slower"
            );
        }
        let bounded_casts = limited && model.is_half();
        let load = Load { bounded_casts, mapped_weights: limited, ..load };
        self.engine()?.load(name, &model.bytes, &load)
    }
}

/// Whether weights stay mapped on the CPU and are converted on use: with a memory limit, or if 16-bit weights converted to f32 exceed
/// the budget of tiles ([`memory_budget`]).
pub(crate) fn maps_weights(model: &Model, options: &RuntimeOptions) -> bool {
    options.engine.memory_limit.is_some() || (model.is_half() && 4 * model.parameters > memory_budget(None))
}
