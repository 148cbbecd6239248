//! What flows between the parts: element types, arrays at a network's door, and picture frames.

use ndarray::{Array3, ArrayD};

/// How elements are stored in a checkpoint or computed in a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The short lower-case name used in messages and flags: `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F8E4M3 => "f8_e4m3",
            Self::F8E5M2 => "f8_e5m2",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Whether values are floating point.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2)
    }
}

/// An array at a network's door. Networks take and give f32 whatever they compute in; token ids are i64.
#[derive(Debug, Clone)]
pub enum Tensor {
    /// Latents, embeddings, pictures.
    F32(ArrayD<f32>),
    /// Token ids, positions.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::I64(a) => a.shape(),
        }
    }
}

impl From<ArrayD<f32>> for Tensor {
    fn from(a: ArrayD<f32>) -> Self {
        Self::F32(a)
    }
}

impl From<ArrayD<i64>> for Tensor {
    fn from(a: ArrayD<i64>) -> Self {
        Self::I64(a)
    }
}

/// Pixel samples, interleaved (row, column, channel), full range.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 0..=255
    U8(Vec<u8>),
    /// 0..=65535
    U16(Vec<u16>),
}

/// One picture or video frame in RGB or RGBA, interleaved.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 3 (RGB) or 4 (RGBA, straight alpha).
    pub channels: usize,
    /// `height · width · channels` samples.
    pub samples: Samples,
}

impl Frame {
    /// The frame as planes [channels, height, width] in 0..=1.
    pub fn planes(&self) -> Array3<f32> {
        let (w, c) = (self.width, self.channels);
        let at = |y: usize, x: usize, k: usize| (y * w + x) * c + k;
        Array3::from_shape_fn((c, self.height, w), |(k, y, x)| match &self.samples {
            Samples::U8(s) => f32::from(s[at(y, x, k)]) / 255.0,
            Samples::U16(s) => f32::from(s[at(y, x, k)]) / 65535.0,
        })
    }

    /// Planes [channels, height, width] in 0..=1 as an 8-bit frame: clamped and **rounded** to nearest.
    pub fn from_planes(planes: &Array3<f32>) -> Self {
        let (c, height, width) = planes.dim();
        let mut samples = Vec::with_capacity(c * height * width);
        for y in 0..height {
            for x in 0..width {
                samples.extend((0..c).map(|k| (planes[[k, y, x]].clamp(0.0, 1.0) * 255.0).round() as u8));
            }
        }
        Self { width, height, channels: c, samples: Samples::U8(samples) }
    }
}
