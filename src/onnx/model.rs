//! What a graph is written for, and the finished model.

use super::proto;
use crate::tensor::DType;

/// Execution provider that a graph is written for. It selects the lowering of an operator, never its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's CPU kernels, with com.microsoft and crescendo operators. Computes in f32.
    Cpu,
    /// ONNX Runtime's CUDA kernels, with com.microsoft operators.
    Cuda,
    /// Standard ONNX operators only, for other engines.
    Portable,
}

/// Provider and compute type of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Execution provider.
    pub provider: Provider,
    /// Element type of the arithmetic. Floating-point inputs and outputs are always f32.
    pub compute: DType,
}

impl Target {
    /// The CPU, in f32.
    pub const CPU: Self = Self { provider: Provider::Cpu, compute: DType::F32 };
}

/// A finished graph.
#[derive(Debug, Clone)]
pub struct Model {
    /// Encoded ModelProto. External data locations are absolute paths without the leading slash.
    pub bytes: Vec<u8>,
    /// The message, for export with other locations.
    pub proto: proto::ModelProto,
    /// Elements of all weights.
    pub parameters: u64,
    /// Size of all weights as stored, in bytes.
    pub weight_bytes: u64,
}

impl Model {
    /// Whether most weights are stored in 16 bits.
    pub fn is_half(&self) -> bool {
        self.weight_bytes < 3 * self.parameters
    }
}
