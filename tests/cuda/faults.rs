//! Devices that are missing, broken, too small or lost: one sentence that is ours, and the exit code of a failed job.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use crate::{Bench, Run, report, stand_in};

const GENERATE: &str = "generate --model-path {goldens}/flux1-dev/model --prompt fox --height 64 --width 96 --num-inference-steps 2 \
                        --output-file-path out.png";
const WAN: &str = "generate --model-path {goldens}/wan/model --prompt fox --height 64 --width 96 --num-inference-steps 2 --num-frames 5 \
                   --output-file-path out.mp4";
const UPSCALE: &str = "enhance {goldens}/../data/pictures/coffee.webp -o out.png --upscale 2 \
                       --upscaling-model-path {goldens}/esrgan/rrdb-x2.pth";
const INTERPOLATE: &str = "enhance {goldens}/../data/clips/big-buck-bunny.mp4 -o out.mp4 --interpolate 2x --end 1 \
                           --frame-interpolation-model-path {goldens}/rife/4.22.lite/flownet.pkl";

/// Variables of the stand-in.
type Settings = &'static [(&'static str, &'static str)];

/// Words of the runtime's own messages, and of crashes.
const FOREIGN: [&str; 10] =
    ["hostname", "file=", "line=", "expr=", "GPU=", ".cc", ".h:", "panicked", "[ONNXRuntimeError]", "Non-zero status"];

/// The fault of a run that had to fail: another exit code, more than one line, a missing word, words of others, or an output.
fn fault(bench: &Bench, name: &str, run: &Run, wants: &[&str]) -> Option<String> {
    let lacks: Vec<_> = wants.iter().filter(|want| run.err.matches(**want).count() != 1).collect();
    let foreign: Vec<_> = FOREIGN.iter().filter(|word| run.err.contains(**word)).collect();
    let outputs = ["out.png", "out.mp4"].iter().any(|name| bench.path(name).exists());
    let one = run.err.lines().count() == 1 && run.err.starts_with("error: ");
    let good = run.code == Some(3) && one && lacks.is_empty() && foreign.is_empty() && !outputs;
    (!good)
        .then(|| format!("{name}: exit code {:?}, lacks {lacks:?}, has {foreign:?}, {outputs}: {}", run.code, run.err))
}

/// The stand-in's folder without a library.
fn without(bench: &Bench, library: &str) -> PathBuf {
    let folder = bench.path(&format!("without-{library}"));
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(stand_in()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != library {
            symlink(&path, folder.join(name)).unwrap();
        }
    }
    folder
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_device_that_does_not_work_is_explained() {
    let rows: &[(&str, Settings, &[&str])] = &[
        ("", &[("STAND_IN_DEVICES", "0")], &["no CUDA-capable device is detected", "nvidia-smi"]),
        ("--device cuda:3", &[], &["--device cuda:3", "no GPU with this number"]),
        (
            "",
            &[("STAND_IN_FAIL", "cudaGetDeviceCount:1:35")],
            &["driver version is insufficient", "install a newer driver"],
        ),
        // Without an answer, the probe returns what memory begins with.
        ("", &[("STAND_IN_ANSWER", "")], &["the convolution of the test graph returned", "broken"]),
        ("", &[("STAND_IN_FAIL", "cudnnBackendExecute:1:1")], &["node convolution: cuDNN: CUDNN_BACKEND_API_FAILED"]),
        ("", &[("STAND_IN_FAIL", "cublasGemmEx:1:1")], &["node product: cuBLAS: "]),
        ("", &[("STAND_IN_LOST", "1")], &["--device cuda:0 does not work", "unspecified launch failure"]),
        ("", &[("STAND_IN_VRAM", "0")], &["--device cuda:0 does not work", "out of memory"]),
    ];
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (flags, settings, wants) in rows {
        let run = bench.run_on(&stand_in(), &format!("{GENERATE} --quiet {flags}"), settings);
        bad.extend(fault(&bench, &format!("{flags} {settings:?}"), &run, wants));
    }
    report(&bad);
}

/// Also cuDNN, without which a provider loads and runs everything but convolutions.
#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_missing_library_is_named_before_anything_runs() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (library, named) in [
        ("libcudnn.so.9", "the library libcudnn.so is missing"),
        ("libcublas.so.13", "the library libcublas.so.13 is missing"),
        ("libcublasLt.so.13", "the library libcublasLt.so.13 is missing"),
        ("libcudart.so.13", "the library libcudart.so.13 is missing"),
        ("libcurand.so.10", "the library libcurand.so.10 is missing"),
    ] {
        let folder = without(&bench, library);
        let wants = [named, "scripts/setup --cuda installs"];
        let run = bench.run_on(&folder, &format!("{GENERATE} --quiet"), &[]);
        bad.extend(fault(&bench, library, &run, &wants));
        // Asked for, it is a problem; else only a row.
        for (device, code) in [("auto", 0), ("cuda", 3)] {
            let run = bench.run_on(&folder, &format!("doctor --device {device}"), &[]);
            if run.code != Some(code)
                || !wants.iter().all(|want| run.out.contains(want))
                || run.out.contains("cpu, cuda")
            {
                bad.push(format!("doctor without {library}: exit code {:?}: {}{}", run.code, run.out, run.err));
            }
        }
    }
    let run = bench.run_on(&stand_in(), "doctor", &[]);
    if run.code != Some(0) || !run.out.contains("cpu, cuda:0\n") || run.out.contains("unusable") {
        bad.push(format!("doctor: exit code {:?}: {}{}", run.code, run.out, run.err));
    }
    report(&bad);
}

/// The device is lost at a launch within each stage. Rows: the call, launches, and where the message says that it happened.
#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_lost_device_ends_in_one_sentence() {
    let rows: &[(&str, &str, &str)] = &[
        (GENERATE, "20", "text_encoder: "),
        (GENERATE, "300", "denoise: step 2: transformer: "),
        (GENERATE, "700", "vae: "),
        (WAN, "450", "denoise: step "),
        (WAN, "900", "vae: "),
        (UPSCALE, "40", "the upscaler: "),
        (INTERPOLATE, "600", "the interpolator: "),
    ];
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (call, launches, place) in rows {
        let run = bench.run_on(&stand_in(), &format!("{call} --quiet"), &[("STAND_IN_LOST", launches)]);
        let name = format!("{place}launch {launches}");
        bad.extend(fault(&bench, &name, &run, &[place, "unspecified launch failure", "nvidia-smi"]));
    }
    report(&bad);
}

/// The memory of the GPU ends in each stage. Rows: the call, bytes, and where the message says that it happened.
#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_full_device_ends_in_one_sentence() {
    let rows: &[(&str, &str, &str)] = &[
        (GENERATE, "1000000", "text_encoder_2: "),
        (GENERATE, "4000000", "text_encoder_2: "),
        (WAN, "4000000", "decode: vae: "),
        (UPSCALE, "4000000", "the upscaler: "),
        (INTERPOLATE, "4000000", "the interpolator: "),
    ];
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (call, bytes, place) in rows {
        let run = bench.run_on(&stand_in(), &format!("{call} --quiet"), &[("STAND_IN_VRAM", bytes)]);
        let name = format!("{place}{bytes} bytes");
        bad.extend(fault(&bench, &name, &run, &[place, "out of memory"]));
        if run.log.refused == 0 {
            bad.push(format!("{name}: nothing was refused"));
        }
    }
    report(&bad);
}
