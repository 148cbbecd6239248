//! Conversions between GIF, APNG, animated WebP and videos. ffmpeg writes and reads the files; libwebp reads WebP.

use std::{fs, path::Path};

use crescendo::{
    Error,
    media::{
        FileType, sniff,
        video::{Rational, Reader, Summary, Timing, VideoOptions, VideoSpec, Writer, probe},
    },
    tensor::{Frame, Samples},
};
use serde_json::Value;

use crate::{data, ffmpeg, report, run};

/// Re-encodes a file as the pipeline does: each frame keeps its time, the last one has the duration of the previous one.
fn reencode(from: &Path, to: &Path, options: &VideoOptions) -> Result<Summary, Error> {
    let reader = Reader::open(from)?.with_alpha();
    let info = reader.info().clone();
    let mut output = VideoSpec::like(&info, (info.width, info.height), info.frame_rate, Some(from.into()));
    output.time_base = info.time_base;
    let mut writer = Writer::create(to, options, &output)?;
    let frames: Vec<_> = reader.collect::<Result<_, _>>()?;
    let mut duration = 1;
    for (i, frame) in frames.iter().enumerate() {
        duration = frames.get(i + 1).map_or(duration, |next| next.pts - frame.pts);
        writer.write_at(&Frame::from_planes(&frame.frame.planes()?, false)?, frame.pts - frames[0].pts, duration)?;
    }
    writer.finish()
}

/// Returns RGBA frames and their durations in ms.
fn decoded(folder: &Path, name: &str) -> (Vec<Vec<u8>>, Vec<u32>) {
    let path = folder.join(name);
    if name.ends_with("webp") {
        let bytes = fs::read(path).unwrap();
        let movie = webp::AnimDecoder::new(&bytes).decode().unwrap();
        let frames: Vec<_> = movie.into_iter().collect();
        let ends: Vec<i32> = [0].into_iter().chain(frames.iter().map(|f| f.get_time_ms())).collect();
        let delays = ends.windows(2).map(|t| (t[1] - t[0]) as u32).collect();
        return (frames.iter().map(|f| f.get_image().to_vec()).collect(), delays);
    }
    let line = "-v error -show_packets -select_streams v -show_entries packet=pts_time,duration_time -of json";
    let arguments: Vec<_> = line.split(' ').chain([path.to_str().unwrap()]).collect();
    let probe: Value = serde_json::from_slice(&run("ffprobe", &arguments).stdout).unwrap();
    let number = |p: &Value, key: &str| p[key].as_str().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    let mut packets: Vec<_> = probe["packets"].as_array().unwrap().iter().collect();
    packets.sort_by(|a, b| number(a, "pts_time").total_cmp(&number(b, "pts_time")));
    let mut times: Vec<f64> = packets.iter().map(|p| number(p, "pts_time")).collect();
    let last = packets.last().unwrap();
    times.push(number(last, "pts_time") + number(last, "duration_time"));
    let delays = times.windows(2).map(|t| ((t[1] - t[0]) * 1e3).round() as u32).collect();
    let raw = ffmpeg(folder, &format!("-i @/{name} -vsync passthrough -pix_fmt rgba -f rawvideo -"));
    (raw.chunks(4 * 64 * 48).map(<[u8]>::to_vec).collect(), delays)
}

/// Returns the loop count in the file's bytes. 0: endless.
fn loops_in_file(path: &Path) -> Option<u32> {
    let bytes = fs::read(path).unwrap();
    let after = |name: &[u8]| bytes.windows(name.len()).position(|w| w == name).map(|at| at + name.len());
    match path.extension().unwrap().to_str().unwrap() {
        "gif" => {
            Some(after(b"NETSCAPE2.0\x03\x01").map_or(1, |at| match u16::from_le_bytes([bytes[at], bytes[at + 1]]) {
                0 => 0,
                n => u32::from(n) + 1,
            }))
        }
        "webp" => Some(webp::AnimDecoder::new(&bytes).decode().unwrap().loop_count),
        "mp4" => None,
        _ => after(b"acTL").map(|at| u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap())),
    }
}

