//! Runs that start from a picture or a clip. main.rs compares their latents with diffusers.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crescendo::{
    media::picture::{self, Picture},
    pipeline::{Context, generate, plan_generate},
    plan::{GeneratePlan, Sides, Start},
    progress::Silent,
    spectral::{Mode, Spectrum},
    tensor::{Frame, Samples},
    weights::Checkpoint,
};
use image::{DynamicImage, Rgb, RgbImage, imageops::FilterType};

use super::{floats, plans, relative};

/// Writes a golden's `image` as a PNG or a lossless clip.
pub(crate) fn file(folder: &Path, golden: &Checkpoint, clip: bool) -> PathBuf {
    let stored = golden.get("image").unwrap();
    let (bytes, shape) = (stored.bytes().unwrap().to_vec(), stored.shape.clone());
    let (height, width) = (shape[shape.len() - 3], shape[shape.len() - 2]);
    if clip {
        let path = folder.join("start.mkv");
        encode(&path, &bytes, (width, height), &["-c:v", "ffv1", "-pix_fmt", "bgr0"]);
        return path;
    }
    let path = folder.join("start.png");
    let frame = Frame { width, height, channels: 3, samples: Samples::U8(bytes) };
    picture::write(&path, &frame.into(), &picture::PictureOptions::default()).unwrap();
    path
}

/// Encodes RGB frames with ffmpeg at 12 frames per second.
pub(crate) fn encode(path: &Path, frames: &[u8], (width, height): (usize, usize), options: &[&str]) {
    let size = format!("{width}x{height}");
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &size, "-r", "12", "-i", "-"])
        .args(options)
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ffmpeg.stdin.take().unwrap().write_all(frames).unwrap();
    assert!(ffmpeg.wait().unwrap().success());
}

type Change = fn(&mut GeneratePlan);

/// Writes pictures and clips of the same content, 64×96 unless the name says otherwise.
fn sources(folder: &Path) {
    let pixel = |x: usize, y: usize| [(x * 2) as u8, (y * 3) as u8, ((x / 8 + y / 8) % 2 * 120) as u8];
    let picture = |w: usize, h: usize| {
        RgbImage::from_fn(w as u32, h as u32, |x, y| Rgb(pixel(x as usize * 96 / w, y as usize * 64 / h)))
    };
    let path = |name: &str| folder.join(name);
    let plain = DynamicImage::from(picture(96, 64));
    plain.save(path("plain.png")).unwrap();
    plain.to_luma8().save(path("grey.png")).unwrap();
    DynamicImage::from(plain.to_luma8()).to_rgb8().save(path("grey-rgb.png")).unwrap();
    plain.to_rgba8().save(path("opaque.png")).unwrap();
    let mut clear = plain.to_rgba8();
    clear.get_pixel_mut(3, 5).0[3] = 254;
    clear.save(path("clear.png")).unwrap();
    for (name, [w, h], [fw, fh]) in [("larger", [192, 128], [96, 64]), ("odd", [45, 30], [48, 32])] {
        let own = DynamicImage::from(picture(w, h));
        own.save(path(&format!("{name}.png"))).unwrap();
        own.resize_exact(fw, fh, FilterType::CatmullRom).save(path(&format!("{name}-fit.png"))).unwrap();
    }
    picture(64, 64).save(path("square.png")).unwrap();
    picture(1920, 1024).save(path("wide.png")).unwrap();
    // Stored rotated by −90°, with an orientation tag of 90° clockwise.
    let stored = plain.rotate270();
    let frame = Frame { width: 64, height: 96, channels: 3, samples: Samples::U8(stored.into_rgb8().into_raw()) };
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let turned = Picture { exif: Some(exif.to_vec()), ..Picture::from(frame) };
    picture::write(&path("turned.png"), &turned, &picture::PictureOptions::default()).unwrap();
    fs::write(path("text.png"), "this is no picture").unwrap();
    fs::write(path("zero.png"), "").unwrap();
    let half = fs::read(path("plain.png")).unwrap();
    fs::write(path("half.png"), &half[..half.len() / 2]).unwrap();

    let frames = |n: usize| (0..n).flat_map(|_| plain.to_rgb8().into_raw()).collect::<Vec<u8>>();
    let lossless = ["-c:v", "ffv1", "-pix_fmt", "bgr0"];
    encode(&path("five.mkv"), &frames(5), (96, 64), &lossless);
    encode(&path("six.mkv"), &frames(6), (96, 64), &lossless);
    encode(&path("film.mkv"), &vec![90; 2001 * 16 * 16 * 3], (16, 16), &lossless);
    encode(&path("moving.gif"), &frames(5), (96, 64), &[]);
    let see_through = ["-vf", "format=rgba,colorchannelmixer=aa=0.5", "-c:v", "png"];
    encode(&path("clear.mov"), &frames(5), (96, 64), &see_through);
    let clip = fs::read(path("five.mkv")).unwrap();
    fs::write(path("half.mkv"), &clip[..clip.len() / 2]).unwrap();
}

