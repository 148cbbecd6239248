//! Compares upscalers in every container, wrapper and naming with spandrel (`scripts/reference/esrgan.py`).

use crescendo::{
    Result, compile,
    compile::UpscalerSpec,
    onnx::Target,
    stage::upscale::{Upscale, UpscaleOptions},
};
use ndarray::{Array3, ArrayD, Axis, concatenate};
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

fn upscaler(file: &str, target: Target, tile: usize, halo: Option<usize>) -> Result<(Upscale, UpscalerSpec)> {
    let built = compile::upscaler(&goldens("esrgan").join(file), target)?;
    let UpscalerSpec { scale, multiple, receptive_field, .. } = built.spec;
    let form = UpscaleOptions { scale, multiple, tile, halo: halo.unwrap_or(receptive_field) };
    Ok((Upscale::new(load(&built.model)?, form), built.spec))
}

#[test]
fn upscaled_pictures_equal_spandrel() {
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
                    Ok((stage, _)) => stage.upscale(&picture).map_err(|e| e.to_string()),
                    Err(e) => Err(e.to_string()),
                };
                let want = planes(golden.f32(&format!("{}.{n}.out", case.case))).into_dyn();
                table.compare(format!("{} {name} {n}", case.file), got.map(Array3::into_dyn), &want, NETWORK);
            }
        }
    }
    table.finish();
}

/// Maximum difference between tiled and untiled, in the range 0..=1.
const GREY_LEVEL: f32 = 1.0 / 255.0;

#[test]
fn tiled_equals_untiled() {
    let golden = Golden::open("esrgan/goldens.safetensors");
    let mut table = Table::default();
    for case in cases::<Vec<Case>>("esrgan/cases.json") {
        for n in 0..case.sizes.len() {
            let picture = planes(golden.f32(&format!("{}.{n}.in", case.case)));
            let whole = planes(golden.f32(&format!("{}.{n}.out", case.case)));
            for tile in [1, 4, 5, 8] {
                let got =
                    upscaler(&case.file, Target::CPU, tile, None).and_then(|(mut stage, _)| stage.upscale(&picture));
                let row = format!("{} {n} tiles of {tile}", case.file);
                match got {
                    Ok(got) if got.dim() == whole.dim() => {
                        let worst = (&got - &whole).iter().fold(0f32, |m, v| m.max(v.abs()));
                        table.row(worst <= GREY_LEVEL, format!("{row:<52} {:?} {worst:9.2e}", got.dim()));
                    }
                    Ok(got) => table.row(false, format!("{row}: {:?} for {:?}", got.dim(), whole.dim())),
                    Err(e) => table.row(false, format!("{row}: {e}")),
                }
            }
        }
    }
    table.finish();
}

#[test]
fn a_halo_of_the_receptive_field_is_necessary_and_sufficient() {
    let golden = Golden::open("esrgan/goldens.safetensors");
    let mut table = Table::default();
    for (file, case, n) in [("compact-x2.safetensors", "compact-x2", 1), ("compact-x4.pth", "compact-x4", 0)] {
        // Larger than any tile below, so tiles are shifted, not cut, at a border.
        let one = planes(golden.f32(&format!("{case}.{n}.in")));
        let row = concatenate(Axis(2), &[one.view(), one.view(), one.view()]).unwrap();
        let picture = concatenate(Axis(1), &[row.view(), row.view(), row.view()]).unwrap();
        let (mut stage, form) = upscaler(file, Target::CPU, 0, None).unwrap();
        let whole = stage.upscale(&picture).unwrap();
        for (halo, equal) in [(0, false), (form.receptive_field - 1, false), (form.receptive_field, true)] {
            let (mut stage, _) = upscaler(file, Target::CPU, 3, Some(halo)).unwrap();
            let got = stage.upscale(&picture).unwrap();
            let worst = (&got - &whole).iter().fold(0f32, |m, v| m.max(v.abs()));
            let row = format!("{file} halo {halo} of {}: {worst:9.2e}, equal {equal}", form.receptive_field);
            table.row((worst < 1e-5) == equal, row);
        }
    }
    table.finish();
}

#[test]
fn blended_weights_equal_spandrel() {
    let golden = Golden::open("esrgan/goldens.safetensors");
    let (own, other) = (goldens("esrgan/compact-x4.pth"), goldens("esrgan/compact-wdn-x4.pth"));
    let picture = planes(golden.f32("compact-x4.0.in"));
    let mut table = Table::default();
    for share in ["0.0", "0.3", "1.0"] {
        for (name, target) in TARGETS {
            let built = compile::blended_upscaler(&own, &other, share.parse().unwrap(), target).unwrap();
            let UpscalerSpec { scale, multiple, .. } = built.spec;
            let form = UpscaleOptions { scale, multiple, tile: 0, halo: 0 };
            let got = Upscale::new(load(&built.model).unwrap(), form).upscale(&picture).map_err(|e| e.to_string());
            let want = planes(golden.f32(&format!("blend-{share}.out"))).into_dyn();
            table.compare(format!("{share} of one {name}"), got.map(Array3::into_dyn), &want, NETWORK);
        }
    }
    let strange = compile::blended_upscaler(&own, &goldens("esrgan/compact-x3.pth"), 0.5, Target::CPU);
    let cause = strange.map(|_| ()).unwrap_err().to_string();
    table.row(cause.contains("compact-x3.pth") && cause.contains("different networks"), cause);
    table.finish();
}