#[test]
fn animations_keep_times_loops_and_transparency() {
    let folder = tempfile::tempdir().unwrap();
    // Seven frames of different durations: a ring moves over a transparent area.
    let source = "-f lavfi -i color=red:s=64x48:r=10:d=1,format=rgba,geq=r=4*X:g=200-2*Y:b=90:\
                  a='255*lt(abs(hypot(X-20-20*T,Y-24)-12),7)',select='not(eq(mod(n,3),1))' -vsync vfr";
    let palette = "-filter_complex [0:v]split[a][b];[a]palettegen[p];[b][p]paletteuse";
    ffmpeg(folder.path(), &format!("{source} {palette} -loop 2 @/a.gif"));
    ffmpeg(folder.path(), &format!("{source} {palette} -loop 0 @/endless.gif"));
    ffmpeg(folder.path(), &format!("{source} {palette} -loop -1 @/once.gif"));
    ffmpeg(folder.path(), &format!("{source} -plays 3 -f apng @/a.png"));
    ffmpeg(folder.path(), &format!("{source} -c:v libwebp_anim -lossless 1 -loop 3 @/a.webp"));
    let truth = ffmpeg(folder.path(), &format!("{source} -pix_fmt rgba -f rawvideo -"));
    let truth: Vec<_> = truth.chunks(4 * 64 * 48).map(<[u8]>::to_vec).collect();
    let lengths = [200, 100, 200, 100, 200, 100, 100];
    let mut faults = Vec::new();
    for (from, to, count, worst, lossless) in [
        ("a.gif", "gif", Some(3), 8.0, false),
        ("endless.gif", "gif", Some(0), 8.0, false),
        ("once.gif", "gif", Some(1), 8.0, false),
        ("a.gif", "apng", Some(3), 8.0, false),
        ("a.gif", "png", Some(3), 8.0, false),
        ("a.gif", "webp", Some(3), 8.0, true),
        ("a.gif", "webp", Some(3), 16.0, false),
        ("a.gif", "mp4", None, 12.0, false),
        ("a.png", "gif", Some(3), 8.0, false),
        ("a.png", "apng", Some(3), 0.0, false),
        ("a.png", "webp", Some(3), 0.0, true),
        ("a.webp", "webp", Some(3), 0.0, true),
        ("a.webp", "gif", Some(3), 8.0, false),
        ("a.webp", "png", Some(3), 0.0, false),
        ("once.gif", "webp", Some(1), 8.0, true),
        ("a.webp", "mp4", None, 12.0, false),
    ] {
        let name = format!("from-{from}.{to}");
        let row = format!("{from} → {to}");
        assert_eq!(sniff(&folder.path().join(from)).unwrap(), FileType::Video, "{from}");
        let extra = if lossless { vec![("lossless".into(), "1".into())] } else { Vec::new() };
        let options = VideoOptions { overwrite: true, extra, ..VideoOptions::default() };
        let path = folder.path().join(&name);
        let summary = match reencode(&folder.path().join(from), &path, &options) {
            Ok(summary) => summary,
            Err(e) => {
                faults.push(format!("{row}: {e}"));
                continue;
            }
        };
        let (frames, delays) = decoded(folder.path(), &name);
        let video = to == "mp4";
        // Transparent pixels have no colour. A video shows them over black.
        let seen = |p: &[u8]| if p[3] < 128 { [0, 0, 0, if video { 255 } else { 0 }] } else { [p[0], p[1], p[2], 255] };
        let error = |(made, true_): (&Vec<u8>, &Vec<u8>)| {
            let pairs = made.chunks(4).zip(true_.chunks(4)).map(|(a, b)| (seen(a), seen(b)));
            pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>()).sum::<f64>()
                / true_.len() as f64
        };
        let worst_found = frames.iter().zip(&truth).map(error).fold(0.0, f64::max);
        let says = |words: &str| summary.left_out.iter().any(|l| l.starts_with(words));
        let named = says("transparency (libx264 does not support it")
            && says(
                "some of the colour resolution (libx264 writes yuv420p, which every player shows; --pix-fmt yuv444p",
            );
        let checks = [
            ("frames", frames.len() == truth.len() && summary.frames == truth.len() as u64),
            // The duration of the last MP4 packet is a decoding duration.
            ("lengths", delays[..6] == lengths[..6] && (video || delays == lengths)),
            ("plays", loops_in_file(&path) == count),
            ("pixels", worst_found <= worst),
            ("summary", (summary.duration - 1.0).abs() < 1e-6),
            ("left out", named == video && summary.left_out.len() == if video { 2 } else { 0 }),
            ("reported", video || probe(&path).unwrap().plays == count),
        ];
        let bad: Vec<_> = checks.iter().filter(|c| !c.1).map(|c| c.0).collect();
        if !bad.is_empty() {
            let (count, left) = (frames.len(), &summary.left_out);
            faults.push(format!(
                "{row}: {bad:?}; {count} frames, {delays:?}, plays {:?}, worst {worst_found:.1}, {left:?}, {} s",
                loops_in_file(&path),
                summary.duration
            ));
        }
    }
    report(&faults);
}

