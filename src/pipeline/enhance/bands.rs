//! Enhances a picture that does not fit into memory as a whole: in bands of rows, from the decoder to the encoder.

use std::path::Path;

use super::sizes::picture_sizes;
use crate::{
    error::{Error, Result},
    media::{
        PendingFile, PictureFormat,
        picture::{Header, JPEG_QUALITY, PictureOptions, RowReader, RowWriter, writes_rows},
    },
    pipeline::{
        memory::{Phase, peak, pixels},
        postprocess::{UpscaleForm, Upscaler},
        timings::Timings,
    },
    plan::EnhancePlan,
    tensor::Frame,
};

/// Bytes of codecs: chunks, strips and the encoder's tables.
const CODECS: u64 = 6_000_000;

/// The largest output in bytes of samples: the most that this program reads.
const LARGEST: u64 = 4 << 30;

/// Bytes of a picture that is held whole although it is processed in bands.
fn held(header: &Header) -> u64 {
    if header.by_rows.is_some() { 0 } else { header.frame_bytes() }
}

/// The peak of one picture in bands. `smallest`: with the smallest tiles. `None`: it is only enhanced as a whole.
pub(super) fn forecast(
    (header, input): (&Header, &Path),
    output: &Path,
    plan: &EnhancePlan,
    form: Option<&UpscaleForm>,
    smallest: bool,
) -> Option<Phase> {
    let (form, size) = (form?, (header.height, header.width));
    let written = PictureFormat::of_name(output).is_ok_and(|format| writes_rows(format, plan.encoding.verify));
    let output = pixels(form.output_size(size)).saturating_mul(if header.deep { 6 } else { 3 });
    if plan.refine.is_some() || header.channels != 3 || !written || output > LARGEST || !form.has_bands(size) {
        return None;
    }
    let jobs = plan.concurrent_jobs();
    let times = |bytes: u64| bytes.saturating_mul(jobs);
    let held = held(header);
    let options = if smallest { form.smallest_tiles(size) } else { form.band_tiles(size, header.deep, times(held)) };
    let network = if form.passes(size) == 0 { 0 } else { form.network_bytes(options, size) };
    let source = Phase::default().with("decoded picture", times(held));
    let upscale = source
        .clone()
        .with("bands", times(form.band_bytes(options, size, header.deep)))
        .with("codecs", times(CODECS))
        .with("network and its tiles", network);
    // The metadata of a TIFF is taken from all of its bytes.
    let plain = header.by_rows == Some(PictureFormat::Png);
    let file = if plain { 0 } else { std::fs::metadata(input).map_or(0, |data| data.len()) };
    let wide = if header.deep { held } else { 0 };
    Some(peak([source.with("file", times(file)).with("16-bit samples", times(wide)), upscale]))
}

/// Enhances the picture `input` into `file` in bands, as [`forecast`] describes.
///
/// # Errors
/// A picture of several pages; those of reading, upscaling and writing.
pub(super) fn enhance(
    input: &Path,
    file: PendingFile,
    (header, plan): (&Header, &EnhancePlan),
    upscaler: &mut Upscaler,
    timings: &mut Timings,
) -> Result<PendingFile> {
    let (name, output) = (input.display(), &plan.encoding);
    let format = PictureFormat::of_name(file.target())?;
    let (mut head, mut rows) = timings.time("decode", || RowReader::open(input, header.by_rows))?;
    if !head.pages.is_empty() {
        let pages = head.pages.len() + 1;
        return Err(Error::failed(format!("{name}: its {pages} pages do not fit into memory; raise the limit")));
    }
    let size = (header.height, header.width);
    let target = picture_sizes(plan, size).last().map_or(size, |row| (row.height, row.width));
    head.frame = Frame::empty(target, head.frame.is_deep());
    for left in head.left_out.iter().cloned().chain(head.unsupported_by(format)) {
        tracing::warn!("{name}: left out: {left}");
    }
    let quality = output.compression.or(head.jpeg_quality).unwrap_or(JPEG_QUALITY);
    let options = PictureOptions { quality, verify: output.verify, ..PictureOptions::default() };
    let grey = head.grey;
    let mut writer = RowWriter::create(&file, head, format, &options)?;
    timings.time("upscale", || upscaler.apply_rows(&mut rows, (grey, held(header)), &mut |band| writer.write(band)))?;
    timings.time("encode", || writer.finish(&file))?;
    Ok(file)
}
