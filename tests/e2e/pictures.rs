//! Pictures from the command line: orientation, pages, grey, metadata, sizes that are refused.

use std::{fs, path::Path, process::Stdio};

use image::{DynamicImage, ImageDecoder, ImageReader, metadata::Orientation};

use crate::{Bench, done, here, report, split};

const TWICE: &str = "--upscale 2 --filter nearest";

/// A picture as a viewer shows it.
fn shown(path: &Path) -> DynamicImage {
    let mut decoder = ImageReader::open(path).unwrap().with_guessed_format().unwrap().into_decoder().unwrap();
    let exif = decoder.exif_metadata().unwrap();
    let stored = decoder.orientation().unwrap();
    let orientation = exif.as_deref().and_then(Orientation::from_exif_chunk).unwrap_or(stored);
    let mut picture = DynamicImage::from_decoder(decoder).unwrap();
    picture.apply_orientation(orientation);
    picture
}

/// A TIFF of four colours with an orientation; Pillow's file with another value of the tag.
fn turned_tiff(orientation: u8) -> Vec<u8> {
    let mut bytes = fs::read(here("tests/data/media/pages.tiff")).unwrap();
    let tag = [0x12, 0x01, 3, 0, 1, 0, 0, 0];
    let at = bytes.windows(8).position(|w| w == tag).unwrap();
    bytes[at + 8] = orientation;
    // Only the first page.
    let first = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(bytes[first..first + 2].try_into().unwrap()));
    bytes[first + 2 + 12 * count..][..4].fill(0);
    bytes
}

/// All formats show the picture alike: they store the orientation, or the pixels are turned.
#[test]
fn every_orientation_is_shown_alike_in_every_format() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for orientation in 1..=8 {
        fs::write(bench.path("in.tif"), turned_tiff(orientation)).unwrap();
        let mut wanted = ImageReader::open(bench.path("in.tif")).unwrap().decode().unwrap();
        wanted.apply_orientation(Orientation::from_exif(orientation).unwrap());
        let (w, h) = (wanted.width() * 2, wanted.height() * 2);
        let wanted = wanted.resize_exact(w, h, image::imageops::FilterType::Nearest).to_rgb8();
        for to in ["tif", "png", "jpg", "webp", "bmp", "gif"] {
            let out = bench.path(&format!("out/{orientation}.{to}"));
            done(&bench.run(&format!("enhance in.tif -o {} {TWICE} --output-compression 100", out.display())));
            let found = shown(&out).to_rgb8();
            let lossless = matches!(to, "tif" | "png" | "bmp");
            let most = if lossless { 0 } else { 60 };
            let worst = found.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            let kept = ["Crescendo", "2024:05:06"]
                .map(|text| fs::read(&out).unwrap().windows(text.len()).any(|w| w == text.as_bytes()));
            let tags = [!matches!(to, "bmp" | "gif"); 2];
            if found.dimensions() != (w, h) || worst > Some(most) || kept != tags {
                bad.push(format!("{orientation} {to}: {:?} {worst:?} {kept:?}", found.dimensions()));
            }
        }
    }
    report(bad);
}

#[test]
fn all_pages_are_enhanced() {
    let bench = Bench::new();
    done(&bench.run(&format!("enhance {{media}}/pages.tiff -o out/a.tiff --verify {TWICE}")));
    let read = crescendo::media::picture::read(&bench.path("out/a.tiff")).unwrap();
    let pages: Vec<_> =
        std::iter::once(&read).chain(&read.pages).map(|p| (p.frame.width, p.frame.channels, p.grey)).collect();
    assert_eq!(pages, [(32, 3, false), (32, 3, true), (32, 4, false)]);
    fs::remove_file(bench.path("out/a.tiff")).unwrap();
    let args = format!("enhance {{media}}/pages.tiff -o out/a.png {TWICE}");
    report(
        bench
            .fault(&args, &bench.run(&args), 3, &["pages.tiff has 3 pages, and a PNG holds one"])
            .into_iter()
            .collect(),
    );
}