#[test]
fn videos_become_animations_and_warn_about_losses() {
    let folder = tempfile::tempdir().unwrap();
    let sound = "-f lavfi -i sine=d=1";
    ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=s=64x48:r=10:d=1 {sound} -c:v libx264 @/a.mp4"));
    let mut faults = Vec::new();
    for (to, frames) in [("gif", 10), ("apng", 10), ("webp", 10)] {
        let path = folder.path().join(format!("b.{to}"));
        let summary = reencode(&folder.path().join("a.mp4"), &path, &VideoOptions::default()).unwrap();
        let (found, delays) = decoded(folder.path(), &format!("b.{to}"));
        let named = summary.left_out.iter().any(|l| l == "stream 1 (audio, aac)");
        if found.len() != frames || delays != [100; 10] || loops_in_file(&path) != Some(0) || !named {
            faults.push(format!(
                "{to}: {} frames, {delays:?}, {:?}, {:?}",
                found.len(),
                loops_in_file(&path),
                summary.left_out
            ));
        }
    }
    let error = reencode(&folder.path().join("a.mp4"), &folder.path().join("b.png"), &VideoOptions::default());
    let error = error.err().map(|e| e.to_string()).unwrap_or_default();
    if !error.contains("this video cannot be written as a PNG; use .mp4, .mkv or .webm") {
        faults.push(error);
    }
    let options = VideoOptions { codec: Some("h264".into()), ..VideoOptions::default() };
    let error = reencode(&folder.path().join("a.mp4"), &folder.path().join("c.gif"), &options);
    let error = error.err().map(|e| e.to_string()).unwrap_or_default();
    if !error.contains("a GIF has no codec h264") {
        faults.push(error);
    }
    report(&faults);
}

/// A grey frame with a square whose place depends on `n`.
fn square(n: usize) -> Frame {
    let value = |i: usize| if (i / 3 % 64) / 8 == n % 8 { 250 } else { 40 };
    Frame { width: 64, height: 48, channels: 3, samples: Samples::U8((0..64 * 48 * 3).map(value).collect()) }
}

/// Time stamps in ms with the end, written without a steady rate, and the times that the file shows: players slow down shorter frames,
/// so these are lengthened and the following ones shortened.
#[test]
fn short_frames_neither_fail_nor_shift_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let even: &[i64] = &[0, 40, 80, 120];
    let burst: &[i64] = &[0, 100, 104, 108, 200, 300, 305];
    let rows: &[(&str, &[i64], &[i64])] = &[
        ("gif", even, even),
        ("webp", even, even),
        ("apng", even, even),
        ("gif", burst, &[0, 100, 120, 140, 200, 300, 320]),
        ("webp", burst, &[0, 100, 111, 122, 200, 300, 311]),
        ("apng", burst, burst),
        ("webp", &[0, 1, 2, 3, 40], &[0, 11, 22, 33, 44]),
    ];
    let mut faults = Vec::new();
    for (extension, times, want) in rows {
        let path = folder.path().join(format!("a.{extension}"));
        let spec = VideoSpec { time_base: Rational::new(1, 1000), ..VideoSpec::new(64, 48, Rational::new(25, 1)) };
        let options = VideoOptions { overwrite: true, verify: true, ..VideoOptions::default() };
        let written = Writer::create(&path, &options, &spec).and_then(|mut writer| {
            for (n, t) in times.windows(2).enumerate() {
                writer.write_at(&square(n), t[0], t[1] - t[0])?;
            }
            writer.finish()
        });
        if let Err(e) = written {
            faults.push(format!("{extension} {times:?}: {e}"));
            continue;
        }
        let (frames, delays) = decoded(folder.path(), &format!("a.{extension}"));
        let wanted: Vec<u32> = want.windows(2).map(|t| (t[1] - t[0]) as u32).collect();
        if frames.len() != wanted.len() || delays != wanted {
            faults.push(format!("{extension} {times:?}: {} frames, {delays:?}, wanted {wanted:?}", frames.len()));
        }
    }
    report(&faults);
}

