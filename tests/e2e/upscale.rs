//! Upscaling from the command line: exact sizes, several passes, plain resampling, blended weights, tiles.

use std::fs;

use crate::{Bench, ESRGAN, done, here, report};

/// Returns width and height from a PNG header.
fn size(path: &std::path::Path) -> (u32, u32) {
    let bytes = fs::read(path).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// Writes a 45×30 picture.
fn small(bench: &Bench) {
    let picture = image::open(here("tests/data/pictures/chelsea.png")).unwrap();
    picture.resize_exact(45, 30, image::imageops::FilterType::Triangle).save(bench.path("small.png")).unwrap();
}

#[test]
fn all_size_options_give_the_size() {
    let bench = Bench::new();
    small(&bench);
    let mut bad = vec![];
    for (flags, want) in [
        ("--upscale 2 --upscaling-model-path {x2}", (90, 60)),
        // Three passes of an x2 network.
        ("--upscale 8 --upscaling-model-path {x2}", (360, 240)),
        ("--upscale 3 --upscaling-model-path {x2}", (135, 90)),
        ("--upscale 1 --upscaling-model-path {x2}", (45, 30)),
        ("--upscale 97x61 --upscaling-model-path {x2}", (97, 61)),
        ("--upscale 120p --upscaling-model-path {x2}", (180, 120)),
        ("--upscale 8 --upscaling-model-path {x2} --tile 16", (360, 240)),
        ("--upscale 3 --filter lanczos", (135, 90)),
        ("--upscale 20p --filter bilinear", (30, 20)),
        ("--upscale 97x61 --filter nearest", (97, 61)),
        ("--upscale 20p --upscaling-model-path {x2}", (30, 20)),
    ] {
        let run = bench.run(&format!("enhance small.png -o out/a.png --overwrite {flags}"));
        let made = bench.path("out/a.png");
        if run.code != Some(0) || size(&made) != want {
            bad.push(format!("{flags}: {:?} {}, wanted {want:?}", run.code, run.err));
        }
    }
    report(bad);
}

#[test]
fn tiled_equals_untiled() {
    let bench = Bench::new();
    small(&bench);
    let mut bad = vec![];
    for model in ["{x2}", "{esrgan}/rrdb-x2.pth", "{esrgan}/rrdb-x4.pth"] {
        let picture = |flags: &str| {
            done(&bench.run(&format!(
                "enhance small.png -o out/a.png --overwrite --upscale 4 --upscaling-model-path {model} {flags}"
            )));
            image::open(bench.path("out/a.png")).unwrap().to_rgb8().into_raw()
        };
        let whole = picture("--tile 0");
        for flags in ["--tile 16", "--tile 7", "--tile 40"] {
            let tiled = picture(flags);
            let worst = whole.iter().zip(&tiled).map(|(a, b)| a.abs_diff(*b)).max();
            // A value halfway between two grey levels may round to either.
            if whole.len() != tiled.len() || worst > Some(1) {
                bad.push(format!("{model} {flags}: {worst:?}"));
            }
        }
    }
    report(bad);
}

#[test]
fn weights_are_blended() {
    let bench = Bench::new();
    small(&bench);
    for (from, to) in [("compact-x4.pth", "net-x4.pth"), ("compact-wdn-x4.pth", "net-wdn-x4.pth")] {
        fs::copy(here(&format!("{ESRGAN}/{from}")), bench.path(to)).unwrap();
    }
    let picture = |flags: &str| {
        done(&bench.run(&format!("enhance small.png -o out/a.png --overwrite --upscale 4 {flags}")));
        image::open(bench.path("out/a.png")).unwrap().to_rgb8().into_raw()
    };
    let (own, other) = (picture("--upscaling-model-path net-x4.pth"), picture("--upscaling-model-path net-wdn-x4.pth"));
    assert_ne!(own, other);
    assert_eq!(own, picture("--upscaling-model-path net-x4.pth --denoise-strength 1"));
    assert_eq!(other, picture("--upscaling-model-path net-x4.pth --denoise-strength 0"));
    let named = picture("--upscaling-model-path net-wdn-x4.pth --denoise-strength 0.5 --denoise-model-path net-x4.pth");
    let beside = picture("--upscaling-model-path net-x4.pth --denoise-strength 0.5");
    assert!(named == beside && named != own && named != other);
    fs::remove_file(bench.path("out/a.png")).unwrap();
    let mut bad = vec![];
    for (flags, wants) in [
        ("--upscaling-model-path net-wdn-x4.pth --denoise-strength 0.5", vec!["has no -wdn file in its folder"]),
        ("--upscaling-model-path net-x4.pth --denoise-strength 2", vec!["--denoise-strength must be in [0, 1], got 2"]),
        ("--upscaling-model-path net-x4.pth --denoise-model-path net-x4.pth", vec!["requires --denoise-strength"]),
        ("--filter lanczos --denoise-strength 0.5", vec!["requires an upscaling network"]),
    ] {
        let run = bench.run(&format!("enhance small.png -o out/a.png --upscale 4 {flags}"));
        bad.extend(bench.fault(flags, &run, 1, &wants));
    }
    report(bad);
}
