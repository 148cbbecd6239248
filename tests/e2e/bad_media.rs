//! Invalid and truncated pictures and videos.

use std::fs;

use crate::{Bench, CLIP, here, report};

fn files(bench: &Bench) {
    let (picture, clip) = (fs::read(here("tests/data/pictures/chelsea.png")).unwrap(), fs::read(here(CLIP)).unwrap());
    for (name, bytes) in [
        ("zero.png", &b""[..]),
        ("zero.mp4", b""),
        ("text.png", b"this is no picture"),
        ("text.jpg", b"this is no picture"),
        ("text.mp4", b"this is no video"),
        ("half.png", &picture[..picture.len() / 2]),
        ("half.mp4", &clip[..clip.len() / 2]),
        ("clip.png", &clip),
        ("picture.mp4", &picture),
        ("good.png", &fs::read(here("tests/data/media/rgba.png")).unwrap_or_else(|_| picture.clone())),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
    }
}

#[test]
fn unreadable_media_give_a_one_line_error() {
    let bench = Bench::new();
    files(&bench);
    let mut bad = Vec::new();
    for (input, output, wants) in [
        ("zero.png", "a.png", vec!["zero.png: the file is empty"]),
        ("zero.mp4", "a.mp4", vec!["zero.mp4: the file is empty"]),
        (
            "text.png",
            "a.png",
            vec!["text.png: is neither a picture nor a video, despite its name; get a complete copy"],
        ),
        (
            "text.jpg",
            "a.jpg",
            vec!["text.jpg: is neither a picture nor a video, despite its name; get a complete copy"],
        ),
        ("text.mp4", "a.mp4", vec!["text.mp4: is not a video that FFmpeg can read", "get a complete copy"]),
        ("half.png", "a.png", vec!["half.png: the PNG is damaged or truncated", "get a complete copy"]),
        ("half.mp4", "a.mp4", vec!["half.mp4: the file is truncated", "get a complete copy"]),
        ("clip.png", "a.png", vec!["clip.png", "a.png", "use .mp4"]),
        (
            "picture.mp4",
            "a.mp4",
            vec!["picture.mp4", "a.mp4", "a picture cannot be written with this extension; use .png"],
        ),
    ] {
        let args = format!("enhance {input} -o out/{output} --upscale 2 --upscaling-model-path {{x2}}");
        bad.extend(bench.fault(&args, &bench.run(&args), 3, &wants));
    }
    report(bad);
}

/// A failed input is named, the other inputs are processed, and the exit code is 2.
#[test]
fn one_of_several_inputs_fails() {
    let bench = Bench::new();
    files(&bench);
    fs::copy(here("tests/data/pictures/chelsea.png"), bench.path("other.png")).unwrap();
    let many = "enhance good.png half.png other.png -o out --upscale 2 --upscaling-model-path {x2}";
    let run = bench.run(many);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert_eq!(bench.made(), [".crescendo.jsonl", "good.png", "other.png"]);
    assert_eq!(String::from_utf8_lossy(&run.out), "out/good.png\nout/other.png\n");
    assert!(run.err.starts_with("error: half.png: the PNG is damaged") && run.err.lines().count() == 1, "{}", run.err);

    let run = bench.run(&format!("{many} --overwrite --json"));
    let document: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
    let items = document["items"].as_array().unwrap();
    let states: Vec<&str> = items.iter().map(|i| i["status"].as_str().unwrap()).collect();
    assert_eq!((run.code, states), (Some(2), vec!["done", "failed", "done"]));
    assert!(items[1]["cause"].as_str().unwrap().contains("half.png: the PNG is damaged"));
}

/// Recognised flags without an implementation are rejected, not ignored.
#[test]
fn unimplemented_flags_are_rejected() {
    let bench = Bench::new();
    let args = "enhance {clip} -o out/a.mp4 --interpolate 2x --frame-interpolation-model-path {rife} --fps 50";
    report(bench.fault(args, &bench.run(args), 1, &["--fps"]).into_iter().collect());
}
