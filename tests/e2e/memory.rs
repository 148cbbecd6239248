//! `plan` estimates peak memory, and `--memory-limit` holds or refuses.

use std::process::Command;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::{Bench, CLIP, FLUX, RIFE, X2, here};

/// A picture with some detail.
fn picture(bench: &Bench, name: &str, (width, height): (u32, u32)) {
    let pixel = |x: u32, y: u32| Rgb([(x * 7 + y * 3) as u8, (x ^ y) as u8, (y * 5) as u8]);
    RgbImage::from_fn(width, height, pixel).save(bench.path(name)).unwrap();
}

fn number(bytes: &[u8], key: &str) -> Option<f64> {
    serde_json::from_slice::<Value>(bytes).ok()?[key].as_f64()
}

/// Planned and measured peak of a call, in MB.
fn peaks(bench: &Bench, args: &str) -> Result<(f64, f64), String> {
    let (plan, run) = (bench.run(&format!("plan {args} --json")), bench.run(&format!("{args} --json")));
    let planned = number(&plan.out, "memory_bytes").ok_or_else(|| format!("{args}: {}", plan.err))?;
    let measured = number(&run.out, "peak_memory_bytes").ok_or_else(|| format!("{args}: {}", run.err))?;
    Ok((planned / 1e6, measured / 1e6))
}

