//! End-to-end tests of the binary: outputs for valid input, one-line errors for invalid input.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod addresses;
mod bad_media;
mod bad_model;
mod bad_output;
mod batch;
mod containers;
mod damage;
mod enhance;
mod eta;
mod export;
mod extensions;
mod generate;
mod interrupt;
mod journal;
mod leftovers;
mod limits;
mod memory;
mod pictures;
#[path = "../shared/pty.rs"]
mod pty;
mod published;
mod rates;
mod refine;
mod sound;
mod stdio;
mod time;
mod upscale;
mod written;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crescendo::{tensor::DType, weights::Checkpoint};

pub(crate) const CLIP: &str = "tests/data/clips/big-buck-bunny.mp4";
pub(crate) const ESRGAN: &str = "tests/goldens/esrgan";
pub(crate) const FLUX: &str = "tests/goldens/flux1-dev/model";
pub(crate) const RIFE: &str = "tests/goldens/rife/4.22.lite/flownet.pkl";
pub(crate) const X2: &str = "models/demo/srvgg-x2.safetensors";

/// Absolute path of a file in the repository.
pub(crate) fn here(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// A temporary working folder with an empty folder `out` for outputs.
pub(crate) struct Bench(tempfile::TempDir);

/// The result of a run.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary without arguments, in this folder, offline and quiet.
    pub(crate) fn command(&self) -> Command {
        self.shelled(assert_cmd::cargo::cargo_bin("crescendo").to_str().unwrap())
    }

    pub(crate) fn shelled(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1");
        command.env("XDG_CACHE_HOME", self.path("cache")).env("CRESCENDO_MODELS", self.path("models"));
        command
    }

    /// Runs the binary. Arguments are separated by spaces. `{name}` stands for a path in the repository.
    pub(crate) fn run(&self, args: &str) -> Run {
        self.finished(self.command().args(split(args)).arg("--quiet").output().unwrap())
    }

    /// Like [`Self::run`], with text on standard input.
    pub(crate) fn fed(&self, args: &str, input: &str) -> Run {
        let file = self.path("stdin");
        fs::write(&file, input).unwrap();
        let mut command = self.command();
        command.args(split(args)).arg("--quiet").stdin(fs::File::open(file).unwrap());
        self.finished(command.output().unwrap())
    }

    /// Like [`Self::run`], under a shell that limits files to `blocks` of 1 KB.
    pub(crate) fn run_limited(&self, blocks: usize, args: &str) -> Run {
        let binary = assert_cmd::cargo::cargo_bin("crescendo");
        let mut shell = self.shelled("bash");
        shell.arg("-c").arg(format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")).arg(binary).args(split(args));
        self.finished(shell.arg("--quiet").output().unwrap())
    }

    fn finished(&self, output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns the names of all files and folders in `out`, sorted.
    pub(crate) fn made(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(&self.path("out"), &mut all);
        all.sort();
        all
    }

    /// Returns the fault of a run that was expected to fail: wrong exit code, not exactly one line, a missing word, a leftover file.
    pub(crate) fn fault(&self, name: &str, run: &Run, code: i32, wants: &[&str]) -> Option<String> {
        let errors: Vec<&str> = run.err.lines().filter(|l| l.starts_with("error: ")).collect();
        let one = errors.len() == 1 && run.err.lines().count() == 1;
        let lacks: Vec<&&str> = wants.iter().filter(|w| !errors.iter().any(|e| e.contains(**w))).collect();
        let ugly = ["panicked", "stack backtrace", "internal error", "os error"];
        let ugly: Vec<&&str> = ugly.iter().filter(|u| run.err.contains(**u)).collect();
        let (left, out) = (self.made(), String::from_utf8_lossy(&run.out));
        let good = run.code == Some(code) && one && lacks.is_empty() && ugly.is_empty() && left.is_empty();
        (!good || !out.is_empty()).then(|| {
            let found = run.code;
            format!(
                "{name}: wanted {code}, got {found:?}; lacks {lacks:?}; has {ugly:?}; left {left:?}; {out}{}",
                run.err
            )
        })
    }
}

fn list(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        all.push(path.file_name().unwrap().to_string_lossy().into_owned());
        list(&path, all);
    }
}

/// Splits arguments at spaces and fills in the `{name}` paths.
pub(crate) fn split(args: &str) -> Vec<String> {
    let known = [("{clip}", CLIP), ("{flux}", FLUX), ("{rife}", RIFE), ("{x2}", X2), ("{esrgan}", ESRGAN)];
    let filled = known.iter().fold(args.to_string(), |text, (key, path)| text.replace(key, &here(path)));
    let filled =
        filled.replace("{pictures}", &here("tests/data/pictures")).replace("{media}", &here("tests/data/media"));
    filled.split_whitespace().map(str::to_string).collect()
}

/// Asserts that the run succeeded without a message.
pub(crate) fn done(run: &Run) {
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", String::from_utf8_lossy(&run.out));
}

pub(crate) fn report(bad: Vec<String>) {
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Rewrites the header of a safetensors file and keeps its data.
pub(crate) fn edit_header(path: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let text = header.to_string();
    let mut new = (text.len() as u64).to_le_bytes().to_vec();
    new.extend(text.as_bytes());
    new.extend(&bytes[8 + length..]);
    fs::write(path, new).unwrap();
}

/// Sets the first value of an f32 tensor in a safetensors file to NaN.
pub(crate) fn poison(path: &Path, name: &str) {
    let mut bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header[name]["dtype"], "F32");
    let at = 8 + length + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

/// Writes a checkpoint as a safetensors file with the tensors for which `keep` is true.
pub(crate) fn as_safetensors(source: &str, target: &Path, keep: impl Fn(&str) -> bool) {
    let checkpoint = Checkpoint::open(Path::new(&here(source))).unwrap();
    let rows: Vec<_> = checkpoint
        .names()
        .filter(|n| keep(n))
        .map(|n| {
            let stored = checkpoint.get(n).unwrap();
            assert_eq!(stored.dtype, DType::F32);
            let bytes: Vec<u8> = stored.to_f32().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
            (n.to_string(), stored.shape.clone(), bytes)
        })
        .collect();
    let views = rows.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    fs::write(target, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Returns ffprobe's entry for a stream, `v:0` or `a:0`.
pub(crate) fn probe(file: &Path, stream: &str) -> serde_json::Value {
    let command = ["-v", "error", "-count_frames", "-show_streams", "-select_streams", stream, "-of", "json"];
    let output = Command::new("ffprobe").args(command).arg(file).output().unwrap();
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["streams"][0].clone()
}

/// Runs ffmpeg.
pub(crate) fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
