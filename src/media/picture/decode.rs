//! Decodes pictures.

use std::{
    io::{BufReader, Cursor, Read},
    path::Path,
};

use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageReader, Limits,
    codecs::{gif::GifDecoder, tiff::TiffDecoder, webp::WebPDecoder},
};

use super::{Picture, jpeg};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::format::PictureFormat,
    tensor::{Frame, Samples},
};

/// Maximum size of a decoded picture in bytes. A small file can claim any size.
const MEMORY_LIMIT: u64 = 4 << 30;

/// Reads a picture. The content decides the format, not the name. Of an animation, only the first frame is read.
///
/// Errors: a file that is unreadable, empty, not a picture, damaged, truncated, or more than 4 GiB when decoded.
pub fn read(path: &Path) -> Result<Picture> {
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|e| Error::io("reading", path, &e))?;
    decode(&bytes).at(path.display())
}

/// Returns (width, height) of a picture. Reads only the header.
///
/// Errors: a file that is unreadable or not a picture, or a damaged header.
pub fn size(path: &Path) -> Result<(usize, usize)> {
    let reader = open_regular(path).and_then(|file| ImageReader::new(BufReader::new(file)).with_guessed_format());
    let size = reader.map_err(|e| Error::io("reading", path, &e))?.into_dimensions();
    let broken = |e| Error::failed(format!("{}: the picture is damaged or truncated ({e})", path.display()));
    size.map(|(width, height)| (width as usize, height as usize)).map_err(broken)
}

/// Decodes a picture from memory. See [`read`].
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    if bytes.is_empty() {
        return Err(Error::failed("the file is empty"));
    }
    let Some(format) = PictureFormat::of_content(bytes) else {
        return Err(Error::failed("is not a picture this program reads (PNG, JPEG, WebP, GIF, TIFF, BMP)"));
    };
    let broken = |why: String| {
        Error::failed(format!("the {} is damaged or truncated ({why}); get a complete copy of the file", format.name()))
    };
    let (mut picture, space) = match format {
        PictureFormat::Png => (png(bytes).map_err(broken)?, *b"RGB "),
        PictureFormat::Jpeg => {
            let components = jpeg::components(bytes).map_err(|why| broken(why.into()))?;
            let space = if components == 4 { *b"CMYK" } else { *b"RGB " };
            (with_image_crate(format, bytes).map_err(broken)?, space)
        }
        _ => (with_image_crate(format, bytes).map_err(broken)?, *b"RGB "),
    };
    drop_other_profiles(&mut picture, space);
    if is_animated(format, bytes) {
        picture.left_out.push("all frames of the animation but the first".into());
    }
    Ok(picture)
}

/// Whether a picture file has more than one frame. A damaged file counts the frames that can be read.
pub(crate) fn is_animated(format: PictureFormat, bytes: &[u8]) -> bool {
    let bytes = Cursor::new(bytes);
    match format {
        PictureFormat::Gif => GifDecoder::new(bytes).is_ok_and(|d| d.into_frames().nth(1).is_some()),
        PictureFormat::WebP => WebPDecoder::new(bytes).is_ok_and(|d| d.has_animation()),
        PictureFormat::Png => png::Decoder::new(bytes)
            .read_info()
            .is_ok_and(|r| r.info().animation_control.is_some_and(|a| a.num_frames > 1)),
        _ => false,
    }
}

/// Drops an ICC profile that is not for RGB values, and reports it.
fn drop_other_profiles(picture: &mut Picture, space: [u8; 4]) {
    let profile = picture.icc.as_deref().map(|icc| icc.get(16..20).unwrap_or_default().to_vec());
    if profile.as_ref().is_some_and(|p| p != b"RGB ") {
        picture.icc = None;
        picture.left_out.push("the colour profile, which is not for RGB".into());
    }
    if &space == b"CMYK" {
        picture.left_out.push("the CMYK inks (converted to RGB without a profile)".into());
    }
}

