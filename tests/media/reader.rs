use std::{fs, path::Path};

use crescendo::{
    media::{
        FileType, PictureFormat, sniff,
        video::{Color, ColorRange, Rational, Reader, VideoFrame, probe},
    },
    tensor::Samples,
};

use crate::{data, ffmpeg, report};

fn frames(path: &Path) -> Vec<VideoFrame> {
    Reader::open(path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Returns the samples of all frames in their bit depth.
fn samples(frames: &[VideoFrame]) -> Vec<i32> {
    let mut all = Vec::new();
    for frame in frames {
        match &frame.frame.samples {
            Samples::U8(s) => all.extend(s.iter().map(|&v| i32::from(v))),
            Samples::U16(s) => all.extend(s.iter().map(|&v| i32::from(v))),
        }
    }
    all
}

fn words(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()
}

const BARS: &str = "-f lavfi -i testsrc2=s=96x64:r=24:d=0.5";

#[test]
fn frames_equal_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    // Encoder options, extension, ffmpeg scale options equal to the colour tags, 16 bits.
    let rows = [
        ("-c:v libx264 -pix_fmt yuv420p", "mp4", "in_color_matrix=bt601", false),
        ("-c:v libx264 -pix_fmt yuv420p -colorspace bt709 -color_range tv", "mkv", "in_color_matrix=bt709", false),
        (
            "-c:v libx264 -pix_fmt yuv420p -colorspace smpte170m -color_range pc",
            "mp4",
            "in_color_matrix=bt601:in_range=pc",
            false,
        ),
        ("-c:v libx264 -pix_fmt yuv444p -colorspace bt709", "mp4", "in_color_matrix=bt709", false),
        ("-c:v libx264 -pix_fmt yuv422p -colorspace bt470bg", "mov", "in_color_matrix=bt601", false),
        (
            "-c:v libx265 -x265-params log-level=0 -pix_fmt yuv420p10le -colorspace bt2020nc",
            "mkv",
            "in_color_matrix=bt2020",
            true,
        ),
        ("-c:v libx264 -pix_fmt yuv444p10le -colorspace bt709", "mp4", "in_color_matrix=bt709", true),
        ("-c:v libvpx-vp9 -pix_fmt yuv420p", "webm", "in_color_matrix=bt601", false),
        ("-c:v mpeg4", "avi", "in_color_matrix=bt601", false),
        ("-c:v ffv1 -pix_fmt bgr0", "mkv", "", false),
        ("-c:v ffv1 -pix_fmt gbrp10le", "mkv", "", true),
        ("-c:v ffv1 -pix_fmt gray", "mkv", "", false),
        ("-c:v mjpeg -pix_fmt yuvj422p", "mov", "in_color_matrix=bt601:in_range=pc:in_h_chr_pos=128", false),
        ("-c:v gif -pix_fmt rgb8", "gif", "", false),
    ];
    let mut faults = Vec::new();
    for (options, ending, scale, deep) in rows {
        let name = format!("a.{ending}");
        ffmpeg(folder.path(), &format!("{BARS} {options} @/{name}"));
        let ours = frames(&folder.path().join(&name));
        let flags = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp";
        let chroma = if scale.contains("h_chr") || !options.contains("42") && !options.contains("mpeg4") {
            ""
        } else {
            ":in_h_chr_pos=0"
        };
        let chroma = if options.contains("420") || options.contains("mpeg4") {
            ":in_h_chr_pos=0:in_v_chr_pos=128"
        } else {
            chroma
        };
        let filter = format!("scale={flags}{}{scale}{chroma}", if scale.is_empty() { "" } else { ":" });
        let pixels = if deep { "rgb48le" } else { "rgb24" };
        let raw = ffmpeg(folder.path(), &format!("-i @/{name} -vf {filter} -pix_fmt {pixels} -f rawvideo -"));
        let theirs = if deep { words(&raw) } else { raw.iter().map(|&v| v.into()).collect() };
        let ours_flat = samples(&ours);
        let worst = ours_flat.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).max().unwrap_or(i32::MAX);
        let limit = if deep { 257 } else { 1 };
        let times_fit = ours.iter().enumerate().all(|(i, f)| (f.time - i as f64 / 24.0).abs() < 0.021);
        if ours_flat.len() != theirs.len() || worst > limit || !times_fit {
            let times: Vec<_> = ours.iter().map(|f| f.time).take(3).collect();
            faults.push(format!(
                "{options} {ending}: {} frames, {} of {} samples, worst {worst}, {times:?}",
                ours.len(),
                ours_flat.len(),
                theirs.len()
            ));
        }
    }
    report(&faults);
}

