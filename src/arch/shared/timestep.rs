//! Sinusoidal timestep embedding.

use crate::{onnx::Value, tensor::DType};

/// Sinusoidal embedding of times `[n]`, f32 → [n, width] in the graph's compute type: cosines, then sines, of
/// time · 10000^(−i/half) (diffusers `get_timestep_embedding` with flip_sin_to_cos, shift 0).
pub(crate) fn sinusoid(time: &Value, width: usize) -> Value {
    let half = width / 2;
    let step = -(10000f32.ln());
    let frequencies: Vec<f32> = (0..half).map(|i| (step * i as f32 / half as f32).exp()).collect();
    let g = time.graph();
    let angles = time.unsqueeze(1) * g.constant(&frequencies, &[1, half], DType::F32);
    Value::concat(&[&angles.cos(), &angles.sin()], -1).cast(g.target().compute)
}
