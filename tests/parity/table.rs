//! Goldens, the engine, and a result table that reports every failed row.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use crescendo::{
    Result,
    onnx::{Model, Provider, Target},
    runtime::{DeviceChoice, Engine, Load, Network, Options},
    tensor::{DType, Tensor},
    weights::Checkpoint,
};
use ndarray::{ArrayD, IxDyn};
use serde::de::DeserializeOwned;

/// Maximum error of a network, relative to the maximum magnitude of the reference.
pub(crate) const NETWORK: f32 = 1e-4;

/// Names and targets that run on the CPU.
pub(crate) const TARGETS: [(&str, Target); 2] =
    [("cpu", Target::CPU), ("portable", Target { provider: Provider::Portable, compute: DType::F32 })];

/// Path of a file or folder in the goldens.
pub(crate) fn goldens(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// Reads a JSON file of the goldens.
pub(crate) fn cases<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(goldens(name)).unwrap()).unwrap()
}

/// Named tensors of a golden file.
pub(crate) struct Golden(Checkpoint);

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        Self(Checkpoint::open(&goldens(name)).unwrap())
    }

    pub(crate) fn f32(&self, name: &str) -> ArrayD<f32> {
        let stored = self.0.get(name).unwrap_or_else(|| panic!("no golden {name}"));
        ArrayD::from_shape_vec(IxDyn(&stored.shape), stored.to_f32().unwrap()).unwrap()
    }

    pub(crate) fn i64(&self, name: &str) -> ArrayD<i64> {
        let stored = self.0.get(name).unwrap_or_else(|| panic!("no golden {name}"));
        assert_eq!(stored.dtype, DType::I64, "{name}");
        let values = stored.bytes().unwrap().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect();
        ArrayD::from_shape_vec(IxDyn(&stored.shape), values).unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// ONNX Runtime on one CPU thread.
pub(crate) fn engine() -> Engine {
    Engine::start(&Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() }).unwrap()
}

/// A loaded network, with the defaults.
pub(crate) fn load(model: &Model) -> Result<Network> {
    engine().load("network", &model.bytes, &Load::default())
}

/// The floating-point outputs of one run by name, or the error.
pub(crate) type Outputs = Result<Vec<(String, ArrayD<f32>)>, String>;

/// Runs a network once.
pub(crate) fn run(network: &mut Network, inputs: &[(&str, Tensor)]) -> Outputs {
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
    let outputs = network.run(&inputs).map_err(|e| e.to_string())?;
    let floats = outputs.into_iter().filter_map(|(name, t)| match t {
        Tensor::F32(a) => Some((name, a)),
        Tensor::I64(_) => None,
    });
    Ok(floats.collect())
}

/// Returns the output with this name.
pub(crate) fn output(outputs: &Outputs, name: &str) -> Result<ArrayD<f32>, String> {
    let found = outputs.as_ref().map_err(String::clone)?.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone());
    found.ok_or_else(|| format!("no output {name}"))
}

/// max|a − b| / max|b|. Infinite if the shapes differ or a value is NaN.
pub(crate) fn relative_error(got: &ArrayD<f32>, want: &ArrayD<f32>) -> f32 {
    if got.shape() != want.shape() || got.iter().any(|v| !v.is_finite()) {
        return f32::INFINITY;
    }
    let most = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    let apart = most(&mut got.iter().zip(want).map(|(a, b)| a - b));
    if apart == 0.0 { 0.0 } else { apart / most(&mut want.iter().copied()) }
}

/// Rows of a parity table.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<String>,
    failed: usize,
}

impl Table {
    /// Adds a row that compares two arrays.
    pub(crate) fn compare(
        &mut self,
        name: impl Display,
        got: Result<ArrayD<f32>, impl Display>,
        want: &ArrayD<f32>,
        limit: f32,
    ) {
        match got {
            Ok(got) => {
                let error = relative_error(&got, want);
                let shape = if got.shape() == want.shape() {
                    format!("{:?}", want.shape())
                } else {
                    format!("{:?} for {:?}", got.shape(), want.shape())
                };
                self.row(error <= limit, format!("{name:<52} {shape:<20} {error:9.2e} {limit:7.0e}"));
            }
            Err(e) => self.row(false, format!("{name:<52} {e}")),
        }
    }

    /// Adds any other row.
    pub(crate) fn row(&mut self, good: bool, text: impl Display) {
        self.failed += usize::from(!good);
        self.rows.push(format!("{} {text}", if good { "  " } else { "✗ " }));
    }

    /// Prints the table. Panics if a row failed.
    pub(crate) fn finish(self) {
        let Self { rows, failed } = self;
        println!("{}", rows.join("\n"));
        assert!(!rows.is_empty(), "no rows");
        let bad: Vec<&String> = rows.iter().filter(|r| r.starts_with('✗')).collect();
        assert!(
            failed == 0,
            "{failed} of {} rows failed:\n{}",
            rows.len(),
            bad.iter().map(|r| format!("{r}\n")).collect::<String>()
        );
    }
}
