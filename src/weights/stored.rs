//! A tensor of a checkpoint: where its bytes are, and its values.

use std::{path::Path, sync::Arc};

use half::{bf16, f16};
use memmap2::Mmap;

use super::len_bytes;
use crate::{
    error::{Error, Result},
    tensor::DType,
};

/// A tensor of a checkpoint. Its bytes are contiguous, little-endian and row-major.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Element type.
    pub dtype: DType,
    /// Shape, outermost axis first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The location of the elements.
    pub location: Location,
}

/// The location of a tensor's elements.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a file: real path and byte offset, as ONNX external data needs them.
    File {
        /// The real file: absolute, without symbolic links.
        path: Arc<Path>,
        /// First byte.
        offset: u64,
        /// The whole file, mapped; shared by all its tensors.
        map: Arc<Mmap>,
    },
    /// In memory: computed, or copied into row-major order.
    Memory(Arc<[u8]>),
}

impl Stored {
    /// A computed tensor in f32. `values` are row-major; their number is the product of `shape`.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: DType::F32, shape, location: Location::Memory(bytes.into()) }
    }

    /// Number of elements; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of bytes.
    pub fn len_bytes(&self) -> u64 {
        self.elements() as u64 * self.dtype.size() as u64
    }

    /// The elements: contiguous, little-endian, row-major. Those of a file are mapped, and may be unaligned.
    ///
    /// # Errors
    /// `location` has another number of bytes than dtype and shape need. This never happens for tensors of an opened checkpoint.
    pub fn bytes(&self) -> Result<&[u8]> {
        let want = len_bytes(self.dtype, &self.shape);
        let got = match &self.location {
            Location::File { offset, map, .. } => want
                .zip(usize::try_from(*offset).ok())
                .and_then(|(n, start)| Some(start..start.checked_add(n)?))
                .and_then(|range| map.get(range)),
            Location::Memory(bytes) => Some(&**bytes).filter(|b| Some(b.len()) == want),
        };
        got.ok_or_else(|| {
            Error::failed(format!("{} {:?} does not match its number of bytes", self.dtype.name(), self.shape))
        })
    }

    /// The elements as f32, row-major. f64 and integers are rounded to the nearest f32; booleans become 0 or 1.
    ///
    /// # Errors
    /// As [`Stored::bytes`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let b = self.bytes()?;
        Ok(match self.dtype {
            DType::F64 => each(b, |x| f64::from_le_bytes(x) as f32),
            DType::F32 => each(b, f32::from_le_bytes),
            DType::F16 => each(b, |x| f16::from_le_bytes(x).to_f32()),
            DType::BF16 => each(b, |x| bf16::from_le_bytes(x).to_f32()),
            DType::F8E4M3 => each(b, |[x]| f8e4m3(x)),
            DType::F8E5M2 => each(b, |[x]| f16::from_le_bytes([0, x]).to_f32()),
            DType::I64 => each(b, |x| i64::from_le_bytes(x) as f32),
            DType::I32 => each(b, |x| i32::from_le_bytes(x) as f32),
            DType::I16 => each(b, |x| f32::from(i16::from_le_bytes(x))),
            DType::I8 => each(b, |x| f32::from(i8::from_le_bytes(x))),
            DType::U8 => each(b, |[x]| f32::from(x)),
            DType::Bool => each(b, |[x]| f32::from(u8::from(x != 0))),
        })
    }

    /// Whether no element is a NaN or an infinity.
    ///
    /// # Errors
    /// As [`Stored::bytes`].
    pub fn is_finite(&self) -> Result<bool> {
        // An exponent of all ones is a NaN or an infinity. f8 e4m3 has no infinity and one NaN.
        fn none<const N: usize>(b: &[u8], special: impl Fn([u8; N]) -> bool) -> bool {
            b.chunks(1 << 16).all(|c| !c.as_chunks().0.iter().fold(false, |any, &x| any | special(x)))
        }
        let b = self.bytes()?;
        Ok(match self.dtype {
            DType::F64 => none(b, |x| u64::from_le_bytes(x) & 0x7ff0_0000_0000_0000 == 0x7ff0_0000_0000_0000),
            DType::F32 => none(b, |x| u32::from_le_bytes(x) & 0x7f80_0000 == 0x7f80_0000),
            DType::F16 => none(b, |x| u16::from_le_bytes(x) & 0x7c00 == 0x7c00),
            DType::BF16 => none(b, |x| u16::from_le_bytes(x) & 0x7f80 == 0x7f80),
            DType::F8E4M3 => none(b, |[x]| x & 0x7f == 0x7f),
            DType::F8E5M2 => none(b, |[x]| x & 0x7c == 0x7c),
            _ => true,
        })
    }
}

fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f(x)).collect()
}

/// An 8-bit float with a sign, 4 exponent bits (bias 7) and 3 mantissa bits; all ones is NaN (arXiv:2209.05433 §3).
fn f8e4m3(x: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(x >> 3 & 15), f32::from(x & 7));
    let magnitude = match (exponent, x & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if x & 0x80 == 0 { magnitude } else { -magnitude }
}