/// A steady rate above that of the format is refused before a file exists.
#[test]
fn writers_refuse_rates_that_no_player_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (name, rate, want) in [
        ("a.gif", 60, "GIF has at most 50 frames per second, this video has 60/1"),
        ("a.webp", 120, "WebP has at most 90.9 frames per second"),
        ("a.gif", 50, ""),
        ("a.webp", 90, ""),
        ("a.apng", 240, ""),
        ("a.mp4", 240, ""),
    ] {
        let spec = VideoSpec::new(64, 48, Rational::new(rate, 1));
        let found = Writer::create(&folder.path().join(name), &VideoOptions::default(), &spec).err();
        let found = found.map_or_else(String::new, |e| e.to_string());
        if found.is_empty() != want.is_empty() || !found.contains(want) {
            faults.push(format!("{name} at {rate}: {found}"));
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    report(&faults);
}

/// A chunk of a RIFF file.
fn riff(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [kind, &(data.len() as u32).to_le_bytes()[..], data, &[0][..data.len() % 2]].concat()
}

/// The longest durations that WebP stores, in more frames than fit 32 bits of milliseconds.
#[test]
fn hundreds_of_hours_of_webp() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(data("moving.webp")).unwrap();
    let place = |kind: &[u8]| bytes.windows(4).position(|w| w == kind).unwrap();
    let frame = place(b"ANMF");
    let length = u32::from_le_bytes(bytes[frame + 4..frame + 8].try_into().unwrap()) as usize;
    let mut long = bytes[frame + 8..frame + 8 + length].to_vec();
    long[12..15].fill(0xff);
    let mut other = long.clone();
    other[12] = 0xfe;
    let frames: Vec<u8> = (0..300).flat_map(|n| riff(b"ANMF", if n == 7 { &other } else { &long })).collect();
    let body = [b"WEBP", &bytes[12..frame], &frames[..]].concat();
    let path = folder.path().join("a.webp");
    fs::write(&path, riff(b"RIFF", &body)).unwrap();
    let info = probe(&path).unwrap();
    let seconds = (300.0 * f64::from(0xff_ffff) - 1.0) / 1e3;
    let rate = info.frame_rate.value() / (300.0 / seconds);
    assert!(info.variable_rate && (rate - 1.0).abs() < 1e-3, "{}", info.frame_rate);
    assert_eq!(info.duration.map(f64::round), Some(seconds.round()));
    let timing = Timing::read(&path).unwrap();
    assert_eq!((timing.frames, timing.end, timing.shortest), (300, 299 * 0xff_ffff - 1, 0xff_fffe));
}

/// The rate of an animated PNG of two frames is in its chunk headers. The other chunks, of 100 GB here, are not read.
#[test]
fn pixels_of_an_apng_are_not_read_for_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(data("moving.png")).unwrap();
    let end = bytes.windows(4).position(|w| w == b"IEND").unwrap() - 4;
    let path = folder.path().join("a.png");
    let file = fs::File::create(&path).unwrap();
    // An ancillary private chunk with a hole in the file system.
    let put = |at: u64, bytes: &[u8]| std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    put(0, &bytes[..end]);
    let mut at = end as u64;
    for _ in 0..50 {
        put(at, &[&0x7fff_ffff_u32.to_be_bytes()[..], b"hoLe"].concat());
        at += 12 + 0x7fff_ffff;
    }
    put(at, &bytes[end..]);
    let (whole, sparse) = (probe(&data("moving.png")).unwrap(), probe(&path).unwrap());
    assert!(whole.frame_rate.is_known());
    assert_eq!((sparse.frame_rate, sparse.plays), (whole.frame_rate, whole.plays));
}
