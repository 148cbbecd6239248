//! Compares transforms, growth and progressive runs with scipy, PyWavelets, numpy and diffusers (goldens:
//! scripts/reference/spectral.py), splits with the published table, and tests properties of growth.

#![allow(clippy::unwrap_used, missing_docs)]

use crescendo::{
    schedule::{BfStream, FlowMatch, NoiseSource, Spacing, empirical_mu},
    spectral::{Growth, Ladder, Level, Scale, Scales, Spectrum, Transform, check_delta, resized, split},
    tensor::DType,
};
use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn, Slice};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/spectral/spectral.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("golden without {key}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|v| v as usize).collect()
}

fn randn(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    NoiseSource::Cpu(BfStream::Current).seeded(seed).randn(shape, DType::F32).unwrap()
}

/// Panics with all failures, if any.
fn assert_no_failures(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

/// Returns max|got − want| / max|want|. `want` holds every `stride`-th value.
fn max_error(got: &ArrayD<f32>, want: &[f64], stride: usize) -> f64 {
    let got: Vec<f64> = got.iter().step_by(stride).map(|&v| f64::from(v)).collect();
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let scale = want.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0, |m, (g, w)| if (g - w).is_nan() { f64::NAN } else { m.max((g - w).abs() / scale) })
}

fn exceeds(off: f64, allowed: f64) -> bool {
    off.is_nan() || off > allowed
}

fn transform(value: &Value) -> Transform {
    match value.as_str().unwrap() {
        "dct" => Transform::Dct,
        "dwt" => Transform::Dwt,
        "fft" => Transform::Fft,
        other => panic!("transform {other}"),
    }
}

/// Resizing a clean latent equals growth at σ = 0, keeps a constant and is invertible. One axis may grow while the other shrinks.
#[test]
fn resizing_equals_growth_without_noise() {
    let rewind = Growth { rewind: true, ..Growth::default() };
    let mut failures = Vec::new();
    for (from, to) in [([6, 9], [8, 12]), ([5, 7], [10, 14]), ([4, 6], [4, 6]), ([8, 5], [6, 11]), ([1, 3], [2, 3])] {
        let shape = |[h, w]: [usize; 2]| IxDyn(&[1, 3, 2, h, w]);
        let flat = resized(&ArrayD::from_elem(shape(from), 0.7), (to[0], to[1])).unwrap();
        let constant = flat.iter().fold(0f32, |m, v| m.max((v - 0.7).abs()));
        let x = randn(9, &[1, 3, 2, from[0], from[1]]);
        let there = resized(&x, (to[0], to[1])).unwrap();
        let back: Vec<f64> = resized(&there, (from[0], from[1])).unwrap().iter().map(|&v| f64::from(v)).collect();
        let larger = to[0] >= from[0] && to[1] >= from[1];
        let (grown, returned) = if larger {
            let grown = rewind.grow(&x, &ArrayD::zeros(shape(to)), 0.0).unwrap().0;
            (max_error(&there, &grown.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), 1), max_error(&x, &back, 1))
        } else {
            (0.0, 0.0)
        };
        if there.shape()[3..] != to || constant > 1e-6 || exceeds(grown, 1e-6) || exceeds(returned, 1e-6) {
            failures.push(format!("{from:?} to {to:?}: constant {constant:e}, grown {grown:e}, back {returned:e}"));
        }
    }
    assert!(resized(&randn(1, &[1, 2, 3]), (0, 3)).is_err());
    assert_no_failures(failures);
}

/// The orthonormal DCT-II of planes [n, h, w], as two matrix products.
fn dct2(planes: &ArrayD<f32>) -> ArrayD<f32> {
    let basis = |n: usize| {
        Array2::from_shape_fn((n, n), |(k, i)| {
            let weight = if k == 0 { 1.0 / n as f32 } else { 2.0 / n as f32 };
            weight.sqrt() * (std::f32::consts::PI * k as f32 * (i as f32 + 0.5) / n as f32).cos()
        })
    };
    let (rows, columns) = (basis(planes.shape()[1]), basis(planes.shape()[2]));
    let mut out = planes.clone();
    for mut plane in out.outer_iter_mut() {
        let of = plane.to_owned().into_dimensionality::<Ix2>().unwrap();
        plane.assign(&rows.dot(&of).dot(&columns.t()));
    }
    out
}

