//! Execution providers: session options of each device.

use std::sync::{Mutex, MutexGuard};

use ort::{
    ep::{self, ExecutionProvider as _, ExecutionProviderDispatch},
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use super::{
    library::Library,
    memory,
    options::{Device, Load},
    warp,
};
use crate::sync::lock;

/// The loaded library and the settings of all sessions.
pub(super) struct Settings {
    pub library: &'static Library,
    pub device: Device,
    pub threads: usize,
    pub memory_limit: Option<u64>,
}

/// Session options for `device`.
pub(super) fn builder(engine: &Settings, device: Device, how: &Load) -> ort::Result<SessionBuilder> {
    let memory_pattern = how.fixed_shapes && !how.bounded_casts;
    let mut builder = Session::builder(&engine.library.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(engine.threads)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_intra_op_spinning(!how.shares_cores)?
        .with_flush_to_zero()?
        .with_memory_pattern(memory_pattern)?
        .with_prepacking(!how.mapped_weights)?;
    if how.bounded_casts {
        builder = builder.with_config_entry("optimization.constant_folding_max_output_size_in_bytes", "1000000")?;
    }
    Ok(match device {
        Device::Cpu => {
            if how.no_arena {
                memory::map_large_blocks();
            }
            let arena = ep::CPU::default().with_arena_allocator(!how.no_arena).build();
            builder.with_operators(warp::domain()?)?.with_execution_providers([arena.error_on_failure()])?
        }
        Device::Cuda(_) | Device::TensorRt(_) => {
            let builder = builder.with_execution_providers(providers(device, how, engine.memory_limit))?;
            if how.device_only { builder.with_disable_cpu_fallback()? } else { builder }
        }
    })
}

/// The execution providers of a GPU in order of preference; each reports its failure. Convolution algorithms are selected by
/// heuristic: the default, exhaustive search, repeats for every new shape and takes seconds each time.
fn providers(device: Device, how: &Load, memory_limit: Option<u64>) -> Vec<ExecutionProviderDispatch> {
    let cuda = |index, captured| {
        let mut cuda = ep::CUDA::default()
            .with_device_id(index)
            .with_tf32(how.tf32)
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .with_cuda_graph(captured);
        if let Some(limit) = memory_limit {
            cuda = cuda.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        cuda.build().error_on_failure()
    };
    match device {
        Device::Cpu => Vec::new(),
        Device::Cuda(index) => vec![cuda(index, how.cuda_graph)],
        Device::TensorRt(index) => {
            let tensorrt = ep::TensorRT::default().with_device_id(index).build().error_on_failure();
            vec![tensorrt, cuda(index, false)]
        }
    }
}

/// Whether the library was built with the provider of `device`. The libraries that the provider needs may still be missing.
pub(super) fn compiled_in(device: Device) -> bool {
    let known = match device {
        Device::Cpu => Ok(true),
        Device::Cuda(_) => ep::CUDA::is_available(),
        Device::TensorRt(_) => ep::TensorRT::is_available(),
    };
    known.unwrap_or(false)
}

/// Lock to hold while a session is created. ONNX Runtime checks for an operator domain and adds it in two steps: of two sessions
/// created concurrently, both would add ours and the second would fail.
pub(super) fn loading() -> MutexGuard<'static, ()> {
    static LOADING: Mutex<()> = Mutex::new(());
    lock(&LOADING)
}
