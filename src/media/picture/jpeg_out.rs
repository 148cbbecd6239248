//! Encodes JPEG with the image crate: whole, or row by row, with the same bytes.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{self, BufWriter, Write},
    marker::PhantomData,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

use image::{
    ExtendedColorType, GenericImageView, ImageEncoder, Luma, Pixel, Rgb,
    codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit},
};

use super::{
    COMMENT, Density, Picture,
    eight_bit::{eight_bits, opaque},
    exif, jpeg,
};
use crate::{
    error::{Error, Result},
    tensor::Samples,
};

/// Rows of a block.
const BLOCK: usize = 8;

/// Encodes a picture.
pub(super) fn encode(picture: &Picture, quality: u8) -> Result<Vec<u8>> {
    let Some(mut samples) = opaque(&picture.frame) else {
        return Err(Error::usage("JPEG does not support transparency; use .png or .webp"));
    };
    let mut bytes = Vec::new();
    let encoder = encoder(&mut bytes, picture, quality)?;
    let color = if picture.grey { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    if picture.grey {
        samples = samples.iter().step_by(3).copied().collect();
    }
    let (width, height) = (picture.frame.width as u32, picture.frame.height as u32);
    encoder.write_image(&samples, width, height, color).map_err(|e| failed(&e))?;
    jpeg::insert_comments(bytes, comments(picture)).map_err(too_long)
}

fn failed(e: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("encoding JPEG: {e}"))
}

fn too_long(text: &str) -> Error {
    Error::usage(format!("JPEG stores comments of at most 65,533 bytes, got {}; use .png", text.len()))
}

fn comments(picture: &Picture) -> impl Iterator<Item = &String> {
    picture.text.iter().filter(|(keyword, _)| keyword == COMMENT).map(|(_, text)| text)
}

/// An encoder with the quality and the metadata of a picture.
fn encoder<W: Write>(out: W, picture: &Picture, quality: u8) -> Result<JpegEncoder<W>> {
    let mut encoder = JpegEncoder::new_with_quality(out, quality);
    if let Some(icc) = &picture.icc {
        encoder.set_icc_profile(icc.clone()).map_err(|e| failed(&e))?;
    }
    if let Some(exif) = exif::with_parameters(picture) {
        // A segment holds 65,533 bytes. The block's name takes six.
        if exif.len() > 65527 {
            let size = exif.len();
            return Err(Error::usage(format!("JPEG stores at most 65,527 bytes of EXIF, got {size}; use .png")));
        }
        encoder.set_exif_metadata(exif).map_err(|e| failed(&e))?;
    }
    if let Some(Density { x, y }) = picture.density {
        let inches = |per: f64| (per * 0.0254).round().clamp(1.0, f64::from(u16::MAX)) as u16;
        encoder.set_pixel_density(PixelDensity { density: (inches(x), inches(y)), unit: PixelDensityUnit::Inches });
    }
    Ok(encoder)
}

