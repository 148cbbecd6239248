//! Encodes pictures.

use std::path::Path;

use image::{
    ExtendedColorType,
    codecs::{bmp::BmpEncoder, gif::GifEncoder},
};

use super::{
    Picture,
    decode::decode,
    eight_bit::{PALETTE_SPEED, eight_bits, palette_pixels},
    exif, jpeg_out, png_out, tiff,
};
use crate::{
    error::{At, Error, Result},
    files::PendingFile,
    media::format::PictureFormat,
    tensor::{Frame, Samples},
};

/// Encoding options of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureOptions {
    /// Quality of JPEG and lossy WebP, 0 to 100. Other formats ignore it.
    pub quality: u8,
    /// Lossless WebP. `quality` is then the effort.
    pub lossless: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// Whether to decode the file before it gets its name, and to compare the size and, in lossless formats, the
    /// samples.
    pub verify: bool,
}

impl Default for PictureOptions {
    /// Quality 75, lossy, no overwriting.
    fn default() -> Self {
        Self { quality: 75, lossless: false, overwrite: false, verify: false }
    }
}

/// Writes a picture in the format of the file extension, atomically ([`PendingFile`]). Returns the file size in bytes.
///
/// Errors: those of [`encode`], an existing file, a folder that is not writable, a full disk.
pub fn write(path: &Path, picture: &Picture, options: &PictureOptions) -> Result<u64> {
    let format = PictureFormat::of_name(path)?;
    let mut pending = PendingFile::create(path, options.overwrite)?;
    write_in(&mut pending, picture, format, options)?;
    pending.commit()
}

/// Writes a picture to a pending file.
pub fn write_in(
    pending: &mut PendingFile,
    picture: &Picture,
    format: PictureFormat,
    options: &PictureOptions,
) -> Result<()> {
    let name = pending.target().display().to_string();
    pending.write(&encode(picture, format, options).at(&name)?)?;
    if options.verify {
        verify(pending.temporary(), picture, format, options).at(format!("writing {name}"))?;
    }
    Ok(())
}

/// Decodes the written file. Errors: a different size; in a lossless format, different samples.
fn verify(file: &Path, picture: &Picture, format: PictureFormat, options: &PictureOptions) -> Result<()> {
    let bytes = std::fs::read(file).map_err(|e| Error::io("reading", file, &e))?;
    let found = decode(&bytes)?;
    if found.pages.len() != picture.pages.len() {
        let (found, wanted) = (found.pages.len() + 1, picture.pages.len() + 1);
        return Err(Error::failed(format!("the file has {found} pages, expected {wanted}; write it again")));
    }
    compare(&found, picture, format, options)?;
    found.pages.iter().zip(&picture.pages).try_for_each(|(found, page)| compare(found, page, format, options))
}

fn compare(found: &Picture, wanted: &Picture, format: PictureFormat, options: &PictureOptions) -> Result<()> {
    let (found, wanted) = (&found.frame, &wanted.frame);
    if (found.width, found.height) != (wanted.width, wanted.height) {
        let (w, h) = (wanted.width, wanted.height);
        let sizes = format!("{}x{}, expected {w}x{h}", found.width, found.height);
        return Err(Error::failed(format!("the file decodes to {sizes}; write it again")));
    }
    let same = match format {
        PictureFormat::Png | PictureFormat::Tiff => found.samples == wanted.samples,
        PictureFormat::Bmp => eight_bits(&found.samples) == eight_bits(&wanted.samples),
        PictureFormat::WebP if options.lossless => eight_bits(&found.samples) == eight_bits(&wanted.samples),
        _ => true,
    };
    if same {
        return Ok(());
    }
    Err(Error::failed("the file decodes to different samples, although its format is lossless; write it again"))
}

/// Encodes a picture:
///
/// - PNG: 8 or 16 bits as in the frame, ICC in iCCP, EXIF in eXIf, text in tEXt or iTXt, resolution in pHYs.
/// - JPEG: 8 bits, 4:4:4, ICC in APP2, EXIF with the parameters in APP1, comment in COM, resolution in JFIF.
/// - WebP: 8 bits, lossy or lossless, ICC and EXIF chunks.
/// - GIF: 256 colours.
/// - TIFF: 8 or 16 bits, ICC, EXIF, resolution, uncompressed, all pages.
/// - BMP: 8 bits, with alpha if the frame has it.
///
/// Grey pictures have one channel in PNG, JPEG and, without alpha, TIFF. 16-bit samples are rounded to 8 where needed. [`Picture::unsupported_by`] lists what a format cannot store.
///
/// Errors: transparency in a JPEG, a side longer than the format allows, EXIF that is too large for JPEG.
pub fn encode(picture: &Picture, format: PictureFormat, options: &PictureOptions) -> Result<Vec<u8>> {
    let frame = &picture.frame;
    let filled = frame.width * frame.height * frame.channels;
    if frame.width * frame.height == 0 || !matches!(frame.channels, 3 | 4) || sample_count(&frame.samples) != filled {
        return Err(Error::failed(format!(
            "invalid frame: {}x{} with {} channels and {} samples",
            frame.width,
            frame.height,
            frame.channels,
            sample_count(&frame.samples)
        )));
    }
    check_size(format, (frame.width, frame.height))?;
    if !picture.pages.is_empty() && format != PictureFormat::Tiff {
        let (pages, name) = (picture.pages.len() + 1, format.name());
        return Err(Error::usage(format!("there are {pages} pages, and a {name} holds one; use .tiff")));
    }
    match format {
        PictureFormat::Png => png_out::encode(picture),
        PictureFormat::Jpeg => jpeg_out::encode(picture, options.quality),
        PictureFormat::Gif => gif(frame),
        PictureFormat::Tiff => tiff::encode(picture),
        PictureFormat::Bmp => bmp(frame),
        PictureFormat::WebP => webp(picture, options),
    }
}

