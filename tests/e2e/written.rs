//! What a call may write: not its inputs and models, no other file without `--overwrite`, and through FIFOs and devices.

use std::{
    ffi::CString,
    fs,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt, fs::symlink},
    path::Path,
    time::{Duration, Instant},
};

use crate::{Bench, FLUX, copy_folder, done, here, report, split};

pub(crate) const UP: &str = "--upscale 2 --upscaling-model-path {x2}";
const RUN: &str = "generate --model-path {flux} --prompt fox --num-inference-steps 1 --height 64 --width 64";

pub(crate) fn fifo(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the string ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// All files of a folder with their bytes.
fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "stdin" {
            all.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
        } else if path.is_dir() {
            all.extend(bytes(&path));
        }
    }
    all.sort();
    all
}

/// No file changes, whatever the flag is that names it. A plan is refused as the run is.
#[test]
fn side_files_replace_nothing() {
    let bench = Bench::new();
    copy_folder(Path::new(&here(FLUX)), &bench.path("model"));
    fs::copy(here("tests/data/pictures/chelsea.png"), bench.path("inp.png")).unwrap();
    fs::copy(bench.path("inp.png"), bench.path("photo.png")).unwrap();
    fs::copy(here(crate::X2), bench.path("net.safetensors")).unwrap();
    fs::write(bench.path("notes.json"), "{\"mine\": 1}").unwrap();
    fs::write(bench.path("c.yaml"), "quiet: true\n").unwrap();
    fs::write(bench.path("p.txt"), "fox\n").unwrap();
    let copy = bench.path("part");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join(".crescendo.jsonl"), "mine\n").unwrap();
    symlink("inp.png", bench.path("link.json")).unwrap();
    symlink("net.safetensors", bench.path("net.png")).unwrap();
    let weights = "model/transformer/diffusion_pytorch_model-00001-of-00004.safetensors";
    let before = bytes(&bench.path("."));
    let up = "--upscale 2 --upscaling-model-path net.safetensors";
    let run = RUN.replace("{flux}", "model");
    let mut bad = Vec::new();
    for (args, wants) in [
        (format!("enhance inp.png -o out/o.png {up} --perf-dump-path inp.png"), "inp.png: is an input of this call"),
        (
            format!("enhance inp.png -o out/o.png {up} --perf-dump-path inp.png --overwrite"),
            "inp.png: is an input of this call",
        ),
        (
            format!("enhance inp.png -o out/o.png {up} --perf-dump-path link.json --overwrite"),
            "link.json: is an input of this call",
        ),
        (
            format!("enhance inp.png -o out/o.png {up} --perf-dump-path net.safetensors --overwrite"),
            "net.safetensors: is a model file of this call",
        ),
        (
            format!("--config c.yaml enhance inp.png -o out/o.png {up} --perf-dump-path c.yaml --overwrite"),
            "c.yaml: is an input of this call",
        ),
        (
            format!("enhance inp.png -o out/o.png {up} --perf-dump-path notes.json"),
            "notes.json: another file exists; choose another name or pass --overwrite",
        ),
        (format!("enhance inp.png -o out/o.png {up} --report photo.png"), "photo.png: is another kind of file"),
        (
            format!("enhance inp.png -o out/o.png {up} --report photo.png --overwrite"),
            "photo.png: is another kind of file",
        ),
        (
            format!("enhance inp.png -o out/o.png {up} --report out/o.png"),
            "out/o.png: -o out/o.png writes the same file",
        ),
        (
            format!("enhance inp.png -o out/o.png {up} --report out/r.json --perf-dump-path out/../out/r.json"),
            "writes the same file",
        ),
        (format!("enhance inp.png -o out/o.png {up} --perf-dump-path out/.o.part.png"), "writes the same file"),
        (format!("enhance inp.png photo.png -o part/ {up}"), ".crescendo.jsonl: is another kind of file"),
        (format!("enhance inp.png -o net.png {up} --overwrite"), "is a model file of this call"),
        (
            format!("{run} --output-file-path out/a.png --save-latents net.safetensors"),
            "net.safetensors already exists; choose another name or pass --overwrite",
        ),
        (
            format!("{run} --output-file-path out/a.png --save-latents {weights} --overwrite"),
            "diffusion_pytorch_model-00001-of-00004.safetensors: is a model file of this call",
        ),
        (
            format!("{run} --output-file-path out/a.png --perf-dump-path model/model_index.json --overwrite"),
            "model_index.json: is a model file of this call",
        ),
        (
            format!("{run} --image-path inp.png --output-file-path inp.png --overwrite")
                .replace("--height 64", "--height 48"),
            "inp.png: is an input of this call",
        ),
        (
            "generate --model-path model --prompt-path p.txt --num-inference-steps 1 --height 64 --width 64 \
             --output-file-path out/a.png --perf-dump-path p.txt --overwrite"
                .into(),
            "p.txt: is an input of this call",
        ),
        (format!("{run} --output-file-path out/a.png --perf-dump-path out/a.png"), "writes the same file"),
        ("export model -o model --overwrite".into(), "is the folder of the model itself"),
    ] {
        bad.extend(bench.fault(&args, &bench.run(&args), 1, &[wants]));
        if !args.starts_with("export") {
            let plan = format!("plan {args}");
            bad.extend(bench.fault(&plan, &bench.run(&plan), 1, &[wants]));
        }
        let changed: Vec<_> = bytes(&bench.path(".")).into_iter().filter(|file| !before.contains(file)).collect();
        bad.extend(changed.iter().map(|(name, _)| format!("{args}: {name} has changed")));
    }
    report(bad);
}

