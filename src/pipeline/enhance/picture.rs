//! Enhances one picture: refines or upscales it, and writes it with its metadata.

use std::path::Path;

use super::refine::Refiner;
use crate::{
    error::Result,
    media::{
        PendingFile, PictureFormat,
        picture::{self, Picture, PictureOptions},
    },
    pipeline::{orientation::Orientation, postprocess::Upscaler, timings::Timings},
    plan::Output,
    tensor::Frame,
};

/// Enhances the picture `input` into `file` with the networks that the plan has.
pub(super) fn enhance_picture(
    input: &Path,
    mut file: PendingFile,
    output: &Output,
    networks: (Option<&mut Refiner<'_>>, Option<&mut Upscaler>),
    timings: &mut Timings,
) -> Result<PendingFile> {
    let name = input.display();
    let format = PictureFormat::of_name(file.target())?;
    let mut source = timings.time("decode", || picture::read(input))?;
    for left in &source.left_out {
        tracing::warn!("{name}: left out: {left}");
    }
    let (deep, planes) = (source.frame.is_deep(), source.frame.planes());
    let planes = match networks {
        (Some(refiner), upscaler) => {
            let size = (source.frame.height, source.frame.width);
            for warning in refiner.config.warnings(size) {
                tracing::warn!("{name}: {warning}");
            }
            let orientation = Orientation(source.orientation());
            if format == PictureFormat::Png {
                refiner.config.parameters(size).sign_picture(&mut source);
            }
            timings.time("refine", || refiner.apply(planes, upscaler, orientation))?
        }
        (None, Some(upscaler)) => timings.time("upscale", || upscaler.apply(planes))?,
        (None, None) => planes,
    };
    let options =
        PictureOptions { quality: output.compression(false), verify: output.verify, ..PictureOptions::default() };
    let enhanced = Picture { frame: Frame::from_planes(&planes, deep), ..source };
    for left in enhanced.unsupported_by(format) {
        tracing::warn!("{name}: left out: {left}");
    }
    timings.time("encode", || picture::write_in(&mut file, &enhanced, format, &options))?;
    Ok(file)
}
