//! What a run is given besides its plan: the engine, and someone who watches.

use crate::{
    compile::{self, Subgraph},
    error::Result,
    model::ModelFolder,
    onnx::{Model, Provider, Target},
    plan::RuntimeOptions,
    progress::{Progress, Task, Unit},
    runtime::{Device, Engine, Load, Network, available_memory},
    tensor::DType,
};

/// What a run is given besides its plan.
pub struct Context<'a> {
    /// ONNX Runtime.
    pub engine: Engine,
    /// As asked for.
    pub options: RuntimeOptions,
    /// Who watches.
    pub progress: &'a dyn Progress,
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
    pub fn start(options: &RuntimeOptions, progress: &'a dyn Progress) -> Result<Self> {
        let engine = Engine::start(&options.engine)?;
        if engine.device() == Device::Cpu && options.dtype.is_some_and(|dtype| dtype != DType::F32) {
            tracing::warn!("the CPU computes in f32; --dtype decides the noise alone");
        }
        Ok(Self { engine, options: options.clone(), progress })
    }

    /// What graphs are written for.
    pub fn target(&self, role: Role) -> Target {
        if self.engine.device() == Device::Cpu {
            return Target::CPU;
        }
        let compute = self.options.dtype.unwrap_or(match role {
            Role::Transformer => DType::BF16,
            Role::Pictures => DType::F16,
            Role::Exact => DType::F32,
        });
        Target { provider: Provider::Cuda, compute }
    }

    /// The graph of a component of a diffusers folder, `vae` or the like.
    pub fn graph(&self, folder: &ModelFolder, name: &str, part: Subgraph, role: Role) -> Result<Model> {
        compile::component(&folder.path(name)?, folder.class_of(name)?, part, None, self.target(role))
    }

    /// Loads a network under the run's limits: with a memory limit, weights stay mapped and are widened as they are used.
    pub fn load(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load::default())
    }

    /// Loads a network that runs beside others in a line of threads.
    pub fn load_beside(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load { shares_cores: true, ..Load::default() })
    }

    /// Loads a network whose values are few and large: their memory goes back as soon as they are not needed.
    pub fn load_large(&self, name: &str, model: &Model) -> Result<Network> {
        self.open(name, model, Load { no_arena: true, ..Load::default() })
    }

    fn open(&self, name: &str, model: &Model, how: Load) -> Result<Network> {
        let _stage = Task::new(self.progress, format!("load {name}"), None, Unit::Steps);
        let limited = self.options.engine.memory_limit.is_some() || self.too_large(name, model);
        let bounded_casts = limited && model.is_half();
        let how = Load { bounded_casts, mapped_weights: limited, ..how };
        self.engine.load(name, &model.bytes, &how)
    }
}

impl Context<'_> {
    /// Whether 16-bit weights, widened to f32 for the CPU, would take most of the memory that is left. They then stay mapped.
    fn too_large(&self, name: &str, model: &Model) -> bool {
        let (wide, left) = (4 * model.parameters, available_memory());
        let large = self.engine.device() == Device::Cpu && model.is_half() && wide > left / 10 * 7;
        if large && self.options.engine.memory_limit.is_none() {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            tracing::warn!(
                "{name}: {:.0} GB of f32 weights do not fit into {:.0} GB of free memory; they stay mapped and are widened as they are used, which is slower",
                gb(wide),
                gb(left)
            );
        }
        large
    }
}