/// Checks that a format can store a picture of this width and height.
///
/// Errors: a side that is longer than the format allows; more than the 4 GiB of a TIFF or BMP.
pub fn check_size(format: PictureFormat, (width, height): (usize, usize)) -> Result<()> {
    let (name, largest) = (format.name(), max_side(format));
    if width.max(height) > largest {
        return Err(Error::usage(format!(
            "{name} allows at most {largest} pixels per side, got {width}x{height}; use .png"
        )));
    }
    let bytes = (width as u64).saturating_mul(height as u64).saturating_mul(3);
    if matches!(format, PictureFormat::Tiff | PictureFormat::Bmp) && bytes > u64::from(u32::MAX) {
        return Err(Error::usage(format!("{name} allows at most 4 GiB, got {width}x{height} pixels; use .png")));
    }
    Ok(())
}

fn max_side(format: PictureFormat) -> usize {
    match format {
        PictureFormat::Jpeg | PictureFormat::Gif => 65535,
        PictureFormat::WebP => 16383,
        PictureFormat::Png | PictureFormat::Tiff | PictureFormat::Bmp => i32::MAX as usize,
    }
}

fn sample_count(samples: &Samples) -> usize {
    match samples {
        Samples::U8(s) => s.len(),
        Samples::U16(s) => s.len(),
    }
}

/// Quantizes to 256 colours with NeuQuant; up to 256 colours are exact. Alpha of at least 0.5 is opaque.
fn gif(frame: &Frame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let pixels = palette_pixels(frame);
    let (width, height) = (frame.width as u32, frame.height as u32);
    let encoded =
        GifEncoder::new_with_speed(&mut bytes, PALETTE_SPEED).encode(&pixels, width, height, ExtendedColorType::Rgba8);
    encoded.map_err(|e| Error::failed(format!("encoding GIF: {e}")))?;
    Ok(bytes)
}

fn bmp(frame: &Frame) -> Result<Vec<u8>> {
    let (mut bytes, samples) = (Vec::new(), eight_bits(&frame.samples));
    let color = if frame.channels == 4 { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    let encoded = BmpEncoder::new(&mut bytes).encode(&samples, frame.width as u32, frame.height as u32, color);
    encoded.map_err(|e| Error::failed(format!("encoding BMP: {e}")))?;
    Ok(bytes)
}

fn webp(picture: &Picture, options: &PictureOptions) -> Result<Vec<u8>> {
    let frame = &picture.frame;
    let failed = |why: String| Error::failed(format!("encoding WebP: {why}"));
    let mut config = webp::WebPConfig::new().map_err(|()| failed("libwebp refuses its own defaults".into()))?;
    config.lossless = options.lossless.into();
    config.exact = options.lossless.into();
    config.quality = f32::from(options.quality.min(100));
    let samples = eight_bits(&frame.samples);
    let layout = if frame.channels == 4 { webp::PixelLayout::Rgba } else { webp::PixelLayout::Rgb };
    let encoder = webp::Encoder::new(&samples, layout, frame.width as u32, frame.height as u32);
    let coded = encoder.encode_advanced(&config).map_err(|e| failed(format!("{e:?}")))?;
    Ok(container(&coded, picture))
}

/// Wraps libwebp's output in the extended layout (RFC 9649 §2.7) if there is metadata.
fn container(coded: &[u8], picture: &Picture) -> Vec<u8> {
    let exif = exif::with_parameters(picture);
    // The profile of a grey picture does not fit RGB.
    let icc = picture.icc.as_ref().filter(|_| !picture.grey);
    if icc.is_none() && exif.is_none() {
        return coded.to_vec();
    }
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let padding = data.len() % 2;
        [name, &(data.len() as u32).to_le_bytes()[..], data, &[0][..padding]].concat()
    };
    let frame = &picture.frame;
    let flags = u32::from(icc.is_some()) << 5 | u32::from(frame.channels == 4) << 4 | u32::from(exif.is_some()) << 3;
    let size = |n: usize| (n as u32 - 1).to_le_bytes();
    let header = [&flags.to_le_bytes()[..], &size(frame.width)[..3], &size(frame.height)[..3]].concat();
    let mut body = [b"WEBP".to_vec(), chunk(b"VP8X", &header)].concat();
    body.extend(icc.iter().flat_map(|icc| chunk(b"ICCP", icc)));
    let mut rest = &coded[12..];
    // libwebp writes an extended header for lossy images with alpha. The header above replaces it.
    while let Some(([name @ .., l0, l1, l2, l3], tail)) = rest.split_first_chunk::<8>() {
        let length = (u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize).next_multiple_of(2).min(tail.len());
        if name != b"VP8X" {
            body.extend(&rest[..8 + length]);
        }
        rest = &tail[length..];
    }
    body.extend(exif.iter().flat_map(|exif| chunk(b"EXIF", exif)));
    chunk(b"RIFF", &body)
}
