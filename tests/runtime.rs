//! Tests the runtime on ONNX Runtime: signatures, runs, errors, devices, memory. Compares the warp operator with torch.

#![allow(clippy::unwrap_used)]

#[path = "runtime/onnx.rs"]
mod onnx;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crescendo::{
    runtime::{Device, DeviceChoice, Engine, Load, Network, Options, describe, threads_available},
    tensor::{DType, Tensor},
};
use ndarray::{Array2, ArrayD, IxDyn};

/// Tests that measure memory run one at a time.
fn serialised() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the anonymous memory of this process in bytes (RssAnon), without pages of files.
fn anonymous_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/runtime").join(name)
}

fn cpu() -> Engine {
    Engine::start(&Options { device: DeviceChoice::Cpu, ..Options::default() }).unwrap()
}

fn floats(shape: &[usize], f: impl Fn(usize) -> f32) -> Tensor {
    let n = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), (0..n).map(f).collect()).unwrap().into()
}

fn values(t: &Tensor) -> Vec<f32> {
    match t {
        Tensor::F32(a) => a.iter().copied().collect(),
        Tensor::I64(a) => a.iter().map(|&v| v as f32).collect(),
    }
}

/// Writes three bytes and then `k · n` weights. Returns the external-data location for a graph.
fn weight_file(folder: &Path, k: usize, n: usize, weight: impl Fn(usize) -> f32) -> String {
    let path = folder.canonicalize().unwrap().join("weights.bin");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    file.write_all(b"abc").unwrap();
    (0..k * n).for_each(|i| file.write_all(&weight(i).to_le_bytes()).unwrap());
    file.into_inner().unwrap();
    path.to_str().unwrap().trim_start_matches('/').to_owned()
}

