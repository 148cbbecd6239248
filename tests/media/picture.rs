use std::{collections::BTreeMap, fs, path::Path};

use crescendo::{
    media::{
        Picture, PictureFormat, PictureOptions,
        picture::{decode, encode, read, write},
    },
    tensor::{Frame, Samples},
};
use serde_json::Value;

use crate::{data, report};

fn samples(frame: &Frame) -> Vec<i32> {
    match &frame.samples {
        Samples::U8(s) => s.iter().map(|&v| v.into()).collect(),
        Samples::U16(s) => s.iter().map(|&v| v.into()).collect(),
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// Returns the orientation tag of a little-endian or big-endian EXIF block.
fn orientation(exif: &[u8]) -> u64 {
    let little = exif.starts_with(b"II");
    let at = exif.windows(2).position(|w| w == if little { [0x12, 0x01] } else { [0x01, 0x12] }).unwrap();
    exif[at + if little { 8 } else { 9 }].into()
}

#[test]
fn pictures_read_as_in_pillow() {
    let facts: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(data("facts.json")).unwrap()).unwrap();
    let mut faults = Vec::new();
    for (name, fact) in &facts {
        let picture = match read(&data(name)) {
            Ok(picture) => picture,
            Err(e) => {
                faults.push(e.to_string());
                continue;
            }
        };
        let raw = fs::read(data(&format!("{name}.raw"))).unwrap();
        let (bits, wanted): (_, Vec<i32>) = match fact["bits"].as_u64() {
            Some(16) => (16, raw.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()),
            _ => (8, raw.iter().map(|&v| v.into()).collect()),
        };
        // Decoders of lossy formats differ in rounding; every other pixel is exact.
        let tolerance = if name.ends_with("jpg") && name != "wrong_name.jpg" || name == "lossy.webp" { 3 } else { 0 };
        let ours = samples(&picture.frame);
        let worst = ours.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).max().unwrap();
        let frame = &picture.frame;
        let depth = if matches!(frame.samples, Samples::U16(_)) { 16 } else { 8 };
        let shape = (frame.width, frame.height, frame.channels as u64, depth, ours.len());
        let (grey, cmyk, moving) = (name == "grey.jpg", name == "cmyk.jpg", name.starts_with("moving"));
        let icc = fact["icc"].as_str().unwrap_or_default().to_owned();
        let checks = [
            ("shape", shape == (16, 12, fact["channels"].as_u64().unwrap(), bits, wanted.len())),
            ("pixels", worst <= tolerance),
            ("icc", picture.icc.clone().unwrap_or_default() == unhex(&icc)),
            ("exif", picture.exif.as_deref().map_or(0, orientation) == fact["orientation"].as_u64().unwrap_or(0)),
            ("left out", picture.left_out.is_empty() != (cmyk || moving)),
            ("grey", picture.grey == (grey || name == "bits.png" || name == "grey_alpha16.png")),
            ("pages", picture.pages.len() == if name == "pages.tiff" { 2 } else { 0 }),
        ];
        let bad: Vec<_> = checks.iter().filter(|c| !c.1).map(|c| c.0).collect();
        if !bad.is_empty() {
            faults.push(format!("{name}: {bad:?}; {shape:?}, worst {worst}, {:?}", picture.left_out));
        }
    }
    report(&faults);
    let text = read(&data("rgba.png")).unwrap().text;
    let wanted = [("parameters", "a lake\nSteps: 50, Seed: 42"), ("Author", "Zoë"), ("Title", "山の湖")];
    assert_eq!(text, wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn losses_of_a_picture_are_named() {
    let png = |change: fn(&mut png::Info<'static>)| {
        let mut info = png::Info::with_size(2, 2);
        (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        change(&mut info);
        let mut bytes = vec![];
        let writer = png::Encoder::with_info(&mut bytes, info).unwrap().write_header();
        writer.unwrap().write_image_data(&[9; 12]).unwrap();
        bytes
    };
    let mut xmp = fs::read(data("rgb.jpg")).unwrap();
    let packet = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"/>";
    let segment = [&[0xff, 0xe1][..], &(packet.len() as u16 + 2).to_be_bytes(), packet].concat();
    xmp.splice(2..2, segment);
    let dims = |i: &mut png::Info<'static>| {
        i.pixel_dims = Some(png::PixelDimensions { xppu: 3937, yppu: 3937, unit: png::Unit::Meter });
    };
    let shape = |i: &mut png::Info<'static>| {
        i.pixel_dims = Some(png::PixelDimensions { xppu: 1, yppu: 2, unit: png::Unit::Unspecified });
    };
    let rows: [(&str, Vec<u8>, &[&str]); 6] = [
        ("plain", png(|_| ()), &[]),
        ("density", png(dims), &[]),
        ("shape", png(shape), &["the shape of its pixels"]),
        ("gamma", png(|i| i.source_gamma = Some(png::ScaledFloat::new(1.0))), &["its gamma"]),
        ("usual gamma", png(|i| i.source_gamma = Some(png::ScaledFloat::new(0.45455))), &[]),
        ("xmp", xmp, &["XMP metadata"]),
    ];
    let mut faults = vec![];
    for (name, bytes, wanted) in rows {
        let found = decode(&bytes).unwrap().left_out;
        if found != wanted {
            faults.push(format!("{name}: {found:?}, wanted {wanted:?}"));
        }
    }
    report(&faults);
}

/// A smooth picture with all supported metadata. The ICC profile needs two JPEG segments.
fn picture_with_metadata(channels: usize, deep: bool) -> Picture {
    let (width, height) = (37, 23);
    let value = |i: usize| {
        let (x, y, k) = (i / channels % width, i / channels / width, i % channels);
        if k == 3 { 255 - 5 * x } else { 5 * x + 3 * y * (k % 2) }
    };
    let count = width * height * channels;
    let samples = if deep {
        Samples::U16((0..count).map(|i| (value(i) * 257 + 100).min(65535) as u16).collect())
    } else {
        Samples::U8((0..count).map(|i| value(i) as u8).collect())
    };
    let mut icc: Vec<u8> = (0..100_001_u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
    icc[16..20].copy_from_slice(b"RGB ");
    Picture {
        icc: Some(icc),
        exif: read(&data("rgb.jpg")).unwrap().exif,
        text: vec![("parameters".into(), "湖\nSteps: 50".into()), ("Comment".into(), "café".into())],
        ..Picture::from(Frame { width, height, channels, samples })
    }
}

#[test]
fn written_pictures_read_back_equal() {
    let lossless = PictureOptions { lossless: true, ..PictureOptions::default() };
    let fine = PictureOptions { quality: 95, ..PictureOptions::default() };
    let rows = [
        ("png", PictureFormat::Png, 3, false, &fine, 0),
        ("png alpha", PictureFormat::Png, 4, false, &fine, 0),
        ("png 16", PictureFormat::Png, 3, true, &fine, 0),
        ("png 16 alpha", PictureFormat::Png, 4, true, &fine, 0),
        ("jpeg", PictureFormat::Jpeg, 3, false, &fine, 8),
        ("jpeg 16", PictureFormat::Jpeg, 3, true, &fine, 8),
        ("webp", PictureFormat::WebP, 3, false, &fine, 12),
        ("webp alpha", PictureFormat::WebP, 4, false, &fine, 12),
        ("webp lossless", PictureFormat::WebP, 3, false, &lossless, 0),
        ("webp lossless alpha", PictureFormat::WebP, 4, false, &lossless, 0),
        ("tiff", PictureFormat::Tiff, 3, false, &fine, 0),
        ("tiff alpha", PictureFormat::Tiff, 4, false, &fine, 0),
        ("tiff 16", PictureFormat::Tiff, 3, true, &fine, 0),
        ("tiff 16 alpha", PictureFormat::Tiff, 4, true, &fine, 0),
        ("bmp", PictureFormat::Bmp, 3, false, &fine, 0),
        ("bmp alpha", PictureFormat::Bmp, 4, false, &fine, 0),
        ("gif", PictureFormat::Gif, 3, false, &fine, 40),
    ];
    let mut faults = Vec::new();
    for (name, format, channels, deep, options, tolerance) in rows {
        let before = picture_with_metadata(channels, deep);
        let after = encode(&before, format, options).and_then(|bytes| decode(&bytes));
        let after = match after {
            Ok(after) => after,
            Err(e) => {
                faults.push(format!("{name}: {e}"));
                continue;
            }
        };
        let scale = if deep && !matches!(format, PictureFormat::Png | PictureFormat::Tiff) { 257 } else { 1 };
        let theirs = samples(&after.frame);
        let worst = samples(&before.frame).iter().zip(&theirs).map(|(a, b)| (a / scale - b).abs()).max().unwrap();
        let kept = match format {
            PictureFormat::Png | PictureFormat::Jpeg => 2,
            PictureFormat::WebP | PictureFormat::Tiff => 1,
            _ => 0,
        };
        let text = &before.text[..kept];
        let named = |what: &str| before.unsupported_by(format).iter().any(|l| l.starts_with(what));
        let icc = after.icc == before.icc || named("the colour profile");
        // The parameters are added to the block of all formats but PNG.
        let exif = match format {
            PictureFormat::Png => after.exif == before.exif,
            _ => after.orientation() == before.orientation() && after.exif.is_some() || named("EXIF"),
        };
        if worst > tolerance || !icc || !exif || after.text.len() != text.len() {
            let sizes = (after.icc.map(|v| v.len()), after.exif.map(|v| v.len()), after.text);
            faults.push(format!("{name}: worst {worst}, {sizes:?}"));
        } else if text.iter().any(|t| !after.text.contains(t)) || (kept < 2) != named("the text") {
            faults.push(format!("{name}: {:?}", after.text));
        }
    }
    report(&faults);
}

#[test]
fn an_extended_webp_sets_its_feature_flags() {
    // RFC 9649 §2.7.1: after the header of the file and of the chunk, bit 5 is ICC, bit 4 alpha, bit 3 EXIF.
    for (channels, icc, exif, flags) in
        [(3, true, true, 0x28), (4, true, true, 0x38), (4, false, true, 0x18), (3, true, false, 0x20)]
    {
        let mut picture = picture_with_metadata(channels, false);
        picture.text.clear();
        picture.icc = picture.icc.filter(|_| icc);
        picture.exif = picture.exif.filter(|_| exif);
        let bytes = encode(&picture, PictureFormat::WebP, &PictureOptions::default()).unwrap();
        assert_eq!((&bytes[12..16], bytes[20]), (&b"VP8X"[..], flags), "{channels} {icc} {exif}");
        assert_eq!(bytes.len(), 8 + u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize);
    }
}

/// Rows: format, whether it stores one channel. Grey pictures keep their channels, depth, transparency and profile.
#[test]
fn grey_pictures_are_stored_as_grey() {
    let mut faults = Vec::new();
    for (format, one) in [
        (PictureFormat::Png, true),
        (PictureFormat::Jpeg, true),
        (PictureFormat::Tiff, true),
        (PictureFormat::WebP, false),
        (PictureFormat::Bmp, false),
        (PictureFormat::Gif, false),
    ] {
        for (channels, deep) in [(3, false), (3, true), (4, false), (4, true)] {
            if channels == 4 && format == PictureFormat::Jpeg {
                continue;
            }
            let one = one && (channels == 3 || format == PictureFormat::Png);
            let mut picture = picture_with_metadata(channels, deep);
            picture.grey = true;
            picture.icc.as_mut().unwrap()[16..20].copy_from_slice(b"GRAY");
            match &mut picture.frame.samples {
                Samples::U8(s) => s.chunks_mut(channels).for_each(|p| [p[1], p[2]] = [p[0]; 2]),
                Samples::U16(s) => s.chunks_mut(channels).for_each(|p| [p[1], p[2]] = [p[0]; 2]),
            }
            let lossless = PictureOptions { lossless: true, quality: 100, ..PictureOptions::default() };
            let bytes = encode(&picture, format, &lossless).unwrap();
            let (read, stored) = (decode(&bytes).unwrap(), image::load_from_memory(&bytes).unwrap().color());
            let exact = matches!(format, PictureFormat::Png | PictureFormat::Tiff);
            let good = stored.has_color() != one
                && (!one || read.grey && read.icc == picture.icc)
                && (!exact || read.frame == picture.frame);
            if !good {
                faults
                    .push(format!("{format:?} {channels} {deep}: {stored:?}, grey {}, {:?}", read.grey, read.left_out));
            }
        }
    }
    report(&faults);
}

#[test]
fn pages_tags_and_resolution_of_a_tiff_are_kept() {
    let before = read(&data("pages.tiff")).unwrap();
    let shapes = |p: &Picture| {
        std::iter::once(p).chain(&p.pages).map(|p| (p.frame.channels, p.grey, p.orientation())).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&before), [(3, false, 6), (3, true, 6), (4, false, 6)]);
    assert!((before.density.unwrap().x * 0.0254 - 300.0).abs() < 0.01);
    let bytes = encode(&before, PictureFormat::Tiff, &PictureOptions::default()).unwrap();
    let after = decode(&bytes).unwrap();
    assert_eq!(shapes(&after), shapes(&before));
    let frames = |p: &Picture| std::iter::once(p).chain(&p.pages).map(|p| p.frame.clone()).collect::<Vec<_>>();
    assert!(frames(&after) == frames(&before) && after.density == before.density);
    for text in ["Crescendo", "2024:05:06 07:08:09"] {
        for block in [before.exif.as_deref().unwrap(), &bytes] {
            assert!(block.windows(text.len()).any(|w| w == text.as_bytes()), "{text}");
        }
    }
    let error = encode(&before, PictureFormat::Png, &PictureOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "there are 3 pages, and a PNG holds one; use .tiff");
}

/// Rows: format, and whether it keeps comment, resolution and parameters.
#[test]
fn a_jpeg_keeps_comment_resolution_and_quantisation() {
    let source = read(&data("comment.jpg")).unwrap();
    assert_eq!(source.text, [("Comment".to_owned(), "a café".to_owned())]);
    assert_eq!((source.jpeg_quality, read(&data("rgb.jpg")).unwrap().jpeg_quality), (Some(98), Some(95)));
    let mut faults = Vec::new();
    for prompt in ["a lake\nSteps: 50, Seed: 42", "日本語\nSteps: 4"] {
        let mut picture = source.clone();
        picture.text.push(("parameters".into(), prompt.into()));
        for (format, comment, density, parameters) in [
            (PictureFormat::Png, true, true, true),
            (PictureFormat::Jpeg, true, true, true),
            (PictureFormat::Tiff, false, true, true),
            (PictureFormat::WebP, false, false, true),
            (PictureFormat::Gif, false, false, false),
            (PictureFormat::Bmp, false, false, false),
        ] {
            let after = decode(&encode(&picture, format, &PictureOptions::default()).unwrap()).unwrap();
            let has = |keyword: &str, text: &str| after.text.contains(&(keyword.to_owned(), text.to_owned()));
            let dpi = after.density.map(|d| (d.x * 0.0254).round());
            let found = (has("Comment", "a café"), dpi == Some(300.0), has("parameters", prompt));
            if found != (comment, density, parameters) {
                faults.push(format!("{format:?}: {found:?}, {:?}", after.text));
            }
        }
        // The parameters replace those of the source.
        let jpeg = |picture: &Picture| encode(picture, PictureFormat::Jpeg, &PictureOptions::default()).unwrap();
        let mut again = decode(&jpeg(&picture)).unwrap();
        again.text.retain(|(keyword, _)| keyword != "parameters");
        again.text.push(("parameters".into(), "new\nSteps: 1".into()));
        let read = decode(&jpeg(&again)).unwrap();
        assert!(read.text.iter().any(|(_, text)| text == "new\nSteps: 1") && read.text.len() == 2, "{:?}", read.text);
    }
    // 4:4:4: each component has one sample per pixel.
    let bytes = encode(&source, PictureFormat::Jpeg, &PictureOptions::default()).unwrap();
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    assert_eq!([bytes[frame + 11], bytes[frame + 14], bytes[frame + 17]], [0x11; 3]);
    report(&faults);
}

#[test]
fn lower_quality_gives_smaller_files() {
    for format in [PictureFormat::Jpeg, PictureFormat::WebP] {
        let size = |quality| {
            let options = PictureOptions { quality, ..PictureOptions::default() };
            encode(&picture_with_metadata(3, false), format, &options).unwrap().len()
        };
        assert!(size(100) > size(80) && size(80) > size(20), "{format:?}: {} {} {}", size(100), size(80), size(20));
    }
}

#[test]
fn invalid_files_give_a_one_line_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    let mut expect = |name: &str, bytes: &[u8], wanted: &str| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        match read(&path) {
            Ok(_) => faults.push(format!("{name}: was read")),
            Err(e) if e.to_string().contains(wanted) && e.to_string().contains(name) => {}
            Err(e) => faults.push(format!("{name}: {e}")),
        }
    };
    expect("empty.png", b"", "the file is empty");
    expect("palette.tif", &fs::read(data("palette.tif")).unwrap(), "this kind of TIFF is not read (palette, 8 bits");
    expect("text.jpg", b"This is not a picture at all.", "is not a picture this program reads");
    for name in
        ["rgb.jpg", "progressive.jpg", "rgba.png", "rgb16.png", "lossy.webp", "lossless.webp", "rgb.tiff", "rgb.bmp"]
    {
        let bytes = fs::read(data(name)).unwrap();
        for part in [2, 3] {
            expect(&format!("cut{part}-{name}"), &bytes[..bytes.len() * (part - 1) / part], "damaged or truncated");
        }
        expect(&format!("head-{name}"), &bytes[..16.min(bytes.len())], "damaged or truncated");
    }
    let mut huge = fs::read(data("rgba.png")).unwrap();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    expect("huge.png", &huge, "damaged or truncated");
    let missing = read(&folder.path().join("missing.png")).unwrap_err().to_string();
    assert!(
        missing.starts_with("reading ") && missing.ends_with("missing.png: No such file or directory; check the path")
    );
    report(&faults);
}

