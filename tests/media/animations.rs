//! Conversions between GIF, APNG, animated WebP and videos. ffmpeg writes and reads the files; libwebp reads WebP.

use std::{fs, path::Path};

use crescendo::{
    Error,
    media::{
        FileType, sniff,
        video::{Reader, Summary, VideoOptions, VideoSpec, Writer, probe},
    },
    tensor::Frame,
};
use serde_json::Value;

use crate::{ffmpeg, report, run};

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
        writer.write_at(&Frame::from_planes(&frame.frame.planes(), false), frame.pts - frames[0].pts, duration)?;
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
        let named = summary.left_out.iter().any(|l| l.starts_with("transparency (libx264 does not support it"));
        let checks = [
            ("frames", frames.len() == truth.len() && summary.frames == truth.len() as u64),
            // The duration of the last MP4 packet is a decoding duration.
            ("lengths", delays[..6] == lengths[..6] && (video || delays == lengths)),
            ("plays", loops_in_file(&path) == count),
            ("pixels", worst_found <= worst),
            ("summary", (summary.duration - 1.0).abs() < 1e-6),
            ("left out", named == video && summary.left_out.len() == usize::from(video)),
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
    if !error.contains("no video container has this extension; use .mp4, .mkv or .webm") {
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