/// A network makes three channels of grey; the output has one.
#[test]
fn grey_stays_grey() {
    let bench = Bench::new();
    let source = image::open(here("tests/data/pictures/chelsea.png")).unwrap().crop_imm(60, 40, 48, 32);
    source.to_luma8().save(bench.path("l8.png")).unwrap();
    source.to_luma16().save(bench.path("l16.png")).unwrap();
    source.to_luma_alpha8().save(bench.path("la.png")).unwrap();
    source.to_luma8().save(bench.path("l8.jpg")).unwrap();
    source.to_luma8().save(bench.path("l8.tif")).unwrap();
    fs::copy(here("tests/data/media/bits.png"), bench.path("bits.png")).unwrap();
    let mut bad = Vec::new();
    for (from, to, want) in [
        ("l8.png", "a.png", "L8"),
        ("l16.png", "b.png", "L16"),
        ("la.png", "c.png", "La8"),
        ("bits.png", "d.png", "L8"),
        ("l8.jpg", "e.jpg", "L8"),
        ("l8.tif", "f.tif", "L8"),
        ("l8.png", "g.webp", "Rgb8"),
        ("l8.jpg", "h.bmp", "Rgb8"),
    ] {
        let run = bench.run(&format!("enhance {from} -o out/{to} --upscale 2 --upscaling-model-path {{x2}}"));
        if run.code != Some(0) {
            bad.push(format!("{from} → {to}: {}", run.err));
            continue;
        }
        let made = image::open(bench.path(&format!("out/{to}"))).unwrap();
        let spread = made.to_rgb8().pixels().map(|p| p.0.iter().max().unwrap() - p.0.iter().min().unwrap()).max();
        let allowed = if to.ends_with("webp") { 4 } else { 0 };
        if format!("{:?}", made.color()) != want || spread > Some(allowed) {
            bad.push(format!("{from} → {to}: {:?}, spread {spread:?}", made.color()));
        }
    }
    report(bad);
}

/// A black 1-bit PNG of this size.
fn black(path: &Path, width: u32, height: u32) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; width.div_ceil(8) as usize];
    (0..height).for_each(|_| std::io::Write::write_all(&mut stream, &row).unwrap());
    stream.finish().unwrap();
}

/// Sizes that cannot be made are refused before any work, by the limit that they exceed.
#[test]
fn impossible_sizes_are_refused() {
    let bench = Bench::new();
    fs::copy(here("tests/data/media/rgb.jpg"), bench.path("a.jpg")).unwrap();
    black(&bench.path("huge.png"), 30_000, 30_000);
    let mut bad = Vec::new();
    for (args, wants) in [
        (
            "a.jpg -o out/a.png --upscale 100000x100000 --filter nearest",
            ["a.jpg: 16x12 to 100000x100000 pixels: ", "of available memory: at least"],
        ),
        (
            "a.jpg -o out/a.png --upscale 100000x100000 --upscaling-model-path {x2}",
            ["100000x100000", "of available memory"],
        ),
        (
            "huge.png -o out/a.png --upscale 8 --filter nearest",
            ["huge.png: 30000x30000 to 240000x240000", "of available memory"],
        ),
        (
            "huge.png -o out/a.png --upscale 8 --upscaling-model-path {x2}",
            ["30000x30000 to 240000x240000", "of available memory"],
        ),
        (
            "a.jpg -o out/a.webp --upscale 16384x12 --filter nearest",
            ["WebP allows at most 16383 pixels per side", "use .png"],
        ),
        (
            "a.jpg -o out/a.jpg --upscale 65536x12 --filter nearest",
            ["JPEG allows at most 65535 pixels per side", "got 65536x12"],
        ),
        (
            "a.jpg -o out/a.gif --upscale 65536x12 --filter nearest",
            ["GIF allows at most 65535 pixels per side", "got 65536x12"],
        ),
        ("a.jpg -o out/a.tif --upscale 40000x40000 --filter nearest", ["TIFF allows at most 4 GiB", "use .png"]),
        (
            "a.jpg -o out/a.png --upscale 4000x4000 --filter nearest --memory-limit 100MB",
            ["4000x4000", "--memory-limit 100 MB: at least"],
        ),
    ] {
        bad.extend(bench.fault(args, &bench.run(&format!("enhance {args}")), 3, &wants));
    }
    // With little address space the item fails, and the process does not.
    // A BMP is not written in bands.
    image::RgbImage::new(3_000, 3_000).save(bench.path("large.bmp")).unwrap();
    let binary = assert_cmd::cargo::cargo_bin("crescendo");
    for limit in [350_000, 450_000] {
        let args = split(
            "enhance large.bmp a.jpg -o small/ --overwrite --upscale 2 --filter nearest --json --quiet --threads 1",
        );
        let mut shell = bench.shelled("bash");
        shell.arg("-c").arg(format!("ulimit -v {limit}; exec \"$0\" \"$@\"")).arg(&binary).args(args);
        let output = shell.env("RAYON_NUM_THREADS", "1").stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() != Some(2) || !bench.path("small/a.jpg").exists() || !out.contains("memory") {
            bad.push(format!("ulimit -v {limit}: {:?} {out} {err}", output.status));
        }
    }
    // In a folder only that item fails.
    fs::create_dir(bench.path("in")).unwrap();
    fs::copy(bench.path("a.jpg"), bench.path("in/a.jpg")).unwrap();
    fs::rename(bench.path("huge.png"), bench.path("in/huge.png")).unwrap();
    let run = bench.run("enhance in -o all --upscale 8 --filter nearest --quiet");
    if run.code != Some(2) || !bench.path("all/a.jpg").exists() || !run.err.starts_with("error: in/huge.png: ") {
        bad.push(format!("folder: {:?} {}", run.code, run.err));
    }
    report(bad);
}

