//! Decodes PNG with the png crate, which gives access to text and ancillary chunks: whole, or row by row.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Seek},
    path::Path,
};

use super::{
    Density, Picture,
    exif::without_prefix,
    fault::{Fault, MEMORY_LIMIT},
};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::format::PictureFormat,
    tensor::{Frame, Samples, collected, filled},
};

/// Reads the header. `limit`: bytes that the decoder may take.
fn reader<R: BufRead + Seek>(source: R, limit: u64) -> Result<png::Reader<R>, Fault> {
    let limits = png::Limits { bytes: limit as usize };
    let mut decoder = png::Decoder::new_with_limits(source, limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    let reader = decoder.read_info().map_err(|e| Fault::of_png(&e))?;
    // The png crate panics at a colour with fewer than three bytes.
    if reader.info().palette.as_ref().is_some_and(|palette| !palette.len().is_multiple_of(3)) {
        return Err(Fault::Damaged("its palette has a part of a colour".into()));
    }
    Ok(reader)
}

fn is_animated(info: &png::Info<'_>) -> bool {
    info.animation_control.is_some_and(|a| a.num_frames > 1)
}

/// Decodes a PNG. `limit`: bytes that the decoder and the samples may take.
pub(super) fn decode(bytes: &[u8], limit: u64) -> Result<Picture, Fault> {
    let fault = |e: png::DecodingError| Fault::of_png(&e);
    let mut reader = reader(Cursor::new(bytes), limit)?;
    let size = reader.output_buffer_size().filter(|&n| n as u64 <= limit).ok_or(Fault::TooLarge)?;
    let mut samples = filled(size).map_err(Fault::Memory)?;
    let out = reader.next_frame(&mut samples).map_err(fault)?;
    if !is_animated(reader.info()) {
        reader.finish().map_err(fault)?;
    }
    samples.truncate(out.buffer_size());
    let samples = match out.bit_depth {
        png::BitDepth::Sixteen => {
            let pairs = samples.as_chunks().0;
            Samples::U16(collected(pairs.len(), pairs.iter().map(|b| u16::from_be_bytes(*b))).map_err(Fault::Memory)?)
        }
        _ => Samples::U8(samples),
    };
    let info = reader.info();
    let palette = info.color_type == png::ColorType::Indexed;
    let frame = expand(out.width, out.height, out.color_type.samples(), samples).map_err(Fault::Memory)?;
    let grey = out.color_type.samples() < 3 || palette && is_neutral(&frame);
    with_metadata(Picture { grey, ..frame.into() }, info).map_err(fault)
}

/// Adds the metadata of a PNG that was read to its end.
fn with_metadata(mut picture: Picture, info: &png::Info<'_>) -> Result<Picture, png::DecodingError> {
    picture.icc = info.icc_profile.as_ref().map(|b| b.to_vec());
    picture.exif = info.exif_metadata.as_ref().map(|b| without_prefix(b).to_vec());
    let plain = info.uncompressed_latin1_text.iter().map(|t| Ok((t.keyword.clone(), t.text.clone())));
    let packed = info.compressed_latin1_text.iter().map(|t| Ok((t.keyword.clone(), t.get_text()?)));
    let utf8 = info.utf8_text.iter().map(|t| Ok((t.keyword.clone(), t.get_text()?)));
    picture.text = plain.chain(packed).chain(utf8).collect::<Result<_, png::DecodingError>>()?;
    let metric = info.pixel_dims.filter(|d| d.unit == png::Unit::Meter);
    picture.density = metric.map(|d| Density { x: d.xppu.into(), y: d.yppu.into() });
    // A gamma of 1/2.2 adds nothing to sRGB. An ICC profile replaces it.
    let plain_gamma = info.srgb.is_some() || info.icc_profile.is_some();
    let gamma = info.gama_chunk.filter(|g| !plain_gamma && g.into_scaled().abs_diff(45_455) > 100);
    let shape = info.pixel_dims.filter(|d| d.unit != png::Unit::Meter && d.xppu != d.yppu);
    for (found, what) in [
        (info.coding_independent_code_points.is_some(), "its colour space by code points (cICP)"),
        (gamma.is_some(), "its gamma"),
        (shape.is_some(), "the shape of its pixels"),
    ] {
        picture.left_out.extend(found.then(|| what.to_string()));
    }
    Ok(picture)
}

/// Whether the rows of a PNG can be read one after another: it is neither interlaced nor animated. Reads the header.
pub(super) fn has_plain_rows(path: &Path) -> bool {
    let Ok(file) = open_regular(path) else { return false };
    reader(BufReader::new(file), MEMORY_LIMIT)
        .is_ok_and(|reader| !reader.info().interlaced && !is_animated(reader.info()))
}

/// The rows of an opaque PNG from the top.
pub(super) struct PngRows {
    reader: png::Reader<BufReader<File>>,
    name: String,
    line: Vec<u8>,
}

impl PngRows {
    /// Opens a file with [plain rows](has_plain_rows). Returns what [`decode`] returns, without samples: reads the whole file once,
    /// because metadata may follow the pixels.
    ///
    /// # Errors
    /// Those of [`decode`]; transparency.
    pub(super) fn open(path: &Path) -> Result<(Picture, Self)> {
        let name = path.display().to_string();
        let mut first = Self::start(path, name.clone())?;
        let (color, depth) = first.reader.output_color_type();
        let info = first.reader.info();
        let (size, palette) = ((info.height as usize, info.width as usize), info.color_type == png::ColorType::Indexed);
        if color.samples().is_multiple_of(2) {
            return Err(Error::failed("a PNG with transparency is not read in bands")).at(name);
        }
        let mut grey = color.samples() < 3 || palette;
        let mut row = Frame::empty((0, size.1), depth == png::BitDepth::Sixteen);
        for _ in 0..size.0 {
            row.drop_rows(row.height);
            first.append(&mut row, 1)?;
            grey = grey && (!palette || is_neutral(&row));
        }
        let fault = |e: png::DecodingError| Fault::of_png(&e).error(PictureFormat::Png);
        first.reader.finish().map_err(fault).at(&name)?;
        let frame = Frame::empty(size, row.is_deep());
        let picture = with_metadata(Picture { grey, ..frame.into() }, first.reader.info());
        Ok((picture.map_err(fault).at(&name)?, Self::start(path, name)?))
    }

    fn start(path: &Path, name: String) -> Result<Self> {
        let file = open_regular(path).map_err(|e| Error::io("reading", path, &e))?;
        let reader = reader(BufReader::new(file), MEMORY_LIMIT).map_err(|fault| fault.error(PictureFormat::Png));
        let reader = reader.at(&name)?;
        let line = filled(reader.output_line_size(reader.info().width).unwrap_or(0))?;
        Ok(Self { reader, name, line })
    }

    /// Appends the next rows to an RGB frame of the same width and depth.
    pub(super) fn append(&mut self, frame: &mut Frame, rows: usize) -> Result<()> {
        frame.reserve_rows(rows)?;
        let grey = self.reader.output_color_type().0.samples() < 3;
        for _ in 0..rows {
            let read = self.reader.read_row(&mut self.line).map_err(|e| Fault::of_png(&e).error(PictureFormat::Png));
            read.at(&self.name)?;
            match &mut frame.samples {
                Samples::U8(to) if grey => to.extend(self.line.iter().flat_map(|&v| [v; 3])),
                Samples::U8(to) => to.extend(&self.line),
                Samples::U16(to) => {
                    let values = self.line.as_chunks().0.iter().map(|b| u16::from_be_bytes(*b));
                    let times = if grey { 3 } else { 1 };
                    to.extend(values.flat_map(|v| std::iter::repeat_n(v, times)));
                }
            }
            frame.height += 1;
        }
        Ok(())
    }
}

/// Whether red, green and blue are equal everywhere.
pub(super) fn is_neutral(frame: &Frame) -> bool {
    fn equal<T: PartialEq>(samples: &[T], channels: usize) -> bool {
        samples.chunks_exact(channels).all(|p| p[0] == p[1] && p[1] == p[2])
    }
    match &frame.samples {
        Samples::U8(s) => equal(s, frame.channels),
        Samples::U16(s) => equal(s, frame.channels),
    }
}
/// Expands interleaved samples of 1 (grey), 2 (grey, alpha), 3 or 4 channels to RGB or RGBA.
fn expand(width: u32, height: u32, channels: usize, samples: Samples) -> Result<Frame> {
    fn grey<T: Copy>(samples: &[T], channels: usize) -> Result<Vec<T>> {
        let count = samples.len() / channels * (channels + 2);
        let pixel = |p: &'_ [T]| [p[0], p[0], p[0]].into_iter().chain(p.get(1).copied());
        collected(count, samples.chunks_exact(channels).flat_map(pixel))
    }
    let samples = match samples {
        Samples::U8(s) if channels < 3 => Samples::U8(grey(&s, channels)?),
        Samples::U16(s) if channels < 3 => Samples::U16(grey(&s, channels)?),
        rgb => rgb,
    };
    let channels = if channels.is_multiple_of(2) { 4 } else { 3 };
    Ok(Frame { width: width as usize, height: height as usize, channels, samples })
}
