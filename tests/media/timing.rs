//! Presentation times: reads them without decoding and writes given ones. ffprobe checks both.

use std::path::Path;

use crescendo::{
    media::video::{Rational, Reader, Timing, VideoOptions, VideoSpec, Writer},
    tensor::{Frame, Samples},
};
use serde_json::Value;

use crate::{ffmpeg, report, run};

/// Returns (pts, duration) of every video packet in seconds, in presentation order.
fn packets(path: &Path) -> Vec<(f64, f64)> {
    let arguments = "-v error -select_streams v:0 -show_entries packet=pts_time,duration_time -of json";
    let arguments: Vec<_> = arguments.split(' ').chain([path.to_str().unwrap()]).collect();
    let result: Value = serde_json::from_slice(&run("ffprobe", &arguments).stdout).unwrap();
    let number = |v: &Value| v.as_str().map_or(f64::NAN, |s| s.parse().unwrap());
    let mut all: Vec<(f64, f64)> = result["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (number(&p["pts_time"]), number(&p["duration_time"])))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

#[test]
fn timing_equals_the_packets() {
    let folder = tempfile::tempdir().unwrap();
    let x264 = "-c:v libx264 -preset ultrafast -bf 2";
    let source = |rate: &str, d: &str, filter: &str| format!("-f lavfi -i testsrc2=s=32x32:r={rate}:d={d}{filter}");
    let jitter = ",settb=1/90000,setpts=(N/30+0.003*mod(N*7\\,5))/TB";
    // File, ffmpeg arguments, constant frame rate or none, index of the last frame if constant.
    type Row<'a> = (&'a str, String, Option<(i32, i32)>, i64);
    let rows: &[Row<'_>] = &[
        ("even.mp4", format!("{} {x264}", source("25", "2", "")), Some((25, 1)), 49),
        ("film.mkv", format!("{} {x264}", source("24000/1001", "20", "")), Some((24000, 1001)), 479),
        ("fast.mkv", format!("{} {x264}", source("120", "2", "")), Some((120, 1)), 239),
        ("film.ts", format!("{} {x264}", source("30000/1001", "2", "")), Some((30000, 1001)), 59),
        ("old.avi", format!("{} -c:v mpeg4 -bf 2", source("25", "2", "")), Some((25, 1)), 49),
        ("bare.h264", format!("{} {x264}", source("25", "2", "")), Some((25, 1)), 49),
        ("clip.webm", format!("{} -c:v libvpx", source("30", "1", "")), Some((30, 1)), 29),
        (
            "gap.mp4",
            format!("{} {x264} -fps_mode vfr", source("25", "2", ",select=not(between(n\\,20\\,22))")),
            Some((25, 1)),
            49,
        ),
        (
            "pause.mp4",
            format!("{} {x264} -fps_mode vfr", source("25", "4", ",select=not(between(n\\,20\\,70))")),
            None,
            0,
        ),
        ("uneven.mp4", format!("{} {x264} -fps_mode vfr -enc_time_base 1/90000", source("30", "2", jitter)), None, 0),
        ("uneven.mkv", format!("{} {x264} -fps_mode vfr -enc_time_base 1/1000", source("30", "2", jitter)), None, 0),
        ("moving.gif", source("10", "1", ",setpts=(N+0.5*eq(mod(N\\,3)\\,1))/10/TB,settb=1/100"), None, 0),
        // The encoder merges equal frames.
        ("merged.webp", format!("{} -c:v libwebp_anim", source("10", "1", "")), None, 0),
        ("one.mp4", format!("{} {x264}", source("25", "0.04", "")), Some((25, 1)), 0),
    ];
    let mut faults = Vec::new();
    for (name, made, steady, last) in rows {
        let path = folder.path().join(name);
        ffmpeg(folder.path(), &format!("{made} @/{name}"));
        let timing = Timing::read(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        let info = reader.info().clone();
        let mut clock = timing.clock(&info);
        let positions: Vec<i64> = reader.map(|f| clock.position(f.unwrap().pts)).collect();
        let found = timing.steady.then(|| timing.rate.value());
        if found != steady.map(|(num, den)| f64::from(num) / f64::from(den))
            || timing.frames != positions.len() as u64
            || (steady.is_some() && timing.end != *last)
        {
            faults.push(format!("{name}: {timing:?}, wanted {steady:?}, last {last}, {} frames", positions.len()));
        }
        if positions.last() != Some(&timing.end) {
            faults.push(format!("{name}: the last of {positions:?} is not {}", timing.end));
        }
        // Raw streams have no time stamps.
        if ["h264", "avi", "webp"].iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        let shown = packets(&path);
        let from = shown[0].0;
        let tick = timing.tick.value();
        let apart = shown.iter().zip(&positions).map(|(p, at)| (p.0 - from - *at as f64 * tick).abs());
        let worst = apart.fold(0.0, f64::max);
        let near = if timing.steady { 1.1e-3 } else { 2e-6 };
        if worst > near || shown.len() != positions.len() {
            faults.push(format!("{name}: positions are up to {worst} s off"));
        }
    }
    report(&faults);
}

#[test]
fn frames_are_written_at_given_times() {
    let folder = tempfile::tempdir().unwrap();
    let grey =
        |n: usize| Frame { width: 64, height: 48, channels: 3, samples: Samples::U8(vec![(n * 9) as u8; 64 * 48 * 3]) };
    let ticks: Vec<i64> = (0..24).map(|n| n * 3000 + 700 * (n % 5)).collect();
    let rows = [
        ("h264.mp4", "libx264", 1e-6),
        ("h264.mkv", "libx264", 5.1e-4),
        ("h265.mp4", "libx265", 1e-6),
        ("ffv1.mkv", "ffv1", 5.1e-4),
        ("vp9.webm", "libvpx-vp9", 5.1e-4),
        ("prores.mov", "prores_ks", 1e-6),
        ("motion.mov", "mjpeg", 1e-6),
    ];
    let mut faults = Vec::new();
    for (name, codec, near) in rows {
        let path = folder.path().join(name);
        let pix_fmt = (codec == "mjpeg").then(|| "yuvj420p".into());
        let options = VideoOptions { codec: Some(codec.into()), pix_fmt, ..VideoOptions::default() };
        let output = VideoSpec { time_base: Rational::new(1, 90000), ..VideoSpec::new(64, 48, Rational::new(30, 1)) };
        let mut writer = Writer::create(&path, &options, &output).unwrap();
        for (n, pts) in ticks.iter().enumerate() {
            let next = ticks.get(n + 1).copied().unwrap_or(pts + 9000);
            writer.write_at(&grey(n), *pts, next - pts).unwrap();
        }
        let summary = writer.finish().unwrap();
        let found = packets(&path);
        let wanted: Vec<f64> = ticks.iter().map(|t| *t as f64 / 90000.0).collect();
        let worst = found.iter().zip(&wanted).map(|(f, w)| (f.0 - found[0].0 - w).abs()).fold(0.0, f64::max);
        if found.len() != wanted.len() || worst > near {
            faults.push(format!("{name}: {} packets, up to {worst} s off: {found:?}", found.len()));
        }
        let length = (ticks[23] + 9000) as f64 / 90000.0;
        if (summary.duration - length).abs() > 1e-9 {
            faults.push(format!("{name}: {} s reported, {length} written", summary.duration));
        }
        // Matroska stores no frame durations, and the last packet in decoding order may not be the last one shown.
        let last = found.last().map_or(0.0, |f| f.1);
        if ["prores.mov", "motion.mov"].contains(&name) && (last - 0.1).abs() > 1e-6 {
            faults.push(format!("{name}: the last frame is shown for {last} s"));
        }
    }
    report(&faults);
}

#[test]
fn equal_times_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let black = Frame { width: 64, height: 48, channels: 3, samples: Samples::U8(vec![0; 64 * 48 * 3]) };
    let mut faults = Vec::new();
    for (pts, duration) in [(3, 1), (0, 1), (5, 0), (9, -1)] {
        let path = folder.path().join("a.mp4");
        let output = VideoSpec::new(64, 48, Rational::new(30, 1));
        let mut writer = Writer::create(&path, &VideoOptions::default(), &output).unwrap();
        writer.write_at(&black, 2, 2).unwrap();
        let error = writer.write_at(&black, pts, duration).unwrap_err().to_string();
        if !error.contains("frame 1 is shown from tick") {
            faults.push(format!("{pts} for {duration}: {error}"));
        }
    }
    report(&faults);
}

#[test]
fn nominal_frame_rates_are_recognised() {
    let rows = [
        (24.0, (24, 1)),
        (12.5, (25, 2)),
        (23.976, (24000, 1001)),
        (24000.0 / 1001.0, (24000, 1001)),
        (29.97, (30000, 1001)),
        (59.94, (60000, 1001)),
        (60000.0 / 1001.0, (60000, 1001)),
        (119.88, (120000, 1001)),
        (23.98, (23980, 1000)),
        (59.9, (59900, 1000)),
        (0.4, (400, 1000)),
        (16.667, (16667, 1000)),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(fps, want)| Rational::of_rate(*fps) != Rational::new(want.0, want.1))
        .map(|(fps, want)| format!("{fps}: {}, wanted {want:?}", Rational::of_rate(*fps)))
        .collect();
    report(&wrong);
}