/// Rows: first bytes, the words of the message. FFmpeg's error about videos is not one of them.
#[test]
fn other_picture_formats_are_named() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (name, bytes, words) in [
        ("a.heic", &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "is a picture in the format HEIC"),
        ("a.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "format AVIF"),
        ("a.jxl", b"\xff\x0a\x10\x20", "format JPEG XL"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "format JPEG 2000"),
        ("a.psd", b"8BPS\0\x01\0\0", "format Photoshop"),
        ("a.ppm", b"P6\n1 1\n255\nabc", "format PNM"),
        ("a.png", b"P6\n1 1\n255\nabc", "a.png: is a picture in the format PNM"),
        (
            "a.tif",
            &fs::read(here("tests/data/media/palette.tif")).unwrap(),
            "this kind of TIFF is not read (palette, 8 bits",
        ),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
        let args = format!("enhance {name} -o out/x.png {TWICE}");
        bad.extend(bench.fault(&args, &bench.run(&args), 3, &[name, words, "convert it"]));
    }
    report(bad);
}

/// JPEG as fine as the source, or quality 95; comment and resolution of a JPEG.
#[test]
fn an_enhanced_jpeg_is_as_fine_as_its_source() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (from, flags, quality) in [
        ("rgb.jpg", "", 95),
        ("comment.jpg", "", 98),
        ("rgb16.png", "", 95),
        ("comment.jpg", "--output-compression 97", 97),
        ("comment.jpg", "--output-quality low", 95),
    ] {
        done(&bench.run(
            format!("enhance {{media}}/{from} -o out/a.jpg --overwrite {TWICE} {flags}").replace("  ", " ").trim(),
        ));
        let read = crescendo::media::picture::read(&bench.path("out/a.jpg")).unwrap();
        let source = crescendo::media::picture::read(Path::new(&here(&format!("tests/data/media/{from}")))).unwrap();
        let kept = read.text == source.text && (!from.starts_with("comment") || read.density == source.density);
        if read.jpeg_quality != Some(quality) || !kept {
            bad.push(format!("{from} {flags}: {:?} {:?} {:?}", read.jpeg_quality, read.text, read.density));
        }
    }
    report(bad);
}

/// Every format that can store it carries the prompt.
#[test]
fn generated_pictures_carry_their_prompt() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (to, stored) in [("png", true), ("jpg", true), ("webp", true), ("tif", true), ("bmp", false), ("gif", false)] {
        let prompt = "generate --prompt lake --model-path {flux} --width 64 --height 64 --num-inference-steps 1";
        let run = bench.run(&format!("{prompt} -o out/a.{to}").replace("-o", "--output-file-path"));
        let made = bench.path(&format!("out/a.{to}"));
        let text =
            if made.exists() { crescendo::media::picture::read(&made).unwrap().text } else { Default::default() };
        let found = text.iter().any(|(k, v)| k == "parameters" && v.starts_with("lake\nSteps: 1,"));
        if run.code != Some(0) || found != stored {
            bad.push(format!("{to}: {:?} {} {text:?}", run.code, run.err));
        }
    }
    report(bad);
}