/// `scripts/bench/plan-memory` has a larger table and a smaller margin. This one runs beside other tests.
#[test]
fn plans_estimate_peak_memory() {
    let bench = Bench::new();
    picture(&bench, "small.png", (400, 300));
    picture(&bench, "large.png", (1000, 750));
    let (clip, x2, rife, flux) = (here(CLIP), here(X2), here(RIFE), here(FLUX));
    let rows = [
        "enhance small.png -o out/a.png --device cpu --upscale 2 --filter bicubic".to_owned(),
        "enhance large.png -o out/b.png --device cpu --upscale 2 --filter bicubic".to_owned(),
        format!("enhance small.png -o out/c.png --device cpu --upscale 2 --upscaling-model-path {x2}"),
        format!("enhance large.png -o out/d.png --device cpu --upscale 2 --upscaling-model-path {x2}"),
        format!(
            "enhance large.png -o out/e.png --device cpu --upscale 2 --upscaling-model-path {x2} --memory-limit 200MB"
        ),
        format!("enhance {clip} -o out/f.mp4 --device cpu --interpolate 2x --frame-interpolation-model-path {rife}"),
        format!(
            "generate --model-path {flux} --prompt a --device cpu --height 512 --width 512 --num-inference-steps 1 --output-file-path out/g.png"
        ),
    ];
    let mut bad = Vec::new();
    for row in &rows {
        match peaks(&bench, row) {
            Ok((planned, measured)) if (0.8..1.35).contains(&(planned / measured)) => {}
            Ok((planned, measured)) => bad.push(format!("{row}: planned {planned:.0} MB, measured {measured:.0} MB")),
            Err(e) => bad.push(e),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// A job stays below its limit, or is refused before any work.
#[test]
fn a_memory_limit_holds_or_refuses() {
    let bench = Bench::new();
    picture(&bench, "large.png", (1500, 1000));
    let upscale = format!("enhance large.png --device cpu --upscale 2 --upscaling-model-path {}", here(X2));
    let generate = format!("generate --model-path {} --prompt a --device cpu --num-inference-steps 1", here(FLUX));
    let mut bad = Vec::new();
    for (args, limit) in [
        (format!("{upscale} -o out/a.png --memory-limit 250MB --json"), 250e6),
        (
            format!("{generate} --height 512 --width 512 --memory-limit 150MB --output-file-path out/c.png --json"),
            150e6,
        ),
    ] {
        let run = bench.run(&args);
        match number(&run.out, "peak_memory_bytes") {
            Some(peak) if peak <= limit => {}
            found => bad.push(format!("{args}: {found:?}; {}", run.err)),
        }
    }
    let bench = Bench::new();
    picture(&bench, "large.png", (2400, 1600));
    for (args, code, wanted) in [
        (format!("{upscale} -o out/a.png --memory-limit 1"), 1, "--memory-limit 1 bytes: the program"),
        (format!("plan {upscale} -o out/a.png --memory-limit 1"), 1, "--memory-limit 1 bytes: the program"),
        (format!("{generate} --memory-limit 1 --output-file-path out/a.png"), 1, "--memory-limit 1 bytes: the program"),
        (
            format!("{generate} --height 4096 --width 4096 --memory-limit 110MB --output-file-path out/a.png"),
            3,
            "--memory-limit 110 MB: at least",
        ),
        (format!("plan {generate} --height 1000000 --width 1024"), 1, "--height 1000000: at most 16384 pixels"),
        (format!("plan {generate} --height 64 --width 1000000"), 1, "--width 1000000: at most 16384 pixels"),
    ] {
        bad.extend(bench.fault(&args, &bench.run(&args), code, &[wanted]));
    }
    for (args, wanted) in [
        // A BMP is not written in bands.
        (format!("{upscale} -o out/a.bmp --memory-limit 130MB"), "--memory-limit 130 MB: at least"),
        (
            "enhance large.png -o out/a.png --device cpu --filter bicubic --upscale 100000x100000".to_owned(),
            "MB of available memory: at least",
        ),
        (
            "enhance large.png -o out/a.png --device cpu --filter bicubic --upscale 9000000000x9000000000".to_owned(),
            "PNG allows at most 2147483647 pixels per side",
        ),
    ] {
        let run = bench.run(&args);
        if run.code == Some(0) || !run.err.contains(wanted) || !bench.made().is_empty() {
            bad.push(format!("{args}: {:?} {} {:?}", run.code, run.err, bench.made()));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// A picture that does not fit as a whole is processed in bands, with the same bytes.
#[test]
fn bands_make_the_same_file() {
    let bench = Bench::new();
    picture(&bench, "rgb.png", (300, 2000));
    picture(&bench, "large.png", (400, 3600));
    let large = image::open(bench.path("large.png")).unwrap();
    large.to_luma8().save(bench.path("grey.png")).unwrap();
    large.crop_imm(0, 0, 400, 2000).to_rgb16().save(bench.path("deep.png")).unwrap();
    image::open(bench.path("rgb.png")).unwrap().save(bench.path("rgb.jpg")).unwrap();
    large.to_rgb8().save(bench.path("plain.tif")).unwrap();
    for (source, compression, name) in [("grey.png", "lzw", "lzw.tif"), ("deep.png", "deflate", "deflate.tif")] {
        let [source, name] = [source, name].map(|name| bench.path(name));
        let mut made = Command::new("ffmpeg");
        made.args(["-v", "error", "-i"]).arg(source).args(["-compression_algo", compression]).arg(name);
        assert!(made.status().unwrap().success());
    }
    let (filter, network) = ("--filter bicubic", format!("--upscaling-model-path {}", here(X2)));
    let rows = [
        ("grey.png", "a.png", format!("{filter} --verify"), 112),
        ("deep.png", "b.tif", filter.into(), 114),
        ("rgb.png", "c.png", network.clone(), 112),
        ("rgb.jpg", "d.jpg", network, 112),
        ("plain.tif", "e.tif", filter.into(), 112),
        ("lzw.tif", "f.png", filter.into(), 112),
        ("deflate.tif", "g.png", filter.into(), 112),
    ];
    let mut bad = Vec::new();
    for (input, output, flags, limit) in rows {
        let args = format!("enhance {input} --device cpu --upscale 2 {flags} --json");
        let whole = bench.run(&format!("{args} -o out/whole-{output}"));
        let (args, size) = (format!("{args} -o out/{output} --memory-limit {limit}MB"), f64::from(limit) * 1e6);
        let (plan, bands) = (bench.run(&format!("plan {args}")), bench.run(&args));
        let planned = number(&plan.out, "memory_bytes").unwrap_or(f64::NAN) / 1e6;
        let peak = number(&bands.out, "peak_memory_bytes").unwrap_or(f64::NAN);
        let [wanted, found] = ["whole-", ""].map(|kind| std::fs::read(bench.path(&format!("out/{kind}{output}"))).ok());
        if peak.is_nan() || peak > size || wanted.is_none() || wanted != found {
            let same = wanted == found;
            let peak = peak / 1e6;
            bad.push(format!("{args}: planned {planned} MB, peak {peak} MB, same {same}: {} {}", whole.err, bands.err));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
