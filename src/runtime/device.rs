//! Execution providers: session options of each device, and a test that the device works.

use std::sync::{Mutex, MutexGuard};

use ort::{
    ep::{self, ExecutionProvider as _, ExecutionProviderDispatch},
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::TensorRef,
};

use super::{
    library::{self, Library},
    memory,
    options::{Device, Load},
    ort_error, warp,
};
use crate::{
    error::{Error, Result},
    sync::lock,
};

/// `z = x + x` on two f32: the smallest graph that runs a kernel.
const PROBE: &[u8] = include_bytes!("probe.onnx");

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

/// Runs the probe on `device` without CPU fallback.
///
/// # Errors
/// The reason why the device does not work.
pub(super) fn test(library: &'static Library, device: Device) -> Result<Device> {
    if !compiled_in(device) {
        if !library::has_nvidia_driver() {
            return Err(no_gpu(device));
        }
        return Err(Error::failed(format!(
            "--device {device}: {} was built without this provider; scripts/setup --cuda installs a build with it",
            library.path.display()
        )));
    }
    let engine = Settings { library, device, threads: 1, memory_limit: None };
    library::take_logged_error();
    let outcome = run_probe(&engine, device).map_err(|e| {
        // The result only says that a provider cannot be loaded; the log says what is missing.
        let logged = library::take_logged_error().map(|line| ort_error::sentence(&line));
        let cause = ort_error::sentence(e.message());
        logged.filter(|line| !line.contains(&cause)).map_or(cause.clone(), |line| format!("{cause}: {line}"))
    });
    match outcome {
        Ok(sum) if sum == [3.0, -8.0] => Ok(device),
        Ok(sum) => Err(Error::failed(format!(
            "--device {device}: 1.5 + 1.5 and -4 + -4 returned {sum:?}; the driver is broken"
        ))),
        Err(_) if device != Device::Cpu && !library::has_nvidia_driver() => Err(no_gpu(device)),
        Err(cause) => Err(Error::failed(format!("--device {device} does not work: {cause}"))),
    }
}

fn no_gpu(device: Device) -> Error {
    Error::failed(format!(
        "--device {device}: this machine has no NVIDIA GPU with a driver; leave out --device or give cpu"
    ))
}

fn run_probe(engine: &Settings, device: Device) -> ort::Result<Vec<f32>> {
    let how = Load { device_only: device != Device::Cpu, ..Load::default() };
    let _loading = loading();
    let mut session = builder(engine, device, &how)?.commit_from_memory(PROBE)?;
    let x = TensorRef::from_array_view(([2_usize], &[1.5_f32, -4.0][..]))?;
    let outputs = session.run(ort::inputs![x])?;
    Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
}

/// Lock to hold while a session is created. ONNX Runtime checks for an operator domain and adds it in two steps: of two sessions
/// created concurrently, both would add ours and the second would fail.
pub(super) fn loading() -> MutexGuard<'static, ()> {
    static LOADING: Mutex<()> = Mutex::new(());
    lock(&LOADING)
}
