//! Data that the parts exchange: element types, network inputs and outputs, and picture frames.

use std::ops::Range;

use ndarray::{Array3, ArrayD, ArrayView3, Axis, concatenate};

use crate::error::{Error, Result};

/// Element type of a stored tensor or of a computation.
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

    /// The lower-case name used in messages and flags: `bf16`.
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

    /// Whether the type is floating point.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2)
    }
}

/// A network input or output. Values are f32 regardless of the precision of the computation; token ids are i64.
#[derive(Debug, Clone)]
pub enum Tensor {
    /// Latents, embeddings, pictures.
    F32(ArrayD<f32>),
    /// Token ids, positions.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::I64(a) => a.shape(),
        }
    }

    /// Concatenates along the first axis: [n, …] and [m, …] → [n + m, …]. Fails if the types or other axes differ.
    pub fn stack(&self, after: &Self) -> Result<Self> {
        let unfit = |e: &dyn std::fmt::Display| {
            let (a, b) = (self.shape(), after.shape());
            Error::failed(format!("tensors of {a:?} and {b:?} cannot be batched: {e}"))
        };
        match (self, after) {
            (Self::F32(a), Self::F32(b)) => {
                concatenate(Axis(0), &[a.view(), b.view()]).map(Self::F32).map_err(|e| unfit(&e))
            }
            (Self::I64(a), Self::I64(b)) => {
                concatenate(Axis(0), &[a.view(), b.view()]).map(Self::I64).map_err(|e| unfit(&e))
            }
            _ => Err(unfit(&"their types differ")),
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

/// `count` default values. Errors: the memory cannot be allocated, where `vec!` would end the process.
pub fn filled<T: Clone + Default>(count: usize) -> Result<Vec<T>> {
    let mut values = reserved(count)?;
    values.resize(count, T::default());
    Ok(values)
}

/// At most `count` values of an iterator. Errors: the memory cannot be allocated.
pub fn collected<T>(count: usize, values: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut all = reserved(count)?;
    all.extend(values.take(count));
    Ok(all)
}

/// Whether memory for `count` values can be allocated, for callees that would end the process. Errors: it cannot.
pub fn check_room<T>(count: usize) -> Result<()> {
    reserved::<T>(count).map(drop)
}

/// Planes [channels, height, width] of these samples. Errors: another number of samples.
pub fn planes_of(shape: (usize, usize, usize), samples: Vec<f32>) -> Result<Array3<f32>> {
    Array3::from_shape_vec(shape, samples).map_err(|e| Error::failed(format!("planes of {shape:?}: {e}")))
}

/// Black planes [channels, height, width]. Errors: the memory cannot be allocated.
pub fn black((channels, height, width): (usize, usize, usize)) -> Result<Array3<f32>> {
    planes_of((channels, height, width), filled(channels.saturating_mul(height).saturating_mul(width))?)
}

/// A copy of planes. Errors: the memory cannot be allocated, where `clone` would end the process.
pub fn copied(planes: &Array3<f32>) -> Result<Array3<f32>> {
    planes_of(planes.dim(), collected(planes.len(), planes.iter().copied())?)
}

fn reserved<T>(count: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    values.try_reserve_exact(count).map_err(|_| out_of_memory(bytes))?;
    Ok(values)
}

fn out_of_memory(bytes: usize) -> Error {
    Error::failed(format!("out of memory: {:.1} GB more are needed; use a smaller size", bytes as f64 / 1e9))
}

/// Pixel samples in the order row, column, channel; full range.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 0..=255
    U8(Vec<u8>),
    /// 0..=65535
    U16(Vec<u16>),
}

impl Default for Samples {
    fn default() -> Self {
        Self::U8(Vec::new())
    }
}

/// One picture or video frame in RGB or RGBA, interleaved. The default has no pixels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 3 (RGB) or 4 (RGBA, straight alpha).
    pub channels: usize,
    /// `height · width · channels` samples.
    pub samples: Samples,
}

impl Frame {
    /// Returns the frame as planes [channels, height, width] in 0..=1. Errors: the memory cannot be allocated.
    pub fn planes(&self) -> Result<Array3<f32>> {
        self.rows(0..self.height)
    }

    /// Returns rows of the frame as planes [channels, rows, width] in 0..=1. Errors: the memory cannot be allocated.
    pub fn rows(&self, rows: Range<usize>) -> Result<Array3<f32>> {
        let mut planes = black((self.channels, rows.len(), self.width))?;
        let range = rows.start * self.width * self.channels..rows.end * self.width * self.channels;
        for (k, mut plane) in planes.outer_iter_mut().enumerate() {
            let samples = plane.iter_mut();
            match &self.samples {
                Samples::U8(s) => {
                    samples
                        .zip(s[range.clone()].iter().skip(k).step_by(self.channels))
                        .for_each(|(p, &v)| *p = f32::from(v) / 255.0);
                }
                Samples::U16(s) => {
                    samples
                        .zip(s[range.clone()].iter().skip(k).step_by(self.channels))
                        .for_each(|(p, &v)| *p = f32::from(v) / 65535.0);
                }
            }
        }
        Ok(planes)
    }

    /// Converts planes [channels, height, width] in 0..=1; values are clamped and rounded to nearest. `deep`: 16 bits, else 8.
    ///
    /// # Errors
    /// The memory cannot be allocated.
    pub fn from_planes(planes: &Array3<f32>, deep: bool) -> Result<Self> {
        let (channels, height, width) = planes.dim();
        let mut frame = Self::zeros((height, width), channels, deep)?;
        frame.put(&planes.view(), (0, 0));
        Ok(frame)
    }

