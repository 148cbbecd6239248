//! Decodes pictures.

use std::{
    borrow::Cow,
    io::{Cursor, Read},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, codecs::tiff::TiffDecoder};

use super::{
    COMMENT, PARAMETERS, Picture,
    exif::{self, without_prefix},
    fault::{Fault, MEMORY_LIMIT},
    jpeg,
    png_in::{self, is_neutral},
    tiff::{self, Page},
};
use crate::{
    error::{At, Error, Result},
    files::open_regular,
    media::{animated::is_animated, format::PictureFormat, riff},
    tensor::{Frame, Samples, check_room},
};

/// The quality of an enhanced JPEG or WebP, unless a JPEG source is finer.
pub(crate) const JPEG_QUALITY: u8 = 95;

/// Reads a picture. The content decides the format, not the name. Of an animation, only the first frame is read.
///
/// Errors: a file that is unreadable, empty, not a picture, damaged, truncated, or more than 4 GiB when decoded.
pub fn read(path: &Path) -> Result<Picture> {
    let mut bytes = Vec::new();
    let read = open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|e| Error::io("reading", path, &e))?;
    decode(&bytes).at(path.display())
}

/// Decodes a picture from memory. See [`read`].
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    decode_within(bytes, MEMORY_LIMIT)
}

/// As [`decode`], with another limit than 4 GiB for the bytes of all decoded pages.
pub fn decode_within(bytes: &[u8], limit: u64) -> Result<Picture> {
    if bytes.is_empty() {
        return Err(Error::failed("the file is empty"));
    }
    let Some(format) = PictureFormat::of_content(bytes) else {
        return Err(Error::failed("is not a picture this program reads (PNG, JPEG, WebP, GIF, TIFF, BMP)"));
    };
    let metadata = [b"ICCP", b"EXIF", b"XMP "];
    if format == PictureFormat::WebP && riff::incomplete(bytes).is_some_and(|name| metadata.contains(&&name)) {
        // The decoder would take memory for all that the chunk claims.
        return Err(Fault::Damaged("the metadata ends early".into()).error(format));
    }
    let picture = match format {
        PictureFormat::Png => png_in::decode(bytes, limit),
        PictureFormat::Jpeg => jpeg(bytes, limit),
        PictureFormat::Tiff => tiff(bytes, limit),
        _ => with_image_crate(format, bytes, limit),
    };
    let mut picture = picture.map_err(|fault| fault.error(format))?;
    complete(&mut picture);
    if is_animated(format, Cursor::new(bytes)) {
        picture.left_out.push("all frames of the animation but the first".into());
    }
    Ok(picture)
}

/// Takes the parameters of the EXIF block as a text, and drops profiles of another colour space.
pub(super) fn complete(picture: &mut Picture) {
    if let Some(text) = picture.exif.as_deref().and_then(exif::parameters)
        && picture.text.iter().all(|(keyword, _)| keyword != PARAMETERS)
    {
        picture.text.push((PARAMETERS.into(), text));
    }
    drop_other_profile(picture);
    picture.pages.iter_mut().for_each(drop_other_profile);
}

/// Drops an ICC profile that is not for RGB values, or not for grey values, and reports it.
fn drop_other_profile(picture: &mut Picture) {
    let (space, name) = if picture.grey { (b"GRAY", "grey") } else { (b"RGB ", "RGB") };
    if picture.icc.as_deref().is_some_and(|icc| icc.get(16..20) != Some(space)) {
        picture.icc = None;
        picture.left_out.push(format!("the colour profile, which is not for {name}"));
    }
}

/// Decodes a JPEG, with the segments that the decoder does not return.
fn jpeg(bytes: &[u8], limit: u64) -> Result<Picture, Fault> {
    let header = jpeg::header(bytes).map_err(|why| Fault::Damaged(why.into()))?;
    let mut picture = with_image_crate(PictureFormat::Jpeg, bytes, limit)?;
    if header.components == 4 {
        picture.left_out.push("the CMYK inks (converted to RGB without a profile)".into());
    }
    picture.jpeg_quality = Some(header.quality(JPEG_QUALITY));
    picture.density = header.density;
    picture.text.extend(header.comments.into_iter().map(|text| (COMMENT.into(), text)));
    Ok(picture)
}

