//! The binary on ONNX Runtime's real CUDA provider over a stand-in for the CUDA libraries: placement, kernels, copies, faults.
//!
//! `scripts/test --cuda-stand-in` builds the stand-in and runs these tests. README.md in this folder says what they prove.
#![allow(clippy::unwrap_used)]

mod capture;
mod exported;
mod families;
mod faults;
mod log;
mod postprocess;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use log::Log;

/// The folder with the stand-in's libraries and ONNX Runtime in `onnxruntime/`.
fn stand_in() -> PathBuf {
    let folder = env::var_os("CUDA_STAND_IN").map(PathBuf::from);
    folder.expect("CUDA_STAND_IN names no folder: scripts/test --cuda-stand-in builds the stand-in and sets it")
}

/// What the probe of a device returns on a GPU that computes: all but the first quarter of the file, which is its input.
fn probe_answer() -> String {
    let values = include_bytes!("../../src/runtime/probe_gpu.bin");
    values[values.len() / 4..].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A temporary working folder.
pub(crate) struct Bench(tempfile::TempDir);

/// The result of a run.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) log: Log,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the binary on an imitated GPU with settings of the stand-in. Arguments are separated by spaces. `{goldens}` is that folder.
    pub(crate) fn run(&self, args: &str, settings: &[(&str, &str)]) -> Run {
        self.run_on(&stand_in(), &format!("{args} --log-level debug"), settings)
    }

    /// As [`Self::run`], with the libraries of another folder, and what is printed by default.
    pub(crate) fn run_on(&self, libraries: &Path, args: &str, settings: &[(&str, &str)]) -> Run {
        let log = self.path("log");
        fs::remove_file(&log).ok();
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").display().to_string();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("crescendo"));
        command.current_dir(self.0.path()).args(args.replace("{goldens}", &goldens).split_whitespace());
        let device: &[&str] = if args.contains("--device") { &[] } else { &["--device", "cuda"] };
        command.args(device).arg("--onnxruntime").arg(stand_in().join("onnxruntime"));
        command.env("LD_LIBRARY_PATH", libraries).env("STAND_IN_LOG", &log).env("STAND_IN_ANSWER", probe_answer());
        command.env("HF_HUB_OFFLINE", "1").env("XDG_CACHE_HOME", self.path("cache"));
        let output = command.envs(settings.iter().copied()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Run { code: output.status.code(), out, err, log: Log::read(&log) }
    }
}

impl Run {
    /// The faults that no successful run may have, each with `name` before it.
    pub(crate) fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.code != Some(0) {
            let last = self.err.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or(&self.err);
            faults.push(format!("{name}: exit code {:?}: {last}", self.code));
        }
        // A Memcpy node copies between host and device in every run. ONNX Runtime warns of them where it loads a graph.
        faults.extend(self.err.lines().filter(|l| l.contains("Memcpy nodes")).map(|l| format!("{name}: {l}")));
        if self.log.launches() == 0 {
            faults.push(format!("{name}: no kernel was launched"));
        }
        if !self.log.illegal.is_empty() {
            faults.push(format!("{name}: illegal while capturing: {:?}", self.log.illegal));
        }
        faults
    }
}

pub(crate) fn report(bad: &[String]) {
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}
