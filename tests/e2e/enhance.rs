//! Upscaling and interpolation of pictures and videos. ffmpeg and ffprobe check the outputs.

use std::{fs, path::Path};

use crescendo::media::picture;
use serde_json::Value;

use crate::{Bench, CLIP, done, ffmpeg, here, probe, report};

/// Returns ffmpeg's checksums of the audio packets.
fn audio(path: &Path) -> Vec<u8> {
    ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:a", "-c", "copy", "-f", "md5", "-"])
}

#[test]
fn clips_are_interpolated_and_upscaled() {
    let bench = Bench::new();
    let source = here(CLIP);
    let source = Path::new(&source);
    let before = probe(source, "v:0");
    let frames: u64 = before["nb_read_frames"].as_str().unwrap().parse().unwrap();
    let rife = "--frame-interpolation-model-path {rife}";
    let mut bad = Vec::new();
    for (name, args, exp, size) in [
        ("both", format!("--interpolate 2x {rife} --upscale 2 --upscaling-model-path {{x2}}"), 1, (640, 360)),
        ("slow", format!("--interpolate 4x {rife} --frame-interpolation-scale 0.5"), 2, (320, 180)),
        ("plain", "--upscale 481x271 --filter bilinear".into(), 0, (481, 271)),
    ] {
        let output = bench.path(&format!("out/{name}.mp4"));
        let run = bench.run(&format!("enhance {{clip}} -o out/{name}.mp4 --x264-preset ultrafast {args} --json"));
        done(&run);
        let after = probe(&output, "v:0");
        let report: Value = serde_json::from_slice(&run.out).unwrap();
        let wanted = (frames - 1) * (1 << exp) + 1;
        for (what, found, want) in [
            ("frames", after["nb_read_frames"].clone(), wanted.to_string().into()),
            ("frames reported", report["items"][0]["frames"].clone(), wanted.into()),
            ("rate", after["r_frame_rate"].clone(), format!("{}/1", 25 << exp).into()),
            ("width", after["width"].clone(), size.0.into()),
            ("height", after["height"].clone(), size.1.into()),
            ("space", after["color_space"].clone(), before["color_space"].clone()),
            ("transfer", after["color_transfer"].clone(), before["color_transfer"].clone()),
            ("primaries", after["color_primaries"].clone(), before["color_primaries"].clone()),
            ("range", after["color_range"].clone(), before["color_range"].clone()),
        ] {
            if found != want {
                bad.push(format!("{name}: {what} is {found}, wanted {want}"));
            }
        }
        if audio(&output) != audio(source) {
            bad.push(format!("{name}: the audio stream has changed"));
        }
    }
    report(bad);
}

/// Rows: input, flags, and (width, height) of the output.
#[test]
fn pictures_keep_their_metadata() {
    let bench = Bench::new();
    let size = |name: &str| {
        let frame = picture::read(Path::new(&here(&format!("tests/data/media/{name}")))).unwrap().frame;
        (frame.width, frame.height)
    };
    let x2 = "--upscaling-model-path {x2}";
    let mut bad = Vec::new();
    for (name, args, want) in [
        ("rgb.jpg", format!("--upscale 2 {x2}"), None),
        ("rgb16.png", format!("--upscale 2 {x2}"), None),
        ("rgba.png", format!("--upscale 2 {x2} --tile 32"), None),
        ("grey_alpha16.png", format!("--upscale 2 {x2}"), None),
        ("lossless.webp", format!("--upscale 2 {x2}"), None),
        ("palette.png", format!("--upscale 3 {x2}"), Some(3)),
        ("rgba.png", "--upscale 5 --filter lanczos".into(), Some(5)),
        ("grey.jpg", "--upscale 2 --upscaling-model-path {esrgan}/compact-x4.pth".into(), None),
    ] {
        let source = picture::read(Path::new(&here(&format!("tests/data/media/{name}")))).unwrap();
        let run = bench.run(&format!("enhance {{media}}/{name} -o out/{name} --overwrite {args}"));
        if run.code != Some(0) {
            bad.push(format!("{name}: {}", run.err));
            continue;
        }
        let made = picture::read(&bench.path(&format!("out/{name}"))).unwrap();
        let times = want.unwrap_or(2);
        let (w, h) = size(name);
        let found = (made.frame.width, made.frame.height);
        let alpha = |p: &picture::Picture| p.frame.planes().unwrap().dim().0 == 4;
        for (what, good) in [
            ("size", found == (w * times, h * times)),
            ("depth", made.frame.is_deep() == source.frame.is_deep()),
            ("ICC", made.icc == source.icc),
            ("EXIF", made.exif.is_some() == source.exif.is_some()),
            ("alpha", alpha(&made) == alpha(&source)),
        ] {
            if !good {
                bad.push(format!("{name} {args}: {what} is not kept; {found:?} from {w}×{h}"));
            }
        }
    }
    report(bad);
}

#[test]
fn exact_and_odd_sizes() {
    let bench = Bench::new();
    let odd = bench.path("odd.png");
    ffmpeg(&["-i", &here("tests/data/pictures/chelsea.png"), "-vf", "crop=61:37:100:100", odd.to_str().unwrap()]);
    let mut bad = Vec::new();
    for (scale, want) in
        [("2", (122, 74)), ("3", (183, 111)), ("640x480", (640, 480)), ("74p", (122, 74)), ("1", (61, 37))]
    {
        done(
            &bench.run(&format!("enhance odd.png -o out/{scale}.png --upscale {scale} --upscaling-model-path {{x2}}")),
        );
        let frame = picture::read(&bench.path(&format!("out/{scale}.png"))).unwrap().frame;
        if (frame.width, frame.height) != want {
            bad.push(format!("--upscale {scale}: {}×{}, wanted {want:?}", frame.width, frame.height));
        }
    }
    report(bad);
    // Existing outputs are an error before any work. --skip-existing skips only finished outputs.
    let again = "enhance odd.png -o out/2.png --upscale 2 --upscaling-model-path {x2}";
    let before = fs::metadata(bench.path("out/2.png")).unwrap().modified().unwrap();
    assert_eq!(bench.run(again).code, Some(1));
    let unknown = bench.run(&format!("{again} --skip-existing"));
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.err.contains("the journal has no record of it; --overwrite replaces it"), "{}", unknown.err);
    assert_eq!(fs::metadata(bench.path("out/2.png")).unwrap().modified().unwrap(), before);
    done(&bench.run(&format!("{again} --overwrite --skip-existing")));
    let after = fs::metadata(bench.path("out/2.png")).unwrap().modified().unwrap();
    assert!(after > before);
    done(&bench.run(&format!("{again} --skip-existing")));
    assert_eq!(fs::metadata(bench.path("out/2.png")).unwrap().modified().unwrap(), after);
    done(&bench.run(&format!("{again} --overwrite")));
    assert!(fs::metadata(bench.path("out/2.png")).unwrap().modified().unwrap() > after);
}