/// Returns the file names in a folder, including hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_written_atomically() {
    let folder = tempfile::tempdir().unwrap();
    let (picture, options) = (picture_with_metadata(3, false), PictureOptions::default());
    let path = folder.path().join("a.png");
    let size = write(&path, &picture, &options).unwrap();
    assert_eq!((size, names(folder.path())), (fs::metadata(&path).unwrap().len(), vec!["a.png".to_owned()]));

    let rows = [
        ("a.png", 3, "already exists; choose another name or pass --overwrite"),
        ("b.jpg", 4, "JPEG does not support transparency; use .png or .webp"),
        ("b.xyz", 3, "a picture cannot be written with this extension; use .png, .jpg, .webp, .gif, .tiff or .bmp"),
        ("missing/b.png", 3, "does not exist; create it"),
        (".", 3, "a picture cannot be written with this extension"),
    ];
    for (name, channels, wanted) in rows {
        let error = write(&folder.path().join(name), &picture_with_metadata(channels, false), &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{name}: {error}");
        assert_eq!(names(folder.path()), ["a.png"], "{name}");
    }
    // Not even root can create files there.
    let error = write(Path::new("/sys/a.png"), &picture, &options).unwrap_err().to_string();
    assert!(error.starts_with("writing /sys/a.png: ") && !error.contains("part"), "{error}");
    fs::create_dir(folder.path().join("d.png")).unwrap();
    let error = write(&folder.path().join("d.png"), &picture, &options).unwrap_err().to_string();
    assert!(error.ends_with("is a folder; name a file in it"), "{error}");

    let other = picture_with_metadata(4, false);
    write(&path, &other, &PictureOptions { overwrite: true, ..options }).unwrap();
    assert_eq!(read(&path).unwrap().frame, other.frame);
}
