//! The engine and the progress reporting of a run.

use crate::{
    compile::{self, Subgraph},
    error::{Error, Result},
    model::ModelFolder,
    onnx::{Model, Provider, Target},
    plan::RuntimeOptions,
    progress::{Progress, Task, Unit},
    runtime::{Device, Engine, Load, Network, available_memory},
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

/// The role of a network decides its type on a GPU, unless `--dtype` is given. The CPU computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Transformers and text encoders: bf16.
    Transformer,
    /// Upscalers: f16.
    Pictures,
    /// VAEs and interpolation: f32.
    Exact,
}

impl<'a> Context<'a> {
    /// Starts the engine.
    pub fn start(options: &RuntimeOptions, progress: &'a dyn Progress) -> Result<Self> {
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
        let compute = self.options.dtype.unwrap_or(match role {
            Role::Transformer => DType::BF16,
            Role::Pictures => DType::F16,
            Role::Exact => DType::F32,
        });
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
        self.open(name, model, Load { shares_cores: true, ..Load::default() })
    }

    /// Loads a network with few and large activations, without a memory arena: memory is returned as soon as it is unused.
    pub(crate) fn load_large(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load { no_arena: true, ..Load::default() })
    }

    fn open(&self, name: &str, model: &Model, load: Load) -> Result<Network> {
        let _task = Task::new(self.progress, format!("load {name}"), None, Unit::Steps);
        let limited = self.options.engine.memory_limit.is_some() || self.too_large(name, model);
        let bounded_casts = limited && model.is_half();
        let load = Load { bounded_casts, mapped_weights: limited, ..load };
        self.engine()?.load(name, &model.bytes, &load)
    }
}

impl Context<'_> {
    /// Whether 16-bit weights, converted to f32 for the CPU, exceed 70 % of the available memory. They then stay mapped.
    fn too_large(&self, name: &str, model: &Model) -> bool {
        let (converted, available) = (4 * model.parameters, available_memory());
        let large = self.device() == Device::Cpu && model.is_half() && converted > available / 10 * 7;
        if large && self.options.engine.memory_limit.is_none() {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            tracing::warn!(
                "{name}: {:.0} GB of f32 weights exceed {:.0} GB of available memory; weights stay mapped and are converted on use, which is slower",
                gb(converted),
                gb(available)
            );
        }
        large
    }
}
