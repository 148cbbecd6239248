use std::{fs, path::Path};

use crescendo::{
    media::{
        Format, Kind, sniff,
        video::{Color, Range, Rational, Reader, VideoFrame, probe},
    },
    tensor::Samples,
};

use crate::{data, ffmpeg, report};

fn frames(path: &Path) -> Vec<VideoFrame> {
    Reader::open(path).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Samples of frames, 8 bits as 8, 16 as 16.
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
fn frames_are_what_ffmpeg_decodes() {
    let folder = tempfile::tempdir().unwrap();
    // Options of the encoder, ending, scale options that say to ffmpeg what the tags say to us, whether 16 bits.
    let rows = [
        ("-c:v libx264 -pix_fmt yuv420p", "mp4", "in_color_matrix=bt601", false),
        ("-c:v libx264 -pix_fmt yuv420p -colorspace bt709 -color_range tv", "mkv", "in_color_matrix=bt709", false),
        ("-c:v libx264 -pix_fmt yuv420p -colorspace smpte170m -color_range pc", "mp4", "in_color_matrix=bt601:in_range=pc", false),
        ("-c:v libx264 -pix_fmt yuv444p -colorspace bt709", "mp4", "in_color_matrix=bt709", false),
        ("-c:v libx264 -pix_fmt yuv422p -colorspace bt470bg", "mov", "in_color_matrix=bt601", false),
        ("-c:v libx265 -x265-params log-level=0 -pix_fmt yuv420p10le -colorspace bt2020nc", "mkv", "in_color_matrix=bt2020", true),
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
        let chroma = if scale.contains("h_chr") || !options.contains("42") && !options.contains("mpeg4") { "" } else { ":in_h_chr_pos=0" };
        let chroma = if options.contains("420") || options.contains("mpeg4") { ":in_h_chr_pos=0:in_v_chr_pos=128" } else { chroma };
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
            faults.push(format!("{options} {ending}: {} frames, {} of {} samples, worst {worst}, {times:?}", ours.len(), ours_flat.len(), theirs.len()));
        }
    }
    report(&faults);
}

/// BT.601 and BT.709 by their definition (H.273 §8.3), limited or full, `bits` a sample, to 0..=1.
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
fn colours_follow_the_definition_of_the_matrix() {
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
fn headers_are_read_as_ffmpeg_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=s=98x54:r=30000/1001:d=2 -itsoffset 0.5 -f lavfi -i sine=d=1 -c:v libx264 -pix_fmt yuv420p10le \
         -aspect 16:9 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -metadata title=Lake \
         -metadata:s:a language=deu @/a.mp4",
    );
    ffmpeg(folder.path(), "-display_rotation 90 -i @/a.mp4 -c copy @/b.mp4; true");
}
