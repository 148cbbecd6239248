//! A loaded graph: its signature, and runs. Inputs are checked before ONNX Runtime gets them.

use ort::{
    session::{RunOptions, Session, SessionInputValue, SessionOutputs},
    value::{DynValue, Outlet, Tensor as Owned, TensorElementType, ValueType},
};

use super::{cuda_graph::Captures, memory, options::Device, ort_error, ort_value};
use crate::{
    error::{Error, Result},
    tensor::{DType, Tensor},
};

/// An input or output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name in the graph.
    pub name: String,
    /// Element type in the graph. [`Network::run`] converts floats from and to f32 and integers from and to i64.
    pub dtype: DType,
    /// Extents, outermost first. `None`: dynamic.
    pub shape: Vec<Option<usize>>,
    /// Symbolic names of the extents (`height`), one per extent; empty without a name.
    pub dims: Vec<String>,
}

impl Signature {
    fn read(network: &str, outlet: &Outlet) -> Result<Self> {
        let name = outlet.name().to_owned();
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
            return Err(Error::failed(format!(
                "{network}: `{name}` is a {}; only tensors are supported",
                outlet.dtype()
            )));
        };
        let Some(dtype) = dtype(*ty) else {
            return Err(Error::failed(format!("{network}: `{name}` has the element type {ty}, which is unsupported")));
        };
        let shape = shape.iter().map(|&n| usize::try_from(n).ok()).collect();
        Ok(Self { name, dtype, shape, dims: dimension_symbols.to_vec() })
    }

    /// `[batch, 3, ?, 64]`
    fn shape_text(&self) -> String {
        let extent = |(n, name): (&Option<usize>, &String)| match n {
            Some(n) => n.to_string(),
            None if name.is_empty() => "?".into(),
            None => name.clone(),
        };
        format!("[{}]", self.shape.iter().zip(&self.dims).map(extent).collect::<Vec<_>>().join(", "))
    }

    /// Describes why a value with this shape and element kind is invalid for this input.
    fn mismatch(&self, got: &[usize], is_float: bool) -> Option<String> {
        let fits = got.len() == self.shape.len()
            && self.shape.iter().zip(got).all(|(want, got)| want.is_none_or(|n| n == *got));
        let kind = if is_float { "f32" } else { "i64" };
        if is_float != self.dtype.is_float() {
            Some(format!("expects {}, got {kind}", self.dtype.name()))
        } else if !fits {
            Some(format!("expects the shape {}, got {got:?}", self.shape_text()))
        } else {
            got.contains(&0).then(|| format!("is empty: its shape is {got:?}"))
        }
    }
}

fn dtype(ty: TensorElementType) -> Option<DType> {
    Some(match ty {
        TensorElementType::Float64 => DType::F64,
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::BF16,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Bool => DType::Bool,
        _ => return None,
    })
}

/// A value that stays in ONNX Runtime between runs, which avoids copies.
pub struct Held {
    value: DynValue,
    network: String,
}

impl Held {
    /// Extents, outermost first.
    pub fn shape(&self) -> Vec<usize> {
        let shape = self.value.dtype().tensor_shape();
        shape.map(|s| s.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect()).unwrap_or_default()
    }

    /// Zeros of this value's shape, f32. The zero pages are never written, so they are never committed.
    ///
    /// # Errors
    /// The value is not f32.
    pub fn zeros_like(&self) -> Result<Self> {
        if self.value.dtype().tensor_type() != Some(TensorElementType::Float32) {
            return Err(Error::failed(format!(
                "{}: zeros_like supports f32, got {}",
                self.network,
                self.value.dtype()
            )));
        }
        let shape = self.shape();
        let zeros = vec![0f32; shape.iter().product()];
        let value = Owned::from_array((shape, zeros)).map_err(|e| ort_error::explain(&self.network, &e))?;
        Ok(Self { value: value.into_dyn(), network: self.network.clone() })
    }

    /// Copies the value: floats as f32, integers as i64.
    ///
    /// # Errors
    /// An error of ONNX Runtime.
    pub fn read(&self) -> Result<Tensor> {
        ort_value::from_ort(&self.value).map_err(|e| ort_error::explain(&self.network, &e))
    }

    fn is_float(&self) -> bool {
        self.value.dtype().tensor_type().and_then(dtype).is_some_and(DType::is_float)
    }
}

/// The value of a network's input.
#[derive(Clone, Copy)]
pub enum InputValue<'t> {
    /// A tensor of this program.
    Tensor(&'t Tensor),
    /// An output of an earlier run, of this or another network on the same device. Must have the input's element type.
    Held(&'t Held),
}

impl InputValue<'_> {
    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Tensor(t) => t.shape().to_vec(),
            Self::Held(held) => held.shape(),
        }
    }

    fn is_float(&self) -> bool {
        match self {
            Self::Tensor(t) => matches!(t, Tensor::F32(_)),
            Self::Held(held) => held.is_float(),
        }
    }
}

/// How a network runs.
#[derive(Clone, Copy)]
pub(super) struct RunMode {
    pub device: Device,
    pub cuda_graph: bool,
    pub shrink: bool,
}

/// A loaded graph. Dropping it releases all of its memory.
pub struct Network {
    name: String,
    inputs: Vec<Signature>,
    outputs: Vec<Signature>,
    run_options: Option<RunOptions>,
    // Declared before the session: the session must outlive its bindings.
    captures: Option<Captures>,
    session: Option<Session>,
}

