//! Folders: structure, finished items, concurrent runs, kills.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Bench, CLIP, Run, done, ffmpeg, here, probe, report, split};

const UP: &str = "--upscale 2 --upscaling-model-path {x2}";

/// An 8×8 PNG, different for each seed.
fn tiny(seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let pixels: Vec<u8> = (0..8 * 8 * 3).map(|_| noise()).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// Writes `count` pictures to folders in `in`. Every `corrupt`-th one is truncated to half.
fn fill(bench: &Bench, count: u32, corrupt: Option<u32>) {
    for k in 0..count {
        let folder = bench.path(&format!("in/{}/{}", k % 7, k % 3));
        fs::create_dir_all(&folder).unwrap();
        let bytes = tiny(k);
        let whole = corrupt.is_none_or(|every| k % every > 0);
        fs::write(folder.join(format!("{k:04}.png")), if whole { &bytes } else { &bytes[..bytes.len() / 2] }).unwrap();
    }
}

/// Returns path and bytes of every file below a folder, except the journal.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, base: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, all);
            } else if !path.ends_with(".crescendo.jsonl") {
                // A concurrent run creates and removes files.
                all.insert(path.strip_prefix(base).unwrap().into(), fs::read(&path).unwrap_or_default());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(folder, folder, &mut all);
    all
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().map(|p| p.display().to_string()).collect()
}