#[test]
fn growth_equals_scipy_pywavelets_and_numpy() {
    let golden = golden();
    let mut failures = Vec::new();
    for row in rows(&golden, "growth") {
        let growth = Growth { transform: transform(&row["transform"]), rewind: row["rewind"].as_bool().unwrap() };
        let (x, noise) = (randn(1, &sizes(&row["from"])), randn(2, &sizes(&row["to"])));
        let (got, after) = growth.grow(&x, &noise, row["sigma"].as_f64().unwrap() as f32).unwrap();
        let off = max_error(&got, &numbers(&row["values"]), row["stride"].as_u64().unwrap() as usize);
        if exceeds(off, 1e-6) || after != row["after"].as_f64().unwrap() as f32 {
            failures
                .push(format!("{growth:?} {} → {} σ {}: {off:e}, σ' {after}", row["from"], row["to"], row["sigma"]));
        }
    }
    assert_no_failures(failures);
}

/// Growth maps x = (1−σ)·c + σ·n to (1−σ')·c + σ'·n': the constant is exact, the noise stays white.
#[test]
fn growth_keeps_the_noise_path_at_every_ratio() {
    type Row = (Transform, (usize, usize), (usize, usize), f32);
    let table: &[Row] = &[
        (Transform::Dct, (32, 32), (64, 64), 0.7),
        (Transform::Dct, (32, 48), (44, 66), 0.7),
        (Transform::Dct, (22, 40), (46, 80), 0.3),
        (Transform::Dct, (64, 64), (64, 96), 0.9),
        (Transform::Dct, (31, 33), (64, 64), 0.0),
        (Transform::Dct, (31, 33), (64, 64), 1.0),
        (Transform::Dwt, (32, 32), (64, 64), 0.7),
        (Transform::Fft, (32, 32), (64, 64), 0.7),
        (Transform::Fft, (32, 48), (44, 66), 0.4),
        (Transform::Fft, (33, 31), (64, 64), 0.8),
    ];
    let mut failures = Vec::new();
    for &(transform, from, to, sigma) in table {
        let growth = Growth { transform, rewind: true };
        let of = |size: (usize, usize)| [8, size.0, size.1];
        let ones = ArrayD::from_elem(IxDyn(&of(from)), 3.0 * (1.0 - sigma));
        let (constant, next) = growth.grow(&ones, &ArrayD::zeros(IxDyn(&of(to))), sigma).unwrap();
        let off = constant.iter().fold(0.0f32, |m, v| m.max((v - 3.0 * (1.0 - next)).abs()));
        let (noise, _) = growth.grow(&(randn(1, &of(from)) * sigma), &randn(2, &of(to)), sigma).unwrap();
        let mut worst_band: f32 = 0.0;
        // White noise: four bands of the spectrum have equal power within the sampling error.
        let spectrum = dct2(&noise);
        for (rows, columns) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let half = |n: usize, which: usize| Slice::from(which * (n / 2)..(which + 1) * (n / 2));
            let band = spectrum.slice_axis(Axis(1), half(to.0, rows));
            let band = band.slice_axis(Axis(2), half(to.1, columns));
            let std = (band.iter().map(|v| v * v).sum::<f32>() / band.len() as f32).sqrt();
            worst_band = worst_band.max((std - next).abs() / next.max(1e-6) * (band.len() as f32).sqrt());
        }
        let r = ((to.0 * to.1) as f32 / (from.0 * from.1) as f32).sqrt();
        let want = r * sigma / (1.0 + (r - 1.0) * sigma);
        if off > 2e-6 || (worst_band > 4.0 && sigma > 0.0) || (next - want).abs() > 1e-6 {
            failures.push(format!("{transform:?} {from:?} → {to:?} σ {sigma}: {off:e}, band {worst_band}, σ' {next}"));
        }
    }
    assert_no_failures(failures);
}