impl Network {
    pub(super) fn new(name: &str, session: Session, mode: RunMode) -> Result<Self> {
        let read = |outlets: &[Outlet]| outlets.iter().map(|o| Signature::read(name, o)).collect::<Result<Vec<_>>>();
        let (inputs, outputs) = (read(session.inputs())?, read(session.outputs())?);
        let explain = |e: ort::Error| ort_error::explain(name, &e);
        let (captures, arenas) = match mode.device {
            Device::Cuda(index) if mode.cuda_graph => (Some(Captures::new(&session, index).map_err(explain)?), None),
            Device::Cuda(index) | Device::TensorRt(index) => (None, Some(format!("cpu:0;gpu:{index}"))),
            Device::Cpu => (None, Some("cpu:0".into())),
        };
        // Shrinking frees the memory that a captured graph writes to.
        let run_options = match arenas.filter(|_| mode.shrink) {
            Some(arenas) => {
                let mut options = RunOptions::new().map_err(explain)?;
                options.set("memory.enable_memory_arena_shrinkage", arenas).map_err(explain)?;
                Some(options)
            }
            None => None,
        };
        Ok(Self { name: name.to_owned(), inputs, outputs, run_options, captures, session: Some(session) })
    }

    /// The name used in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs, in the graph's order.
    pub fn inputs(&self) -> &[Signature] {
        &self.inputs
    }

    /// The outputs, in the graph's order.
    pub fn outputs(&self) -> &[Signature] {
        &self.outputs
    }

    /// Runs the network. `inputs` contains every input once, in any order; outputs are in the graph's order. Other element types
    /// of the graph are converted from and to f32 and i64.
    ///
    /// # Errors
    /// A missing, unknown or repeated input, or one of the wrong type or shape; an error of ONNX Runtime.
    pub fn run<'t>(&mut self, inputs: &[(&'t str, &'t Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let inputs: Vec<_> = inputs.iter().map(|&(name, tensor)| (name, InputValue::Tensor(tensor))).collect();
        self.run_held(&inputs)?.into_iter().map(|(name, held)| Ok((name, held.read()?))).collect()
    }

    /// As [`Network::run`], with inputs that may be outputs of earlier runs. The outputs stay in ONNX Runtime.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_held<'t>(&mut self, inputs: &[(&'t str, InputValue<'t>)]) -> Result<Vec<(String, Held)>> {
        self.check(inputs)?;
        let stored = |name: &str| self.inputs.iter().find(|s| s.name == name).map_or(DType::F32, |s| s.dtype);
        let convert = |&(name, input): &(&'t str, InputValue<'t>)| match input {
            InputValue::Held(held) => Ok((name, SessionInputValue::from(&held.value))),
            InputValue::Tensor(t) => match ort_value::to_ort(t, stored(name)) {
                Ok(value) => Ok((name, value)),
                Err(e) => Err(ort_error::explain(&self.name, &e).at(format!("input `{name}`"))),
            },
        };
        let values: Vec<(&str, SessionInputValue<'_>)> = inputs.iter().map(convert).collect::<Result<_>>()?;
        let Some(session) = self.session.as_mut() else { return Ok(Vec::new()) };
        let outputs = match (&mut self.captures, &self.run_options) {
            (Some(captures), _) => captures.run(session, &values),
            (None, Some(options)) => {
                session.run_with_options(values, options).and_then(|all| take_all(&self.outputs, all))
            }
            (None, None) => session.run(values).and_then(|all| take_all(&self.outputs, all)),
        };
        let outputs = outputs.map_err(|e| ort_error::explain(&self.name, &e))?;
        let held = |(signature, value): (&Signature, DynValue)| {
            (signature.name.clone(), Held { value, network: self.name.clone() })
        };
        Ok(self.outputs.iter().zip(outputs).map(held).collect())
    }

    fn check(&self, inputs: &[(&str, InputValue<'_>)]) -> Result<()> {
        let wrong = |message: String| Err(Error::failed(format!("{}: {message}", self.name)));
        let names = || self.inputs.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
        for (i, (name, input)) in inputs.iter().enumerate() {
            let Some(signature) = self.inputs.iter().find(|s| s.name == *name) else {
                return wrong(format!("no input `{name}`; the network's inputs are {}", names()));
            };
            if inputs[..i].iter().any(|(earlier, _)| earlier == name) {
                return wrong(format!("input `{name}` occurs twice"));
            }
            if let Some(mismatch) = signature.mismatch(&input.shape(), input.is_float()) {
                return wrong(format!("input `{name}` {mismatch}"));
            }
        }
        match self.inputs.iter().find(|s| !inputs.iter().any(|(name, _)| s.name == *name)) {
            Some(missing) => {
                wrong(format!("input `{}` is missing; the network's inputs are {}", missing.name, names()))
            }
            None => Ok(()),
        }
    }
}

fn take_all(outputs: &[Signature], mut values: SessionOutputs<'_>) -> ort::Result<Vec<DynValue>> {
    let missing = |name: &str| ort::Error::new(format!("returned no output {name}"));
    outputs.iter().map(|s| values.remove(s.name.as_str()).ok_or_else(|| missing(&s.name))).collect()
}

impl Drop for Network {
    fn drop(&mut self) {
        self.captures = None;
        self.session = None;
        memory::return_free_memory();
    }
}