    /// A black frame of (height, width) pixels. Errors: the memory cannot be allocated.
    pub fn zeros((height, width): (usize, usize), channels: usize, deep: bool) -> Result<Self> {
        let n = height.saturating_mul(width).saturating_mul(channels);
        let samples = if deep { Samples::U16(filled(n)?) } else { Samples::U8(filled(n)?) };
        Ok(Self { width, height, channels, samples })
    }

    /// An RGB frame of (height, width) pixels without samples: what is known of a frame whose rows are made or read one after another.
    pub fn empty((height, width): (usize, usize), deep: bool) -> Self {
        let samples = if deep { Samples::U16(Vec::new()) } else { Samples::U8(Vec::new()) };
        Self { width, height, channels: 3, samples }
    }

    /// Removes the first rows.
    pub fn drop_rows(&mut self, rows: usize) {
        let rows = rows.min(self.height);
        let count = rows * self.width * self.channels;
        match &mut self.samples {
            Samples::U8(s) => drop(s.drain(..count.min(s.len()))),
            Samples::U16(s) => drop(s.drain(..count.min(s.len()))),
        }
        self.height -= rows;
    }

    /// Makes room for further rows. Errors: the memory cannot be allocated.
    pub fn reserve_rows(&mut self, rows: usize) -> Result<()> {
        let count = rows.saturating_mul(self.width).saturating_mul(self.channels);
        match &mut self.samples {
            Samples::U8(s) => s.try_reserve_exact(count).map_err(|_| out_of_memory(count)),
            Samples::U16(s) => s.try_reserve_exact(count).map_err(|_| out_of_memory(count.saturating_mul(2))),
        }
    }

    /// Writes planes [channels, h, w] in 0..=1 into the frame from pixel (row, column), clamped and rounded to nearest. The part
    /// beyond the frame is dropped.
    pub fn put(&mut self, planes: &ArrayView3<'_, f32>, at: (usize, usize)) {
        let size = (self.width, self.channels);
        match &mut self.samples {
            Samples::U8(to) => interleave(planes, (to, size), at, |v| (v.clamp(0.0, 1.0) * 255.0).round() as u8),
            Samples::U16(to) => interleave(planes, (to, size), at, |v| (v.clamp(0.0, 1.0) * 65535.0).round() as u16),
        }
    }

    /// The sample of channel `c` at (row, column), in 0..=1.
    pub fn sample(&self, c: usize, y: usize, x: usize) -> f32 {
        let i = (y * self.width + x) * self.channels + c;
        match &self.samples {
            Samples::U8(s) => f32::from(s[i]) / 255.0,
            Samples::U16(s) => f32::from(s[i]) / 65535.0,
        }
    }

    /// Composites an RGBA frame over black. The flag: whether any pixel is transparent.
    pub fn over_black(&self) -> (Self, bool) {
        fn flatten<T: Copy + Into<u64> + TryFrom<u64> + Default>(samples: &[T], top: u64) -> (Vec<T>, bool) {
            let over = |p: &[T]| {
                let alpha = p[3].into();
                [0, 1, 2].map(|k| T::try_from((p[k].into() * alpha + top / 2) / top).unwrap_or_default())
            };
            let clear = samples.iter().skip(3).step_by(4).any(|&a| a.into() < top);
            (samples.chunks_exact(4).flat_map(over).collect(), clear)
        }
        let (samples, clear) = match &self.samples {
            _ if self.channels < 4 => (self.samples.clone(), false),
            Samples::U8(s) => {
                let (flat, clear) = flatten(s, 255);
                (Samples::U8(flat), clear)
            }
            Samples::U16(s) => {
                let (flat, clear) = flatten(s, 65535);
                (Samples::U16(flat), clear)
            }
        };
        (Self { width: self.width, height: self.height, channels: 3, samples }, clear)
    }

    /// Whether samples have more than 8 bits.
    pub fn is_deep(&self) -> bool {
        matches!(self.samples, Samples::U16(_))
    }
}

/// An RGB picture whose rows are read once, from the top.
pub trait RowSource {
    /// Its size and depth.
    fn header(&self) -> &Frame;

    /// A frame that contains these rows, and the number of its first row. Rows before the start of an earlier call are gone.
    fn window(&mut self, rows: Range<usize>) -> Result<(&Frame, usize)>;
}

impl RowSource for &Frame {
    fn header(&self) -> &Frame {
        self
    }

    fn window(&mut self, _: Range<usize>) -> Result<(&Frame, usize)> {
        Ok((self, 0))
    }
}

/// Writes planes into the samples `to` of a frame of (width, channels) from pixel (row, column).
fn interleave<T>(
    planes: &ArrayView3<'_, f32>,
    (to, (width, channels)): (&mut [T], (usize, usize)),
    (row, column): (usize, usize),
    convert: impl Fn(f32) -> T,
) {
    for (k, plane) in planes.outer_iter().enumerate() {
        for (line, values) in to.chunks_exact_mut(width * channels).skip(row).zip(plane.outer_iter()) {
            for (slot, &v) in line.iter_mut().skip(column * channels + k).step_by(channels).zip(values) {
                *slot = convert(v);
            }
        }
    }
}