/// A wave that both grids can represent is the same wave on the finer grid.
#[test]
fn growth_keeps_smooth_signals() {
    let wave = |(h, w): (usize, usize)| {
        ArrayD::from_shape_fn(IxDyn(&[1, h, w]), |i| {
            let at = |k: usize, n: usize, f: f64| (f * std::f64::consts::PI * (k as f64 + 0.5) / n as f64).cos();
            (at(i[1], h, 3.0) * at(i[2], w, 2.0)) as f32
        })
    };
    let growth = Growth { transform: Transform::Dct, rewind: true };
    let mut failures = Vec::new();
    for (from, to) in [((8, 12), (16, 24)), ((9, 12), (13, 31)), ((22, 40), (46, 80))] {
        let (got, sigma) = growth.grow(&wave(from), &randn(1, &[1, to.0, to.1]), 0.0).unwrap();
        let want: Vec<f64> = wave(to).iter().map(|&v| f64::from(v)).collect();
        let off = max_error(&got, &want, 1);
        if exceeds(off, 1e-5) || sigma != 0.0 {
            failures.push(format!("{from:?} → {to:?}: {off:e}"));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn activation_times_equal_the_paper() {
    let golden = golden();
    let mut failures = Vec::new();
    for row in rows(&golden, "activation") {
        let value = |key: &str| row[key].as_f64().unwrap();
        let spectrum = Spectrum { a: value("a"), beta: value("beta") };
        let got = spectrum.activation_time(value("omega"), value("delta"));
        if (got - value("t")).abs() > 1e-14 {
            failures.push(format!("{row}: {got}"));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn progressive_runs_equal_diffusers() {
    let golden = golden();
    let mut failures = Vec::new();
    for row in rows(&golden, "runs") {
        let schedule = FlowMatch::from_json(&row["config"].to_string()).unwrap();
        let sigmas = schedule.sigmas(row["steps"].as_u64().unwrap() as usize, None).unwrap();
        let (spectrum, lead) = (numbers(&row["spectrum"]), sizes(&row["lead"]));
        let growth = Growth { transform: Transform::Dct, rewind: row["rewind"].as_bool().unwrap() };
        let ladder = Ladder {
            latent: (8, 12),
            patch: 1,
            scales: Scales::explicit(&numbers(&row["scales"]).into_iter().map(Scale::Ratio).collect::<Vec<_>>())
                .unwrap(),
            spectrum: Spectrum { a: spectrum[0], beta: spectrum[1] },
            delta: row["delta"].as_f64().unwrap(),
            growth,
        };
        let levels = ladder.levels(&sigmas).unwrap();
        let shape = |l: &Level| [&lead[..], &[l.height, l.width]].concat();
        let mut solver = schedule.solver(DType::F32);
        let mut x = randn(42, &shape(&levels[0]));
        let mut off = 0.0f64;
        for (k, level) in levels.iter().enumerate() {
            if k > 0 {
                let noise = randn(42 + 10_000 * k as u64, &shape(level));
                let (grown, sigma) = growth.grow(&x, &noise, levels[k - 1].sigma_end).unwrap();
                off = off.max(f64::from((sigma - level.sigma_start).abs()));
                x = grown;
                solver.reset();
            }
            let own = level.sigmas(&sigmas);
            for i in level.first_step..level.end_step {
                x = solver.step(x, &randn(100 + i as u64, &shape(level)), &own, i);
            }
        }
        let ends: Vec<usize> = levels[..levels.len() - 1].iter().map(|l| l.end_step).collect();
        off = off.max(max_error(&x, &numbers(&row["values"]), 1));
        if exceeds(off, 1e-5) || ends != sizes(&row["ends"]) {
            failures.push(format!("{} {} δ {}: {off:e}, {}", row["name"], row["scales"], row["delta"], split(&levels)));
        }
    }
    assert_no_failures(failures);
}

fn euler(keys: &str) -> FlowMatch {
    FlowMatch::from_json(&format!(r#"{{"_class_name":"FlowMatchEulerDiscreteScheduler",{keys}}}"#)).unwrap()
}

const FLUX: &str = r#""shift":3.0,"use_dynamic_shifting":true"#;
const QWEN: &str = r#""use_dynamic_shifting":true,"max_shift":0.9,"max_image_seq_len":8192,"shift_terminal":0.02"#;

fn plan(sigmas: &[f32], latent: (usize, usize), scales: Scales, spectrum: Spectrum, delta: f64) -> String {
    let growth = Growth { transform: Transform::Dct, rewind: true };
    split(&Ladder { latent, patch: 1, scales, spectrum, delta, growth }.levels(sigmas).unwrap())
}

#[test]
fn splits_equal_the_published_tables() {
    let flux = euler(FLUX);
    let flux_sigmas = flux.sigmas(50, Some(flux.linear_mu(4096))).unwrap();
    let flux2_sigmas = euler(FLUX).sigmas(30, Some(empirical_mu(4096, 30))).unwrap();
    let z_sigmas = FlowMatch { spacing: Spacing::StepsTorch, ..euler(r#""shift":6.0"#) }.sigmas(50, None).unwrap();
    let qwen = euler(QWEN);
    let qwen_sigmas = qwen.sigmas(30, Some(qwen.linear_mu(4096))).unwrap();
    let wan = r#""use_flow_sigmas":true,"prediction_type":"flow_prediction","flow_shift":5.0"#;
    let wan = FlowMatch::from_json(&format!(r#"{{"_class_name":"UniPCMultistepScheduler",{wan}}}"#)).unwrap();
    let twice = FlowMatch { spacing: Spacing::WanTwice, ..wan.clone() }.sigmas(50, None).unwrap();
    let wan = wan.sigmas(50, None).unwrap();

    type Row<'a> = (&'a str, &'a [f32], (usize, usize), usize, f64, &'a str);
    let table: &[Row] = &[
        ("FLUX.1-dev", &flux_sigmas, (128, 128), 1, 0.01, "18@64x64 + 32@128x128"),
        ("FLUX.1-dev", &flux_sigmas, (128, 128), 1, 0.05, "28@64x64 + 22@128x128"),
        ("FLUX.1-dev", &flux_sigmas, (128, 128), 2, 0.01, "10@32x32 + 8@64x64 + 32@128x128"),
        ("FLUX.2-klein-4B", &flux2_sigmas, (64, 64), 1, 0.05, "18@32x32 + 12@64x64"),
        ("FLUX.2-klein-4B", &flux2_sigmas, (64, 64), 1, 0.10, "20@32x32 + 10@64x64"),
        ("Wan", &wan, (60, 104), 1, 0.01, "23@30x52 + 27@60x104"),
        ("Wan", &wan, (60, 104), 1, 0.02, "27@30x52 + 23@60x104"),
        ("Wan", &wan, (60, 104), 1, 0.05, "33@30x52 + 17@60x104"),
        ("Wan", &wan, (60, 104), 1, 0.10, "37@30x52 + 13@60x104"),
        ("Wan, SGLang's σ", &twice, (60, 104), 1, 0.01, "23@30x52 + 27@60x104"),
        ("Wan, SGLang's σ", &twice, (60, 104), 1, 0.02, "27@30x52 + 23@60x104"),
        ("Wan, SGLang's σ", &twice, (60, 104), 1, 0.05, "33@30x52 + 17@60x104"),
        ("Wan, SGLang's σ", &twice, (60, 104), 1, 0.10, "37@30x52 + 13@60x104"),
        ("Qwen-Image", &qwen_sigmas, (128, 128), 1, 0.05, "13@64x64 + 17@128x128"),
        ("Qwen-Image", &qwen_sigmas, (128, 128), 1, 0.10, "16@64x64 + 14@128x128"),
        ("Qwen-Image", &qwen_sigmas, (128, 128), 1, 0.20, "19@64x64 + 11@128x128"),
        ("Z-Image", &z_sigmas, (128, 128), 1, 0.01, "26@64x64 + 24@128x128"),
        ("Z-Image", &z_sigmas, (128, 128), 1, 0.05, "36@64x64 + 14@128x128"),
        ("Z-Image", &z_sigmas, (128, 128), 1, 0.10, "39@64x64 + 11@128x128"),
    ];
    let mut failures = Vec::new();
    for &(model, sigmas, latent, levels, delta, want) in table {
        let spectrum = if model.starts_with("Wan") { Spectrum::WAN } else { Spectrum::FLUX };
        let got = plan(sigmas, latent, Scales::Levels(levels), spectrum, delta);
        let explicit = Scales::Explicit((0..=levels).rev().map(|k| Scale::Ratio(0.5f64.powi(k as i32))).collect());
        let same = plan(sigmas, latent, explicit, spectrum, delta);
        if got != want || same != want {
            failures.push(format!("{model} {latent:?} levels {levels} δ {delta}: {got} and {same}, not {want}"));
        }
    }
    assert_no_failures(failures);
}

/// Scales as they are typed, separated by spaces.
fn explicit(text: &str) -> crescendo::Result<Scales> {
    Scales::explicit(&text.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?)
}

#[test]
fn every_multiple_of_the_patch_has_levels() {
    let sigmas = euler(r#""shift":3.0"#).sigmas(20, None).unwrap();
    // latent, patch, scales → sizes
    type Row<'a> = ((usize, usize), usize, Scales, &'a [(usize, usize)]);
    let table: &[Row] = &[
        ((46, 80), 2, Scales::Levels(1), &[(22, 40), (46, 80)]),
        ((166, 166), 2, Scales::Levels(1), &[(82, 82), (166, 166)]),
        ((116, 208), 2, Scales::Levels(2), &[(28, 52), (58, 104), (116, 208)]),
        ((90, 160), 2, Scales::Levels(1), &[(44, 80), (90, 160)]),
        ((83, 83), 1, Scales::Levels(1), &[(41, 41), (83, 83)]),
        ((128, 128), 2, explicit("0.4 0.75 1").unwrap(), &[(52, 52), (96, 96), (128, 128)]),
        ((96, 96), 2, explicit("1/3 2/3 1").unwrap(), &[(32, 32), (64, 64), (96, 96)]),
        ((90, 160), 2, explicit("480 720").unwrap(), &[(60, 106), (90, 160)]),
        ((128, 128), 2, Scales::Full, &[(128, 128)]),
        ((2, 64), 2, Scales::Levels(1), &[(2, 32), (2, 64)]),
    ];
    let mut failures = Vec::new();
    for (latent, patch, scales, want) in table {
        let growth = Growth { transform: Transform::Dct, rewind: true };
        let spectrum = Spectrum::FLUX;
        let ladder = Ladder { latent: *latent, patch: *patch, scales: scales.clone(), spectrum, delta: 0.01, growth };
        let levels = ladder.levels(&sigmas).unwrap();
        let got: Vec<_> = levels.iter().map(|l| (l.height, l.width)).collect();
        let steps: usize = levels.iter().map(Level::steps).sum();
        let joined = levels.windows(2).all(|p| p[0].end_step == p[1].first_step);
        if got != *want || steps != 20 || !joined || levels[levels.len() - 1].sigma_end != 0.0 {
            failures.push(format!("{latent:?} patch {patch} {scales:?}: {levels:?}"));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn levels_without_steps_keep_the_noise_path() {
    let sigmas = [1.0, 0.6, 0.3, 0.0f32];
    let ladder = |spectrum, delta| Ladder {
        latent: (16, 16),
        patch: 2,
        scales: Scales::Levels(2),
        spectrum,
        delta,
        growth: Growth { transform: Transform::Dct, rewind: true },
    };
    // The thresholds are never reached: both growths follow the last step, at σ = 0.
    let never = ladder(Spectrum { a: 1e-4, beta: 2.0 }, 0.5).levels(&sigmas).unwrap();
    assert_eq!(split(&never), "3@4x4 + 0@8x8 + 0@16x16");
    assert_eq!(
        never.iter().map(|l| (l.sigma_start, l.sigma_end)).collect::<Vec<_>>(),
        [(1.0, 0.0), (0.0, 0.0), (0.0, 0.0)]
    );
    // Both growths at one step: the second starts from the rewound σ; each multiplies the odds of σ by r.
    let at_once = ladder(Spectrum { a: 1e4, beta: 1.0 }, 0.5).levels(&sigmas).unwrap();
    assert_eq!(split(&at_once), "1@4x4 + 0@8x8 + 2@16x16");
    assert_eq!(at_once[1].sigma_start, at_once[1].sigma_end);
    let odds = |s: f32| s / (1.0 - s);
    assert!((odds(at_once[2].sigma_start) / odds(0.6) - 4.0).abs() < 1e-5, "{at_once:?}");
    assert_eq!(at_once[2].sigmas(&sigmas), [1.0, at_once[2].sigma_start, 0.3, 0.0]);
}

#[test]
fn spectra_parse() {
    assert_eq!("203.615097, 1.915461".parse::<Spectrum>().unwrap(), Spectrum::FLUX);
}

#[test]
fn invalid_requests_give_a_one_line_error() {
    let ladder = |latent, scales, delta, transform| {
        let growth = Growth { transform, rewind: true };
        let ladder = Ladder { latent, patch: 2, scales, spectrum: Spectrum::FLUX, delta, growth };
        ladder.levels(&[1.0, 0.5, 0.0]).unwrap_err().to_string()
    };
    let (x, noise) = (ArrayD::<f32>::zeros(IxDyn(&[1, 4, 6])), |s: &[usize]| ArrayD::<f32>::zeros(IxDyn(s)));
    let grow = |shape: &[usize]| Growth::default().grow(&x, &noise(shape), 0.5).unwrap_err().to_string();
    let scales = |text| explicit(text).and_then(|scales| scales.check_height(720)).unwrap_err().to_string();
    let table = [
        (check_delta(1.0).unwrap_err().to_string(), "progressive_delta must be in (0, 1), got 1"),
        (check_delta(f64::NAN).unwrap_err().to_string(), "progressive_delta must be in (0, 1), got NaN"),
        (ladder((16, 16), Scales::Levels(1), 0.0, Transform::Dct), "progressive_delta must be in (0, 1), got 0"),
        (
            "203.6".parse::<Spectrum>().unwrap_err().to_string(),
            "progressive_spectrum must be A,BETA, two positive numbers such as 203.6,1.915, got '203.6'",
        ),
        (scales(""), "--progressive-scales: at least one scale is required, such as 0.5 1.0"),
        (scales("0.5 480"), "--progressive-scales: give ratios or pixel heights, not both"),
        (scales("0.25 0.5"), "--progressive-scales must end in 1, full resolution, got 0.5"),
        (scales("480 640"), "--progressive-scales: the last height must be the picture's, 720, got 640"),
        (scales("0.5 0.5 1"), "--progressive-scales must ascend, got 0.5 before 0.5"),
        (
            ladder((45, 80), Scales::Levels(1), 0.1, Transform::Dct),
            "a latent of 45x80 cannot be cut into 2x2 patches; the nearest sizes are 44x80 and 46x80",
        ),
        (
            ladder((4, 4), Scales::Levels(2), 0.1, Transform::Dct),
            "the level at scale 0.25 of a 4x4 latent would be 2x2, the same size as the next; leave it out, or choose \
             a larger picture",
        ),
        (
            ladder((16, 16), Scales::Levels(40), 0.1, Transform::Dct),
            "progressive_levels 40 is too many for a latent of 16x16; at most 5 halvings are possible",
        ),
        (
            ladder((46, 80), Scales::Levels(1), 0.1, Transform::Dwt),
            "progressive_transform 'dwt' needs each level twice the one before, got 22x40 to 46x80; use 'dct' or 'fft'",
        ),
        (grow(&[1, 2, 6]), "a latent cannot grow from 4x6 to 2x6"),
        (grow(&[2, 8, 12]), "growing a latent [1, 4, 6]: the noise must have the same leading axes, got [2, 8, 12]"),
    ];
    for typed in ["half", "1/0", "3/2", "1.5", "-1", "0"] {
        let message = typed.parse::<Scale>().unwrap_err().to_string();
        let expected = message.starts_with("progressive_scales must be ratios in (0, 1]");
        assert!(expected && message.ends_with(&format!("'{typed}'")), "{message}");
    }
    assert_no_failures(
        table.iter().filter(|(got, want)| got != want).map(|(got, want)| format!("{got}\n  not: {want}")).collect(),
    );
}