/// Writes the rows of a picture to a file. The encoder asks for pixels, so that it has its own thread.
pub(super) struct JpegRows {
    /// `None`: all rows were passed on.
    rows: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl JpegRows {
    /// Starts the encoder. The frame of `picture` is without samples.
    pub(super) fn create(file: File, picture: &Picture, quality: u8) -> Result<Self> {
        let comments = jpeg::insert_comments(vec![0xff, 0xd8], comments(picture)).map_err(too_long)?.split_off(2);
        encoder(io::sink(), picture, quality)?;
        // One band waits while another is encoded.
        let (rows, received) = sync_channel(0);
        let picture = picture.clone();
        let work = move || {
            let size = (picture.frame.width as u32, picture.frame.height as u32);
            let rows = Held { received, samples: Vec::new(), first: 0 };
            let missing = Cell::new(false);
            let file = BufWriter::with_capacity(1 << 16, file);
            let mut out = Output { file, comments, head: Some(Vec::new()), missing: &missing };
            let mut encoder = encoder(&mut out, &picture, quality)?;
            let encoded = match picture.grey {
                true => encoder.encode_image(&Rows::<Luma<u8>>::new(size, rows, &missing)),
                false => encoder.encode_image(&Rows::<Rgb<u8>>::new(size, rows, &missing)),
            };
            drop(encoder);
            encoded.map_err(|e| failed(&e))?;
            out.file.flush().map_err(|e| failed(&e))
        };
        let thread = Builder::new().name("jpeg".into()).spawn(work);
        let thread = thread.map_err(|e| Error::failed(format!("cannot start a thread for the JPEG encoder: {e}")))?;
        Ok(Self { rows: Some(rows), thread: Some(thread) })
    }

    /// Passes samples of the channels that the file stores to the encoder.
    pub(super) fn write(&mut self, samples: &Samples) -> Result<()> {
        let sent = self.rows.as_ref().map(|rows| rows.send(eight_bits(samples).into_owned()));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { self.end().and_then(|()| Err(failed(&"too many rows"))) }
    }

    /// Waits for the end of the file.
    pub(super) fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.rows = None;
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(failed(&"the encoder stopped")))
    }
}

impl Drop for JpegRows {
    /// Waits for the encoder, which holds the file.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The samples from row `first` that the encoder still needs.
struct Held {
    received: Receiver<Vec<u8>>,
    samples: Vec<u8>,
    first: usize,
}

/// The picture that the encoder sees. It reads rows of blocks from the top.
struct Rows<'m, P> {
    size: (u32, u32),
    held: RefCell<Held>,
    missing: &'m Cell<bool>,
    pixel: PhantomData<P>,
}

impl<'m, P: Pixel<Subpixel = u8>> Rows<'m, P> {
    fn new(size: (u32, u32), held: Held, missing: &'m Cell<bool>) -> Self {
        Self { size, held: RefCell::new(held), missing, pixel: PhantomData }
    }

    /// Receives rows until `y` is held. Keeps the rows of its block.
    fn receive(&self, y: usize, row: usize) {
        let held = &mut *self.held.borrow_mut();
        while !self.missing.get() && (y + 1 - held.first) * row > held.samples.len() {
            let done = y / BLOCK * BLOCK - held.first;
            held.samples.drain(..(done * row).min(held.samples.len()));
            held.first += done;
            match held.received.recv() {
                Ok(more) if held.samples.is_empty() => held.samples = more,
                Ok(more) => held.samples.extend(more),
                Err(_) => self.missing.set(true),
            }
        }
    }
}

impl<P: Pixel<Subpixel = u8>> GenericImageView for Rows<'_, P> {
    type Pixel = P;

    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn get_pixel(&self, x: u32, y: u32) -> P {
        let (x, y, channels) = (x as usize, y as usize, usize::from(P::CHANNEL_COUNT));
        let row = self.size.0 as usize * channels;
        self.receive(y, row);
        let held = self.held.borrow();
        let at = (y - held.first) * row + x * channels;
        *P::from_slice(held.samples.get(at..at + channels).unwrap_or(&[0; 3][..channels]))
    }
}

/// The file, with comments behind the segments of applications. Fails if rows are missing.
struct Output<'m> {
    file: BufWriter<File>,
    comments: Vec<u8>,
    /// The start of the file until the comments are written.
    head: Option<Vec<u8>>,
    missing: &'m Cell<bool>,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.missing.get() {
            return Err(io::Error::other("rows are missing"));
        }
        let Some(head) = &mut self.head else { return self.file.write(bytes) };
        head.extend(bytes);
        let mut at = 2;
        while let Some(&[0xff, 0xe0..=0xef, high, low]) = head.get(at..at + 4) {
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
        if head.len() >= at + 4 {
            self.file.write_all(&[&head[..at], &self.comments, &head[at..]].concat())?;
            self.head = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