/// Decodes PNG with the png crate, which gives access to text and ancillary chunks.
fn png(bytes: &[u8]) -> Result<Picture, String> {
    let text = |e: png::DecodingError| e.to_string();
    let limits = png::Limits { bytes: MEMORY_LIMIT as usize };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(text)?;
    let size = reader.output_buffer_size().filter(|&n| n as u64 <= MEMORY_LIMIT);
    let mut samples = vec![0; size.ok_or("more than 4 GiB decoded")?];
    let out = reader.next_frame(&mut samples).map_err(text)?;
    let animated = reader.info().animation_control.is_some_and(|a| a.num_frames > 1);
    if !animated {
        reader.finish().map_err(text)?;
    }
    samples.truncate(out.buffer_size());
    let samples = match out.bit_depth {
        png::BitDepth::Sixteen => Samples::U16(samples.as_chunks().0.iter().map(|b| u16::from_be_bytes(*b)).collect()),
        _ => Samples::U8(samples),
    };
    let frame = expand(out.width, out.height, out.color_type.samples(), samples);
    let mut picture = Picture::from(frame);
    let info = reader.info();
    picture.icc = info.icc_profile.as_ref().map(|b| b.to_vec());
    picture.exif = info.exif_metadata.as_ref().map(|b| strip_exif_prefix(b).to_vec());
    let plain = info.uncompressed_latin1_text.iter().map(|t| Ok((t.keyword.clone(), t.text.clone())));
    let packed = info.compressed_latin1_text.iter().map(|t| Ok((t.keyword.clone(), t.get_text()?)));
    let utf8 = info.utf8_text.iter().map(|t| Ok((t.keyword.clone(), t.get_text()?)));
    picture.text = plain.chain(packed).chain(utf8).collect::<Result<_, _>>().map_err(text)?;
    // A gamma of 1/2.2 adds nothing to sRGB. An ICC profile replaces it.
    let plain_gamma = info.srgb.is_some() || info.icc_profile.is_some();
    let gamma = info.gama_chunk.filter(|g| !plain_gamma && g.into_scaled().abs_diff(45_455) > 100);
    for (found, what) in [
        (info.coding_independent_code_points.is_some(), "its colour space by code points (cICP)"),
        (gamma.is_some(), "its gamma"),
        (info.pixel_dims.is_some(), "pixels per metre"),
    ] {
        picture.left_out.extend(found.then(|| what.to_string()));
    }
    Ok(picture)
}

/// Decodes every other format with the image crate.
fn with_image_crate(format: PictureFormat, bytes: &[u8]) -> Result<Picture, String> {
    let text = |e: image::ImageError| e.to_string();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MEMORY_LIMIT);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.decoder());
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(text)?;
    if decoder.total_bytes() > MEMORY_LIMIT {
        return Err("more than 4 GiB decoded".into());
    }
    // The allocation limit also applies to the ICC profile of a TIFF. A new decoder without the limit reads it.
    let icc = match format {
        PictureFormat::Tiff => TiffDecoder::new(Cursor::new(bytes)).and_then(|mut d| d.icc_profile()).map_err(text)?,
        _ => decoder.icc_profile().map_err(text)?,
    };
    let exif = decoder.exif_metadata().map_err(text)?.map(|e| strip_exif_prefix(&e).to_vec());
    // Malformed XMP does not affect the picture.
    let xmp = decoder.xmp_metadata().ok().flatten().is_some();
    let image = DynamicImage::from_decoder(decoder).map_err(text)?;
    let (width, height) = (image.width(), image.height());
    // The decoder always returns alpha for GIF, even if no palette entry is transparent.
    let opaque = format == PictureFormat::Gif && image.to_rgba8().pixels().all(|p| p[3] == u8::MAX);
    let alpha = image.color().has_alpha() && !opaque;
    let deep = image.color().bytes_per_pixel() / image.color().channel_count() > 1;
    let samples = match (deep, alpha) {
        (false, false) => Samples::U8(image.into_rgb8().into_raw()),
        (false, true) => Samples::U8(image.into_rgba8().into_raw()),
        (true, false) => Samples::U16(image.into_rgb16().into_raw()),
        (true, true) => Samples::U16(image.into_rgba16().into_raw()),
    };
    let left_out = xmp.then(|| "XMP metadata".to_string()).into_iter().collect();
    Ok(Picture { icc, exif, left_out, ..Picture::from(expand(width, height, if alpha { 4 } else { 3 }, samples)) })
}

/// Strips the prefix `Exif\0\0`, which JPEG and some WebP writers add, from an EXIF block.
fn strip_exif_prefix(exif: &[u8]) -> &[u8] {
    exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)
}

/// Expands interleaved samples of 1 (grey), 2 (grey, alpha), 3 or 4 channels to RGB or RGBA.
fn expand(width: u32, height: u32, channels: usize, samples: Samples) -> Frame {
    fn grey<T: Copy>(samples: &[T], channels: usize) -> Vec<T> {
        samples.chunks_exact(channels).flat_map(|p| [p[0], p[0], p[0]].into_iter().chain(p.get(1).copied())).collect()
    }
    let samples = match samples {
        Samples::U8(s) if channels < 3 => Samples::U8(grey(&s, channels)),
        Samples::U16(s) if channels < 3 => Samples::U16(grey(&s, channels)),
        rgb => rgb,
    };
    let channels = if channels.is_multiple_of(2) { 4 } else { 3 };
    Frame { width: width as usize, height: height as usize, channels, samples }
}
