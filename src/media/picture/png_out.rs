//! Encodes PNG with the png crate: whole, or row by row, with the same bytes.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::{Density, Picture, eight_bit::without_repetition};
use crate::{
    error::{Error, Result},
    sync::lock,
    tensor::Samples,
};

/// Bytes of an IDAT chunk.
const CHUNK: usize = 1 << 20;

/// Encodes a picture.
pub(super) fn encode(picture: &Picture) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::failed(format!("encoding PNG: {e}"));
    let mut bytes = Vec::new();
    let mut writer = header(&mut bytes, picture).map_err(failed)?;
    let mut stream = writer.stream_writer_with_size(CHUNK).map_err(failed)?;
    let (samples, _) = without_repetition(&picture.frame, picture.grey);
    write_samples(&mut stream, &samples).and_then(|()| stream.finish().map_err(io::Error::from)).map_err(broken)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn broken(e: io::Error) -> Error {
    Error::failed(format!("encoding PNG: {e}"))
}

/// Writes the header of a picture, whose frame may be without samples.
fn header<W: Write>(out: W, picture: &Picture) -> Result<png::Writer<W>, png::EncodingError> {
    let frame = &picture.frame;
    let mut info = png::Info::with_size(frame.width as u32, frame.height as u32);
    let channels = if picture.grey { frame.channels - 2 } else { frame.channels };
    info.color_type = match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    };
    let metres = |per: f64| per.round().clamp(0.0, f64::from(u32::MAX)) as u32;
    info.pixel_dims = picture.density.map(|Density { x, y }| png::PixelDimensions {
        xppu: metres(x),
        yppu: metres(y),
        unit: png::Unit::Meter,
    });
    info.icc_profile = picture.icc.as_ref().map(|icc| Cow::Owned(icc.clone()));
    info.exif_metadata = picture.exif.as_ref().map(|exif| Cow::Owned(exif.clone()));
    info.bit_depth = if frame.is_deep() { png::BitDepth::Sixteen } else { png::BitDepth::Eight };
    let mut encoder = png::Encoder::with_info(out, info)?;
    for (keyword, text) in &picture.text {
        if text.chars().all(|c| u32::from(c) < 256) {
            encoder.add_text_chunk(keyword.clone(), text.clone())?;
        } else {
            encoder.add_itxt_chunk(keyword.clone(), text.clone())?;
        }
    }
    encoder.write_header()
}

fn write_samples(to: &mut impl Write, samples: &Samples) -> io::Result<()> {
    match samples {
        Samples::U8(s) => to.write_all(s),
        Samples::U16(s) => {
            let mut bytes = Vec::with_capacity(1 << 16);
            s.chunks(1 << 15).try_for_each(|part| {
                bytes.clear();
                bytes.extend(part.iter().flat_map(|v| v.to_be_bytes()));
                to.write_all(&bytes)
            })
        }
    }
}

/// Writes the rows of a picture to a file.
pub(super) struct PngRows {
    stream: png::StreamWriter<'static, Watched>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl PngRows {
    /// Writes the header. The frame of `picture` is without samples.
    pub(super) fn create(file: File, picture: &Picture) -> Result<Self> {
        let failed = |e: png::EncodingError| Error::failed(format!("encoding PNG: {e}"));
        let failure = Arc::default();
        let writer = header(Watched { file, failure: Arc::clone(&failure) }, picture).map_err(failed)?;
        Ok(Self { stream: writer.into_stream_writer_with_size(CHUNK).map_err(failed)?, failure })
    }

    /// Writes samples of the channels that the file stores.
    pub(super) fn write(&mut self, samples: &Samples) -> Result<()> {
        write_samples(&mut self.stream, samples).map_err(broken)
    }

    /// Writes the end of the file.
    pub(super) fn finish(self) -> Result<()> {
        self.stream.finish().map_err(|e| Error::failed(format!("encoding PNG: {e}")))?;
        lock(&self.failure).take().map_or(Ok(()), |e| Err(broken(e)))
    }
}

/// A file that keeps its first error: the png crate writes the last chunk when it drops a stream, and ignores errors.
struct Watched {
    file: File,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|e| {
            lock(&self.failure).get_or_insert_with(|| io::Error::new(e.kind(), e.to_string()));
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
