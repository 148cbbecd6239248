//! Every extension of the format table, as an output file, in a folder, and for a generated picture.

use std::fs;

use crescendo::media::format::FORMATS;

use crate::{Bench, ffmpeg, here, report};

/// Extension; whether a picture, a video (H.264 at 10 fps) and a generated picture are written to it; the extension of its output
/// in a folder. Outputs in a folder avoid formats in which FFmpeg writes few codecs.
const ROWS: &[(&str, bool, bool, bool, &str)] = &[
    ("png", true, false, true, "png"),
    ("jpg", true, false, true, "jpg"),
    ("jpeg", true, false, true, "jpeg"),
    ("webp", true, true, true, "webp"),
    ("gif", true, true, true, "gif"),
    ("tiff", true, false, true, "tiff"),
    ("tif", true, false, true, "tif"),
    ("bmp", true, false, true, "bmp"),
    ("apng", false, true, false, "apng"),
    ("mp4", false, true, false, "mp4"),
    ("mkv", false, true, false, "mkv"),
    ("webm", false, true, false, "webm"),
    ("mov", false, true, false, "mov"),
    ("m4v", false, true, false, "m4v"),
    ("avi", false, true, false, "avi"),
    ("ts", false, true, false, "ts"),
    ("mts", false, true, false, "mts"),
    ("m2ts", false, true, false, "m2ts"),
    ("flv", false, true, false, "flv"),
    ("f4v", false, true, false, "mkv"),
    ("mpg", false, true, false, "mkv"),
    ("mpeg", false, true, false, "mkv"),
    ("m2v", false, true, false, "mkv"),
    ("vob", false, true, false, "mkv"),
    ("wmv", false, true, false, "mkv"),
    ("asf", false, true, false, "mkv"),
    ("ogv", false, false, false, "mkv"),
    ("3gp", false, true, false, "mkv"),
    ("y4m", false, false, false, "mkv"),
    ("mxf", false, false, false, "mkv"),
    ("divx", false, false, false, "mkv"),
];

#[test]
fn every_extension_is_in_the_table() {
    let rows: Vec<_> = ROWS.iter().map(|row| row.0).collect();
    let all: Vec<_> = FORMATS.iter().flat_map(|format| format.extensions).copied().collect();
    assert_eq!(rows, all);
}

#[test]
fn every_extension_does_what_the_table_says() {
    let bench = Bench::new();
    let clip = bench.path("clip.mp4");
    let clip = clip.to_str().unwrap();
    ffmpeg(&["-f", "lavfi", "-i", "testsrc=s=32x32:r=10:d=0.3", "-c:v", "libx264", "-pix_fmt", "yuv420p", clip]);
    fs::copy(here("tests/data/media/rgb.tiff"), bench.path("picture.tiff")).unwrap();
    let mut bad = Vec::new();
    for &(extension, picture, video, generated, in_folder) in ROWS {
        for (from, to, written) in [("picture.tiff", "p", picture), ("clip.mp4", "v", video)] {
            let run = bench.run(&format!("enhance {from} -o out/{to}.{extension} --upscale 2 --filter nearest"));
            let made = bench.path(&format!("out/{to}.{extension}")).exists();
            let told = run.err.contains(&format!("out/{to}.{extension}"));
            if (run.code == Some(0) && made) != written || !written && (!told || made) {
                bad.push(format!("{from} → .{extension}: {:?} {made} {}", run.code, run.err));
            }
        }
        let prompt = "generate --prompt lake --model-path {flux} --width 64 --height 64 --num-inference-steps 1";
        let run = bench.run(&format!("{prompt} --output-file-path out/g.{extension}"));
        let made = bench.path(&format!("out/g.{extension}")).exists();
        let code = if generated { 0 } else { 1 };
        if run.code != Some(code) || made != generated || !generated && !run.err.contains(&format!(".{extension}")) {
            bad.push(format!("generate → .{extension}: {:?} {}", run.code, run.err));
        }
        // In a folder every file has an output. The content decides what it is.
        let from = if picture { "picture.tiff" } else { "clip.mp4" };
        fs::remove_dir_all(bench.path("in")).ok();
        fs::create_dir(bench.path("in")).unwrap();
        fs::copy(bench.path(from), bench.path(&format!("in/f.{extension}"))).unwrap();
        let run = bench.run(&format!("enhance in -o folder-{extension} --upscale 2 --filter nearest"));
        let made = bench.path(&format!("folder-{extension}/f.{in_folder}")).exists();
        if run.code != Some(0) || !made {
            bad.push(format!("folder .{extension}: {:?} {made} {}", run.code, run.err));
        }
    }
    report(bad);
}
