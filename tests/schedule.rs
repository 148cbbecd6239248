//! Compares schedules, solvers, guidance and noise with torch and diffusers (goldens: scripts/reference/schedule.py).

#![allow(clippy::unwrap_used, missing_docs)]

use crescendo::{
    schedule::{
        BfStream, Class, FlowMatch, Gpu, Guidance, Noise, NoiseSource, Solver, Spacing, TorchCpu, TorchCuda,
        empirical_mu, euler_step, first_step, first_step_of_video, scale_noise,
    },
    tensor::DType,
};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;
use sha2::{Digest, Sha256};

const SHAPE: [usize; 4] = [1, 2, 3, 4];

fn golden(name: &str) -> Value {
    let path = format!("{}/tests/goldens/schedule/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("golden without {key}"))
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap() as usize
}

fn floats(bits: &Value) -> Vec<f32> {
    bits.as_array().unwrap().iter().map(|b| f32::from_bits(b.as_u64().unwrap() as u32)).collect()
}

fn randn(seed: u64, shape: &[usize], dtype: DType) -> ArrayD<f32> {
    NoiseSource::Cpu(BfStream::Current).seeded(seed).randn(shape, dtype).unwrap()
}

/// Panics with all failures, if any.
fn assert_no_failures(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

fn ulps(a: f32, b: f32) -> u32 {
    a.to_bits().abs_diff(b.to_bits())
}

fn max_error(got: &[f32], want: &[f32]) -> f32 {
    if got.len() != want.len() {
        return f32::INFINITY;
    }
    let scale = want.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0, |m: f32, (g, w)| if g == w { m } else { m.max((g - w).abs() / scale) })
}

#[test]
fn sigmas_and_timesteps_equal_diffusers() {
    let golden = golden("schedule.json");
    let mut failures = Vec::new();
    for row in rows(&golden, "schedules") {
        let mut schedule = FlowMatch::from_json(&row["config"].to_string()).unwrap();
        schedule.spacing = match row["spacing"].as_str().unwrap() {
            "torch" => Spacing::StepsTorch,
            "twice" => Spacing::WanTwice,
            _ => schedule.spacing,
        };
        let (steps, mu) = (number(row, "steps"), row["mu"].as_f64());
        let sigmas = schedule.sigmas(steps, mu).unwrap();
        for (i, (t, &sigma)) in floats(&row["timesteps"]).into_iter().zip(&sigmas).enumerate() {
            // UniPC truncates 1000·σ in f64. `sigma` is f32, so it may round to the other side of an integer.
            let allowed = if schedule.class == Class::Euler { 0.0 } else { 1.0 };
            if (schedule.timestep_at(sigma) - t).abs() > allowed {
                failures.push(format!(
                    "{} timestep of step {i}: {}, not {t}",
                    row["name"],
                    schedule.timestep_at(sigma)
                ));
            }
        }
        let want = floats(&row["sigmas"]);
        let off = sigmas.iter().zip(&want).map(|(&g, &w)| ulps(g, w)).max().unwrap();
        if sigmas.len() != want.len() || off > 0 {
            failures.push(format!("{} sigmas: {off} ulps\n  got  {sigmas:?}\n  want {want:?}", row["name"]));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn mu_equals_diffusers() {
    let golden = golden("schedule.json");
    let mut failures = Vec::new();
    for row in rows(&golden, "empirical_mu") {
        let got = empirical_mu(number(row, "seq"), number(row, "steps"));
        if (got - row["mu"].as_f64().unwrap()).abs() > 1e-15 {
            failures.push(format!("empirical {row}: got {got}"));
        }
    }
    let config = |max: f64, seq: u32| {
        let text = format!(
            r#"{{"_class_name":"FlowMatchEulerDiscreteScheduler","max_shift":{max},"max_image_seq_len":{seq}}}"#
        );
        FlowMatch::from_json(&text).unwrap()
    };
    for row in rows(&golden, "linear_mu") {
        for (key, schedule) in [("flux", config(1.15, 4096)), ("qwen", config(0.9, 8192))] {
            let (got, want) = (schedule.linear_mu(number(row, "seq")), row[key].as_f64().unwrap());
            if (got - want).abs() > 1e-15 {
                failures.push(format!("{key} {row}: got {got}"));
            }
        }
    }
    assert_no_failures(failures);
}

#[test]
fn solver_steps_equal_diffusers() {
    let golden = golden("schedule.json");
    let mut failures = Vec::new();
    for row in rows(&golden, "trajectories") {
        let schedule = FlowMatch::from_json(&row["config"].to_string()).unwrap();
        let (dtype, allowed) = if row["dtype"] == "bfloat16" { (DType::BF16, 0.0) } else { (DType::F32, 2e-6) };
        let reset = row["reset"].as_u64().map(|i| i as usize);
        let mut solver: Box<dyn Solver + Send> = schedule.solver(dtype);
        let mut sigmas = schedule.sigmas(number(row, "steps"), row["mu"].as_f64()).unwrap();
        let mut x = randn(7, &SHAPE, dtype);
        for (i, want) in rows(row, "after").iter().enumerate() {
            if reset == Some(i) {
                let sigma = f64::from(sigmas[i]);
                sigmas[i] = (2.0 * sigma / (1.0 + sigma)) as f32;
                x = randn(8, &SHAPE, dtype);
                solver.reset();
            }
            x = solver.step(x, &randn(100 + i as u64, &SHAPE, dtype), &sigmas, i);
            let off = max_error(x.as_slice().unwrap(), &floats(want));
            if off > allowed || off.is_nan() {
                failures.push(format!("{} {} after step {i}: {off:e}", row["name"], row["dtype"]));
            }
        }
    }
    assert_no_failures(failures);
}

#[test]
fn guidance_equals_torch() {
    let golden = golden("schedule.json");
    let row = &golden["guidance"];
    let shape: Vec<usize> = row["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    let (pos, neg) = (randn(11, &shape, DType::F32), randn(12, &shape, DType::F32));
    let z = |normalization| Guidance::ZImage { scale: 4.0, truncation: 1.0, normalization };
    let table = [
        ("cfg", Guidance::Cfg { scale: 5.0, embedded: None }),
        ("z_image", z(None)),
        ("z_image_capped", z(Some(1.5))),
        ("token_norm", Guidance::TokenNorm { scale: 4.0 }),
    ];
    let mut failures = Vec::new();
    for (name, guidance) in table {
        let off = max_error(guidance.combine(&pos, &neg).as_slice().unwrap(), &floats(&row[name]));
        if off > 1e-6 || off.is_nan() {
            failures.push(format!("{name}: {off:e}"));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn guidance_needs_the_negative_only_if_it_has_an_effect() {
    let z = |scale, truncation| Guidance::ZImage { scale, truncation, normalization: None };
    let table = [
        (Guidance::None, 0.5, false),
        (Guidance::Embedded(3.5), 0.5, false),
        (Guidance::Cfg { scale: 1.0, embedded: None }, 0.5, false),
        (Guidance::Cfg { scale: 5.0, embedded: None }, 0.5, true),
        (Guidance::TokenNorm { scale: 4.0 }, 0.5, true),
        (z(0.0, 1.0), 0.5, false),
        (z(4.0, 1.0), 0.0, true),
        (z(4.0, 0.6), 0.5, true),
        (z(4.0, 0.6), 0.3, false),
    ];
    assert_no_failures(
        table
            .iter()
            .filter(|(g, sigma, want)| g.needs_negative(*sigma) != *want)
            .map(|row| format!("{row:?}"))
            .collect(),
    );
    assert_eq!(Guidance::Embedded(3.5).embedded(), Some(3.5));
}

#[test]
fn noise_equals_the_published_vectors() {
    let golden = golden("rng.json");
    let mut failures = Vec::new();
    for row in rows(&golden, "vectors") {
        let n = row["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).product();
        let mut torch = TorchCpu::seeded(row["seed"].as_u64().unwrap());
        let got = match row["dtype"].as_str().unwrap() {
            "float32" => torch.randn_f32(n),
            "bfloat16" => torch.randn_bf16(n, BfStream::Current),
            other => panic!("no such dtype here: {other}"),
        };
        let want: Vec<u32> =
            rows(row, "f32_bits_hex").iter().map(|h| u32::from_str_radix(h.as_str().unwrap(), 16).unwrap()).collect();
        if got.iter().map(|v| v.to_bits()).ne(want.iter().copied()) {
            failures.push(row["note"].to_string());
        }
    }
    assert_no_failures(failures);
}

#[test]
fn noise_equals_torch_at_every_length() {
    let golden = golden("schedule.json");
    let mut failures = Vec::new();
    for row in rows(&golden["noise"], "rows") {
        let (n, dtype) = (number(row, "n"), row["dtype"].as_str().unwrap());
        let mut torch = TorchCpu::seeded(row["seed"].as_u64().unwrap());
        if dtype == "float64" {
            continue;
        }
        let got = if dtype == "float32" { torch.randn_f32(n) } else { torch.randn_bf16(n, BfStream::Current) };
        let bytes: Vec<u8> = got.iter().flat_map(|v| v.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let ok = row["sha256"] == digest.as_str();
        if !ok {
            failures.push(format!("{dtype} seed {} n {n}", row["seed"]));
        }
    }
    let mut shared = TorchCpu::seeded(5);
    for (n, want) in [3, 4, 16, 2].into_iter().zip(rows(&golden["noise"], "shared_seed_5_calls_3_4_16_2")) {
        if shared.randn_f32(n) != floats(want) {
            failures.push(format!("call of {n} on a shared generator"));
        }
    }
    for row in rows(&golden, "old_bf16") {
        let mut torch = TorchCpu::seeded(row["seed"].as_u64().unwrap());
        if torch.randn_bf16(number(row, "n"), BfStream::Old) != floats(&row["values"]) {
            failures.push(format!("old bf16 stream, seed {}, n {}", row["seed"], row["n"]));
        }
    }
    assert_no_failures(failures);
}

#[test]
fn cuda_noise_has_torchs_layout() {
    let golden = golden("rng.json");
    let mut failures = Vec::new();
    let row = &golden["cuda_emulated"];
    let mut seeded = TorchCuda::seeded(row["seed"].as_u64().unwrap(), Gpu::HOPPER);
    let got = seeded.randn_f32(8);
    for (i, (g, w)) in got.iter().zip(rows(row, "values")).enumerate() {
        if (f64::from(*g) - w.as_f64().unwrap()).abs() > 2e-6 {
            failures.push(format!("element {i}: {g}, not {w}"));
        }
    }
    // T = 256 threads: element 4kT + mT + i is normal m of thread i in round k, so a shorter draw is a prefix.
    let mut small = TorchCuda::seeded(9, Gpu { sms: 1, threads_per_sm: 256 });
    let (long, short) =
        (small.randn_f32(2600), TorchCuda::seeded(9, Gpu { sms: 1, threads_per_sm: 256 }).randn_f32(1024));
    if long[..1024] != short[..] {
        failures.push("256 threads: a shorter draw is not a prefix".into());
    }
    let wide = TorchCuda::seeded(9, Gpu::HOPPER).randn_f32(2600);
    if wide[..256] != long[..256] || wide[256..512] == long[256..512] {
        failures.push("the thread count does not change the layout as it should".into());
    }
    assert_no_failures(failures);
}

#[test]
fn invalid_noise_types_and_shapes_are_rejected() {
    let mut noise: Noise = NoiseSource::Cuda(Gpu { sms: 128, threads_per_sm: 1536 }).seeded(1);
    assert_eq!(noise.randn(&[2, 3, 5], DType::BF16).unwrap().shape(), [2, 3, 5]);
    let message = noise.randn(&[2], DType::I64).unwrap_err().to_string();
    assert_eq!(message, "noise in i64: unsupported; use f32 or bf16");
}

#[test]
fn steps_and_starts_follow_their_formulas() {
    let of = |v: [f32; 2]| ArrayD::from_shape_vec(IxDyn(&[2]), v.to_vec()).unwrap();
    assert_eq!(euler_step(of([1.0, 2.0]), &of([4.0, -4.0]), 0.75, 0.5), of([0.0, 3.0]));
    let starts = [(28, 0.6, 11), (50, 1.0, 0), (4, 0.0, 4), (30, 0.35, 19), (10, 0.05, 9)];
    assert_no_failures(
        starts
            .iter()
            .filter(|(steps, strength, want)| first_step(*steps, *strength).unwrap() != *want)
            .map(|row| format!("{row:?}"))
            .collect(),
    );
    let videos = [(50, 0.58, 22), (4, 0.2, 4), (50, 1.0, 0), (5, 0.8, 1), (10, 0.3, 7), (6, 0.9, 1), (100, 0.29, 72)];
    assert_no_failures(
        videos
            .iter()
            .filter(|(steps, strength, want)| first_step_of_video(*steps, *strength).unwrap() != *want)
            .map(|row| format!("{row:?}"))
            .collect(),
    );
    assert_eq!(first_step(4, 1.5).unwrap_err().to_string(), "strength must be in [0, 1], got 1.5");
    assert_eq!(scale_noise(of([1.0, 2.0]), &of([3.0, -2.0]), 0.25), of([1.5, 1.0]));
}

#[test]
fn unsupported_configs_are_rejected_by_name() {
    let table = [
        (r#"{"_class_name":"DDIMScheduler"}"#, "unsupported scheduler class DDIMScheduler; supported: FlowMatchEuler"),
        (r#"{"shift":3}"#, "_class_name is missing"),
        (r#"[1"#, "not a scheduler config"),
        (r#"{"_class_name":"FlowMatchEulerDiscreteScheduler","use_karras_sigmas":true}"#, "use_karras_sigmas = true"),
        (r#"{"_class_name":"FlowMatchEulerDiscreteScheduler","shift":-1}"#, "shift must be a positive number, got -1"),
        (r#"{"_class_name":"FlowMatchEulerDiscreteScheduler","shift_terminal":2}"#, "shift_terminal must be in (0, 1)"),
        (r#"{"_class_name":"FlowMatchEulerDiscreteScheduler","time_shift_type":"cosine"}"#, "time_shift_type cosine"),
        (r#"{"_class_name":"UniPCMultistepScheduler"}"#, "use_flow_sigmas = false; supported: true"),
        (
            r#"{"_class_name":"UniPCMultistepScheduler","use_flow_sigmas":true,"prediction_type":"epsilon"}"#,
            r#"prediction_type = "epsilon""#,
        ),
    ];
    let mut failures = Vec::new();
    for (text, want) in table {
        match FlowMatch::from_json(text) {
            Ok(schedule) => failures.push(format!("{text}: accepted as {schedule:?}")),
            Err(e) if !e.to_string().contains(want) => failures.push(format!("{text}: {e}")),
            Err(_) => {}
        }
    }
    let dynamic = r#"{"_class_name":"FlowMatchEulerDiscreteScheduler","use_dynamic_shifting":true}"#;
    let schedule = FlowMatch::from_json(dynamic).unwrap();
    if !schedule.sigmas(4, None).unwrap_err().to_string().contains("needs mu") {
        failures.push("dynamic without mu".into());
    }
    if schedule.sigmas(0, Some(1.0)).is_ok() || schedule.with_shift(0.0).is_ok() {
        failures.push("no steps, or a shift of 0".into());
    }
    assert_no_failures(failures);
}

#[test]
fn solvers_have_the_names_of_the_metadata() {
    let config = |class: &str, rest: &str| format!(r#"{{"_class_name": "{class}"{rest}}}"#);
    let flow = r#", "use_flow_sigmas": true, "prediction_type": "flow_prediction""#;
    for (config, name) in
        [(config("FlowMatchEulerDiscreteScheduler", ""), "Euler"), (config("UniPCMultistepScheduler", flow), "UniPC")]
    {
        assert_eq!(FlowMatch::from_json(&config).unwrap().solver(DType::F32).name(), name);
    }
}