/// Returns the number of items per status in the `--json` output.
fn states(run: &Run) -> BTreeMap<String, usize> {
    let document: Value = serde_json::from_slice(&run.out).unwrap_or_else(|e| panic!("{e}: {}", run.err));
    let mut all = BTreeMap::new();
    for item in document["items"].as_array().unwrap() {
        *all.entry(item["status"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    all
}

fn counts(rows: &[(&str, usize)]) -> BTreeMap<String, usize> {
    rows.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// Returns the lines of a report.
fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn spawn(bench: &Bench, args: &str) -> Child {
    let mut command = bench.command();
    command.args(split(args)).arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `count` outputs exist or the run has ended.
fn until(child: &mut Child, folder: &Path, count: usize) {
    let since = Instant::now();
    let ready = || names(folder).iter().filter(|n| !n.contains(".part.")).count() >= count;
    while !ready() && child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(120), "{count} results do not come");
        std::thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn a_thousand_pictures_of_which_fifty_are_corrupt() {
    let bench = Bench::new();
    fill(&bench, 1000, Some(20));
    fs::write(bench.path("in/notes.txt"), "no picture").unwrap();
    let args = format!("enhance in -o out --recursive --jobs 8 --report r.jsonl --json {UP}");
    let run = bench.run(&args);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert_eq!(states(&run), counts(&[("done", 950), ("failed", 50)]));
    let reported: Vec<&str> = run.err.lines().collect();
    assert!(reported.len() == 50 && reported.iter().all(|l| l.contains(".png: the PNG is damaged")), "{}", run.err);
    // The output tree equals the input tree without the corrupt pictures.
    let wanted: Vec<String> = names(&bench.path("in")).into_iter().filter(|n| n.ends_with(".png")).collect();
    let number = |n: &String| n[n.len() - 8..n.len() - 4].parse::<u32>().unwrap();
    let wanted: Vec<String> = wanted.into_iter().filter(|n| number(n) % 20 > 0).collect();
    assert_eq!(names(&bench.path("out")), wanted);

    let lines = lines(&bench.path("r.jsonl"));
    let mut bad = Vec::new();
    for line in &lines {
        let (input, failed) = (line["input"].as_str().unwrap(), line["status"] == "failed");
        let sum = blake3::hash(&fs::read(bench.path(input)).unwrap()).to_hex().to_string();
        let good = line["input_hash"] == sum
            && line["model_hash"].as_str().is_some_and(|h| h.len() == 64)
            && line["settings_hash"].as_str().is_some_and(|h| h.len() == 64)
            && line["frames"] == if failed { 0 } else { 1 }
            && line["seconds"].as_f64().is_some_and(|s| s > 0.0)
            && line["peak_memory_bytes"].as_u64().is_some_and(|b| b > 1 << 20)
            && line["cause"].is_string() == failed
            && line["output"].as_str().map(Path::new)
                == (!failed).then(|| Path::new("out").join(Path::new(input).strip_prefix("in").unwrap())).as_deref();
        if !good {
            bad.push(line.to_string());
        }
    }
    assert_eq!(lines.len(), 1000);
    report(bad);
}

#[test]
fn finished_items_are_recognised_by_content() {
    let bench = Bench::new();
    fill(&bench, 12, None);
    let plain = format!("enhance in -o out --recursive --json {UP}");
    assert_eq!(states(&bench.run(&plain)), counts(&[("done", 12)]));
    let first = files(&bench.path("out"));
    assert_eq!(states(&bench.run(&plain)), counts(&[("skipped", 12)]));

    // Change one byte of an input; name, length and time stay.
    let victim = bench.path("in/3/0/0003.png");
    let time = fs::metadata(&victim).unwrap().modified().unwrap();
    let other = tiny(77);
    fs::write(&victim, &other).unwrap();
    fs::File::options().write(true).open(&victim).unwrap().set_modified(time).unwrap();
    let run = bench.run(&plain);
    assert_eq!((run.code, states(&run)), (Some(2), counts(&[("failed", 1), ("skipped", 11)])));
    assert!(run.err.contains("out/3/0/0003.png already exists and its input has changed; --overwrite"), "{}", run.err);
    assert_eq!(files(&bench.path("out")), first);
    let run = bench.run(&format!("{plain} --overwrite --skip-existing"));
    assert_eq!((run.code, states(&run)), (Some(0), counts(&[("done", 1), ("skipped", 11)])));
    let second = files(&bench.path("out"));
    let differ: Vec<&PathBuf> = second.keys().filter(|k| second[*k] != first[*k]).collect();
    assert_eq!(differ, [Path::new("3/0/0003.png")]);

    let mut bad = Vec::new();
    for (why, change, want, says) in [
        ("settings", "--upscale 3".to_owned(), counts(&[("failed", 12)]), "it was written with other settings"),
        (
            "models",
            format!("--upscaling-model-path {}", here("tests/goldens/esrgan/compact-x2.safetensors")),
            counts(&[("failed", 12)]),
            "other models",
        ),
        ("how it is run", "--jobs 3 --threads 1 --device cpu".into(), counts(&[("skipped", 12)]), ""),
        ("all anew", "--overwrite".into(), counts(&[("done", 12)]), ""),
    ] {
        let run = bench.run(&format!("{plain} {change}"));
        if states(&run) != want || !run.err.contains(says) || files(&bench.path("out")) != second {
            bad.push(format!("{why}: {:?} {}", states(&run), run.err));
        }
    }
    report(bad);

    // A modified output, a deleted output, an unrelated file.
    fs::write(bench.path("out/1/1/0001.png"), tiny(5)).unwrap();
    fs::remove_file(bench.path("out/2/2/0002.png")).unwrap();
    fs::write(bench.path("in/new.png"), tiny(99)).unwrap();
    fs::write(bench.path("out/new.png"), "mine").unwrap();
    let run = bench.run(&plain);
    assert_eq!(states(&run), counts(&[("done", 1), ("failed", 2), ("skipped", 10)]));
    for says in ["0001.png already exists and it has changed", "new.png already exists and the journal has no record"] {
        assert!(run.err.contains(says), "{}", run.err);
    }
    assert_eq!(fs::read(bench.path("out/new.png")).unwrap(), b"mine");
    // A copy of the folder has the same bytes but other times.
    crate::copy_folder(&bench.path("out"), &bench.path("copy"));
    let run = bench.run(&plain.replace("-o out", "-o copy"));
    assert_eq!(states(&run), counts(&[("failed", 2), ("skipped", 11)]));
}

#[test]
fn concurrent_jobs_give_the_same_bytes() {
    let bench = Bench::new();
    fill(&bench, 40, None);
    let clip = bench.path("in/clip.mp4");
    ffmpeg(&["-i", &here(CLIP), "-frames:v", "6", "-vf", "scale=64:36", "-an", clip.to_str().unwrap()]);
    for (jobs, out) in [(1, "one"), (4, "four")] {
        done(&bench.run(&format!("enhance in -o {out} --recursive --jobs {jobs} {UP}")));
    }
    assert_eq!(files(&bench.path("one")).len(), 41);
    assert!(files(&bench.path("one")) == files(&bench.path("four")), "--jobs changes results");
}

/// Two runs share the items: each item is processed once.
#[test]
fn two_runs_at_once() {
    let bench = Bench::new();
    fill(&bench, 120, None);
    let args = |k| format!("enhance in -o out --recursive --jobs 2 --report r{k}.jsonl {UP}");
    let runs: Vec<_> = (0..2).map(|k| spawn(&bench, &args(k))).collect();
    for run in runs {
        let result = run.wait_with_output().unwrap();
        assert_eq!(result.status.code(), Some(0), "{}", String::from_utf8_lossy(&result.stderr));
    }
    let both: Vec<Value> = (0..2).flat_map(|k| lines(&bench.path(&format!("r{k}.jsonl")))).collect();
    let made = both.iter().filter(|line| line["status"] == "done").count();
    let left = both.iter().filter(|line| line["status"] == "skipped").count();
    assert_eq!((made, left), (120, 120));
    done(&bench.run(&format!("enhance in -o alone --recursive {UP}")));
    assert!(files(&bench.path("out")) == files(&bench.path("alone")), "two runs give other bytes than one");
}

/// A run that is killed repeatedly and resumed gives the bytes of an uninterrupted run.
#[test]
fn kills_lose_nothing() {
    let bench = Bench::new();
    fill(&bench, 150, None);
    let args = format!("enhance in -o out --recursive --jobs 2 {UP}");
    for count in [1, 20, 33, 60, 61, 90, 130] {
        let mut child = spawn(&bench, &args);
        until(&mut child, &bench.path("out"), count);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let run = bench.run(&format!("{args} --json"));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(states(&run)["skipped"] >= 130, "{:?}", states(&run));
    done(&bench.run(&format!("enhance in -o alone --recursive {UP}")));
    assert!(
        files(&bench.path("out")) == files(&bench.path("alone")),
        "kills change results, or leave something behind"
    );
}

/// A file size limit simulates a full disk: the journal cannot grow.
#[test]
fn a_full_disk_leaves_a_valid_journal() {
    let bench = Bench::new();
    fill(&bench, 30, None);
    let args = format!("enhance in -o out --recursive {UP}");
    let run = bench.run_limited(4, &args);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("writing out/.crescendo.jsonl: File too large; free some space"), "{}", run.err);
    let named = names(&bench.path("out")).len();
    let entries = lines(&bench.path("out/.crescendo.jsonl")).len();
    assert!(0 < named && named < 30 && named == entries, "{named} results, {entries} entries");
    let run = bench.run(&format!("{args} --json"));
    assert_eq!((run.code, states(&run)), (Some(0), counts(&[("done", 30 - named), ("skipped", named)])), "{}", run.err);
}

#[test]
fn ctrl_c_stops_and_a_rerun_resumes() {
    let bench = Bench::new();
    fill(&bench, 150, None);
    let args = format!("enhance in -o out --recursive {UP}");
    let mut child = spawn(&bench, &args);
    until(&mut child, &bench.path("out"), 20);
    // SAFETY: the child has not been waited for, so its process id is valid.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let result = child.wait_with_output().unwrap();
    assert_eq!(result.status.code(), Some(130), "{}", String::from_utf8_lossy(&result.stderr));
    assert!(!names(&bench.path("out")).iter().any(|n| n.contains(".part.")));
    let run = bench.run(&format!("{args} --json"));
    assert!(run.code == Some(0) && states(&run)["skipped"] >= 20, "{:?} {}", states(&run), run.err);
}

/// Every picture keeps its format.
#[test]
fn outputs_keep_the_format_of_their_inputs() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    for name in ["a.tiff", "b.TIF", "c.bmp", "d.webp", "e.jpg"] {
        let path = bench.path(&format!("in/{name}"));
        ffmpeg(&["-i", &here("tests/data/pictures/chelsea.png"), "-vf", "crop=16:16", path.to_str().unwrap()]);
    }
    let run = bench.run(&format!("enhance in -o out {UP}"));
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(names(&bench.path("out")), ["a.tiff", "b.TIF", "c.bmp", "d.webp", "e.jpg"]);
    for (name, head) in [("a.tiff", &b"II*\0"[..]), ("b.TIF", b"II*\0"), ("c.bmp", b"BM")] {
        let bytes = fs::read(bench.path(&format!("out/{name}"))).unwrap();
        assert!(bytes.starts_with(head), "{name}: {:?}", &bytes[..8]);
    }
}

/// Two inputs with one output fail, and the others are processed.
#[test]
fn a_collision_fails_only_its_items() {
    let bench = Bench::new();
    for (k, name) in ["a/1.png", "a/2.png", "b/1.png"].iter().enumerate() {
        fs::create_dir_all(bench.path(name).parent().unwrap()).unwrap();
        fs::write(bench.path(name), tiny(k as u32)).unwrap();
    }
    let run = bench.run(&format!("enhance a b -o out --json {UP}"));
    assert_eq!((run.code, states(&run)), (Some(2), counts(&[("done", 1), ("failed", 2)])), "{}", run.err);
    assert_eq!(names(&bench.path("out")), ["2.png"]);
    assert!(run.err.lines().all(|l| l.contains("a/1.png and b/1.png: 2 inputs")), "{}", run.err);
    let plan = bench.run(&format!("plan enhance a b -o out2 --json {UP}"));
    assert!(plan.code == Some(0) && String::from_utf8_lossy(&plan.out).contains("2 inputs would be written"));
}

/// Rows: arguments, standard input, expected outputs.
#[test]
fn inputs_map_to_outputs() {
    let bench = Bench::new();
    for (k, name) in ["a/1.png", "a/b/2.png", "a/b/.hidden.png", "a/.h/3.png", "a/out/4.png"].iter().enumerate() {
        let path = bench.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, tiny(k as u32)).unwrap();
    }
    ffmpeg(&[
        "-i",
        &here("tests/data/pictures/chelsea.png"),
        "-vf",
        "crop=16:16",
        bench.path("a/5.bmp").to_str().unwrap(),
    ]);
    let list = "./a/b/2.png\na/1.png\r\n\n";
    let absolute = format!("{}\0{}\0", bench.path("a/1.png").display(), bench.path("a/b/2.png").display());
    let mut bad = Vec::new();
    for (args, input, want) in [
        ("a --recursive", "", vec!["1.png", "5.bmp", "b/2.png", "out/4.png"]),
        ("a", "", vec!["1.png", "5.bmp"]),
        ("a/1.png a/b", "", vec!["1.png", "2.png"]),
        ("a a/1.png", "", vec!["1.png", "5.bmp"]),
        ("a/*.png", "", vec!["1.png"]),
        ("a/**/*.png", "", vec!["1.png", "b/2.png", "out/4.png"]),
        ("*/b/?.png", "", vec!["a/b/2.png"]),
        ("-", list, vec!["a/1.png", "a/b/2.png"]),
        ("-", &absolute, vec!["1.png", "2.png"]),
        ("a/1.png", "", vec!["1.png"]),
    ] {
        let out = bench.path("r");
        fs::remove_dir_all(&out).ok();
        let run = bench.fed(&format!("enhance {args} -o r/ {UP}"), input);
        if run.code != Some(0) || names(&out) != want {
            bad.push(format!("{args} {input:?}: {:?} {:?} {}", run.code, names(&out), run.err));
        }
    }
    // A dangling link is named, a link to its own folder is not followed, names may be invalid UTF-8.
    std::os::unix::fs::symlink("nowhere.png", bench.path("a/gone.png")).unwrap();
    std::os::unix::fs::symlink("..", bench.path("a/b/loop")).unwrap();
    fs::write(bench.path("a").join(OsStr::from_bytes(b"\xff.png")), tiny(8)).unwrap();
    for want in [counts(&[("done", 5), ("failed", 1)]), counts(&[("failed", 1), ("skipped", 5)])] {
        let run = bench.run(&format!("enhance a -o links --recursive --json {UP}"));
        if run.code != Some(2) || states(&run) != want || !run.err.contains("gone.png") {
            bad.push(format!("links: {:?} {}", states(&run), run.err));
        }
    }
    for name in ["a/gone.png", "a/b/loop"] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    fs::remove_file(bench.path("a").join(OsStr::from_bytes(b"\xff.png"))).unwrap();
    // Outputs inside the input folder are not inputs of the next run.
    for want in [3, 3] {
        let run = bench.run(&format!("enhance a -o a/out --recursive --json {UP}"));
        if run.code != Some(0) || states(&run).values().sum::<usize>() != want {
            bad.push(format!("results inside: {:?} {}", states(&run), run.err));
        }
    }
    report(bad);
}

#[test]
fn invalid_inputs_are_rejected() {
    let bench = Bench::new();
    for (name, seed) in [("a/1.png", 1), ("b/1.png", 2), ("f_001.png", 3), ("f_002.png", 4), ("f_004.png", 5)] {
        fs::create_dir_all(bench.path(name).parent().unwrap()).unwrap();
        fs::write(bench.path(name), tiny(seed)).unwrap();
    }
    fs::write(bench.path("half.png"), &tiny(9)[..60]).unwrap();
    fs::create_dir_all(bench.path("deep/er")).unwrap();
    let mut bad = Vec::new();
    for (args, code, wants) in [
        ("a b -o out", 1, ["a/1.png and b/1.png", "different folders"]),
        ("a -o a", 1, ["a/1.png is the input itself", "another name"]),
        ("a -o out.png", 1, ["out.png has the extension of a file", "out.png/"]),
        ("a -o f_001.png", 1, ["f_001.png is a file", "give a folder"]),
        ("deep -o out", 1, ["deep: contains no picture", "--recursive"]),
        ("f_%03d.png -o out/a.mp4 --fps 24", 1, ["f_003.png is missing between f_001.png and f_004.png", "no gap"]),
        ("f_%03d.png -o out/a.mp4", 1, ["f_%03d.png", "--fps"]),
        ("half.png -o out/a.png", 3, ["half.png: the PNG is damaged", "get a complete copy"]),
        ("gone.png -o out/a.png", 3, ["gone.png", "the file does not exist"]),
        ("a/1.png -o out/a.png --report no/r.jsonl", 3, ["writing no/r.jsonl", "check the path"]),
    ] {
        bad.extend(bench.fault(args, &bench.run(&format!("enhance {args} {UP}")), code, &wants));
    }
    // An unreadable input is named and the others are processed, except with --fail-fast.
    for (args, code, want) in [
        ("half.png gone.png a/1.png -o r", 2, vec![("done", 1), ("failed", 2)]),
        ("half.png gone.png a/1.png -o s --fail-fast", 2, vec![("failed", 1)]),
    ] {
        let run = bench.run(&format!("enhance {args} --json {UP}"));
        if run.code != Some(code) || states(&run) != counts(&want) {
            bad.push(format!("{args}: {:?} {:?} {}", run.code, states(&run), run.err));
        }
    }
    report(bad);
}

#[test]
fn numbered_pictures_become_a_video() {
    let bench = Bench::new();
    let pattern = bench.path("frame_%05d.png");
    ffmpeg(&[
        "-i",
        &here(CLIP),
        "-frames:v",
        "4",
        "-vf",
        "scale=64:36",
        "-start_number",
        "7",
        pattern.to_str().unwrap(),
    ]);
    fs::write(bench.path("frame_1.png"), "of another numbering").unwrap();
    let rife = "--interpolate 2x --frame-interpolation-model-path {rife}";
    let mut bad = Vec::new();
    for (args, name, frames, rate, width) in [
        (format!("-o out/a.mp4 {UP}"), "a.mp4", "4", "24/1", 128),
        (format!("-o out/b.mp4 {rife}"), "b.mp4", "7", "48/1", 64),
        (format!("-o out/ {rife} {UP}"), "frame.mp4", "7", "48/1", 128),
    ] {
        let run = bench.run(&format!("enhance frame_%05d.png --fps 24 {args}"));
        let stream = probe(&bench.path(&format!("out/{name}")), "v:0");
        let found = (&stream["nb_read_frames"], &stream["r_frame_rate"], &stream["width"]);
        if run.code != Some(0) || found != (&frames.into(), &rate.into(), &width.into()) {
            bad.push(format!("{name}: {found:?} {}", run.err));
        }
    }
    // Transparency is kept if the format supports it.
    let clear = bench.path("clear_%d.png");
    let half = "scale=64:36,format=rgba,colorchannelmixer=aa=0.5";
    ffmpeg(&["-i", &here(CLIP), "-frames:v", "2", "-vf", half, clear.to_str().unwrap()]);
    let run = bench.run(&format!("enhance clear_%d.png --fps 24 -o out/clear.mov {UP}"));
    let pixels = probe(&bench.path("out/clear.mov"), "v:0")["pix_fmt"].clone();
    if run.code != Some(0) || !pixels.as_str().is_some_and(|p| p.starts_with("yuva")) {
        bad.push(format!("clear.mov: {pixels} {}", run.err));
    }
    // A picture of a different size is named.
    fs::write(bench.path("frame_00009.png"), tiny(1)).unwrap();
    let run = bench.run(&format!("enhance frame_%05d.png --fps 24 -o out/c.mp4 {UP}"));
    if run.code != Some(3) || !run.err.contains("frame_00009.png: expected 64x36 pixels as in frame_00007.png, got 8x8")
    {
        bad.push(run.err);
    }
    report(bad);
}

#[test]
fn a_plan_estimates_time_after_a_first_run() {
    let bench = Bench::new();
    fill(&bench, 10, Some(10));
    let plan = |args: &str| {
        let run = bench.run(&format!("plan enhance in -o out --recursive {args} {UP}"));
        assert_eq!(run.code, Some(0), "{}", run.err);
        String::from_utf8(run.out).unwrap()
    };
    let before = plan("");
    for want in ["items       10", "upscale     16x16", "time        unknown until a first run"] {
        assert!(before.contains(want), "{before}");
    }
    assert!(!bench.path("out/0").exists(), "a plan makes nothing");
    assert_eq!(bench.run(&format!("enhance in -o out --recursive {UP}")).code, Some(2));
    let after: Value = serde_json::from_str(&plan("--json")).unwrap();
    assert!(after["seconds"].as_f64().is_some_and(|s| s > 0.0), "{after}");
    assert_eq!((&after["frames"], after["items"].as_array().unwrap().len()), (&10.into(), 10));
}
