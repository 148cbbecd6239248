//! Graphs of `export --device cuda` load on CUDA, in every type.

use std::{env, path::Path, process::Command};

use crescendo::runtime::{DeviceChoice, Engine, Load, Options};

use crate::{Bench, probe_answer, report, stand_in};

/// Checkpoints below the goldens, and how many graphs each becomes.
const ROWS: &[(&str, usize)] = &[
    ("flux1-dev/model", 7),
    ("flux2-klein/model", 6),
    ("qwen-image/model", 6),
    ("z-image/model", 6),
    ("wan/model", 8),
    ("esrgan/rrdb-x4.pth", 1),
    ("rife/4.22.lite/flownet.pkl", 1),
];

/// Not a test. The test below starts it in a process with the stand-in: loads each graph of the folder that `FOLDER` names and prints it.
#[test]
#[ignore = "started by exported_graphs_load"]
fn load_in_separate_process() {
    let Some(folder) = env::var_os("FOLDER") else { return };
    let library = Some(stand_in().join("onnxruntime"));
    let engine = Engine::start(&Options { device: DeviceChoice::Cuda(0), library, ..Options::default() }).unwrap();
    for entry in Path::new(&folder).read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match engine.load_file(&name, &path, &Load::default()) {
                Ok(_) => println!("loaded {name}"),
                Err(e) => println!("failed {e}"),
            }
        }
    }
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn exported_graphs_load() {
    // Weights are linked, so the folder is on the file system of the checkpoints.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (bench, mut bad) = (Bench::new(), Vec::new());
    for (model, graphs) in ROWS {
        for dtype in ["auto", "f32", "f16", "bf16"] {
            let out = folder.path().join(format!("{}-{dtype}", model.split('/').next().unwrap()));
            let run = bench.run_on(
                &stand_in(),
                &format!("export {{goldens}}/{model} -o {} --dtype {dtype} --output-size 96x64", out.display()),
                &[],
            );
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--ignored", "--exact", "exported::load_in_separate_process", "--nocapture"]);
            child.env("FOLDER", &out).env("LD_LIBRARY_PATH", stand_in()).env("STAND_IN_ANSWER", probe_answer());
            let output = child.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            let loaded = text.matches("loaded ").count();
            if run.code != Some(0) || !output.status.success() || loaded != *graphs || text.contains("failed ") {
                bad.push(format!("{model} {dtype}: {loaded} of {graphs} load: {}{text}", run.err));
            }
        }
    }
    report(&bad);
}
