//! Timing: frame rates, time stamps, cuts, repeated frames, audio offsets. ffmpeg makes the clips, ffprobe checks the outputs.

use std::{path::Path, process::Command};

use crescendo::{
    compile,
    media::video::Reader,
    onnx::Target,
    runtime::{DeviceChoice, Engine, Load, Options},
    stage::{
        interpolate::{Interpolate, Planes},
        scene_change::{Change, ChangeDetector},
    },
    tensor::Frame,
};
use serde_json::Value;

use crate::{Bench, RIFE, done, ffmpeg, here, probe, report};

/// Lossless encoding, so that frames can be compared.
const LOSSLESS: &str = "--codec ffv1 --pix-fmt bgr0";
const NETWORK: &str = "--frame-interpolation-model-path {rife}";

/// Returns the presentation times of a stream's packets in seconds, sorted, and the end of the last one. Omits undisplayed packets.
fn times(file: &Path, stream: &str) -> (Vec<f64>, f64) {
    let entries = "packet=pts_time,duration_time,flags";
    let command = ["-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "json"];
    let result = Command::new("ffprobe").args(command).arg(file).output().unwrap();
    let result: Value = serde_json::from_slice(&result.stdout).unwrap();
    let number = |v: &Value| v.as_str().map_or(0.0, |s| s.parse::<f64>().unwrap());
    let mut all: Vec<(f64, f64)> = result["packets"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| !p["flags"].as_str().unwrap().contains('D'))
        .map(|p| (number(&p["pts_time"]), number(&p["duration_time"])))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // If the last packet has no duration, players use the most frequent one.
    let usual = all.last().map_or(0.0, |l| (l.0 - all[0].0) / (all.len() - 1).max(1) as f64);
    let end = all.last().map_or(0.0, |(t, d)| t + if *d > 0.0 { *d } else { usual });
    (all.into_iter().map(|(t, _)| t).collect(), end)
}

/// Returns the duration of the file in seconds. Matroska stores no other end time.
fn length(file: &Path) -> f64 {
    let command = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"];
    let result = Command::new("ffprobe").args(command).arg(file).output().unwrap();
    String::from_utf8_lossy(&result.stdout).trim().parse().unwrap()
}

/// Returns ffmpeg's checksums of the audio packets.
fn audio_checksums(path: &Path) -> Vec<u8> {
    ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:a", "-c", "copy", "-f", "md5", "-"])
}

fn frames(path: &Path) -> Vec<Frame> {
    Reader::open(path).unwrap().map(|f| f.unwrap().frame).collect()
}

/// Makes a clip from a lavfi graph and further ffmpeg arguments.
fn clip(bench: &Bench, name: &str, graph: &str, more: &str) {
    let path = bench.path(name);
    let mut args = vec!["-f", "lavfi", "-i", graph];
    args.extend(more.split_whitespace());
    args.push(path.to_str().unwrap());
    ffmpeg(&args);
}

fn max_difference(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Divides every interval between times into `n` equal parts.
fn with_intermediate_times(times: &[f64], n: usize) -> Vec<f64> {
    let mut all: Vec<f64> = times
        .windows(2)
        .flat_map(|w| (0..n).map(|k| w[0] + k as f64 * (w[1] - w[0]) / n as f64).collect::<Vec<_>>())
        .collect();
    all.extend(times.last());
    all
}

/// Returns times at a constant rate, from the first time to the one nearest to the end.
fn times_at_rate(times: &[f64], end: f64, rate: f64) -> Vec<f64> {
    let count = ((end - times[0]) * rate).round() as usize;
    (0..count).map(|k| times[0] + k as f64 / rate).collect()
}

#[test]
fn frames_keep_their_times() {
    let bench = Bench::new();
    let x264 = "-c:v libx264 -preset ultrafast -bf 2";
    // Variable durations; a constant rate with missing frames; a constant rate that milliseconds cannot represent.
    let jitter = "testsrc2=s=96x64:r=30:d=1.5,settb=1/90000,setpts=(N/30+0.003*mod(N*7\\,5))/TB";
    clip(&bench, "uneven.mp4", jitter, &format!("{x264} -enc_time_base 1/90000 -fps_mode vfr"));
    let gap = "testsrc2=s=96x64:r=25:d=2,select=not(between(n\\,20\\,22))";
    clip(&bench, "gap.mp4", gap, &format!("{x264} -fps_mode vfr"));
    clip(&bench, "film.mkv", "testsrc2=s=96x64:r=24000/1001:d=2", x264);
    // A stream-copied part: its first frames are decoded but not shown.
    let path = |name: &str| bench.path(name).to_str().unwrap().to_string();
    ffmpeg(&["-ss", "0.42", "-i", &path("uneven.mp4"), "-c", "copy", &path("part.mp4")]);
    clip(&bench, "two.mp4", "testsrc2=s=96x64:r=25:d=0.08", x264);
    clip(&bench, "one.mp4", "testsrc2=s=96x64:r=25:d=0.04", x264);
    type Wanted = fn(&[f64], f64) -> Vec<f64>;
    let rows: &[(&str, &str, Wanted, Option<&str>)] = &[
        ("uneven.mp4", "--upscale 1 --filter nearest", |t, _| t.to_vec(), None),
        ("uneven.mp4", "--interpolate 2x", |t, _| with_intermediate_times(t, 2), None),
        ("uneven.mp4", "--interpolate 5x", |t, _| with_intermediate_times(t, 5), None),
        ("uneven.mp4", "--interpolate 60fps", |t, end| times_at_rate(t, end, 60.0), Some("60/1")),
        ("uneven.mp4", "--interpolate 12.5fps", |t, end| times_at_rate(t, end, 12.5), Some("25/2")),
        ("part.mp4", "--upscale 1 --filter nearest", |t, _| t.to_vec(), None),
        ("part.mp4", "--interpolate 2x", |t, _| with_intermediate_times(t, 2), None),
        ("gap.mp4", "--upscale 1 --filter nearest", |t, _| t.to_vec(), Some("25/1")),
        ("gap.mp4", "--interpolate 2x", |t, _| with_intermediate_times(t, 2), Some("50/1")),
        ("gap.mp4", "--interpolate 50fps", |t, end| times_at_rate(t, end, 50.0), Some("50/1")),
        ("film.mkv", "--interpolate 3x", |t, _| with_intermediate_times(t, 3), Some("72000/1001")),
        ("film.mkv", "--interpolate 59.94fps", |t, end| times_at_rate(t, end, 60000.0 / 1001.0), Some("60000/1001")),
        (
            "film.mkv",
            "--interpolate 60000/1001fps",
            |t, end| times_at_rate(t, end, 60000.0 / 1001.0),
            Some("60000/1001"),
        ),
        ("film.mkv", "--interpolate 10fps", |t, end| times_at_rate(t, end, 10.0), Some("10/1")),
        ("two.mp4", "--interpolate 3x", |t, _| with_intermediate_times(t, 3), Some("75/1")),
        ("one.mp4", "--interpolate 4x", |t, _| t.to_vec(), None),
        ("one.mp4", "--interpolate 60fps", |t, _| t.to_vec(), None),
    ];
    let mut bad = Vec::new();
    for (i, (source, args, wanted, rate)) in rows.iter().enumerate() {
        let ending = if source.ends_with("mkv") { "mkv" } else { "mp4" };
        let output = bench.path(&format!("out/{i}.{ending}"));
        let network = if args.contains("--interpolate") { NETWORK } else { "" };
        let run =
            bench.run(&format!("enhance {source} -o out/{i}.{ending} {args} {network} --x264-preset ultrafast --json"));
        if run.code != Some(0) || !run.err.is_empty() {
            bad.push(format!("{source} {args}: {}", run.err));
            continue;
        }
        let ((before, mut end), (after, mut last)) = (times(&bench.path(source), "v:0"), times(&output, "v:0"));
        if ending == "mkv" {
            (end, last) = (length(&bench.path(source)), length(&output));
        }
        let want = wanted(&before, end);
        // Matroska time stamps are milliseconds, in input and output.
        let near = if ending == "mkv" { 2.1e-3 } else { 2e-5 };
        let apart = max_difference(&after, &want);
        if apart > near {
            bad.push(format!("{source} {args}: {} frames, {apart} s off\n{after:?}\n{want:?}", after.len()));
        }
        // Tolerance: one output frame.
        let frame = after.get(1).map_or(1.0 / 60.0, |t| t - after[0]) + near;
        if (last - end).abs() > frame {
            bad.push(format!("{source} {args}: ends at {last}, not {end}"));
        }
        let reported: Value = serde_json::from_slice(&run.out).unwrap();
        let stream = probe(&output, "v:0");
        let value = |r: &str| r.split_once('/').map(|(n, d)| n.parse::<f64>().unwrap() / d.parse::<f64>().unwrap());
        let found = stream["r_frame_rate"].as_str().unwrap();
        // From milliseconds, ffprobe can only estimate a rate.
        let allowed = if ending == "mkv" { 1e-3 } else { 0.0 };
        if rate.is_some_and(|r| (value(r).unwrap() / value(found).unwrap() - 1.0).abs() > allowed) {
            bad.push(format!("{source} {args}: rate {found}"));
        }
        if reported["items"][0]["frames"] != want.len() || stream["nb_read_frames"] != want.len().to_string().as_str() {
            bad.push(format!(
                "{source} {args}: {} frames read, {} reported",
                stream["nb_read_frames"], reported["items"][0]
            ));
        }
    }
    report(bad);
}

/// Each new frame equals the network's output for its exact time. Source frames are unchanged.
#[test]
fn new_frames_equal_the_network_at_their_times() {
    let bench = Bench::new();
    clip(&bench, "film.mkv", "testsrc2=s=96x64:r=24:d=0.125", "-c:v ffv1 -pix_fmt bgr0");
    clip(
        &bench,
        "milli.mkv",
        "testsrc2=s=96x64:r=25:d=0.12,settb=1/1000,setpts=(N/25+0.01*eq(N\\,1))/TB",
        "-c:v ffv1 -pix_fmt bgr0 -fps_mode vfr -enc_time_base 1/1000",
    );
    let sources =
        |name: &str| -> Vec<Planes> { frames(&bench.path(name)).iter().map(|frame| frame.planes().unwrap()).collect() };
    let built = compile::interpolator(Path::new(&here(RIFE)), 1.0, Target::CPU).unwrap();
    let engine = Engine::start(&Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() }).unwrap();
    let network = engine.load("rife", &built.model.bytes, &Load::default()).unwrap();
    let mut network = Interpolate::new(network, built.multiple, 1);
    // (source frame, position between it and the next, 0..1) of each output frame.
    type Row<'a> = (&'a str, &'a str, &'a [(usize, f32)]);
    let rows: &[Row<'_>] = &[
        (
            "film.mkv",
            "3x",
            &[(0, 0.0), (0, 1.0 / 3.0), (0, 2.0 / 3.0), (1, 0.0), (1, 1.0 / 3.0), (1, 2.0 / 3.0), (2, 0.0)],
        ),
        ("film.mkv", "60fps", &[(0, 0.0), (0, 0.4), (0, 0.8), (1, 0.2), (1, 0.6), (2, 0.0), (2, 0.0), (2, 0.0)]),
        ("film.mkv", "2x", &[(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5), (2, 0.0)]),
        ("film.mkv", "16fps", &[(0, 0.0), (1, 0.5)]),
        // Source frames at 0, 0.05 and 0.08 s.
        ("milli.mkv", "50fps", &[(0, 0.0), (0, 0.4), (0, 0.8), (1, 1.0 / 3.0), (2, 0.0), (2, 0.0)]),
    ];
    let mut bad = Vec::new();
    for (source, rate, wanted) in rows {
        let output = bench.path(&format!("out/{rate}.mkv"));
        done(&bench.run(&format!(
            "enhance {source} -o out/{rate}.mkv --interpolate {rate} {NETWORK} --scene-threshold 1 {LOSSLESS}"
        )));
        let (source_frames, made) = (sources(source), frames(&output));
        if made.len() != wanted.len() {
            bad.push(format!("{source} {rate}: {} frames, wanted {}", made.len(), wanted.len()));
            continue;
        }
        for (k, ((first, time), frame)) in wanted.iter().zip(&made).enumerate() {
            let want = match *time > 0.0 {
                true => {
                    network.at_times(&source_frames[*first], &source_frames[first + 1], &[*time]).unwrap().remove(0)
                }
                false => source_frames[*first].clone(),
            };
            let want = Frame::from_planes(&want.mapv(|v| v.clamp(0.0, 1.0)), false).unwrap().planes().unwrap();
            let worst = want.iter().zip(&frame.planes().unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if worst > 1.01 / 255.0 {
                bad.push(format!("{source} {rate}: frame {k} is {worst} off that at {time} after {first}"));
            }
        }
    }
    report(bad);
}

/// Three scenes with fast motion. ffmpeg's scdet gives the cuts.
#[test]
fn frames_are_not_interpolated_across_a_cut() {
    let bench = Bench::new();
    let scenes = "testsrc2=s=96x64:r=25:d=0.4[a];mandelbrot=s=96x64:r=25,trim=end_frame=10,setsar=1[b];\
                  smptebars=s=96x64:r=25:d=0.4[c];[a][b][c]concat=n=3";
    clip(&bench, "scenes.mkv", scenes, "-c:v ffv1 -pix_fmt bgr0");
    let scenes_path = bench.path("scenes.mkv");
    let found = Command::new("ffmpeg")
        .args(["-v", "info", "-i", scenes_path.to_str().unwrap(), "-vf", "format=yuv444p,scdet", "-f", "null", "-"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&found.stderr);
    let cuts: Vec<f64> = log.lines().filter_map(|l| l.split("lavfi.scd.time: ").nth(1)?.trim().parse().ok()).collect();
    let cuts: Vec<usize> = cuts.iter().map(|t| (t * 25.0).round() as usize).collect();
    assert_eq!(cuts, [10, 20], "{log}");
    let source = frames(&scenes_path);
    let mut bad = Vec::new();
    for (name, flags, morphed) in [("default", "", false), ("off", "--scene-threshold 1", true)] {
        done(
            &bench.run(&format!("enhance scenes.mkv -o out/{name}.mkv --interpolate 2x {NETWORK} {LOSSLESS} {flags}")),
        );
        let made = frames(&bench.path(&format!("out/{name}.mkv")));
        assert_eq!(made.len(), 2 * source.len() - 1);
        for (k, pair) in made.chunks(2).enumerate() {
            if pair[0] != source[k] {
                bad.push(format!("{name}: frame {k} of the source has changed"));
            }
            let Some(between) = pair.get(1) else { continue };
            // The bars do not move; the network's output for them is not compared.
            let kept = *between == source[k];
            if kept != (cuts.contains(&(k + 1)) && !morphed) {
                bad.push(format!("{name}: after frame {k}: {}", if kept { "repeated" } else { "made" }));
            }
        }
    }
    report(bad);
}

/// Three scenes, one of them a single frame. Scores equal scdet's, except after a cut: scdet subtracts the previous difference, so it
/// misses a second cut in the next frame.
#[test]
fn scene_scores_equal_scdet() {
    let bench = Bench::new();
    let scenes = "testsrc2=s=96x64:r=25:d=0.4[a];smptebars=s=96x64:r=25:d=0.04[b];mandelbrot=s=96x64:r=25,\
                  trim=end_frame=10,setsar=1[c];[a][b][c]concat=n=3";
    clip(&bench, "scenes.mkv", scenes, "-c:v ffv1 -pix_fmt bgr0");
    let path = bench.path("scenes.mkv");
    let filter = "scale=out_color_matrix=bt709,format=yuv444p,scdet,metadata=print:key=lavfi.scd.score:file=-";
    let result = ffmpeg(&["-i", path.to_str().unwrap(), "-vf", filter, "-f", "null", "-"]);
    let result = String::from_utf8_lossy(&result);
    let wanted: Vec<f32> =
        result.lines().filter_map(|l| l.strip_prefix("lavfi.scd.score=")?.parse::<f32>().ok()).collect();
    let mut motion = ChangeDetector::default();
    let found: Vec<Option<Change>> =
        frames(&path).iter().map(|f| motion.compare(&f.planes().unwrap(), 0.1, false)).collect();
    assert_eq!(found.len(), 21);
    let scores: Vec<f32> = found.iter().map(|c| c.map_or(0.0, |c| c.score)).collect();
    // scdet's luma is limited range: 219 of 256 steps.
    let same = |k: &usize| (scores[*k] * 100.0 * 219.0 / 256.0 - wanted[*k]).abs() < 0.02 * wanted[*k] + 0.1;
    let apart: Vec<usize> = (0..21).filter(|k| !same(k)).collect();
    let cuts: Vec<usize> = (0..21).filter(|k| scores[*k] > 0.1).collect();
    assert_eq!(cuts, [10, 11], "{scores:?}");
    assert!(apart.iter().all(|k| [11, 12].contains(k)), "{apart:?}\n{scores:?}\n{wanted:?}");
}

/// Every frame occurs twice, compressed. --dedup replaces the second one by an interpolated frame; a still scene stays unchanged.
#[test]
fn dedup_interpolates_over_repeats() {
    let bench = Bench::new();
    clip(
        &bench,
        "twos.mkv",
        "testsrc2=s=96x64:r=12:d=1,fps=24",
        "-c:v libx264 -preset medium -crf 23 -pix_fmt yuv444p",
    );
    clip(&bench, "exact.mkv", "testsrc2=s=96x64:r=12:d=1,fps=24", "-c:v ffv1 -pix_fmt bgr0");
    clip(
        &bench,
        "still.mkv",
        "testsrc2=s=96x64:r=24:d=1,tpad=stop_mode=clone:stop_duration=1",
        "-c:v ffv1 -pix_fmt bgr0",
    );
    let mut bad = Vec::new();
    for (source, flags, made_anew) in [
        ("twos.mkv", "--dedup", true),
        ("twos.mkv", "", false),
        ("exact.mkv", "--dedup", true),
        ("exact.mkv", "", false),
        ("still.mkv", "--dedup", false),
    ] {
        let path = format!("out/{}{source}", flags.len());
        done(&bench.run(&format!(
            "enhance {source} -o {path} --interpolate 2x {NETWORK} {LOSSLESS} --scene-threshold 1 {flags}"
        )));
        let (before, after) = (frames(&bench.path(source)), frames(&bench.path(&path)));
        let ((_, end), (_, last)) = (times(&bench.path(source), "v:0"), times(&bench.path(&path), "v:0"));
        if after.len() != 2 * before.len() - 1 || (last - end).abs() > 0.043 {
            bad.push(format!("{source} {flags}: {} frames from {}, {last} s", after.len(), before.len()));
            continue;
        }
        // The last repeat has no following frame to interpolate with. Other frames are always kept.
        let still = source == "still.mkv";
        let repeats: Vec<usize> = (1..before.len() - 1).filter(|k| if still { *k >= 24 } else { k % 2 == 1 }).collect();
        let kept = |k: usize| after[2 * k] == before[k];
        let wrong: Vec<&usize> = repeats.iter().filter(|k| kept(**k) == made_anew).collect();
        let changed: Vec<usize> = (0..before.len()).step_by(2).filter(|k| !kept(*k)).collect();
        if repeats.len() < 10 || !wrong.is_empty() || !changed.is_empty() {
            bad.push(format!("{source} {flags}: {} repeats, wrong {wrong:?}, changed {changed:?}", repeats.len()));
        }
    }
    report(bad);
}

/// Audio that starts before or after the video keeps its offset.
#[test]
fn audio_keeps_its_offset() {
    let bench = Bench::new();
    let av = |name: &str, first: &str, second: &str| {
        let path = bench.path(name);
        let video = "testsrc2=s=96x64:r=24000/1001:d=1.2";
        let mut args: Vec<&str> = first.split_whitespace().collect();
        args.extend(["-f", "lavfi", "-i", video]);
        args.extend(second.split_whitespace());
        args.extend(["-f", "lavfi", "-i", "sine=d=2", "-map", "0", "-map", "1", "-c:v", "libx264", "-c:a", "aac"]);
        args.push(path.to_str().unwrap());
        ffmpeg(&args);
    };
    av("late-sound.mp4", "", "-itsoffset 0.7");
    av("late-sound.mkv", "", "-itsoffset 0.7");
    av("late-video.mp4", "-itsoffset 0.7", "");
    av("late-video.mkv", "-itsoffset 0.7", "");
    let mut bad = Vec::new();
    for source in ["late-sound.mp4", "late-sound.mkv", "late-video.mp4", "late-video.mkv"] {
        for rate in ["2x", "30fps", "12fps"] {
            let path = format!("out/{rate}-{source}");
            done(&bench.run(&format!("enhance {source} -o {path} --interpolate {rate} {NETWORK}")));
            let (before, after) = (bench.path(source), bench.path(&path));
            for (stream, near) in [("v:0", 2e-3), ("a:0", 2e-3)] {
                let ((a, from), (b, to)) = (times(&before, stream), times(&after, stream));
                let end = if stream == "a:0" { near } else { 1.0 / 12.0 };
                if (a[0] - b[0]).abs() > near || (from - to).abs() > end {
                    bad.push(format!("{source} {rate}: {stream} {}–{to}, was {}–{from}", b[0], a[0]));
                }
            }
            if audio_checksums(&before) != audio_checksums(&after) {
                bad.push(format!("{source} {rate}: the sound has changed"));
            }
        }
    }
    report(bad);
}

/// An hour at fractional rates: the last frame keeps its time.
#[test]
fn an_hour_stays_in_sync() {
    let bench = Bench::new();
    let hour = |name: &str, graph: &str, more: &str| {
        let sound = "sine=f=440:r=8000:d=3600";
        let more = format!("-f lavfi -i {sound} -map 0 -map 1 -c:a aac -b:a 8k -c:v libx264 -preset ultrafast {more}");
        clip(&bench, name, graph, &more);
    };
    hour("film.mp4", "testsrc2=s=32x32:r=240/1001:d=3600", "");
    hour("film.mkv", "testsrc2=s=32x32:r=240/1001:d=3600", "");
    let uneven = "testsrc2=s=32x32:r=0.25:d=3600,settb=1/90000,setpts=(N*4+0.37*mod(N*7\\,5))/TB";
    hour("uneven.mp4", uneven, "-fps_mode vfr -enc_time_base 1/90000");
    let mut bad = Vec::new();
    for (source, rate, frame) in [
        ("film.mp4", "2x", 1001.0 / 480.0),
        ("film.mkv", "2x", 1001.0 / 480.0),
        ("film.mp4", "0.4fps", 2.5),
        ("uneven.mp4", "2x", 2.2),
        ("uneven.mp4", "0.4fps", 2.5),
    ] {
        let path = format!("out/{rate}-{source}");
        done(&bench.run(&format!("enhance {source} -o {path} --interpolate {rate} {NETWORK} --x264-preset ultrafast")));
        let (before, after) = (bench.path(source), bench.path(&path));
        let ((a, mut from), (b, mut to)) = (times(&before, "v:0"), times(&after, "v:0"));
        if source == "film.mkv" {
            (from, to) = (length(&before), length(&after));
        }
        let first = b[0] - a[0];
        // Source frames keep their times: every second frame at 2x.
        let drift =
            if rate == "2x" { max_difference(&a, &b.iter().copied().step_by(2).collect::<Vec<_>>()) } else { 0.0 };
        if first.abs() > 1e-3 || drift > 1.1e-3 || (from - to).abs() > frame {
            bad.push(format!("{source} {rate}: begins {first} later; {drift} s of drift; {from} to {to}"));
        }
        if audio_checksums(&before) != audio_checksums(&after) || times(&before, "a:0").1 != times(&after, "a:0").1 {
            bad.push(format!("{source} {rate}: the sound has changed"));
        }
    }
    report(bad);
}
