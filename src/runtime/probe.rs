//! A test that a device works: small graphs with known results.

use ort::value::TensorRef;

use super::{
    device::{Settings, builder, compiled_in, loading},
    library::{self, Library},
    options::{Device, Load},
    ort_error,
};
use crate::error::{Error, Result};

/// A graph, and what it must return.
struct Probe {
    graph: &'static [u8],
    shape: &'static [usize],
    input: Vec<f32>,
    /// The parts of the output, in order: what they test, and their values.
    wanted: Vec<(&'static str, Vec<f32>)>,
}

impl Probe {
    /// `z = x + x` on two f32: the smallest graph that runs a kernel.
    fn cpu() -> Self {
        let sum = vec![3.0, -8.0];
        Self { graph: include_bytes!("probe.onnx"), shape: &[2], input: vec![1.5, -4.0], wanted: vec![("sum", sum)] }
    }

    /// A convolution in f32, a matrix product and attention in bf16: of each library that networks need, one kernel. Each part takes the
    /// result of the one before. Source: `scripts/reference/runtime_models.py`.
    fn gpu() -> Self {
        let values: &[u8] = include_bytes!("probe_gpu.bin");
        let values: Vec<f32> = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let mut parts = values.chunks_exact(values.len() / 4).map(<[f32]>::to_vec);
        let input = parts.next().unwrap_or_default();
        let wanted = ["convolution", "matrix product", "attention"].into_iter().zip(parts).collect();
        Self { graph: include_bytes!("probe_gpu.onnx"), shape: &[1, 1, 4, 8], input, wanted }
    }

    fn run(&self, engine: &Settings, device: Device) -> ort::Result<Vec<f32>> {
        let how = Load { device_only: device != Device::Cpu, ..Load::default() };
        let _loading = loading();
        let mut session = builder(engine, device, &how)?.commit_from_memory(self.graph)?;
        let x = TensorRef::from_array_view((self.shape, self.input.as_slice()))?;
        let outputs = session.run(ort::inputs![x])?;
        Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
    }

    /// The first part of an output that is wrong: its name, and a value found and wanted. bf16 has 8 bits.
    fn wrong(&self, found: &[f32]) -> Option<(&'static str, f32, f32)> {
        let mut rest = found;
        for (name, wanted) in &self.wanted {
            let (part, later) = rest.split_at(wanted.len().min(rest.len()));
            let most = wanted.iter().fold(0f32, |most, v| most.max(v.abs()));
            let at = |i: &usize| part.get(*i).copied().unwrap_or(f32::NAN);
            let far = |i: &usize| at(i).is_nan() || (at(i) - wanted[*i]).abs() > 0.02 * most;
            if let Some(i) = (0..wanted.len()).find(far) {
                return Some((name, at(&i), wanted[i]));
            }
            rest = later;
        }
        None
    }
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
    let probe = if device == Device::Cpu { Probe::cpu() } else { Probe::gpu() };
    library::take_logged_error();
    match probe.run(&engine, device) {
        Ok(found) => match probe.wrong(&found) {
            None => Ok(device),
            Some((part, got, want)) => Err(Error::failed(format!(
                "--device {device}: the {part} of the test graph returned {got} in place of {want}; the driver or a library of the \
                 device is broken"
            ))),
        },
        Err(_) if device != Device::Cpu && !library::has_nvidia_driver() => Err(no_gpu(device)),
        Err(e) => Err(Error::failed(format!("--device {device} does not work: {}", cause(&e)))),
    }
}

/// The cause of a failed probe. The result often only says that a provider cannot be loaded; the log then says what is missing.
fn cause(error: &ort::Error) -> String {
    let cause = ort_error::sentence(error.message());
    let logged = library::take_logged_error().map(|line| ort_error::sentence(&line));
    match logged {
        Some(line) if line.contains(&cause) => line,
        Some(line) if !cause.contains(&line) => format!("{cause}: {line}"),
        _ => cause,
    }
}

fn no_gpu(device: Device) -> Error {
    Error::failed(format!(
        "--device {device}: this machine has no NVIDIA GPU with a driver; leave out --device or give cpu"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_parts_are_named() {
        for (probe, parts) in [(Probe::cpu(), 1), (Probe::gpu(), 3)] {
            assert_eq!((probe.wanted.len(), probe.input.len()), (parts, probe.shape.iter().product()));
            let good: Vec<f32> = probe.wanted.iter().flat_map(|(_, values)| values.clone()).collect();
            assert_eq!(probe.wrong(&good), None);
            assert!(probe.wrong(&vec![0.0; good.len()]).is_some() && probe.wrong(&[]).is_some());
            let each = good.len() / parts;
            for (i, (name, _)) in probe.wanted.iter().enumerate() {
                let mut bad = good.clone();
                bad[i * each + 1] = f32::NAN;
                assert_eq!(probe.wrong(&bad).map(|(part, _, _)| part), Some(*name));
            }
        }
    }
}
