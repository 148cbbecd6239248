//! What an output format cannot hold: refused before any work, or named in a warning.

use std::fs;

use image::{Rgba, RgbaImage};

use crate::{Bench, ffmpeg, report};

/// Sets the delays of an animated PNG, and the checksums of their chunks.
fn set_delays(bytes: &mut [u8], (delay, unit): (u16, u16)) {
    let mut at = 8;
    while at + 12 <= bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if &bytes[at + 4..at + 8] == b"fcTL" {
            bytes[at + 28..at + 30].copy_from_slice(&delay.to_be_bytes());
            bytes[at + 30..at + 32].copy_from_slice(&unit.to_be_bytes());
            let sum = crc32(&bytes[at + 4..at + 8 + length]);
            bytes[at + 8 + length..at + 12 + length].copy_from_slice(&sum.to_be_bytes());
        }
        at += length + 12;
    }
}

/// The checksum of PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

/// Rows: input, output, flags, and what the message has to say.
#[test]
fn what_cannot_be_written_is_refused_at_once() {
    let bench = Bench::new();
    let slow = bench.path("slow.png");
    let bars = ["-f", "lavfi", "-i", "testsrc=s=32x24:r=10:d=0.3", "-f", "apng", slow.to_str().unwrap()];
    ffmpeg(&bars);
    let mut bytes = fs::read(&slow).unwrap();
    set_delays(&mut bytes, (u16::MAX, 1));
    fs::write(&slow, bytes).unwrap();
    fs::write(bench.path("zero.y4m"), "YUV4MPEG2 W0 H0 F25:1\nFRAME\n").unwrap();
    let raw = bench.path("a.y4m");
    ffmpeg(&["-f", "lavfi", "-i", "testsrc=s=32x24:r=10:d=0.3", "-pix_fmt", "yuv420p", raw.to_str().unwrap()]);
    let mut bad = Vec::new();
    for (input, output, wants) in [
        ("slow.png", "a.png", ["a.png: a frame lasts 65535.000 s", "PNG shows none for more than 21474 s"]),
        ("slow.png", "a.apng", ["a frame lasts 65535.000 s", "APNG shows none"]),
        ("slow.png", "a.gif", ["a frame lasts 65535.000 s", "GIF shows none for more than 655.35 s"]),
        ("slow.png", "a.webp", ["a frame lasts 65535.000 s", "WebP shows none for more than 16777.215 s"]),
        ("{media}/moving.gif", "a.jpg", ["a.jpg: this video cannot be written as a JPEG", "use .mp4"]),
        ("{media}/moving.gif", "a.tif", ["a.tif: this video cannot be written as a TIFF", "use .mp4"]),
        ("a.y4m", "b.y4m", ["yuv4mpegpipe does not support the codec of libx264", "use .mkv"]),
        ("zero.y4m", "a.mp4", ["zero.y4m: is not a video that FFmpeg can read (Invalid data", "Picture size 0x0"]),
    ] {
        let args = format!("enhance {input} -o out/{output} --upscale 2 --filter nearest");
        bad.extend(bench.fault(&args, &bench.run(&args), 3, &wants));
    }
    let args = "enhance {media}/moving.gif -o out/a.gif --upscale 8 --filter lanczos";
    bad.extend(bench.fault(args, &bench.run_limited(4, args), 3, &["a.gif: File too large; free some space"]));
    report(bad);
}

/// Rows: input, flags, and whether partial transparency is lost.
#[test]
fn lost_transparency_is_named() {
    let bench = Bench::new();
    let picture = |name: &str, alpha: fn(u32) -> u8| {
        let pixel = |x: u32, y: u32| Rgba([(x * 5) as u8, (y * 7) as u8, 90, alpha(x)]);
        RgbaImage::from_fn(48, 32, pixel).save(bench.path(name)).unwrap();
    };
    picture("soft.png", |x| (x * 5) as u8);
    picture("hard.png", |x| if x < 20 { 0 } else { 255 });
    for kind in ["soft", "hard"] {
        let still = bench.path(&format!("{kind}.png"));
        let moving = bench.path(&format!("{kind}-2.apng"));
        ffmpeg(&[
            "-loop",
            "1",
            "-r",
            "5",
            "-t",
            "0.6",
            "-i",
            still.to_str().unwrap(),
            "-f",
            "apng",
            moving.to_str().unwrap(),
        ]);
    }
    let clear = "left out: partial transparency (a GIF does not store it)";
    let mut bad = Vec::new();
    for (input, filter, lost) in [
        ("soft.png", "nearest", true),
        ("hard.png", "bicubic", false),
        ("soft-2.apng", "nearest", true),
        ("hard-2.apng", "nearest", false),
        ("{media}/moving.gif", "bicubic", false),
    ] {
        let args = format!("enhance {input} -o out/a.gif --upscale 2 --filter {filter} --overwrite");
        let output = bench.command().args(crate::split(&args)).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() != Some(0) || err.contains(clear) != lost {
            bad.push(format!("{args}: {:?} {err}", output.status.code()));
        }
    }
    report(bad);
}
