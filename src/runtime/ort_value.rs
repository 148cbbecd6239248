//! Conversion between [`Tensor`] (f32, i64) and ONNX Runtime values of any element type.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use ort::{
    session::SessionInputValue,
    value::{
        DynValue, IntoTensorElementType, PrimitiveTensorElementType, Tensor as Owned, TensorElementType, TensorRef,
    },
};

use crate::{
    error::Result,
    tensor::{DType, Tensor, collected},
};

/// Converts `t` to the element type of the graph. Borrows if the type is the same and `t` is contiguous.
pub(super) fn to_ort(t: &Tensor, stored: DType) -> ort::Result<SessionInputValue<'_>> {
    match (t, stored) {
        (Tensor::F32(a), DType::F32) => borrow(a),
        (Tensor::F32(a), DType::F16) => convert(a, |&v| f16::from_f32(v)),
        (Tensor::F32(a), DType::BF16) => convert(a, |&v| bf16::from_f32(v)),
        (Tensor::F32(a), DType::F64) => convert(a, |&v| f64::from(v)),
        (Tensor::I64(a), DType::I64) => borrow(a),
        (Tensor::I64(a), DType::I32) => narrow(a, |v| i32::try_from(v).ok(), stored),
        (Tensor::I64(a), DType::U8) => narrow(a, |v| u8::try_from(v).ok(), stored),
        (Tensor::I64(a), DType::Bool) => convert(a, |&v| v != 0),
        _ => Err(ort::Error::new(format!("cannot be passed as {}", stored.name()))),
    }
}

/// Converts a CPU value to f32 or i64.
pub(super) fn from_ort(value: &DynValue) -> ort::Result<Tensor> {
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => collect(value, |v: f32| v).map(Tensor::F32),
        Some(TensorElementType::Float16) => collect(value, f16::to_f32).map(Tensor::F32),
        Some(TensorElementType::Bfloat16) => collect(value, bf16::to_f32).map(Tensor::F32),
        Some(TensorElementType::Float64) => collect(value, |v: f64| v as f32).map(Tensor::F32),
        Some(TensorElementType::Int64) => collect(value, |v: i64| v).map(Tensor::I64),
        Some(TensorElementType::Int32) => collect(value, |v: i32| v.into()).map(Tensor::I64),
        Some(TensorElementType::Uint8) => collect(value, |v: u8| v.into()).map(Tensor::I64),
        Some(TensorElementType::Bool) => collect(value, |v: bool| v.into()).map(Tensor::I64),
        _ => Err(ort::Error::new(format!("returned a {}, which is unsupported", value.dtype()))),
    }
}

fn borrow<T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    a: &ArrayD<T>,
) -> ort::Result<SessionInputValue<'_>> {
    match a.as_slice() {
        Some(values) => Ok(TensorRef::from_array_view((a.shape(), values))?.into()),
        None => convert(a, T::clone),
    }
}

fn convert<T, U>(a: &ArrayD<T>, to: impl Fn(&T) -> U) -> ort::Result<SessionInputValue<'static>>
where
    U: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    Ok(Owned::from_array((a.shape(), fitting(collected(a.len(), a.iter().map(to)))?))?.into())
}

fn narrow<U>(a: &ArrayD<i64>, to: impl Fn(i64) -> Option<U>, stored: DType) -> ort::Result<SessionInputValue<'static>>
where
    U: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let fits = |&v: &i64| to(v).ok_or_else(|| ort::Error::new(format!("{v} does not fit into {}", stored.name())));
    let values = a.iter().map(fits).collect::<ort::Result<Vec<_>>>()?;
    Ok(Owned::from_array((a.shape(), values))?.into())
}

fn collect<T: IntoTensorElementType + PrimitiveTensorElementType + Copy, U>(
    value: &DynValue,
    to: impl Fn(T) -> U,
) -> ort::Result<ArrayD<U>> {
    let (shape, values) = value.try_extract_tensor::<T>()?;
    let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    let values = fitting(collected(values.len(), values.iter().map(|&v| to(v))))?;
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|e| ort::Error::new(e.to_string()))
}

/// The error of an allocation as one of ONNX Runtime.
fn fitting<T>(values: Result<Vec<T>>) -> ort::Result<Vec<T>> {
    values.map_err(|e| ort::Error::new(e.to_string()))
}
