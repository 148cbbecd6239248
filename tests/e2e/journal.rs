//! Long videos in chunks: killed runs resume, and chunk borders do not change the output.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Bench, done, ffmpeg, probe, report, split};

const NETWORK: &str = "--frame-interpolation-model-path {rife}";
const LOSSLESS: &str = "--codec ffv1 --pix-fmt bgr0";

/// Makes a clip from a lavfi graph and further ffmpeg arguments.
fn clip(bench: &Bench, name: &str, graph: &str, more: &str) {
    let path = bench.path(name);
    let mut args = vec!["-f", "lavfi", "-i", graph];
    args.extend(more.split_whitespace());
    args.push(path.to_str().unwrap());
    ffmpeg(&args);
}

/// Returns ffmpeg's times and checksums of a video's frames.
fn frame_checksums(path: &Path) -> Vec<String> {
    let name = path.to_str().unwrap();
    let sums = ffmpeg(&["-i", name, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    String::from_utf8_lossy(&sums).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

/// Returns the presentation times of a stream's packets in seconds.
fn times(file: &Path, stream: &str) -> Vec<f64> {
    let entries = "packet=pts_time,flags";
    let command = ["-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "json"];
    let result = Command::new("ffprobe").args(command).arg(file).output().unwrap();
    let result: Value = serde_json::from_slice(&result.stdout).unwrap();
    let shown = |p: &&Value| !p["flags"].as_str().unwrap().contains('D');
    let packets = result["packets"].as_array().unwrap().iter().filter(shown);
    let mut times: Vec<f64> = packets.map(|p| p["pts_time"].as_str().unwrap().parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Returns the number of journal entries.
fn entries(folder: &Path) -> usize {
    let text = fs::read(folder.join("chunks.jsonl")).unwrap_or_default();
    text.iter().filter(|b| **b == b'\n').count().saturating_sub(1)
}

/// Runs until the journal has `count` entries, then kills. Returns whether the process was still running.
fn run_and_kill(bench: &Bench, args: &str, folder: &Path, count: usize) -> bool {
    let mut command = bench.command();
    let mut child =
        command.args(split(args)).arg("--quiet").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while entries(folder) < count && child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "{args}: {count} chunks do not come");
        std::thread::sleep(Duration::from_micros(500));
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Returns the faults of an output in chunks: frames or times that differ from one piece, other bytes after a kill, leftover files.
fn faults(bench: &Bench, name: &str, args: &str, chunk: f64) -> Vec<String> {
    let at = |part: &str| bench.path(&format!("out/{name}-{part}.mkv"));
    let run = |part: &str, chunk: f64| format!("enhance {args} -o out/{name}-{part}.mkv --chunk {chunk}");
    done(&bench.run(&run("whole", 1000.0)));
    done(&bench.run(&run("parts", chunk)));
    let (whole, parts) = (frame_checksums(&at("whole")), frame_checksums(&at("parts")));
    let mut bad = Vec::new();
    if whole != parts {
        let first = whole.iter().zip(&parts).position(|(a, b)| a != b);
        bad.push(format!("{name}: {} frames, {} in chunks, from {first:?} on others", whole.len(), parts.len()));
    }
    let mut kills = 0;
    for count in [1, 3] {
        let (folder, args) = (bench.path(&format!("out/.{name}-{count}.mkv.chunks")), run(&count.to_string(), chunk));
        if !run_and_kill(bench, &args, &folder, count) {
            continue;
        }
        kills += 1;
        let rerun = bench.run(&args);
        if rerun.code != Some(0) || fs::read(at(&count.to_string())).ok() != fs::read(at("parts")).ok() {
            bad.push(format!("{name}: killed after {count} chunks it comes to other bytes {}", rerun.err));
        }
    }
    if kills < 1 {
        bad.push(format!("{name}: only {kills} of 2 runs could be killed"));
    }
    let left: Vec<String> = bench.made().into_iter().filter(|n| n.starts_with(&format!(".{name}-"))).collect();
    if !left.is_empty() {
        bad.push(format!("{name}: left {left:?}"));
    }
    bad
}

#[test]
fn chunks_equal_one_piece() {
    let bench = Bench::new();
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -g 11";
    clip(&bench, "steady.mp4", "testsrc2=s=64x48:r=25:d=1.4", x264);
    clip(
        &bench,
        "late.mp4",
        "testsrc2=s=64x48:r=30:d=1.4,settb=1/90000,setpts=(N/30+0.003*mod(N*7\\,5))/TB",
        &format!("{x264} -enc_time_base 1/90000 -fps_mode vfr"),
    );
    let mut bad = Vec::new();
    for (name, args) in [
        ("twice", "steady.mp4 --interpolate 2x"),
        ("thrice", "steady.mp4 --interpolate 3x"),
        ("sixty", "steady.mp4 --interpolate 60fps"),
        ("uneven", "late.mp4 --interpolate 2x"),
        ("grid", "late.mp4 --interpolate 24fps"),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK} {LOSSLESS}"), 0.32));
    }
    report(bad);
}

#[test]
fn cuts_repeats_and_gaps_equal_one_piece() {
    let bench = Bench::new();
    let exact = "-c:v ffv1 -pix_fmt bgr0";
    let scenes = "testsrc2=s=64x48:r=25:d=0.8[a];mandelbrot=s=64x48:r=25,trim=end_frame=20,setsar=1[b];\
                  testsrc=s=64x48:r=25:d=0.8,setsar=1[c];[a][b][c]concat=n=3";
    clip(&bench, "scenes.mkv", scenes, exact);
    clip(&bench, "twos.mkv", "testsrc2=s=64x48:r=12:d=2,fps=24", exact);
    clip(
        &bench,
        "still.mkv",
        "testsrc2=s=64x48:r=24:d=0.5,tpad=stop_mode=clone:stop_duration=1.2[a];\
         mandelbrot=s=64x48:r=24,trim=end_frame=12,setsar=1[b];[a][b]concat=n=2",
        exact,
    );
    // Gaps longer than a chunk.
    clip(&bench, "slow.mkv", "testsrc2=s=64x48:r=1:d=4", exact);
    let mut bad = Vec::new();
    for (name, args, chunk) in [
        // The second chunk starts with the frame before a cut.
        ("cuts", "scenes.mkv --interpolate 2x", 0.76),
        ("twos", "twos.mkv --interpolate 2x --dedup", 0.4),
        ("still", "still.mkv --interpolate 60fps --dedup", 0.4),
        ("slow", "slow.mkv --interpolate 12fps", 0.4),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK} {LOSSLESS}"), chunk));
    }
    report(bad);
}

#[test]
fn every_container_resumes() {
    let bench = Bench::new();
    let graph = "testsrc2=s=64x48:r=25:d=1.4";
    // 10 bits, and open GOPs.
    clip(
        &bench,
        "deep.mkv",
        graph,
        "-c:v libx265 -pix_fmt yuv420p10le -x265-params log-level=error:keyint=10:open-gop=1:bframes=3",
    );
    clip(&bench, "cast.ts", graph, "-c:v libx264 -preset ultrafast -bf 2 -g 11");
    clip(&bench, "bare.h264", graph, "-c:v libx264 -preset ultrafast -bf 2 -g 11");
    clip(&bench, "open.mp4", graph, "-c:v libx264 -bf 3 -g 10 -x264-params open-gop=1");
    clip(&bench, "frame_%03d.png", "testsrc2=s=64x48:r=25:d=1.4", "-start_number 1");
    let mut bad = Vec::new();
    for (name, args) in [
        ("deep", "deep.mkv --interpolate 2x --codec ffv1"),
        ("cast", "cast.ts --interpolate 2x --codec ffv1"),
        ("bare", "bare.h264 --interpolate 2x --codec ffv1"),
        ("open", "open.mp4 --interpolate 2x --verify --codec ffv1"),
        ("frames", "frame_%03d.png --fps 25 --interpolate 2x --codec ffv1"),
    ] {
        bad.extend(faults(&bench, name, &format!("{args} {NETWORK}"), 0.32));
    }
    assert_eq!(probe(&bench.path("out/deep-parts.mkv"), "v:0")["pix_fmt"], "yuv420p10le");
    report(bad);
}

/// A run on a folder that is killed at eight times of its duration gives the bytes of an uninterrupted run.
#[test]
fn kills_lose_no_more_than_a_chunk() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    let x264 = "-f lavfi -i sine=d=1 -c:v libx264 -preset ultrafast -g 20 -c:a aac";
    clip(&bench, "in/a.mp4", "testsrc2=s=64x48:r=25:d=1", x264);
    clip(&bench, "in/b.mkv", "mandelbrot=s=64x48:r=25,trim=end_frame=25", "-c:v libx264 -preset ultrafast -bf 2");
    let args = |out: &str| {
        format!("enhance in -o {out} --interpolate 2x {NETWORK} --upscale 2 --upscaling-model-path {{x2}} --chunk 0.2")
    };
    let begin = Instant::now();
    done(&bench.run(&args("alone/")));
    let length = begin.elapsed();
    let mut bad = Vec::new();
    let mut landed = 0;
    for k in 1..=8u32 {
        let out = format!("r{k}");
        let mut command = bench.command();
        command.args(split(&args(&out))).arg("--quiet").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(length * k / 9);
        landed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let rerun = bench.run(&args(&out));
        for name in ["a.mp4", "b.mkv"] {
            let [made, alone] = [&out, "alone"].map(|folder| fs::read(bench.path(folder).join(name)).ok());
            if rerun.code != Some(0) || made.is_none() || made != alone {
                bad.push(format!("killed at {k}/9: {name} is another: {:?} {}", rerun.code, rerun.err));
            }
        }
        let left: Vec<_> = fs::read_dir(bench.path(&out)).unwrap().map(|e| e.unwrap().file_name()).collect();
        if left.len() != 3 {
            bad.push(format!("killed at {k}/9: left {left:?}"));
        }
    }
    assert!(landed >= 4, "{landed} of 8 kills came before the end");
    report(bad);
}

/// An interrupted run leaves its chunks for the next run, which reports chunks that it cannot reuse.
#[test]
fn a_journal_stays_valid_after_any_interruption() {
    let bench = Bench::new();
    let graph = "testsrc2=s=64x48:r=25:d=2";
    clip(&bench, "a.mkv", graph, "-c:v ffv1 -pix_fmt bgr0");
    let args = |out: &str| format!("enhance a.mkv -o out/{out} --interpolate 2x {NETWORK} {LOSSLESS} --chunk 0.4");
    done(&bench.run(&args("whole.mkv")));
    let whole = fs::read(bench.path("out/whole.mkv")).unwrap();
    let folder = |out: &str| bench.path(&format!("out/.{out}.chunks"));
    let mut bad = Vec::new();
    let check = |bad: &mut Vec<String>, name: &str, out: &str, args: &str, code: i32, says: &str| {
        let run = bench.run(args);
        let same = fs::read(bench.path(&format!("out/{out}"))).is_ok_and(|bytes| bytes == whole);
        if run.code != Some(code)
            || !run.err.contains(says)
            || same != (code == 0)
            || folder(out).exists() != (code > 0)
        {
            let found = run.code;
            bad.push(format!("{name}: {found:?}, the same: {same}, a journal: {} {}", folder(out).exists(), run.err));
        }
    };
    // Chunks of other settings are not mixed. The same command resumes with and without --overwrite.
    assert!(run_and_kill(&bench, &args("b.mkv"), &folder("b.mkv"), 2));
    let other = args("b.mkv").replace("2x", "3x");
    check(&mut bad, "settings", "b.mkv", &other, 3, "with other settings has left finished chunks");
    check(&mut bad, "chunk", "b.mkv", &args("b.mkv").replace("0.4", "0.3"), 3, "--overwrite discards them");
    check(&mut bad, "goes on", "b.mkv", &format!("{} --overwrite", args("b.mkv")), 0, "");
    // A damaged chunk and all later ones are encoded again.
    assert!(run_and_kill(&bench, &args("c.mkv"), &folder("c.mkv"), 3));
    fs::write(folder("c.mkv").join("00001"), "of no use").unwrap();
    check(&mut bad, "damaged", "c.mkv", &args("c.mkv"), 0, "");
    // A torn last line, as after a power failure.
    assert!(run_and_kill(&bench, &args("d.mkv"), &folder("d.mkv"), 2));
    let journal = folder("d.mkv").join("chunks.jsonl");
    let text = fs::read(&journal).unwrap();
    fs::write(&journal, &text[..text.len() - 40]).unwrap();
    check(&mut bad, "half a line", "d.mkv", &args("d.mkv"), 0, "");
    // The input is replaced, then removed, then restored.
    assert!(run_and_kill(&bench, &args("e.mkv"), &folder("e.mkv"), 2));
    let before = fs::read(bench.path("a.mkv")).unwrap();
    clip(&bench, "a.mkv", "mandelbrot=s=64x48:r=25,trim=end_frame=50", "-c:v ffv1 -pix_fmt bgr0");
    check(&mut bad, "input", "e.mkv", &args("e.mkv"), 3, "an input that has changed since");
    fs::remove_file(bench.path("a.mkv")).unwrap();
    check(&mut bad, "vanished", "e.mkv", &args("e.mkv"), 3, "a.mkv");
    fs::write(bench.path("a.mkv"), before).unwrap();
    check(&mut bad, "is back", "e.mkv", &args("e.mkv"), 0, "");
    // Enough disk space for every chunk, but not for the whole video.
    let half = whole.len() / 2 / 1024;
    let run = bench.run_limited(half, &args("g.mkv"));
    let kept = entries(&folder("g.mkv"));
    if run.code != Some(3) || !run.err.contains("writing out/g.mkv: File too large") || kept < 4 {
        bad.push(format!("full: {:?}, {kept} chunks, {}", run.code, run.err));
    }
    check(&mut bad, "room again", "g.mkv", &args("g.mkv"), 0, "");
    // Ctrl-C.
    let mut child = bench.command().args(split(&args("h.mkv"))).arg("--quiet").spawn().unwrap();
    while entries(&folder("h.mkv")) < 2 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the child has not been waited for, so its process id is valid.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let code = child.wait().unwrap().code();
    if code != Some(130) || entries(&folder("h.mkv")) < 2 {
        bad.push(format!("ctrl-c: {code:?}, {} chunks", entries(&folder("h.mkv"))));
    }
    check(&mut bad, "after ctrl-c", "h.mkv", &args("h.mkv"), 0, "");
    report(bad);
}

/// A time range equals ffmpeg's cut: frames, audio, subtitles and chapters.
#[test]
fn a_time_range_equals_ffmpegs_cut() {
    let bench = Bench::new();
    let at = |name: &str| bench.path(name).to_str().unwrap().to_string();
    fs::write(bench.path("s.srt"), "1\n00:00:00,200 --> 00:00:00,900\nearly\n\n2\n00:00:01,100 --> 00:00:01,300\nin\n\n3\n00:00:01,700 --> 00:00:02,500\nlate\n").unwrap();
    fs::write(bench.path("c.txt"), ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=one\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=3000\ntitle=two\n").unwrap();
    let graph = "testsrc2=s=64x48:r=25:d=3";
    let (srt, chapters) = (at("s.srt"), at("c.txt"));
    let beside = format!("-f lavfi -i sine=d=3 -i {srt} -i {chapters} -map 0:v -map 1:a -map 2:s -map_chapters 3");
    clip(
        &bench,
        "a.mkv",
        graph,
        &format!("{beside} -c:a pcm_s16le -c:s srt -c:v libx264 -preset ultrafast -bf 2 -g 40"),
    );
    clip(&bench, "b.mp4", graph, &format!("{beside} -c:a aac -c:s mov_text -c:v libx264 -bf 3 -g 12"));
    clip(&bench, "c.ts", graph, "-c:v libx264 -preset ultrafast -bf 2");
    clip(
        &bench,
        "uneven.mp4",
        "testsrc2=s=64x48:r=30:d=3,settb=1/90000,setpts=(N/30+0.003*mod(N*7\\,5))/TB",
        "-c:v libx264 -preset ultrafast -bf 2 -enc_time_base 1/90000 -fps_mode vfr",
    );
    clip(&bench, "f_%03d.png", graph, "-start_number 0");
    let mut bad = Vec::new();
    let ending = "--codec ffv1 --pix-fmt bgr0";
    for (k, (source, fps, rate)) in [
        ("a.mkv", "", "--upscale 1 --filter nearest"),
        ("a.mkv", "", "--interpolate 2x"),
        ("a.mkv", "", "--interpolate 60fps --chunk 0.3"),
        ("b.mp4", "", "--interpolate 3x"),
        ("c.ts", "", "--interpolate 2x"),
        ("uneven.mp4", "", "--interpolate 2x --chunk 0.3"),
        ("f_%03d.png", "--fps 25", "--interpolate 2x"),
    ]
    .iter()
    .enumerate()
    {
        let network = if rate.contains("inter") { NETWORK } else { "" };
        let name = format!("p{k}.mkv");
        done(
            &bench.run(&format!(
                "enhance {source} {fps} -o out/{name} {rate} {network} {ending} --start 0.6 --end 0:01.8"
            )),
        );
        // ffmpeg cuts the range losslessly, then crescendo processes it whole. Start times of transport streams are subtracted.
        let (cut, whole) = (at(&format!("cut{k}.mkv")), format!("w{k}.mkv"));
        let first: &[&str] = if fps.is_empty() { &[] } else { &["-framerate", "25"] };
        let input = at(source);
        let begin = if source.ends_with("ts") { times(&bench.path(source), "v:0")[0] } else { 0.0 };
        let trim = format!("trim={}:{},setpts=PTS-STARTPTS", 0.5999 + begin, 1.7999 + begin);
        let tail = [
            "-copyts",
            "-i",
            &input,
            "-an",
            "-sn",
            "-vf",
            &trim,
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1/90000",
            "-c:v",
            "ffv1",
            &cut,
        ];
        ffmpeg(&first.iter().copied().chain(tail).collect::<Vec<_>>());
        done(
            &bench.run(&format!(
                "enhance cut{k}.mkv -o out/{whole} {} {network} {ending}",
                rate.replace("--chunk 0.3", "")
            )),
        );
        let sums = |name: &str| -> Vec<String> {
            let shown = frame_checksums(&bench.path(&format!("out/{name}")));
            shown.iter().map(|l| l.rsplit(',').next().unwrap().trim().to_owned()).collect()
        };
        let (found, wanted) = (sums(&name), sums(&whole));
        if found != wanted && *source != "uneven.mp4" || found.len() != wanted.len() {
            bad.push(format!("{source} {rate}: {} frames, wanted {}", found.len(), wanted.len()));
        }
    }
    for source in ["a.mkv", "b.mp4"] {
        let name = format!("out/beside-{source}");
        let run = bench.run(&format!("enhance {source} -o {name} --upscale 1 --filter nearest --start 0.6 --end 1.8"));
        let (video, sound) = (times(&bench.path(&name), "v:0"), times(&bench.path(&name), "a:0"));
        let before: Vec<f64> =
            times(&bench.path(source), "a:0").into_iter().filter(|t| (0.6..1.8).contains(t)).collect();
        let shift = before.iter().zip(&sound).map(|(a, b)| (a - b - 0.6).abs()).fold(0.0, f64::max);
        if run.code != Some(0)
            || video.len() != 30
            || video[0].abs() > 1e-3
            || sound.len() != before.len()
            || shift > 2e-3
        {
            bad.push(format!(
                "{source}: {} frames from {}, {} of {} sounds, {shift} s off {}",
                video.len(),
                video[0],
                sound.len(),
                before.len(),
                run.err
            ));
        }
        let reported = Command::new("ffprobe")
            .args(["-v", "error", "-show_chapters", "-of", "csv"])
            .arg(bench.path(&name))
            .output()
            .unwrap();
        let reported = String::from_utf8_lossy(&reported.stdout).into_owned();
        let texts = ffmpeg(&["-i", &at(&name), "-map", "0:s", "-f", "srt", "-"]);
        let texts = String::from_utf8_lossy(&texts).into_owned();
        for (what, wanted) in [
            ("0.000000", &reported),
            ("0.400000", &reported),
            ("1.200000", &reported),
            ("00:00:00,500 --> 00:00:00,700\nin", &texts),
            ("00:00:01,100 --> 00:00:01,200\nlate", &texts),
            ("00:00:00,000 --> 00:00:00,300\nearly", &texts),
        ] {
            if !wanted.contains(what) {
                bad.push(format!("{source}: no {what} in {wanted}"));
            }
        }
    }
    for (args, says) in [
        ("a.mkv --start 5", "a.mkv ends at 3.0"),
        ("a.mkv --end 1:00", "before --end 60"),
        ("a.mkv --start 1.01 --end 1.02", "has no frame from 1.01 s to 1.02 s"),
        ("f_%03d.png --fps 25 --start 4", "ends at 3.000 s, before --start 4"),
        ("f_000.png --start 1", "is a picture, which has no duration"),
    ] {
        let ending = if args.starts_with("f_000") { "png" } else { "mkv" };
        let run = bench.run(&format!("enhance {args} -o out/x.{ending} --upscale 1 --filter nearest"));
        if run.code != Some(3) || !run.err.contains(says) {
            bad.push(format!("{args}: {:?} {}", run.code, run.err));
        }
    }
    report(bad);
}

/// A complete output is adopted after a kill between journal entry and rename, or after the rename.
#[test]
fn complete_outputs_are_adopted() {
    let bench = Bench::new();
    clip(&bench, "a.mkv", "testsrc2=s=64x48:r=25:d=1", "-c:v ffv1 -pix_fmt bgr0");
    let up = "--upscale 2 --filter nearest --codec ffv1 --pix-fmt bgr0 --chunk 0.3";
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let mut bad = Vec::new();
    // In a folder the journal entry stays, so the test can undo the rename.
    let args = format!("enhance a.mkv -o out/ {up}");
    done(&bench.run(&args));
    let (named, part) = (bench.path("out/a.mkv"), bench.path("out/.a.part.mkv"));
    let (bytes, before) = (fs::read(&named).unwrap(), inode(&named));
    fs::rename(&named, &part).unwrap();
    done(&bench.run(&args));
    if inode(&named) != before || fs::read(&named).unwrap() != bytes {
        bad.push("a complete file was processed again".to_owned());
    }
    // An output that is one byte shorter is not adopted.
    fs::rename(&named, &part).unwrap();
    fs::write(&part, &bytes[1..]).unwrap();
    done(&bench.run(&args));
    if fs::read(&named).unwrap() != bytes {
        bad.push("half a file was taken for whole".to_owned());
    }
    // A single file: the journal entry is stored with the chunks for a short time.
    for k in 0..4 {
        let (name, folder) = (format!("f{k}.mkv"), bench.path(&format!("out/.f{k}.mkv.chunks")));
        let args = format!("enhance a.mkv -o out/{name} {up}");
        let mut child = bench.command().args(split(&args)).arg("--quiet").spawn().unwrap();
        while !folder.join(".crescendo.jsonl").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_micros(k * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last step of a run removes the empty folder.
        let left = fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
        if !left {
            let _ = fs::remove_dir(&folder);
        }
        let run = bench.run(&args);
        let ended = run.code == Some(0) || !left && run.err.contains("already exists");
        if !ended || fs::read(bench.path(&format!("out/{name}"))).unwrap() != bytes || folder.exists() {
            bad.push(format!("{name}: {:?} {}", run.code, run.err));
        }
    }
    report(bad);
}