/// Decodes all pages of a TIFF.
fn tiff(bytes: &[u8], limit: u64) -> Result<Picture, Fault> {
    let pages = tiff::pages(bytes);
    let [first, rest @ ..] = pages.as_slice() else {
        return Err(match tiff::has_directory(bytes) {
            true => Fault::Unsupported("it has only reduced copies of a picture, as the raw files of cameras".into()),
            false => Fault::Damaged("it has no directory".into()),
        });
    };
    // The decoder reads the first page of a file, so that every page is decoded with its own header.
    let (mut file, mut left) = (Cow::Borrowed(bytes), limit);
    let mut page = |page: &Page| {
        if !page.complete {
            return Err(Fault::Damaged("values of a page lie outside of the file".into()));
        }
        if !bytes.starts_with(&page.header) {
            file.to_mut()[..page.header.len()].copy_from_slice(&page.header);
        } else if let Cow::Owned(file) = &mut file {
            file[..page.header.len()].copy_from_slice(&page.header);
        }
        let decoded = with_image_crate(PictureFormat::Tiff, &file, left).map_err(|fault| match fault {
            Fault::Unsupported(_) => Fault::Unsupported(page.kind.clone()),
            other => other,
        })?;
        let sample = if decoded.frame.is_deep() { 2 } else { 1 };
        left =
            left.saturating_sub((decoded.frame.width * decoded.frame.height * decoded.frame.channels * sample) as u64);
        Ok(Picture { exif: page.exif.clone(), density: page.density, ..decoded })
    };
    let first = page(first)?;
    let rest: Result<Vec<_>, Fault> = rest.iter().map(page).collect();
    Ok(Picture { pages: rest?, ..first })
}

/// Decodes every other format with the image crate.
fn with_image_crate(format: PictureFormat, bytes: &[u8], limit: u64) -> Result<Picture, Fault> {
    let fault = |e: image::ImageError| Fault::of(&e);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.decoder());
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fault)?;
    if decoder.total_bytes() > limit {
        return Err(Fault::TooLarge);
    }
    // The allocation limit also applies to the ICC profile of a TIFF. A new decoder without the limit reads it.
    let icc = match format {
        PictureFormat::Tiff => TiffDecoder::new(Cursor::new(bytes)).and_then(|mut d| d.icc_profile()).map_err(fault)?,
        _ => decoder.icc_profile().map_err(fault)?,
    };
    let exif = decoder.exif_metadata().map_err(fault)?.map(|e| without_prefix(&e).to_vec());
    // Malformed XMP does not affect the picture.
    let xmp = decoder.xmp_metadata().ok().flatten().is_some();
    // The buffer that the image crate allocates would abort the process where memory is short.
    check_room::<u8>(decoder.total_bytes() as usize).map_err(Fault::Memory)?;
    let image = DynamicImage::from_decoder(decoder).map_err(fault)?;
    let (width, height) = (image.width(), image.height());
    // The decoder always returns alpha for GIF, even if no palette entry is transparent.
    let opaque = match &image {
        DynamicImage::ImageRgba8(image) if format == PictureFormat::Gif => image.pixels().all(|p| p[3] == u8::MAX),
        _ => false,
    };
    let color = image.color();
    let alpha = color.has_alpha() && !opaque;
    let deep = color.bytes_per_pixel() / color.channel_count() > 1;
    check_room::<u8>(width as usize * height as usize * if deep { 8 } else { 4 }).map_err(Fault::Memory)?;
    let samples = match (deep, alpha) {
        (false, false) => Samples::U8(image.into_rgb8().into_raw()),
        (false, true) => Samples::U8(image.into_rgba8().into_raw()),
        (true, false) => Samples::U16(image.into_rgb16().into_raw()),
        (true, true) => Samples::U16(image.into_rgba16().into_raw()),
    };
    let left_out = xmp.then(|| "XMP metadata".to_string()).into_iter().collect();
    let frame = Frame { width: width as usize, height: height as usize, channels: if alpha { 4 } else { 3 }, samples };
    let palette = matches!(format, PictureFormat::Gif | PictureFormat::Bmp);
    let grey = !color.has_color() || palette && is_neutral(&frame);
    Ok(Picture { grey, icc, exif, left_out, ..frame.into() })
}