fn start(model: &str, image: PathBuf, change: Change) -> GeneratePlan {
    let mut plan = plans::generate(&Path::new("tests/goldens").join(model).join("model"), "a fox");
    (plan.size, plan.steps, plan.max_sequence_length) = (Sides::of(64, 96), Some(4), Some(64));
    plan.frames = (model == "wan" && image.extension().is_some_and(|e| e == "png")).then_some(5);
    plan.start = Some(Start { image, strength: Some(0.5) });
    change(&mut plan);
    plan
}

fn strength(plan: &mut GeneratePlan, strength: f64) {
    plan.start.as_mut().unwrap().strength = Some(strength);
}

/// Rows: model, file, change of the plan, exit code, words of the error. A plan reads no weights.
#[test]
fn invalid_sources_are_rejected_before_loading() {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path());
    let rows: &[(&str, &str, Change, u8, &str)] = &[
        ("flux1-dev", "plain.png", |p| strength(p, 0.0), 1, "strength must be in (0, 1], got 0"),
        ("flux1-dev", "plain.png", |p| strength(p, 1.5), 1, "strength must be in (0, 1], got 1.5"),
        ("flux1-dev", "plain.png", |p| strength(p, f64::NAN), 1, "strength must be in (0, 1], got NaN"),
        ("z-image", "plain.png", |p| strength(p, 1e-18), 1, "leaves none of 4 steps; increase either"),
        (
            "wan",
            "five.mkv",
            |p| strength(p, 0.2),
            1,
            "--strength 0.2 leaves none of 4 steps; increase either, such as --strength 0.25",
        ),
        ("flux1-dev", "text.png", |_| {}, 3, "text.png: is neither a picture nor a video"),
        ("flux1-dev", "zero.png", |_| {}, 3, "zero.png: the file is empty"),
        ("flux1-dev", "half.png", |_| {}, 3, "half.png: the PNG is damaged or truncated"),
        ("flux1-dev", "none.png", |_| {}, 3, "none.png"),
        (
            "flux2-klein",
            "square.png",
            |_| {},
            1,
            "square.png has 64×64 pixels, another aspect ratio than 96×64; crop it, or use a size such as 96×96",
        ),
        (
            "qwen-image",
            "wide.png",
            |p| p.size = crescendo::plan::Sides::default(),
            1,
            "wide.png has 1920×1024 pixels, another aspect ratio than 1024×1024; crop it, or use a size such as 1024×544",
        ),
        ("qwen-image", "clear.png", |_| {}, 1, "clear.png: the PNG has transparent pixels"),
        (
            "flux1-dev",
            "five.mkv",
            |_| {},
            1,
            "five.mkv is a video, and FLUX.1-dev makes single pictures; give one of its frames",
        ),
        ("z-image", "moving.gif", |_| {}, 1, "moving.gif is a video"),
        ("wan", "six.mkv", |_| {}, 1, "six.mkv has 6 frames, which Wan2.1-T2V does not support; trim it to 5"),
        (
            "wan",
            "five.mkv",
            |p| p.frames = Some(9),
            1,
            "five.mkv has 5 frames, not --num-frames 9; trim the clip or leave out --num-frames",
        ),
        (
            "wan",
            "five.mkv",
            |p| p.size = crescendo::plan::Sides::of(96, 64),
            1,
            "five.mkv has 96×64 pixels, another aspect ratio than 64×96",
        ),
        ("wan", "clear.mov", |_| {}, 1, "clear.mov: the video has transparent pixels"),
        ("wan", "film.mkv", |_| {}, 1, "film.mkv has about 2001 frames"),
        ("wan", "half.mkv", |_| {}, 3, "half.mkv: the file is truncated"),
        ("wan", "square.png", |_| {}, 1, "square.png has 64×64 pixels, another aspect ratio than 96×64"),
    ];
    let mut wrong = vec![];
    for (model, name, change, code, wanted) in rows {
        match plan_generate(&start(model, folder.path().join(name), *change)) {
            Err(e) if e.to_string().contains(wanted) && e.exit_code() == *code => {}
            Err(e) => wrong.push(format!("{model} {name}: wanted {code} {wanted:?}, got {} {e}", e.exit_code())),
            Ok(_) => wrong.push(format!("{model} {name}: wanted {wanted:?}, got a plan")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Returns the latent that a run starts from, and the plan's notes.
fn started(plan: &mut GeneratePlan, folder: &Path) -> (Vec<f32>, Vec<String>) {
    plan.save_latents = Some(folder.join("latents.safetensors"));
    plan.output.overwrite = true;
    generate(plan, &Context::start(&plan.runtime, &Silent).unwrap()).unwrap();
    let notes = plan_generate(plan).unwrap().notes;
    (floats(&Checkpoint::open(plan.save_latents.as_ref().unwrap()).unwrap(), "start"), notes)
}

/// Rows: model, two files with equal start latents within a limit, words of the first one's notes.
#[test]
fn all_picture_formats_give_the_same_start() {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path());
    let rows = [
        ("flux1-dev", "grey.png", "grey-rgb.png", 0.0, ""),
        ("flux1-dev", "opaque.png", "plain.png", 0.0, ""),
        ("flux1-dev", "turned.png", "plain.png", 0.0, ""),
        (
            "flux1-dev",
            "larger.png",
            "larger-fit.png",
            0.05,
            "larger.png: 192×128 pixels are downscaled to 96×64 before encoding",
        ),
        ("flux1-dev", "odd.png", "odd-fit.png", 0.05, "odd.png: 45×30 pixels are upscaled to 48×32 before encoding"),
        ("wan", "five.mkv", "plain.png", 0.0, ""),
        ("wan", "moving.gif", "plain.png", 0.5, "moving.gif: left out: the durations of frames"),
    ];
    let mut wrong = vec![];
    for (model, name, like, limit, note) in rows {
        let [(a, notes), (b, _)] =
            [name, like].map(|name| started(&mut start(model, folder.path().join(name), |_| {}), folder.path()));
        let error = relative(&a, &b);
        if error.is_nan() || error > limit || (limit > 0.0 && error == 0.0) {
            wrong.push(format!("{model} {name}: differs from {like} by {error:.1e}, limit {limit:.0e}"));
        }
        let reported: Vec<&String> = notes.iter().filter(|n| n.contains("--image-path")).collect();
        if reported.len() != usize::from(!note.is_empty()) || reported.iter().any(|n| !n.contains(note)) {
            wrong.push(format!("{model} {name}: {notes:?}, wanted {note:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A plan counts only the remaining steps and levels. The output has the frame rate of the clip.
#[test]
fn plans_count_remaining_steps() {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path());
    let rows: &[(&str, &str, Change, &str, f64)] = &[
        ("flux1-dev", "plain.png", |_| {}, "2@8x12", f64::NAN),
        ("flux1-dev", "plain.png", |p| p.start.as_mut().unwrap().strength = None, "3@8x12", f64::NAN),
        ("wan", "five.mkv", |p| p.start.as_mut().unwrap().strength = None, "3@8x12", 12.0),
        ("wan", "five.mkv", |p| p.fps = Some(24.0), "2@8x12", 24.0),
        ("wan", "plain.png", |_| {}, "2@8x12", 16.0),
        ("flux1-dev", "plain.png", |p| grown(p, 1.0), "5@4x6 + 15@8x12", f64::NAN),
        ("flux1-dev", "plain.png", |p| grown(p, 0.9), "3@4x6 + 15@8x12", f64::NAN),
        ("flux1-dev", "plain.png", |p| grown(p, 0.5), "10@8x12", f64::NAN),
    ];
    let mut wrong = vec![];
    for (model, name, change, split, fps) in rows {
        let forecast = plan_generate(&start(model, folder.path().join(name), *change)).unwrap();
        let found: Vec<String> =
            forecast.stages.iter().map(|s| format!("{}@{}x{}", s.steps, s.height, s.width)).collect();
        let rate = forecast.sizes[0].fps.unwrap_or(f64::NAN);
        if found.join(" + ") != *split || (rate != *fps && !(rate.is_nan() && fps.is_nan())) {
            wrong.push(format!("{model} {name}: {} at {rate}, wanted {split} at {fps}", found.join(" + ")));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn grown(plan: &mut GeneratePlan, of: f64) {
    strength(plan, of);
    (plan.steps, plan.progressive.mode) = (Some(20), Mode::DctRewind);
    (plan.progressive.delta, plan.progressive.spectrum) = (0.05, Some(Spectrum { a: 2.0, beta: 1.5 }));
}

/// Several seeds share one start latent. Each output equals that of a run with one seed.
#[test]
fn several_seeds_share_a_start() {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path());
    let mut plan = start("flux2-klein", folder.path().join("plain.png"), |_| {});
    let latents = |plan: &mut GeneratePlan| {
        started(plan, folder.path());
        let file = Checkpoint::open(plan.save_latents.as_ref().unwrap()).unwrap();
        file.names().map(|n| (n.to_string(), floats(&file, n))).collect::<BTreeMap<_, _>>()
    };
    plan.seeds = vec![42, 7];
    let both = latents(&mut plan);
    let names: Vec<&String> = both.keys().collect();
    let wanted = [
        "0.latents",
        "0.latents.2",
        "0.latents.3",
        "0.noise",
        "1.latents",
        "1.latents.2",
        "1.latents.3",
        "1.noise",
        "start",
    ];
    assert_eq!(names, wanted);
    plan.seeds = vec![7];
    let alone = latents(&mut plan);
    assert!(alone["latents"] == both["1.latents"] && alone["start"] == both["start"]);
    assert!(both["0.latents"] != both["1.latents"]);
}