/// Converts YCbCr to RGB in 0..=1 by the definition of BT.601 and BT.709 (H.273 §8.3). `bits`: bit depth, `full`: full range.
fn rgb([y, u, v]: [i32; 3], bits: i32, full: bool, (kr, kb): (f64, f64)) -> [f64; 3] {
    let scale = f64::from(1 << (bits - 8));
    let top = f64::from((1 << bits) - 1);
    let (y, u, v) = (f64::from(y), f64::from(u) - 128.0 * scale, f64::from(v) - 128.0 * scale);
    let (y, u, v) = if full {
        (y / top, u / top, v / top)
    } else {
        ((y - 16.0 * scale) / (219.0 * scale), u / (224.0 * scale), v / (224.0 * scale))
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
    [r, (y - kr * r - kb * b) / (1.0 - kr - kb), b].map(|c| c.clamp(0.0, 1.0))
}

#[test]
fn rgb_follows_the_matrix_definition() {
    let folder = tempfile::tempdir().unwrap();
    let (bt601, bt709, bt2020) = ((0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593));
    let rows = [
        ("yuv444p -colorspace smpte170m", 8, false, bt601),
        ("yuv444p -colorspace bt709", 8, false, bt709),
        ("yuv444p -colorspace bt709 -color_range pc", 8, true, bt709),
        ("yuv444p", 8, false, bt601),
        ("yuv444p10le -colorspace bt2020nc", 10, false, bt2020),
        ("yuv444p10le -colorspace bt709 -color_range pc", 10, true, bt709),
    ];
    let mut faults = Vec::new();
    for (options, bits, full, matrix) in rows {
        ffmpeg(folder.path(), &format!("{BARS} -frames:v 1 -c:v libx264 -crf 5 -pix_fmt {options} @/a.mp4"));
        let ours = samples(&frames(&folder.path().join("a.mp4")));
        let raw = ffmpeg(folder.path(), "-i @/a.mp4 -f rawvideo -");
        let raw: Vec<i32> = if bits > 8 { words(&raw) } else { raw.iter().map(|&v| v.into()).collect() };
        let (plane, top) = (96 * 64, if bits > 8 { 65535.0 } else { 255.0 });
        let mut worst = 0.0_f64;
        for i in 0..plane {
            let wanted = rgb([0, 1, 2].map(|k| raw[k * plane + i]), bits, full, matrix);
            for k in 0..3 {
                worst = worst.max((f64::from(ours[3 * i + k]) / top - wanted[k]).abs() * 255.0);
            }
        }
        if worst > 1.5 {
            faults.push(format!("{options}: worst {worst:.2}/255"));
        }
    }
    report(&faults);
}

#[test]
fn headers_equal_ffmpeg_options() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=s=98x54:r=30000/1001:d=2 -itsoffset 0.5 -f lavfi -i sine=d=1 -c:v libx265 -x265-params \
         log-level=0 -pix_fmt yuv420p10le -aspect 16:9 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc \
         -color_range tv -metadata title=Lake -metadata:s:a language=deu @/b.mp4",
    );
    ffmpeg(folder.path(), "-i @/b.mp4 -c copy -metadata:s:v rotate=90 @/a.mp4");
    let info = probe(&folder.path().join("a.mp4")).unwrap();
    // The angle of ffmpeg's `rotate` is counter-clockwise.
    let color = Color { primaries: 9, transfer: 16, matrix: 9, range: ColorRange::Limited, chroma: info.color.chroma };
    assert_eq!((info.width, info.height, info.bit_depth, info.alpha, info.field_order), (98, 54, 10, false, None));
    assert_eq!((info.codec.as_str(), info.pixel_format.as_str()), ("hevc", "yuv420p10le"));
    assert_eq!((info.frame_rate, info.variable_rate, info.frames), (Rational::new(30000, 1001), false, Some(60)));
    assert_eq!((info.color, info.rotation, info.sample_aspect_ratio), (color, 270, Rational::new(48, 49)));
    assert!((info.duration.unwrap() - 2.002).abs() < 1e-3 && info.start.abs() < 1e-3, "{info:?}");
    let streams: Vec<_> = info.streams.iter().map(|s| (s.codec.as_str(), s.language.as_deref())).collect();
    assert_eq!(streams, [("hevc", None), ("aac", Some("deu"))].map(|(c, l)| (c, l.or(Some("und")))));
    assert!(info.metadata.contains(&("title".into(), "Lake".into())), "{:?}", info.metadata);
}

#[test]
fn variable_frame_rates_keep_their_times() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=s=64x48:r=30:d=2 -vf select='lt(n,30)+not(mod(n,3))' -vsync vfr @/a.mp4",
    );
    let path = folder.path().join("a.mp4");
    let info = probe(&path).unwrap();
    let times: Vec<_> = frames(&path).iter().map(|f| (f.time * 30.0).round() as i32).collect();
    let wanted: Vec<_> = (0..60).filter(|n| *n < 30 || n % 3 == 0).collect();
    assert_eq!(times, wanted);
    assert!(info.variable_rate && (info.frame_rate.value() - 40.0 / 1.8).abs() < 0.1, "{}", info.frame_rate);
}

