//! Captured graphs: one per combination of shapes, nothing illegal while capturing, and what a failed capture leaves.

use std::{env, path::Path, process::Command};

use crescendo::{
    compile::{self, Subgraph},
    onnx::{Provider, Target},
    runtime::{DeviceChoice, Engine, Load, Network, Options},
    tensor::{DType, Tensor},
};
use ndarray::{ArrayD, IxDyn};

use crate::{Bench, log::Log, probe_answer, report, stand_in};

const BF16: Target = Target { provider: Provider::Cuda, compute: DType::BF16 };
const F32: Target = Target { provider: Provider::Cuda, compute: DType::F32 };
const F16: Target = Target { provider: Provider::Cuda, compute: DType::F16 };

/// A graph, and the symbols of its extents in two shapes.
struct Row {
    name: &'static str,
    build: fn(&Path) -> Vec<u8>,
    shapes: [&'static [(&'static str, usize)]; 2],
}

fn part(goldens: &Path, folder: &str, name: &str, subgraph: Subgraph, target: Target) -> Vec<u8> {
    let folder = goldens.join(folder).join("model");
    let index = std::fs::read_to_string(folder.join("model_index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let class = index[name][1].as_str().unwrap();
    compile::component(&folder.join(name), class, subgraph, None, target).unwrap().bytes
}

const TOKENS: [&[(&str, usize)]; 2] = [
    &[("n", 1), ("text", 64), ("image", 24), ("text_rows", 64), ("image_rows", 32)],
    &[("n", 1), ("text", 64), ("image", 96), ("text_rows", 64), ("image_rows", 96)],
];
const SIDES: [&[(&str, usize)]; 2] = [&[("n", 1), ("h", 2), ("w", 3)], &[("n", 1), ("h", 4), ("w", 2)]];
const LATENTS: [&[(&str, usize)]; 2] = [&[("n", 1), ("h", 8), ("w", 12)], &[("n", 1), ("h", 16), ("w", 8)]];

const ROWS: &[Row] = &[
    Row { name: "flux1", build: |at| part(at, "flux1-dev", "transformer", Subgraph::Full, BF16), shapes: TOKENS },
    Row { name: "flux2", build: |at| part(at, "flux2-klein", "transformer", Subgraph::Full, BF16), shapes: TOKENS },
    Row { name: "qwen-image", build: |at| part(at, "qwen-image", "transformer", Subgraph::Full, BF16), shapes: TOKENS },
    Row { name: "z-image", build: |at| part(at, "z-image", "transformer", Subgraph::Full, BF16), shapes: TOKENS },
    Row { name: "wan", build: |at| part(at, "wan", "transformer", Subgraph::Full, BF16), shapes: TOKENS },
    Row { name: "vae", build: |at| part(at, "flux1-dev", "vae", Subgraph::Decoder, F32), shapes: LATENTS },
    Row {
        name: "upscaler",
        build: |at| compile::upscaler(&at.join("esrgan/rrdb-x4.pth"), F16).unwrap().model.bytes,
        shapes: LATENTS,
    },
    Row {
        name: "interpolator",
        build: |at| compile::interpolator(&at.join("rife/4.22.lite/flownet.pkl"), 1.0, F32).unwrap().model.bytes,
        shapes: SIDES,
    },
];

/// `2*h + 1` with the values of symbols.
fn extent(expression: &str, symbols: &[(&str, usize)]) -> usize {
    let factor = |word: &str| {
        let known = symbols.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        known.or_else(|| word.parse().ok()).unwrap_or_else(|| panic!("{word} in {expression}"))
    };
    expression.split(" + ").map(|term| term.split('*').map(factor).product::<usize>()).sum()
}

fn run(network: &mut Network, symbols: &[(&str, usize)]) -> Result<Vec<Vec<usize>>, String> {
    let inputs: Vec<(String, Tensor)> = network
        .inputs()
        .iter()
        .map(|input| {
            let extents =
                input.shape.iter().zip(&input.dims).map(|(n, name)| n.unwrap_or_else(|| extent(name, symbols)));
            let shape = IxDyn(&extents.collect::<Vec<_>>());
            let tensor = match input.dtype.is_float() {
                true => ArrayD::<f32>::zeros(shape).into(),
                false => Tensor::I64(ArrayD::zeros(shape)),
            };
            (input.name.clone(), tensor)
        })
        .collect();
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let outputs = network.run(&inputs).map_err(|e| e.to_string())?;
    Ok(outputs.iter().map(|(_, tensor)| tensor.shape().to_vec()).collect())
}

/// Begins what the process prints; the harness prints the name of the test before the first line.
const MARK: &str = "graph: ";

/// Not a test. The tests below start it in a process with the stand-in: runs the graph that `CASE` names with two shapes in turn and
/// prints what each run returned.
#[test]
#[ignore = "started by the tests of captured graphs"]
fn run_in_separate_process() {
    let Ok(case) = env::var("CASE") else { return };
    let row = ROWS.iter().find(|row| row.name == case).unwrap();
    let library = Some(stand_in().join("onnxruntime"));
    let engine = Engine::start(&Options { device: DeviceChoice::Cuda(0), library, ..Options::default() }).unwrap();
    let graph = (row.build)(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens"));
    let how = Load { cuda_graph: true, ..Load::default() };
    let mut network = engine.load(row.name, &graph, &how).unwrap();
    for which in [0, 0, 1, 0, 1] {
        match run(&mut network, row.shapes[which]) {
            Ok(shapes) => println!("{MARK}run {which} {shapes:?}"),
            Err(message) => println!("{MARK}failed {which} {message}"),
        }
    }
}

/// What the process printed about its runs, its exit code, and its log.
fn captured(case: &str, settings: &[(&str, &str)]) -> (Vec<String>, Option<i32>, Log) {
    let bench = Bench::new();
    let log = bench.path("log");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "capture::run_in_separate_process", "--nocapture"]);
    command.env("CASE", case).env("LD_LIBRARY_PATH", stand_in()).env("STAND_IN_LOG", &log);
    let output = command.env("STAND_IN_ANSWER", probe_answer()).envs(settings.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
    (lines.collect(), output.status.code(), Log::read(&log))
}

#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn graphs_are_captured_once_per_shape() {
    let mut bad = Vec::new();
    for row in ROWS {
        let (runs, code, log) = captured(row.name, &[]);
        let ran = runs.iter().all(|line| line.starts_with("run ")) && runs.len() == 5 && code == Some(0);
        // The output has the size of its shape: no graph is replayed for another one.
        let own = ran && runs[0] == runs[1] && runs[0] == runs[3] && runs[2] == runs[4];
        let good = log.captures.len() == 2 && !log.captures.contains(&0) && log.replays == 5 && log.illegal.is_empty();
        if !own || !good {
            let Log { captures, replays, illegal, .. } = log;
            bad.push(format!("{}: {code:?} {runs:?}; {captures:?}, {replays} replays, illegal {illegal:?}", row.name));
        }
    }
    report(&bad);
}

/// A convolution that fails while it is captured, after two runs that are not.
const DURING: &str = "cudnnBackendExecute:90:1";

/// A first run that fails before, while and after it is captured: one error, and the next run captures anew.
#[test]
#[ignore = "needs the stand-in: scripts/test --cuda-stand-in"]
fn a_failed_capture_is_forgotten() {
    let (_, _, good) = captured("vae", &[]);
    assert_eq!(good.captures.len(), 2);
    let mut bad = Vec::new();
    for fault in [
        "cudnnBackendExecute:30:1",
        "cudaStreamBeginCapture:1:901",
        DURING,
        "cudaStreamEndCapture:1:901",
        "cudaGraphInstantiate:1:2",
    ] {
        let (runs, code, log) = captured("vae", &[("STAND_IN_FAIL", fault)]);
        let failed = runs.iter().filter(|line| line.starts_with("failed 0 vae: ")).count();
        let ran = runs.iter().filter(|line| line.starts_with("run ")).count();
        // Both shapes are captured whole: part of a graph is never replayed. After a failure within a capture, ONNX Runtime itself waits
        // for the device, and ends and launches what it has.
        let whole = log.captures.ends_with(&good.captures);
        let clean = fault == DURING || (log.replays == 4 && log.illegal.is_empty());
        if code != Some(0) || (failed, ran) != (1, 4) || !whole || !clean {
            let Log { captures, replays, illegal, .. } = log;
            bad.push(format!("{fault}: {code:?} {runs:?}; {captures:?}, {replays} replays, illegal {illegal:?}"));
        }
    }
    report(&bad);
}
