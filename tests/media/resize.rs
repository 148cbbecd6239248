use crescendo::media::resize::{Filter, resize};
use ndarray::Array3;
use serde_json::Value;

use crate::{data, report};

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

#[test]
fn resampled_planes_equal_pillow() {
    let golden: Value = serde_json::from_slice(&std::fs::read(data("resize.json")).unwrap()).unwrap();
    let planes = Array3::from_shape_vec((2, 6, 7), floats(&golden["planes"])).unwrap();
    let mut faults = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let filter = match case["filter"].as_str().unwrap() {
            "nearest" => Filter::Nearest,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let (width, height) = (case["width"].as_u64().unwrap() as usize, case["height"].as_u64().unwrap() as usize);
        let ours = resize(&planes, height, width, filter).unwrap();
        let theirs = floats(&case["values"]);
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if ours.dim() != (2, height, width) || worst > 1e-4 {
            faults.push(format!("{filter:?} {width}x{height}: {worst}"));
        }
    }
    report(&faults);
    assert!(resize(&planes, 0, 5, Filter::Bicubic).unwrap_err().to_string().contains("7x6 to 5x0"));
}
