//! Upscalers in every container, wrapper and spelling of names against spandrel (`scripts/reference/esrgan.py`).

use crescendo::{
    Result, compile,
    compile::UpscalerForm,
    onnx::Target,
    stage::upscale::{Form, Upscale},
};
use ndarray::{Array3, ArrayD, Axis};
use serde::Deserialize;

use crate::table::{Golden, NETWORK, TARGETS, Table, cases, goldens, load};

#[derive(Deserialize)]
struct Case {
    file: String,
    case: String,
    sizes: Vec<[usize; 2]>,
    scale: usize,
}

fn planes(a: ArrayD<f32>) -> Array3<f32> {
    a.index_axis_move(Axis(0), 0).into_dimensionality().unwrap()
}

fn upscaler(file: &str, target: Target, tile: usize, halo: Option<usize>) -> Result<(Upscale, UpscalerForm)> {
    let built = compile::upscaler(&goldens("esrgan").join(file), target)?;
    let UpscalerForm { scale, multiple, reach, .. } = built.form;
    let form = Form { scale, multiple, tile, halo: halo.unwrap_or(reach) };
    Ok((Upscale::new(load(&built.model)?, form), built.form))
}

#[test]
fn enlarged_pictures_equal_spandrel() {
    let golden = Golden::open("esrgan/goldens.safetensors");
    let mut table = Table::default();
    for case in cases::<Vec<Case>>("esrgan/cases.json") {
        for (name, target) in TARGETS {
            let mut net = upscaler(&case.file, target, 0, None);
            if let Ok((_, form)) = &net {
                table.row(form.scale == case.scale, format!("{} scale {} of {}", case.file, form.scale, case.scale));
            }
            for n in 0..case.sizes.len() {
                let picture = planes(golden.f32(&format!("{}.{n}.in", case.case)));
                let got = match &mut net {
                    Ok((stage, _)) => stage.enlarge(&picture).map_err(|e| e.to_string()),
                    Err(e) => Err(e.to_string()),
                };
                let want = planes(golden.f32(&format!("{}.{n}.out", case.case))).into_dyn();
                table.compare(format!("{} {name} {n}", case.file), got.map(Array3::into_dyn), &want, NETWORK);
            }
        }
    }
    table.finish();
}
