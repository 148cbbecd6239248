//! Videos that are damaged, spliced, interlaced or rotated, and requests that the encoder cannot fulfil.

use std::{fs, path::Path};

use crate::{Bench, ffmpeg, here, probe, report, split};

/// Runs without `--quiet`. Returns the exit code and standard error.
fn told(bench: &Bench, args: &str) -> (Option<i32>, String) {
    let output = bench.command().args(split(args)).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Makes a clip with ffmpeg. `@`: the folder.
fn make(bench: &Bench, line: &str) {
    let folder = bench.path("").display().to_string();
    let line = line.replace("@/", &folder);
    ffmpeg(&line.split_whitespace().collect::<Vec<_>>());
}

const CLIP: &str = "-f lavfi -i testsrc2=s=64x48:r=25:d=2";
const PLAIN: &str = "--upscale 2 --filter nearest";

fn frames(file: &Path) -> String {
    probe(file, "v:0")["nb_read_frames"].as_str().unwrap_or("none").to_owned()
}

fn truncate(bench: &Bench, name: &str, new: &str, keep: f64) {
    let bytes = fs::read(bench.path(name)).unwrap();
    fs::write(bench.path(new), &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
}

/// The message of a truncated recording names two ways to use what it has, and both work.
#[test]
fn truncated_recordings_can_be_used() {
    let bench = Bench::new();
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -g 10";
    make(&bench, &format!("{CLIP} {x264} -movflags +faststart @/whole.mp4"));
    make(&bench, &format!("{CLIP} {x264} @/whole.mkv"));
    make(&bench, &format!("{CLIP} {x264} -output_ts_offset 7 @/late.mkv"));
    let mut bad = Vec::new();
    for (whole, name) in [("whole.mp4", "cut.mp4"), ("whole.mkv", "cut.mkv"), ("late.mkv", "cutlate.mkv")] {
        truncate(&bench, whole, name, 0.6);
        let base = format!("enhance {name} -o out/{name} {PLAIN} --overwrite");
        let (code, err) = told(&bench, &base);
        let end = err.split("--end ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?").to_owned();
        if code != Some(3) || !err.contains("is truncated at") || !err.contains("--conceal-errors") {
            bad.push(format!("{name}: {code:?} {err}"));
        }
        for flag in [format!("--end {end}"), "--conceal-errors".to_owned()] {
            let (code, err) = told(&bench, &format!("{base} {flag}"));
            let count: usize = frames(&bench.path("out").join(name)).parse().unwrap_or(0);
            let warned = err.contains("is damaged: decoding failed once") == flag.starts_with("--conceal");
            if code != Some(0) || !(15..45).contains(&count) || !warned {
                bad.push(format!("{name} {flag}: {code:?}, {count} frames, {err}"));
            }
        }
    }
    report(bad);
}

/// A hole in the middle: every position has a frame, and the warning counts the repeats.
#[test]
fn holes_are_concealed() {
    let bench = Bench::new();
    make(&bench, &format!("{CLIP} -c:v mjpeg -q:v 3 @/a.mkv"));
    let mut bytes = fs::read(bench.path("a.mkv")).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 3).filter(|k| bytes[*k..].starts_with(&[0xff, 0xd8, 0xff])).collect();
    for frame in [20, 21] {
        bytes[starts[frame]..starts[frame + 1] - 64].fill(0);
    }
    fs::write(bench.path("hole.mkv"), bytes).unwrap();
    let base = format!("enhance hole.mkv -o out/a.mkv {PLAIN}");
    let (code, err) = told(&bench, &base);
    assert!(code == Some(3) && err.contains("damaged"), "{code:?} {err}");
    let (code, err) = told(&bench, &format!("{base} --conceal-errors"));
    assert!(code == Some(0) && err.contains("decoding failed 2 times, 2 frames repeat"), "{code:?} {err}");
    assert_eq!(frames(&bench.path("out/a.mkv")), "50", "{err}");
}

#[test]
fn spliced_and_late_recordings_are_whole() {
    let bench = Bench::new();
    let x264 = "-f lavfi -i sine=d=2 -c:v libx264 -preset ultrafast -c:a aac";
    make(&bench, &format!("{CLIP} {x264} @/a.ts"));
    make(&bench, &format!("{CLIP} {x264} -output_ts_offset 5000 @/b.ts"));
    make(&bench, &format!("{CLIP} {x264} -output_ts_offset 5 @/late.mkv"));
    let bytes = |name: &str| fs::read(bench.path(name)).unwrap();
    fs::write(bench.path("forward.ts"), [bytes("a.ts"), bytes("b.ts")].concat()).unwrap();
    fs::write(bench.path("backward.ts"), [bytes("b.ts"), bytes("a.ts")].concat()).unwrap();
    let mut bad = Vec::new();
    for (name, count, jumps) in
        [("late.mkv", "50", false), ("a.ts", "50", false), ("forward.ts", "100", true), ("backward.ts", "100", true)]
    {
        let output = bench.path("out").join(name).with_extension("mkv");
        let (code, err) = told(&bench, &format!("enhance {name} -o {} {PLAIN}", output.display()));
        let found = frames(&output);
        let length = |stream: &str| -> f64 {
            let times = ffprobe_times(&output, stream);
            times.last().copied().unwrap_or(0.0) - times.first().copied().unwrap_or(0.0)
        };
        let wanted = if jumps { 4.0 } else { 2.0 };
        let (video, sound) = (length("v:0"), length("a:0"));
        let near = |length: f64| (length - wanted).abs() < 0.2;
        if code != Some(0) || found != count || err.contains("clock jumps") != jumps || !near(video) || !near(sound) {
            bad.push(format!("{name}: {code:?}, {found} frames, {video} s, sound {sound} s, {err}"));
        }
    }
    report(bad);
}

/// The presentation times of a stream, sorted.
fn ffprobe_times(file: &Path, stream: &str) -> Vec<f64> {
    let arguments = ["-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(arguments).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut times: Vec<f64> = text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn interlaced_videos_are_named() {
    let bench = Bench::new();
    let rows = [
        ("top.mp4", "-c:v libx264 -x264opts tff=1", "interlaced (top field first)"),
        ("bottom.mkv", "-c:v libx264 -x264opts bff=1", "interlaced (bottom field first)"),
        ("tape.ts", "-c:v mpeg2video -flags +ildct+ilme -top 1", "interlaced (top field first)"),
        ("film.mp4", "-c:v libx264", ""),
    ];
    let mut bad = Vec::new();
    for (name, options, wanted) in rows {
        make(&bench, &format!("{CLIP} {options} @/{name}"));
        for silent in [false, true] {
            let flag = if silent { "--assume-progressive" } else { "" };
            let args = format!("enhance {name} -o out/{name} {PLAIN} --overwrite {flag}");
            let (code, err) = told(&bench, &args);
            let right = if silent || wanted.is_empty() { !err.contains("interlaced") } else { err.contains(wanted) };
            if code != Some(0) || !right {
                bad.push(format!("{name} {flag}: {code:?} {err}"));
            }
        }
    }
    report(bad);
}

/// Frames are turned where the container does not store a rotation.
#[test]
fn rotations_are_kept_or_applied() {
    let bench = Bench::new();
    make(&bench, &format!("{CLIP} -c:v libx264 -qp 4 -pix_fmt yuv444p @/flat.mp4"));
    let mut bad = Vec::new();
    for (degrees, target, size, turned) in [
        (90, "a.mkv", (96, 128), true),
        (270, "b.mkv", (96, 128), true),
        (180, "c.mkv", (128, 96), true),
        (90, "d.webm", (96, 128), true),
        (90, "e.mp4", (128, 96), false),
        (90, "f.mov", (128, 96), false),
        (0, "g.mkv", (128, 96), false),
    ] {
        make(&bench, &format!("-i @/flat.mp4 -c copy -metadata:s:v rotate={degrees} @/in{degrees}.mp4"));
        let (code, err) = told(&bench, &format!("enhance in{degrees}.mp4 -o out/{target} {PLAIN} --crf 5"));
        let output = bench.path("out").join(target);
        let stream = probe(&output, "v:0");
        let found = (stream["width"].as_i64().unwrap_or(0), stream["height"].as_i64().unwrap_or(0));
        // ffmpeg turns both by their tags.
        let graph = "[1:v]scale=iw*2:ih*2:flags=neighbor,format=yuv444p[b];[0:v]format=yuv444p[a];[a][b]psnr";
        let psnr = psnr(&output, &bench.path(&format!("in{degrees}.mp4")), graph);
        if code != Some(0) || found != size || err.contains("are turned by") != turned || psnr < 30.0 {
            bad.push(format!("{degrees} into {target}: {code:?}, {found:?}, {psnr} dB, {err}"));
        }
    }
    report(bad);
}

/// ffmpeg's mean PSNR of two videos in dB.
fn psnr(a: &Path, b: &Path, graph: &str) -> f64 {
    let mut command = std::process::Command::new("ffmpeg");
    let output = command.arg("-i").arg(a).arg("-i").arg(b).args(["-lavfi", graph, "-f", "null", "-"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = text.split("average:").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("0");
    if value == "inf" { 100.0 } else { value.parse().unwrap_or(0.0) }
}

/// Source frames come back visually unchanged with the default settings, and 4:4:4 stays.
#[test]
fn the_default_quality_of_enhance() {
    let bench = Bench::new();
    let clip = here(crate::CLIP);
    make(&bench, &format!("-i {clip} -t 0.6 -an -c:v ffv1 @/a.mkv"));
    make(&bench, &format!("-i {clip} -t 0.6 -an -c:v ffv1 -pix_fmt yuv444p @/full.mkv"));
    make(&bench, &format!("-i {clip} -t 0.6 -an -c:v ffv1 -pix_fmt bgr0 @/rgb.mkv"));
    let graph = "[0:v]scale=320:180:flags=neighbor,format=yuv444p[a];[1:v]format=yuv444p[b];[a][b]psnr";
    let mut bad = Vec::new();
    for (source, target, flags, pixels, least) in [
        ("a.mkv", "a.mp4", "", "yuv420p", 42.0),
        ("a.mkv", "b.webm", "", "yuv420p", 42.0),
        ("a.mkv", "c.mkv", "--codec libx265 --x264-preset ultrafast", "yuv420p", 41.0),
        ("full.mkv", "d.mp4", "", "yuv444p", 42.0),
        ("rgb.mkv", "e.mp4", "", "yuv444p", 42.0),
        ("a.mkv", "f.avi", "--codec mpeg4", "yuv420p", 40.0),
    ] {
        let (code, err) = told(&bench, &format!("enhance {source} -o out/{target} {PLAIN} {flags}"));
        let output = bench.path("out").join(target);
        let format = probe(&output, "v:0")["pix_fmt"].as_str().unwrap_or("none").to_owned();
        let found = psnr(&output, &bench.path(source), graph);
        if code != Some(0) || format != pixels || found < least {
            bad.push(format!("{source} to {target} {flags}: {code:?}, {format}, {found} dB, {err}"));
        }
    }
    report(bad);
}

/// Requests that cannot work end with exit code 1 before a model is looked for.
#[test]
fn encoder_mistakes_are_usage_errors() {
    let bench = Bench::new();
    make(&bench, &format!("{CLIP} -c:v libx264 @/a.mp4"));
    let mut bad = Vec::new();
    for (output, flags, want) in [
        ("a.mp4", "--codec libx26", "no video encoder libx26; did you mean libx264"),
        ("folder", "--codec nonsense", "no video encoder nonsense; "),
        ("a.mp4", "--pix-fmt yuv421p", "--pix-fmt yuv421p: FFmpeg has no such pixel format"),
        ("a.mp4", "--pix-fmt rgb24", "encoder libx264 has no pixel format rgb24"),
        ("a.mp4", "--crf 99", "--crf 99: libx264 takes at most 51"),
        ("a.xyz", "", "a.xyz"),
    ] {
        let args = format!("enhance a.mp4 -o out/{output} --upscale 2 --upscaling-model-path missing.pth {flags}");
        bad.extend(bench.fault(&args, &bench.run(&args), 1, &[want]));
    }
    for (flags, want) in [
        ("--codec libx26", "did you mean libx264"),
        ("--crf 99", "--crf 99"),
        ("--pix-fmt yuv421p", "no such pixel format"),
        ("--output-file-path out/a.xyz", "a.xyz"),
    ] {
        let args = format!("generate --model-path missing --prompt a {flags}");
        bad.extend(bench.fault(&args, &bench.run(&args), 1, &[want]));
    }
    report(bad);
}

/// Frame rates that an animated picture cannot have are refused before any frame is made.
#[test]
fn animated_pictures_have_a_fastest_rate() {
    let bench = Bench::new();
    make(&bench, "-f lavfi -i testsrc2=s=64x48:r=60:d=0.5 -c:v libx264 @/fast.mp4");
    make(&bench, "-f lavfi -i testsrc2=s=64x48:r=240:d=0.2 -c:v libx264 @/faster.mp4");
    make(&bench, "-f lavfi -i testsrc2=s=64x48:r=50:d=0.5 -c:v libx264 @/fits.mp4");
    let mut bad = Vec::new();
    for (input, output, want) in [
        ("fast.mp4", "a.gif", "a.gif: GIF has at most 50 frames per second, this video has 60"),
        ("faster.mp4", "a.webp", "a.webp: WebP has at most 90.9 frames per second, this video has 240"),
    ] {
        let args = format!("enhance {input} -o out/{output} {PLAIN}");
        bad.extend(bench.fault(&args, &bench.run(&args), 3, &[want]));
    }
    for (input, output) in [("fits.mp4", "b.gif"), ("fast.mp4", "b.webp")] {
        let run = bench.run(&format!("enhance {input} -o out/{output} {PLAIN}"));
        if run.code != Some(0) {
            bad.push(format!("{input} to {output}: {:?} {}", run.code, run.err));
        }
    }
    report(bad);
}

/// A folder run with files that name other files: nothing of these comes out, and each fails with a sentence.
#[test]
fn a_folder_with_playlists_reads_nothing_else() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("in")).unwrap();
    fs::create_dir_all(bench.path("private")).unwrap();
    make(&bench, &format!("{CLIP} -c:v libx264 @/private/secret.ts"));
    make(&bench, &format!("{CLIP} -c:v libx264 @/in/good.mp4"));
    let secret = bench.path("private/secret.ts").display().to_string();
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{secret}\n#EXT-X-ENDLIST\n");
    fs::write(bench.path("in/playlist.mp4"), hls).unwrap();
    fs::write(bench.path("in/script.mkv"), format!("ffconcat version 1.0\nfile '{secret}'\n")).unwrap();
    fs::write(bench.path("in/text.mp4"), "\x1b[31mprivate text\x1b[0m\r\n".repeat(50)).unwrap();
    let run = bench.run(&format!("enhance in -o out {PLAIN}"));
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert_eq!(bench.made(), [".crescendo.jsonl", "good.mp4"], "{}", run.err);
    for name in ["playlist.mp4", "script.mkv", "text.mp4"] {
        assert!(run.err.lines().any(|line| line.starts_with("error: ") && line.contains(name)), "{name}: {}", run.err);
    }
}

#[test]
fn doctor_lists_the_encoders_that_matter() {
    let bench = Bench::new();
    let row = |args: &str| {
        let text = String::from_utf8(bench.command().args(args.split(' ')).output().unwrap().stdout).unwrap();
        text.lines().find(|line| line.starts_with("encoders")).unwrap_or_default().to_owned()
    };
    let (short, all) = (row("doctor"), row("doctor --codecs"));
    assert!(short.contains("libx264") && short.contains("--codecs lists all") && short.len() < 240, "{short}");
    assert!(all.contains("libx264") && all.contains("mpeg2video") && all.len() > 800, "{all}");
}
