//! CUDA graphs: the kernels of each combination of input shapes are captured once and replayed, which saves kernel launches.
//!
//! A captured graph reads and writes fixed addresses, and ONNX Runtime replays the graph of an id without a check of shapes.
//! Each combination of shapes therefore has an id, inputs on the device, and outputs that stay bound.

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, RunOptions, Session, SessionInputValue},
    value::{DynTensor, DynTensorValueType, DynValue},
};

/// The captured graphs of one network.
pub(super) struct Captures {
    device: i32,
    allocator: Allocator,
    captured: Vec<Captured>,
    /// Graphs bound so far, also those whose first run failed: ONNX Runtime may remember a failed id.
    bound: usize,
}

struct Captured {
    /// Device tensors, in the order of the first run.
    inputs: Vec<(String, DynTensor)>,
    binding: IoBinding,
    options: RunOptions,
}

impl Captures {
    pub(super) fn new(session: &Session, device: i32) -> ort::Result<Self> {
        Ok(Self { device, allocator: Allocator::new(session, memory(device)?)?, captured: Vec::new(), bound: 0 })
    }

    /// Copies the inputs to the device, captures or replays the graph, and returns the outputs on the CPU in the graph's order. A graph
    /// whose run failed is forgotten: its outputs are not bound, and it must not be replayed.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        inputs: &[(&str, SessionInputValue<'_>)],
    ) -> ort::Result<Vec<DynValue>> {
        let known = self.captured.iter().position(|captured| captured.matches(inputs));
        let mut captured = match known {
            Some(at) => self.captured.swap_remove(at),
            None => self.bind(session, inputs)?,
        };
        let outputs = captured.run(session, inputs)?;
        self.captured.push(captured);
        Ok(outputs)
    }

    fn bind(&mut self, session: &Session, inputs: &[(&str, SessionInputValue<'_>)]) -> ort::Result<Captured> {
        self.bound += 1;
        let mut binding = session.create_binding()?;
        let mut bound = Vec::with_capacity(inputs.len());
        for (name, value) in inputs {
            let value = value.view().downcast::<DynTensorValueType>()?;
            // Only a tensor of the device's allocator is bound directly; any other is copied, so later writes have no effect.
            let tensor = DynTensor::new(&self.allocator, *value.data_type(), value.shape().clone())?;
            binding.bind_input(*name, &tensor)?;
            bound.push(((*name).to_owned(), tensor));
        }
        for output in session.outputs() {
            binding.bind_output_to_device(output.name(), &memory(self.device)?)?;
        }
        let mut options = RunOptions::new()?;
        // 0 is reserved; -1 disables capture.
        options.set("gpu_graph_id", self.bound.to_string())?;
        Ok(Captured { inputs: bound, binding, options })
    }
}

impl Captured {
    fn run(&mut self, session: &mut Session, inputs: &[(&str, SessionInputValue<'_>)]) -> ort::Result<Vec<DynValue>> {
        let Self { inputs: bound, binding, options } = self;
        for (name, value) in inputs {
            if let Some((_, target)) = bound.iter_mut().find(|(bound, _)| bound == name) {
                value.view().downcast::<DynTensorValueType>()?.copy_into(target)?;
            }
        }
        let names: Vec<String> = session.outputs().iter().map(|o| o.name().to_owned()).collect();
        let outputs = session.run_binding_with_options(binding, options)?;
        let fetch = |name: &String| {
            let value = outputs[name.as_str()].view().downcast::<DynTensorValueType>()?;
            Ok(value.to(AllocationDevice::CPU, 0)?.into_dyn())
        };
        names.iter().map(fetch).collect()
    }

    fn matches(&self, inputs: &[(&str, SessionInputValue<'_>)]) -> bool {
        inputs.iter().all(|(name, value)| {
            let bound = self.inputs.iter().find(|(bound, _)| bound == name);
            bound.is_some_and(|(_, tensor)| value.dtype().tensor_shape() == Some(tensor.shape()))
        })
    }
}

fn memory(device: i32) -> ort::Result<MemoryInfo<'static>> {
    MemoryInfo::new(AllocationDevice::CUDA, device, AllocatorType::Device, MemoryType::Default)
}
