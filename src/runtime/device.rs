//! Execution providers: how a session is set up for a device, and whether the device really works.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::{
    ep::{self, ExecutionProvider as _, ExecutionProviderDispatch},
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::TensorRef,
};

use super::{
    Device, Inner, Load,
    library::{self, Library},
    memory, ort_error, warp,
};
use crate::error::{Error, Result};

/// `z = x + x` on two f32: the least that shows that kernels run.
const PROBE: &[u8] = include_bytes!("probe.onnx");

/// A session's options for `device`.
pub(super) fn builder(engine: &Inner, device: Device, how: &Load) -> ort::Result<SessionBuilder> {
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

/// The providers of a GPU, first choice first, each of which fails loudly. Convolution algorithms are chosen by heuristic: the
/// provider's default, exhaustive search, is repeated for every new shape and takes seconds each time.
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

/// Whether the library was built with the provider of `device`; its own libraries may still be missing.
pub(super) fn compiled_in(device: Device) -> bool {
    let known = match device {
        Device::Cpu => Ok(true),
        Device::Cuda(_) => ep::CUDA::is_available(),
        Device::TensorRt(_) => ep::TensorRT::is_available(),
    };
    known.unwrap_or(false)
}

/// Runs the probe on `device`, with nothing left to the CPU.
///
/// # Errors
/// Why the device does not work.
pub(super) fn prove(library: &'static Library, device: Device) -> Result<Device> {
    if !compiled_in(device) {
        return Err(Error::failed(format!(
            "--device {device}: {} is a build without that provider; scripts/setup --cuda installs one with it",
            library.path.display()
        )));
    }
    let engine = Inner { library, device, threads: 1, memory_limit: None };
    library::take_logged_error();
    let outcome = run_probe(&engine, device).map_err(|e| {
        // Of a provider that cannot be loaded the result only says so; the log says what is missing.
        let logged = library::take_logged_error().map(|line| ort_error::sentence(&line));
        let cause = ort_error::sentence(e.message());
        logged.filter(|line| !line.contains(&cause)).map_or(cause.clone(), |line| format!("{cause}: {line}"))
    });
    match outcome {
        Ok(sum) if sum == [3.0, -8.0] => Ok(device),
        Ok(sum) => {
            Err(Error::failed(format!("--device {device}: 1.5 + 1.5 and -4 + -4 gave {sum:?}; the driver is broken")))
        }
        Err(cause) => Err(Error::failed(format!("--device {device} does not work: {cause}"))),
    }
}

fn run_probe(engine: &Inner, device: Device) -> ort::Result<Vec<f32>> {
    let how = Load { device_only: device != Device::Cpu, ..Load::default() };
    let _alone = loading();
    let mut session = builder(engine, device, &how)?.commit_from_memory(PROBE)?;
    let x = TensorRef::from_array_view(([2_usize], &[1.5_f32, -4.0][..]))?;
    let outputs = session.run(ort::inputs![x])?;
    Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
}

/// Held while a session is made: ONNX Runtime looks whether an operator domain is known and adds it in two steps, so that two
/// sessions made at the same time would both add ours, and the second fail.
pub fn loading() -> MutexGuard<'static, ()> {
    static LOADING: Mutex<()> = Mutex::new(());
    LOADING.lock().unwrap_or_else(PoisonError::into_inner)
}
