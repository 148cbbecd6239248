//! `crescendo.Warp`: a custom CPU operator that warps a picture by optical flow.
//!
//! ONNX Runtime's GridSample is about ten times slower and takes half of RIFE's time. The work runs on ONNX Runtime's thread
//! pool: threads of another pool would compete with its spinning.

use std::sync::{Mutex, PoisonError};

use ort::{
    operator::{
        BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
        ShapeInferenceContext,
    },
    value::TensorElementType::Float32,
};

use crate::sync::lock;

/// Rows of one work item.
const ROWS: usize = 16;

/// The operator domain `crescendo`, version 1.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new("crescendo")?.add(Warp)
}

/// Inputs: `image` [n, c, h, w] and `flow` [n, 2, h, w] in pixels (channel 0: right, 1: down). Output: [n, c, h, w]. All f32.
/// The output at (x, y) is the bilinear sample of `image` at (x + flow₀, y + flow₁), clamped to the border. Equals torch's
/// `grid_sample(mode="bilinear", padding_mode="border", align_corners=True)` on RIFE's grid.
struct Warp;

impl Operator for Warp {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "Warp"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(Float32), OperatorInput::required(Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        Ok(Box::new(compute))
    }

    fn infer_shape(&self, ctx: &mut ShapeInferenceContext) -> ort::Result<()> {
        match ctx.inputs().first() {
            Some(image) if image.tensor_shape().is_some_and(|shape| shape.len() == 4) => ctx.set_output(0, image),
            _ => Ok(()),
        }
    }
}

fn compute(ctx: &ComputeContext) -> ort::Result<()> {
    let missing = || ort::Error::new("Warp requires the inputs image and flow");
    let (image, flow) = (ctx.input(0)?.ok_or_else(missing)?, ctx.input(1)?.ok_or_else(missing)?);
    let (image_shape, image) = image.try_extract_tensor::<f32>()?;
    let (flow_shape, flow) = flow.try_extract_tensor::<f32>()?;
    let &[n, c, h, w] = &image_shape[..] else {
        return Err(ort::Error::new(format!("Warp requires an image [n, c, h, w], got {image_shape}")));
    };
    if flow_shape[..] != [n, 2, h, w] {
        return Err(ort::Error::new(format!(
            "Warp requires a flow [{n}, 2, {h}, {w}] for the image {image_shape}, got {flow_shape}"
        )));
    }
    let Some(mut output) = ctx.output(0, [n, c, h, w])? else { return Ok(()) };
    let out = output.try_extract_tensor_mut::<f32>()?.1;
    let size = Size { channels: c as usize, height: h as usize, width: w as usize };
    let work = split(out, size);
    if work.is_empty() {
        return Ok(());
    }
    ctx.par_for(work.len(), 0, |i| {
        let mut rows = lock(&work[i]);
        warp_rows(size, image, flow, &mut rows);
    })
}

/// Size of one picture.
#[derive(Clone, Copy)]
struct Size {
    channels: usize,
    height: usize,
    width: usize,
}

/// Up to [`ROWS`] rows of one picture, starting at row `first`: a slice of each channel's plane.
struct Rows<'a> {
    picture: usize,
    first: usize,
    planes: Vec<&'a mut [f32]>,
}

/// Splits the output into work items that threads write independently.
fn split(out: &mut [f32], size: Size) -> Vec<Mutex<Rows<'_>>> {
    let Size { channels, height, width } = size;
    if out.is_empty() {
        return Vec::new();
    }
    let mut work: Vec<Mutex<Rows<'_>>> = Vec::new();
    for (picture, planes) in out.chunks_exact_mut(channels * height * width).enumerate() {
        let first_of_picture = work.len();
        work.extend(
            (0..height)
                .step_by(ROWS)
                .map(|first| Mutex::new(Rows { picture, first, planes: Vec::with_capacity(channels) })),
        );
        for plane in planes.chunks_exact_mut(height * width) {
            for (rows, part) in work[first_of_picture..].iter_mut().zip(plane.chunks_mut(ROWS * width)) {
                rows.get_mut().unwrap_or_else(PoisonError::into_inner).planes.push(part);
            }
        }
    }
    work
}

/// Sample position of one output pixel: index of the upper left neighbour in the plane, and the offsets from it, 0..=1.
#[derive(Clone, Copy, Default)]
struct Sample {
    at: u32,
    right: f32,
    below: f32,
}

fn warp_rows(size: Size, image: &[f32], flow: &[f32], rows: &mut Rows<'_>) {
    let Size { channels, height, width } = size;
    let plane = height * width;
    let mut samples = vec![Sample::default(); width];
    // A plane of width or height 1 has no second neighbour; its weight is always 0.
    let (step_right, step_below) = (usize::from(width > 1), if height > 1 { width } else { 0 });
    let rows_here = rows.planes.first().map_or(0, |p| p.len() / width);
    for row in 0..rows_here {
        let y = rows.first + row;
        let start = rows.picture * 2 * plane + y * width;
        locate(size, y, &flow[start..][..width], &flow[start + plane..][..width], &mut samples);
        for (channel, out) in rows.planes.iter_mut().enumerate() {
            let source = &image[(rows.picture * channels + channel) * plane..][..plane];
            for (out, s) in out[row * width..][..width].iter_mut().zip(&samples) {
                let at = s.at as usize;
                let (left, above) = (1.0 - s.right, 1.0 - s.below);
                let (a, b) = (source[at], source[at + step_right]);
                let (c, d) = (source[at + step_below], source[at + step_below + step_right]);
                *out = (a * left + b * s.right) * above + (c * left + d * s.right) * s.below;
            }
        }
    }
}

/// Computes the sample positions of row `y`. Positions in the last column or row use the neighbour before it with offset 1, so
/// that every sample has neighbours on both sides. NaN in the flow gives NaN in the output.
fn locate(size: Size, y: usize, flow_x: &[f32], flow_y: &[f32], samples: &mut [Sample]) {
    let (last_x, last_y) = ((size.width - 1) as f32, (size.height - 1) as f32);
    let (most_x, most_y) = (size.width.saturating_sub(2) as f32, size.height.saturating_sub(2) as f32);
    for (x, (s, (fx, fy))) in samples.iter_mut().zip(flow_x.iter().zip(flow_y)).enumerate() {
        let (sx, sy) = ((x as f32 + fx).clamp(0.0, last_x), (y as f32 + fy).clamp(0.0, last_y));
        let (x0, y0) = ((sx as u32).min(most_x as u32), (sy as u32).min(most_y as u32));
        *s = Sample { at: y0 * size.width as u32 + x0, right: sx - x0 as f32, below: sy - y0 as f32 };
    }
}
