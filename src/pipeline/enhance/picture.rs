//! Enhances one picture: refines or upscales every page of it, and writes it with its metadata.

use std::path::Path;

use super::{
    bands,
    forecast_memory::{self, Tiles},
    refine::Refiner,
    sizes::picture_sizes,
};
use crate::{
    error::{At, Error, Result},
    media::{
        PendingFile, PictureFormat,
        picture::{
            self, Header, JPEG_QUALITY, Picture, PictureOptions,
            eight_bit::{PARTIAL, has_soft_alpha},
        },
    },
    pipeline::{
        memory,
        orientation::Orientation,
        postprocess::{Upscaler, to_luma},
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
    let (header, banded) = check_size((input, file.target()), format, plan, &mut networks)?;
    if let (true, Some(upscaler)) = (banded, &mut networks.upscaler) {
        return bands::enhance(input, file, (&header, plan), upscaler, timings);
    }
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

/// Checks from the header of `input` that the format of `output` can store the result, and that memory suffices. Leaves the memory
/// of the other jobs to them. Returns the header, and whether the picture is processed in bands.
fn check_size(
    (input, output): (&Path, &Path),
    format: PictureFormat,
    plan: &EnhancePlan,
    networks: &mut PictureNetworks<'_, '_>,
) -> Result<(Header, bool)> {
    let header = Header::read(input)?;
    let from = (header.height, header.width);
    let to = picture_sizes(plan, from).last().map_or(from, |row| (row.height, row.width));
    picture::check_size(format, (to.1, to.0)).at(input.display())?;
    let form = networks.upscaler.as_ref().map(|upscaler| upscaler.form().clone());
    let (need, banded) = forecast_memory::picture((&header, input), output, plan, form.as_ref(), Tiles::Smallest);
    let sizes = || format!("{}: {}x{} to {}x{} pixels", input.display(), from.1, from.0, to.1, to.0);
    memory::check(&need, plan.runtime.engine.memory_limit).at(sizes())?;
    if let Some(upscaler) = &mut networks.upscaler {
        let jobs = plan.concurrent_jobs();
        upscaler.reserve(need.bytes() / jobs * (jobs - 1));
    }
    Ok((header, banded))
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
    // Of the source: edges that are enlarged are partly transparent too.
    if format == PictureFormat::Gif && has_soft_alpha(&source.frame) {
        source.left_out.push(PARTIAL.into());
    }
    for left in &source.left_out {
        tracing::warn!("{name}: left out: {left}");
    }
    let (deep, orientation) = (source.frame.is_deep(), Orientation(source.orientation()));
    let size = (source.frame.height, source.frame.width);
    let frame = std::mem::take(&mut source.frame);
    let mut frame = match networks {
        PictureNetworks { refiner: Some(refiner), upscaler } => {
            for warning in refiner.config.warnings(size) {
                tracing::warn!("{name}: {warning}");
            }
            if format.stores_parameters() {
                refiner.config.parameters(size).sign_picture(&mut source);
            }
            let planes = frame.planes()?;
            drop(frame);
            let mut refined = timings.time("refine", || refiner.apply(planes, upscaler.as_deref_mut(), orientation))?;
            if source.grey {
                to_luma(refined.view_mut());
            }
            Frame::from_planes(&refined, deep)?
        }
        PictureNetworks { upscaler: Some(upscaler), .. } => {
            timings.time("upscale", || upscaler.apply_frame(frame, source.grey))?
        }
        _ => frame,
    };
    if !format.stores_orientation() {
        frame = orientation.upright_frame(frame)?;
        source.set_upright();
    }
    let enhanced = Picture { frame, ..source };
    for left in enhanced.unsupported_by(format) {
        tracing::warn!("{name}: left out: {left}");
    }
    Ok(enhanced)
}
