//! Enhances one picture: refines or upscales every page of it, and writes it with its metadata.

use std::path::Path;

use ndarray::{Array3, Axis};

use super::{forecast::picture_sizes, refine::Refiner};
use crate::{
    error::{At, Error, Result},
    media::{
        PendingFile, PictureFormat,
        picture::{self, JPEG_QUALITY, Picture, PictureOptions},
    },
    pipeline::{
        orientation::Orientation,
        postprocess::{Upscaler, check_memory},
        timings::Timings,
    },
    plan::EnhancePlan,
    tensor::Frame,
};

/// The networks of a plan that pictures use.
pub(super) struct PictureNetworks<'n, 'a> {
    pub refiner: Option<&'n mut Refiner<'a>>,
    pub upscaler: Option<&'n mut Upscaler>,
}

/// Enhances the picture `input` into `file` with the networks that the plan has.
pub(super) fn enhance_picture(
    input: &Path,
    mut file: PendingFile,
    plan: &EnhancePlan,
    mut networks: PictureNetworks<'_, '_>,
    timings: &mut Timings,
) -> Result<PendingFile> {
    let (name, output) = (input.display(), &plan.encoding);
    let format = PictureFormat::of_name(file.target())?;
    let header = picture::header(input)?;
    check_size(header, format, plan, &networks).at(&name)?;
    let mut source = timings.time("decode", || picture::read(input))?;
    let pages = std::mem::take(&mut source.pages);
    if !pages.is_empty() && format != PictureFormat::Tiff {
        let (pages, format) = (pages.len() + 1, format.name());
        return Err(Error::failed(format!("{name} has {pages} pages, and a {format} holds one; write a .tiff")));
    }
    let quality = output.compression.or(source.jpeg_quality).unwrap_or(JPEG_QUALITY);
    let mut enhanced = enhance_page(input, source, format, &mut networks, timings)?;
    for page in pages {
        let page = enhance_page(input, page, format, &mut networks, timings)?;
        enhanced.pages.push(page);
    }
    let options = PictureOptions { quality, verify: output.verify, ..PictureOptions::default() };
    timings.time("encode", || picture::write_in(&mut file, &enhanced, format, &options))?;
    Ok(file)
}

/// Checks from the header that the format can store the output, and that memory suffices.
fn check_size(
    header: picture::Header,
    format: PictureFormat,
    plan: &EnhancePlan,
    networks: &PictureNetworks<'_, '_>,
) -> Result<()> {
    let from = (header.height, header.width);
    let sizes = picture_sizes(plan, from);
    let to = sizes.last().map_or(from, |row| (row.height, row.width));
    picture::check_size(format, (to.1, to.0))?;
    let pixels = |(height, width): (usize, usize)| (height as u64).saturating_mul(width as u64);
    // A decoder expands the samples of the file to planes of f32, and the encoder the planes to samples.
    let pixel_bytes = header.pixel_bytes as u64 * 2 + if header.pixel_bytes.is_multiple_of(4) { 16 } else { 12 };
    let (read, written) = (pixels(from).saturating_mul(pixel_bytes), pixels(to).saturating_mul(pixel_bytes));
    let upscaled = networks.upscaler.as_ref().map_or(0, |upscaler| upscaler.planes_bytes(from));
    let limit = plan.runtime.engine.memory_limit;
    check_memory(read.max(upscaled).max(written), limit, from, to)
}

/// Enhances one page.
fn enhance_page(
    input: &Path,
    mut source: Picture,
    format: PictureFormat,
    networks: &mut PictureNetworks<'_, '_>,
    timings: &mut Timings,
) -> Result<Picture> {
    let name = input.display();
    for left in &source.left_out {
        tracing::warn!("{name}: left out: {left}");
    }
    let (deep, orientation) = (source.frame.is_deep(), Orientation(source.orientation()));
    let size = (source.frame.height, source.frame.width);
    let planes = source.frame.try_planes()?;
    let mut planes = match networks {
        PictureNetworks { refiner: Some(refiner), upscaler } => {
            for warning in refiner.config.warnings(size) {
                tracing::warn!("{name}: {warning}");
            }
            if format.stores_parameters() {
                refiner.config.parameters(size).sign_picture(&mut source);
            }
            timings.time("refine", || refiner.apply(planes, upscaler.as_deref_mut(), orientation))?
        }
        PictureNetworks { upscaler: Some(upscaler), .. } => timings.time("upscale", || upscaler.apply(planes))?,
        _ => planes,
    };
    if source.grey {
        to_grey(&mut planes);
    }
    if !format.stores_orientation() {
        planes = orientation.upright(planes);
        source.set_upright();
    }
    let enhanced = Picture { frame: Frame::try_from_planes(&planes, deep)?, ..source };
    for left in enhanced.unsupported_by(format) {
        tracing::warn!("{name}: left out: {left}");
    }
    Ok(enhanced)
}

/// Replaces red, green and blue by the luma of Rec. 601, as Real-ESRGAN does with grey pictures: a network makes three channels.
fn to_grey(planes: &mut Array3<f32>) {
    let (mut colours, _) = planes.view_mut().split_at(Axis(0), 3);
    for mut pixel in colours.lanes_mut(Axis(0)) {
        let (r, g, b) = (pixel[0], pixel[1], pixel[2]);
        if r != g || g != b {
            pixel.fill(0.299 * r + 0.587 * g + 0.114 * b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_is_the_luma() {
        let mut planes = Array3::from_shape_fn((4, 1, 3), |(k, _, x)| {
            [[1.0, 0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 1.0], [0.2, 0.3, 0.4]][k][x]
        });
        to_grey(&mut planes);
        for (x, want) in [0.299_f32, 0.5, 0.114].into_iter().enumerate() {
            assert!((0..3).all(|k| planes[[k, 0, x]] == want), "{planes}");
        }
        assert_eq!(planes[[3, 0, 1]], 0.3);
    }
}