/// Timings replace timings, and lines are appended to a report.
#[test]
fn files_of_the_same_kind_are_written_again() {
    let bench = Bench::new();
    fs::copy(here("tests/data/media/rgba.png"), bench.path("inp.png")).unwrap();
    for _ in 0..2 {
        let args = format!("enhance inp.png -o out/o.png {UP} --overwrite --perf-dump-path t.json --report r.jsonl");
        done(&bench.run(&args.replace("--overwrite", if bench.path("t.json").exists() { "--overwrite" } else { "" })));
    }
    assert_eq!(fs::read_to_string(bench.path("r.jsonl")).unwrap().lines().count(), 2);
    let latents = format!("{RUN} --output-path out --save-latents l.safetensors --perf-dump-path t.json");
    done(&bench.run(&latents));
    assert_eq!(bench.run(&latents).code, Some(1));
    done(&bench.run(&format!("{latents} --overwrite")));
}

/// A device, a FIFO and a link stay what they are.
#[test]
fn special_files_are_written_through() {
    let bench = Bench::new();
    fs::copy(here("tests/data/media/rgba.png"), bench.path("inp.png")).unwrap();
    done(&bench.run(&format!("enhance inp.png -o plain.png {UP}")));
    let wanted = fs::read(bench.path("plain.png")).unwrap();
    symlink("/dev/null", bench.path("null.png")).unwrap();
    symlink("/dev/null", bench.path("null.mp4")).unwrap();
    let clip = "enhance {clip} -o null.mp4 --end 0.2 --upscale 1 --filter lanczos --upscaling-model-path {x2}";
    for flags in ["", "--overwrite", "--verify"] {
        done(
            &bench.run(&format!(
                "enhance inp.png -o null.png {UP} --perf-dump-path /dev/null --report /dev/null {flags}"
            )),
        );
        done(&bench.run(&format!("{clip} {flags}")));
    }
    for name in ["null.png", "null.mp4"] {
        assert!(bench.path(name).is_symlink(), "{name} was replaced");
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

    // A link to a file stays a link; the file is replaced.
    fs::write(bench.path("real.png"), "old").unwrap();
    symlink("real.png", bench.path("link.png")).unwrap();
    let linked = format!("enhance inp.png -o link.png {UP}");
    assert_eq!(bench.run(&linked).code, Some(1));
    done(&bench.run(&format!("{linked} --overwrite")));
    assert!(bench.path("link.png").is_symlink());
    assert_eq!(fs::read(bench.path("real.png")).unwrap(), wanted);

    // A FIFO gets the whole file.
    fifo(&bench.path("pipe.png"));
    let pipe = bench.path("pipe.png");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        fs::File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    done(&bench.run(&format!("enhance inp.png -o pipe.png {UP}")));
    assert_eq!(reader.join().unwrap(), wanted);
    assert!(fs::metadata(bench.path("pipe.png")).unwrap().file_type().is_fifo());

    // /dev/stdout is the standard output of the process: a pipe here, a file there.
    symlink("/dev/stdout", bench.path("stdout.png")).unwrap();
    let run = bench.run(&format!("enhance inp.png -o stdout.png {UP}"));
    assert!(run.code == Some(0) && run.out.starts_with(&wanted), "{:?} {}", run.code, run.err);
    let file = fs::File::create(bench.path("caught.png")).unwrap();
    let mut command = bench.command();
    command.args(split(&format!("enhance inp.png -o stdout.png {UP} --quiet"))).stdout(file);
    assert!(command.status().unwrap().success());
    assert!(fs::read(bench.path("caught.png")).unwrap().starts_with(&wanted));
    assert!(bench.path("stdout.png").is_symlink());
}

/// A FIFO that nobody reads does not block signals.
#[test]
fn an_unread_fifo_can_be_interrupted() {
    let bench = Bench::new();
    fs::copy(here("tests/data/media/rgba.png"), bench.path("inp.png")).unwrap();
    fifo(&bench.path("pipe.png"));
    let mut child = bench.command().args(split(&format!("enhance inp.png -o pipe.png {UP} --quiet"))).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    assert!(child.try_wait().unwrap().is_none(), "it waits for a reader");
    // SAFETY: the child has not been waited for, so its process id is valid.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(ended(&mut child), Some(130));
}

/// The exit code of a child that ends within 20 s.
pub(crate) fn ended(child: &mut std::process::Child) -> Option<i32> {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("still running");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait().unwrap().code()
}