#[test]
fn weights_at_an_unaligned_offset_work() {
    let _turn = serialised();
    let folder = tempfile::tempdir().unwrap();
    let weight = |i: usize| (i as f32 * 0.37).sin();
    let location = weight_file(folder.path(), 5, 4, weight);
    let mut network = cpu().load("toy", &onnx::product(&location, 3, 5, 4), &Load::default()).unwrap();
    let w = Array2::from_shape_fn((5, 4), |(i, j)| weight(i * 4 + j));
    for rows in [1, 3, 2, 17] {
        let x = Array2::from_shape_fn((rows, 5), |(i, j)| (i + 2 * j) as f32 * 0.1);
        let y = network.run(&[("x", &x.clone().into_dyn().into())]).unwrap();
        let want = x.dot(&w);
        assert_eq!((y[0].0.as_str(), y[0].1.shape()), ("y", &[rows, 4][..]));
        assert!(values(&y[0].1).iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6), "{rows} rows");
    }
    // Column-major order.
    let x = Array2::from_shape_fn((5, 2), |(j, i)| (i + 2 * j) as f32).reversed_axes();
    let y = network.run(&[("x", &x.clone().into_dyn().into())]).unwrap();
    assert!(values(&y[0].1).iter().zip(&x.dot(&w)).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn inputs_and_outputs_are_converted_to_the_graphs_types() {
    let _turn = serialised();
    let mut network = cpu().load_file("toy", &data("mixed.onnx"), &Load::default()).unwrap();
    let inputs: Vec<_> =
        network.inputs().iter().map(|s| (s.name.as_str(), s.dtype, s.shape.clone(), s.dims.join(","))).collect();
    assert_eq!(
        inputs,
        [
            ("x", DType::F32, vec![None, Some(3)], "k,".into()),
            ("half", DType::F16, vec![None, None], "batch,k".into()),
            ("ids", DType::I32, vec![None], "n".into()),
        ]
    );
    let outputs: Vec<_> = network.outputs().iter().map(|s| (s.name.as_str(), s.dtype)).collect();
    assert_eq!(outputs, [("product", DType::F32), ("bf", DType::BF16), ("squares", DType::I32)]);
    assert_eq!(network.name(), "toy");

    let ids = Tensor::I64(ArrayD::from_shape_vec(IxDyn(&[2]), vec![3, -4]).unwrap());
    let (half, x) = (floats(&[1, 2], |i| i as f32 + 0.5), floats(&[2, 3], |i| i as f32));
    let results = network.run(&[("ids", &ids), ("half", &half), ("x", &x)]).unwrap();
    let results: Vec<_> = results.iter().map(|(name, t)| (name.as_str(), values(t))).collect();
    // bf16 has 8 bits of significand, so these values are exact.
    let product = vec![4.5, 6.5, 8.5];
    assert_eq!(results, [("product", product.clone()), ("bf", product), ("squares", vec![9.0, 16.0])]);
}

#[test]
fn invalid_inputs_are_named() {
    let _turn = serialised();
    let mut network = cpu().load_file("toy", &data("mixed.onnx"), &Load::default()).unwrap();
    let ids = |n: i64| Tensor::I64(ArrayD::from_elem(IxDyn(&[1]), n));
    let (x, half, good) = (floats(&[2, 3], |_| 0.0), floats(&[1, 2], |_| 0.0), ids(1));
    let (flat, wide, empty, long) =
        (floats(&[6], |_| 0.0), floats(&[2, 4], |_| 0.0), floats(&[0, 3], |_| 0.0), floats(&[9, 3], |_| 0.0));
    let big = ids(1 << 40);
    let table: [(&[(&str, &Tensor)], &str); 9] = [
        (&[("x", &x), ("half", &half)], "toy: input `ids` is missing; the network's inputs are x, half, ids"),
        (&[("y", &x)], "toy: no input `y`; the network's inputs are x, half, ids"),
        (&[("x", &x), ("x", &x)], "toy: input `x` occurs twice"),
        (&[("x", &good)], "toy: input `x` expects f32, got i64"),
        (&[("ids", &x)], "toy: input `ids` expects i32, got f32"),
        (&[("x", &flat)], "toy: input `x` expects the shape [k, 3], got [6]"),
        (&[("x", &wide)], "toy: input `x` expects the shape [k, 3], got [2, 4]"),
        (&[("x", &empty)], "toy: input `x` is empty: its shape is [0, 3]"),
        (&[("x", &x), ("half", &half), ("ids", &big)], "input `ids`: toy: 1099511627776 does not fit into i32"),
    ];
    let mut wrong = Vec::new();
    for (inputs, want) in table {
        match network.run(inputs) {
            Err(e) if e.to_string() == want => {}
            other => wrong.push((want, other.map_err(|e| e.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let message = network.run(&[("x", &long), ("half", &half), ("ids", &good)]).unwrap_err().to_string();
    assert_eq!(message, "toy: node /block.0/attn/to_q: MatMul dimension mismatch");
}

#[test]
fn failed_loads_and_runs_give_the_reason() {
    let _turn = serialised();
    let engine = cpu();
    let load = |model: &[u8]| engine.load("toy", model, &Load::default()).map(drop).unwrap_err().to_string();
    let file = |name: &str| engine.load_file("toy", &data(name), &Load::default());
    let folder = tempfile::tempdir().unwrap();
    let location = weight_file(folder.path(), 2, 2, |_| 0.0);
    let one = |n: i64| Tensor::I64(ArrayD::from_elem(IxDyn(&[3]), n));
    let table = [
        (load(b"garbage"), vec!["toy: Failed to load model because protobuf parsing failed"]),
        (load(b""), vec!["toy: "]),
        (load(&onnx::product("nowhere/at/all", 0, 2, 2)), vec!["toy: ", "nowhere/at/all"]),
        (
            load(&onnx::product(&location, 3, 200, 200)),
            vec!["toy: ", "tensor w ", "size to read: 160000", "file_length: 19"],
        ),
        (file("none.onnx").map(drop).unwrap_err().to_string(), vec!["toy: reading ", "none.onnx: No such file"]),
        (file("warp.bin").map(drop).unwrap_err().to_string(), vec!["warp.bin", "toy: ", "rotobuf"]),
        (
            file("expand.onnx")
                .unwrap()
                .run(&[("x", &floats(&[1], |_| 1.0)), ("shape", &one(1 << 16))])
                .map(drop)
                .unwrap_err()
                .to_string(),
            vec!["toy: out of memory at node /decoder/expand (1125899.9 GB more needed)", "--memory-limit", "--tile"],
        ),
    ];
    let wrong: Vec<_> = table.iter().filter(|(got, parts)| !parts.iter().all(|part| got.contains(part))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (got, _) in &table {
        assert!(!got.contains(".cc:") && !got.contains("onnxruntime::") && !got.contains('\n'), "{got}");
    }
}

/// Returns the cases of warp.bin: image, flow, torch's output.
fn warp_cases() -> Vec<[Tensor; 3]> {
    let bytes = fs::read(data("warp.bin")).unwrap();
    let mut words = bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let mut cases = Vec::new();
    while let Some(n) = words.next() {
        let mut extent = || i32::from_le_bytes(words.next().unwrap()) as usize;
        let (n, c, h, w) = (i32::from_le_bytes(n) as usize, extent(), extent(), extent());
        cases.push([c, 2, c].map(|c| {
            let part: Vec<f32> = words.by_ref().take(n * c * h * w).map(f32::from_le_bytes).collect();
            ArrayD::from_shape_vec(IxDyn(&[n, c, h, w]), part).unwrap().into()
        }));
    }
    cases
}

#[test]
fn warp_equals_torch() {
    let _turn = serialised();
    let mut network = cpu().load_file("warp", &data("warp.onnx"), &Load::default()).unwrap();
    let cases = warp_cases();
    assert_eq!(cases.len(), 5);
    for [image, flow, want] in &cases {
        let got = network.run(&[("image", image), ("flow", flow)]).unwrap().remove(0).1;
        assert_eq!(got.shape(), want.shape());
        let worst = values(&got).iter().zip(values(want)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // torch scales positions to -1…1 and back in f32, which moves them by about 1e-6 of the width.
        assert!(worst <= 2e-5, "{:?}: off by {worst}", image.shape());
    }
}

#[test]
fn warp_at_the_edges() {
    let _turn = serialised();
    let mut network = cpu().load_file("warp", &data("warp.onnx"), &Load::default()).unwrap();
    let mut run = |image: &Tensor, flow: &Tensor| network.run(&[("image", image), ("flow", flow)]);
    for shape in [[1, 1, 1, 1], [1, 2, 1, 5], [2, 1, 40, 1], [1, 3, 37, 3]] {
        let [n, c, h, w] = shape;
        let image = floats(&shape, |i| i as f32);
        let still = run(&image, &floats(&[n, 2, h, w], |_| 0.0)).unwrap().remove(0).1;
        assert_eq!(values(&still), values(&image), "{shape:?}: no flow changes nothing");
        let corner = run(&image, &floats(&[n, 2, h, w], |_| f32::INFINITY)).unwrap().remove(0).1;
        let last: Vec<f32> = (0..n * c).flat_map(|plane| vec![((plane + 1) * h * w - 1) as f32; h * w]).collect();
        assert_eq!(values(&corner), last, "{shape:?}: far beyond is the corner");
    }
    let lost = run(&floats(&[1, 1, 2, 2], |_| 1.0), &floats(&[1, 2, 2, 2], |i| if i == 1 { f32::NAN } else { 0.0 }))
        .unwrap()
        .remove(0)
        .1;
    let nan: Vec<bool> = values(&lost).iter().map(|v| v.is_nan()).collect();
    assert_eq!(nan, [false, true, false, false], "a NaN is not hidden");
    let message = run(&floats(&[1, 1, 2, 2], |_| 1.0), &floats(&[1, 2, 2, 3], |_| 0.0)).unwrap_err().to_string();
    assert_eq!(
        message,
        "warp: node warp: Warp requires a flow [1, 2, 2, 2] for the image [1, 1, 2, 2], got [1, 2, 2, 3]"
    );
}

#[test]
fn weights_stay_mapped_or_are_released() {
    let _turn = serialised();
    let folder = tempfile::tempdir().unwrap();
    let side = 7168; // 205 MB of f32
    let location = weight_file(folder.path(), side, side, |i| (i % 251) as f32 * 1e-3);
    let n = side as i64;
    let (f32, bf16) = (onnx::product(&location, 3, n, n), onnx::product_of_bf16(&location, 3, n, n));
    let bytes = (side * side * 4) as u64;
    let (mapped, copied) = (0..=bytes / 8, bytes * 9 / 10..=bytes * 12 / 10);
    let bounded = Load { bounded_casts: true, ..Load::default() };
    let table = [
        ("f32, mapped", &f32, Load { mapped_weights: true, ..Load::default() }, mapped.clone()),
        ("f32, packed", &f32, Load::default(), copied.clone()),
        ("bf16, cast in every run", &bf16, bounded, mapped),
        ("bf16, cast once", &bf16, Load { mapped_weights: true, ..Load::default() }, copied),
    ];
    let engine = cpu();
    let mut wrong = Vec::new();
    for (what, model, how, want) in table {
        let before = anonymous_memory();
        let mut network = engine.load("toy", model, &how).unwrap();
        let held = anonymous_memory().saturating_sub(before);
        network.run(&[("x", &floats(&[2, side], |_| 1.0))]).unwrap();
        drop(network);
        let kept = anonymous_memory().saturating_sub(before);
        if !want.contains(&held) || kept > bytes / 8 {
            wrong.push(format!("{what}: {held} bytes held (wanted {want:?}), {kept} not given back"));
        }
    }
    assert!(wrong.is_empty(), "{bytes} bytes of weights in f32: {wrong:#?}");
}

#[test]
fn shrinking_frees_memory_of_a_large_run() {
    let _turn = serialised();
    let engine = cpu();
    let held = |shrink| {
        let mut network = engine.load_file("toy", &data("expand.onnx"), &Load { shrink, ..Load::default() }).unwrap();
        let before = anonymous_memory();
        for side in [2, 6000, 2] {
            let shape = Tensor::I64(ArrayD::from_elem(IxDyn(&[2]), side));
            network.run(&[("x", &floats(&[1], |_| 1.0)), ("shape", &shape)]).unwrap();
        }
        (anonymous_memory().saturating_sub(before), network).0
    };
    let (kept, shrunk) = (held(false), held(true));
    assert!(kept > 100 << 20 && shrunk < 16 << 20, "{kept} bytes without, {shrunk} with");
}

#[test]
fn devices_work_or_give_the_reason() {
    let _turn = serialised();
    let start = |device| Engine::start(&Options { device, ..Options::default() });
    let auto = start(DeviceChoice::Auto).unwrap().device();
    match start(DeviceChoice::Cuda(0)) {
        Ok(engine) => assert_eq!((engine.device(), auto), (Device::Cuda(0), Device::Cuda(0))),
        Err(e) => {
            let message = e.to_string();
            assert!(
                message.starts_with("--device cuda:0") && message.len() > 40 && !message.contains('\n'),
                "{message}"
            );
            assert_eq!((auto, e.exit_code()), (Device::Cpu, 3));
        }
    }
    for device in [DeviceChoice::Cuda(99), DeviceChoice::TensorRt(99)] {
        assert!(start(device).is_err(), "{device:?}");
    }
    let other = Options { library: Some(data("warp.bin")), ..Options::default() };
    let message = Engine::start(&other).map(drop).unwrap_err().to_string();
    assert!(message.contains("warp.bin") && message.contains("is already loaded"), "{message}");
    let table = [
        ("auto", Some(DeviceChoice::Auto)),
        ("cpu", Some(DeviceChoice::Cpu)),
        ("cuda", Some(DeviceChoice::Cuda(0))),
        ("cuda:3", Some(DeviceChoice::Cuda(3))),
        ("tensorrt", Some(DeviceChoice::TensorRt(0))),
        ("tensorrt:1", Some(DeviceChoice::TensorRt(1))),
        ("gpu", None),
        ("cpu:0", None),
        ("cuda:-1", None),
        ("cuda:x", None),
        ("", None),
    ];
    for (typed, want) in table {
        assert_eq!(typed.parse::<DeviceChoice>().ok(), want, "{typed:?}");
    }
}

/// The probe of GPUs in f32 on the CPU: its expected values, which numpy computed, are those of ONNX Runtime.
#[test]
fn the_gpu_probe_expects_what_onnx_runtime_computes() {
    let _turn = serialised();
    let all: Vec<f32> = include_bytes!("../src/runtime/probe_gpu.bin")
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let (input, wanted) = all.split_at(all.len() / 4);
    let mut network = cpu().load_file("probe", &data("probe_gpu_f32.onnx"), &Load::default()).unwrap();
    let found = network.run(&[("x", &floats(&[1, 1, 4, 8], |i| input[i]))]).unwrap();
    let found = values(&found[0].1);
    let worst = found.iter().zip(wanted).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(found.len() == wanted.len() && worst < 1e-5, "differs by {worst}");
}

#[test]
fn doctor_lists_library_providers_and_devices() {
    let _turn = serialised();
    let seen = describe(&Options::default());
    assert!(
        seen.version.as_deref().is_some_and(|v| v.starts_with("1."))
            && seen.library.is_some()
            && seen.problem.is_none()
    );
    let names: Vec<_> =
        seen.providers.iter().map(|p| (p.device.as_str(), p.compiled_in || p.problem.is_some())).collect();
    assert_eq!(names, [("cpu", true), ("cuda:0", true), ("tensorrt:0", true)]);
    assert_eq!(seen.providers[0].problem, None);
    assert!(!seen.telemetry && seen.threads >= 1 && seen.devices[0].contains("cores"), "{seen:?}");
}

#[test]
fn networks_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Network>();
    assert_send::<Engine>();
}

/// Not a test. Other tests run this in a separate process, because a process loads the library once. Prints the result of starting.
#[test]
#[ignore = "started by a_missing_library_is_explained"]
fn start_in_separate_process() {
    match Engine::start(&Options { device: DeviceChoice::Cpu, ..Options::default() }) {
        Ok(_) => {
            let seen = describe(&Options::default());
            println!("started {} {}", seen.version.unwrap(), seen.library.unwrap().display());
        }
        Err(e) => println!("refused {e}"),
    }
    let seen = describe(&Options::default());
    println!("described {:?}", seen.problem);
    seen.providers.iter().for_each(|provider| println!("{provider:?}"));
}

fn start_with(variables: &[(&str, &Path)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "start_in_separate_process", "--nocapture"]);
    command.env_remove("ORT_DYLIB_PATH").env_remove("ORT_DISABLE_TELEMETRY").envs(variables.iter().copied());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_missing_library_is_explained() {
    let _turn = serialised();
    let library = describe(&Options::default()).library.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path();
    let out = start_with(&[("ORT_DYLIB_PATH", &library), ("XDG_CACHE_HOME", nothing), ("HOME", nothing)]);
    assert!(out.contains("started 1.") && out.contains("described None"), "{out}");
    assert_eq!(fs::read_dir(nothing).unwrap().count(), 0, "telemetry left files");

    let out = start_with(&[("ORT_DYLIB_PATH", &nothing.join("libonnxruntime.so"))]);
    for part in ["refused ONNX Runtime 1.31.1 ", "ORT_DYLIB_PATH", "not found", "run scripts/setup", "described Some"] {
        assert!(out.contains(part), "{part:?} is missing: {out}");
    }
    let out = start_with(&[("XDG_DATA_HOME", nothing), ("HOME", nothing)]);
    let places = ["started", "/crescendo/onnxruntime/1.31.1: not found", "../lib/crescendo", "system libraries"];
    assert!(out.contains(places[0]) || places[1..].iter().all(|place| out.contains(place)), "{out}");

    let installed = nothing.join("crescendo/onnxruntime/1.31.1");
    fs::create_dir_all(&installed).unwrap();
    std::os::unix::fs::symlink(&library, installed.join("libonnxruntime.so.1.31.1")).unwrap();
    let out = start_with(&[("XDG_DATA_HOME", nothing), ("HOME", nothing)]);
    assert!(out.contains("started 1."), "{out}");
}

/// `cargo test --release --test runtime -- --ignored --nocapture warp_speed`
#[test]
#[ignore = "benchmark"]
fn warp_speed() {
    let engine = cpu();
    let shape = [1, 8, 512, 512];
    let image = floats(&shape, |i| (i as f32 * 0.01).sin());
    let flow = floats(&[1, 2, 512, 512], |i| (i as f32 * 0.003).sin() * 12.0);
    let grid = floats(&[1, 2, 512, 512], |i| ((i % 512) as f32 / 256.0 - 1.0) * 0.98);
    let load = |file| engine.load_file(file, &data(file), &Load::default()).unwrap();
    let mut rivals = [("flow", flow, load("warp.onnx"), f64::MAX), ("grid", grid, load("grid_sample.onnx"), f64::MAX)];
    for _ in 0..60 {
        for (input, where_to, network, best) in &mut rivals {
            let start = Instant::now();
            network.run(&[("image", &image), (input, where_to)]).unwrap();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    for (_, _, network, best) in rivals {
        println!("{}: {:.3} ms a channel at 512² ({} threads)", network.name(), best * 1e3 / 8.0, threads_available());
    }
}