#[test]
fn alpha_is_decoded_on_request() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), "-f lavfi -i color=0xff000080:s=32x32:r=5:d=1,format=rgba -c:v ffv1 -pix_fmt bgra @/a.mkv");
    let path = folder.path().join("a.mkv");
    let first = |reader: Reader| reader.map(Result::unwrap).next().unwrap().frame;
    let (plain, full) = (first(Reader::open(&path).unwrap()), first(Reader::open(&path).unwrap().with_alpha()));
    let pixel = |frame: &crescendo::tensor::Frame| match &frame.samples {
        Samples::U8(s) => s[..frame.channels].to_vec(),
        Samples::U16(_) => Vec::new(),
    };
    assert!(probe(&path).unwrap().alpha);
    assert_eq!(pixel(&plain).len(), 3);
    assert_eq!(pixel(&full)[3], 128, "{:?}", pixel(&full));
}

/// Reads to the end. Returns the number of frames and the error.
fn read_all(path: &Path) -> (usize, Option<String>) {
    let reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(e) => return (0, Some(e.to_string())),
    };
    let mut count = 0;
    for frame in reader {
        match frame {
            Ok(_) => count += 1,
            Err(e) => return (count, Some(e.to_string())),
        }
    }
    (count, None)
}

#[test]
fn invalid_files_give_a_one_line_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let line = "-f lavfi -i testsrc2=s=320x240:r=24:d=10 -f lavfi -i sine=d=10 -c:v libx264 -g 24 -preset ultrafast";
    ffmpeg(folder.path(), &format!("{line} @/whole.mp4"));
    ffmpeg(folder.path(), &format!("{line} -movflags faststart @/fast.mp4"));
    ffmpeg(folder.path(), &format!("{line} @/whole.mkv"));
    ffmpeg(folder.path(), "-f lavfi -i sine=d=1 @/sound.m4a");
    let cut = |from: &str, to: &str| {
        let bytes = fs::read(at(from)).unwrap();
        fs::write(at(to), &bytes[..bytes.len() * 6 / 10]).unwrap();
    };
    cut("whole.mp4", "no_index.mp4");
    cut("fast.mp4", "half.mp4");
    cut("whole.mkv", "half.mkv");
    fs::write(at("empty.mp4"), b"").unwrap();
    fs::write(at("text.mp4"), "no video here\n".repeat(100)).unwrap();
    fs::write(at("text.txt"), "no video here\n".repeat(100)).unwrap();
    let mut bytes = fs::read(at("fast.mp4")).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 6000].fill(0x55);
    fs::write(at("hole.mp4"), bytes).unwrap();
    let rows = [
        ("empty.mp4", 0, "the file is empty"),
        ("text.mp4", 0, "is not a video that FFmpeg can read ("),
        ("text.txt", 0, "is neither a picture nor a video"),
        ("sound.m4a", 0, "contains no video (audio aac)"),
        ("no_index.mp4", 0, "moov atom not found"),
        ("half.mp4", 100, "the file is truncated at "),
        ("half.mkv", 100, "the file is truncated at "),
        ("hole.mp4", 60, "is damaged"),
        ("missing.mp4", 0, "No such file or directory"),
    ];
    let mut faults = Vec::new();
    for (name, least, wanted) in rows {
        let (count, error) = read_all(&at(name));
        let error = error.unwrap_or_default();
        if !error.contains(wanted) || !error.contains(name) || error.contains('\n') || count < least || count >= 240 {
            faults.push(format!("{name}: {count} frames, then: {error}"));
        }
    }
    for name in ["whole.mp4", "fast.mp4", "whole.mkv"] {
        let read = read_all(&at(name));
        if read != (240, None) {
            faults.push(format!("{name}: {read:?}"));
        }
    }
    report(&faults);
}

#[test]
fn file_types_are_detected_by_content() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), &format!("{BARS} @/a.mp4"));
    fs::rename(folder.path().join("a.mp4"), folder.path().join("a:b.png")).unwrap();
    assert_eq!(sniff(&folder.path().join("a:b.png")).unwrap(), FileType::Video);
    let rows = [
        ("wrong_name.jpg", FileType::Picture(PictureFormat::Png)),
        ("rgb.jpg", FileType::Picture(PictureFormat::Jpeg)),
        ("lossy.webp", FileType::Picture(PictureFormat::WebP)),
        ("rgb.tiff", FileType::Picture(PictureFormat::Tiff)),
        ("moving.gif", FileType::Video),
        ("moving.png", FileType::Video),
        ("moving.webp", FileType::Video),
    ];
    for (name, kind) in rows {
        assert_eq!(sniff(&data(name)).unwrap(), kind, "{name}");
    }
    let error = sniff(&data("README.md")).unwrap_err().to_string();
    assert!(error.contains("README.md: ") && error.contains("neither a picture nor a video"), "{error}");
}
