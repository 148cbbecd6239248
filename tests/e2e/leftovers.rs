//! Temporary files of killed runs, FIFOs among the inputs, long names, no home folder.

use std::{fs, os::unix::net::UnixListener};

use crate::{
    Bench, done, here, report, split,
    written::{UP, ended, fifo},
};

/// Whatever a later run on the same output does, the temporary files of a killed run are gone, unless a process still holds them.
#[test]
fn temporary_files_of_killed_runs_are_removed() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    fs::copy(here("tests/data/media/rgba.png"), bench.path("in/a.png")).unwrap();
    let single = format!("enhance in/a.png -o out/a.png {UP}");
    let folder = format!("enhance in -o out/ {UP}");
    let generate = "generate --model-path {flux} --prompt fox --num-inference-steps 1 --height 64 --width 64 \
        --output-file-path out/a.png";
    let left = bench.path("out/.a.part.png");
    let mut bad = Vec::new();
    for (name, first, args, code) in [
        ("written", "", single.clone(), Some(0)),
        ("refused", &*single, single.clone(), Some(1)),
        ("refused generate", &single, generate.into(), Some(1)),
        ("refused item", &single, folder.clone(), Some(3)),
        ("finished by an earlier run", &folder, folder.clone(), Some(0)),
        ("replaced", &single, format!("{single} --overwrite"), Some(0)),
    ] {
        fs::remove_dir_all(bench.path("out")).unwrap();
        fs::create_dir(bench.path("out")).unwrap();
        if !first.is_empty() {
            done(&bench.run(first));
        }
        fs::write(&left, "half").unwrap();
        let run = bench.run(&args);
        if run.code != code || left.exists() {
            bad.push(format!("{name}: {:?}, left {:?}: {}", run.code, bench.made(), run.err));
        }
    }
    report(bad);
    let held = fs::File::create(&left).unwrap();
    held.lock().unwrap();
    assert_eq!(bench.run(&single).code, Some(1));
    assert!(left.exists(), "the file of a running process was removed");
}

/// The folder of chunks is removed only as far as it is one.
#[test]
fn a_folder_with_the_name_of_chunks_stays() {
    let bench = Bench::new();
    for (name, files) in [("other", &["mine.txt", "00001"][..]), ("mixed", &["chunks.jsonl", "mine.txt"])] {
        let folder = bench.path(&format!("out/.{name}.mp4.chunks"));
        fs::create_dir(&folder).unwrap();
        files.iter().for_each(|file| fs::write(folder.join(file), "").unwrap());
        let args = format!("enhance {{clip}} -o out/{name}.mp4 --upscale 2 --filter lanczos --chunk 0.2");
        let run = bench.run(&args);
        assert!(run.code == Some(3) && run.err.contains("move them"), "{name}: {:?} {}", run.code, run.err);
        assert!(folder.join("mine.txt").exists(), "{name}");
        assert_eq!(folder.join("00001").exists(), name == "other");
    }
}

/// Only regular files are items. A FIFO does not block, and not the signals either.
#[test]
fn fifos_and_sockets_are_no_items() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    fs::copy(here("tests/data/media/rgba.png"), bench.path("in/a.png")).unwrap();
    fifo(&bench.path("in/b.png"));
    fifo(&bench.path("p.txt"));
    let _socket = UnixListener::bind(bench.path("in/c.mp4")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bench.path("in/d.png")).unwrap();
    let small = "generate --model-path {flux} --num-inference-steps 1 --height 64 --width 64 --output-path out";
    let mut bad = Vec::new();
    for (args, code, words) in [
        (
            format!("enhance in -o out1/ {UP}"),
            0,
            vec!["3 skipped, because they are not regular files: in/b.png, in/c.mp4, in/d.png"],
        ),
        (
            format!("enhance in/*.png -o out2/ {UP}"),
            0,
            vec!["2 skipped, because they are not regular files: in/b.png, in/d.png"],
        ),
        (format!("enhance in/b.png -o out/b.png {UP}"), 3, vec!["in/b.png: is a FIFO; expected a regular file"]),
        (format!("enhance in/a.png in/b.png -o out3/ {UP}"), 2, vec!["in/b.png: is a FIFO"]),
        (format!("enhance in/d.png -o out/b.png {UP}"), 3, vec!["in/d.png: is a device"]),
        (
            "enhance in/a.png -o out/a.png --upscale 2 --upscaling-model-path in/b.png".to_owned(),
            3,
            vec!["in/b.png: is a FIFO"],
        ),
        (format!("{small} --prompt fox --image-path in/b.png"), 1, vec!["in/b.png: expected a regular file"]),
        (format!("{small} --prompt-path p.txt"), 1, vec!["p.txt: is a FIFO"]),
    ] {
        let log = fs::File::create(bench.path("log")).unwrap();
        let mut child = bench.command().args(split(&args)).stderr(log).spawn().unwrap();
        let found = ended(&mut child);
        let log = fs::read_to_string(bench.path("log")).unwrap();
        if found != Some(code) || words.iter().any(|word| !log.contains(word)) {
            bad.push(format!("{args}: wanted {code} and {words:?}, got {found:?}: {log}"));
        }
    }
    report(bad);
}

/// A name of 255 bytes leaves no space for a suffix.
#[test]
fn names_of_255_bytes_are_written() {
    let bench = Bench::new();
    let (picture, video) = (format!("{}.png", "n".repeat(251)), format!("{}.mkv", "日".repeat(83)));
    done(&bench.run(&format!("enhance {{media}}/rgba.png -o out/{picture} {UP}")));
    done(&bench.run(&format!("enhance {{clip}} -o out/{video} --upscale 2 --filter lanczos --chunk 0.2")));
    assert_eq!(bench.made(), [picture, video]);
}

/// Without HOME the cache is below the home of the user database, not in a folder that everybody can write to. Without any
/// home, only calls that need a cache fail.
#[test]
fn without_home_the_cache_is_private() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    let local = "enhance {media}/rgba.png -o out/a.png --upscale 2 --filter lanczos --quiet";
    for (home, args, code, word) in [
        (None, "models du --json", 0, ".cache/huggingface/hub"),
        (Some(""), "models du --json", 0, ".cache/huggingface/hub"),
        (Some("relative"), "models du", 3, "set HOME or XDG_CACHE_HOME"),
        (Some("relative"), "inspect owner/name", 3, "set HOME or XDG_CACHE_HOME"),
        (Some("relative"), "doctor", 3, "set HOME or XDG_CACHE_HOME"),
        (Some("relative"), local, 0, "out/a.png"),
    ] {
        let mut command = bench.command();
        command.args(split(args)).env_remove("HF_HOME").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        home.map(|home| command.env("HOME", home));
        let answer = command.output().unwrap();
        let text = String::from_utf8_lossy(&answer.stdout) + String::from_utf8_lossy(&answer.stderr);
        if answer.status.code() != Some(code) || !text.contains(word) || text.contains("/tmp/.cache") {
            bad.push(format!("{home:?} {args}: {:?} {text}", answer.status.code()));
        }
    }
    report(bad);
}
