//! Containers through the whole pipeline: media are upscaled, and every other change gives a warning.

use std::{fs, path::Path};

use crate::{Bench, done, ffmpeg, probe, report};

const X2: &str = "--upscale 2 --upscaling-model-path {x2}";
const COLOUR: &str = "some of the colour resolution";
const CLEAR: &str = "transparency (libx264 does not support it";

/// Number of frames of an animated WebP, and their (width, height). FFmpeg does not read it; this is libwebp's decoder.
fn webp_frames(path: &Path) -> (usize, (u32, u32)) {
    let bytes = fs::read(path).unwrap();
    let movie = webp::AnimDecoder::new(&bytes).decode().unwrap();
    let sizes: Vec<_> = movie.into_iter().map(|frame| (frame.width(), frame.height())).collect();
    (sizes.len(), sizes[0])
}

/// Rows: source, output name, flags; expected ffprobe values and warnings.
#[test]
fn upscaled_media_keep_their_properties() {
    let bench = Bench::new();
    let at = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    let ring = "color=red:s=48x32:r=10:d=0.6,format=rgba,geq=r=5*X:g=200-4*Y:b=90:a='255*lt(hypot(X-18-20*T,Y-16),12)'";
    let palette = "[0:v]split[a][b];[a]palettegen[p];[b][p]paletteuse";
    ffmpeg(&["-f", "lavfi", "-i", ring, "-filter_complex", palette, "-loop", "2", &at("a.gif")]);
    ffmpeg(&["-f", "lavfi", "-i", ring, "-c:v", "libwebp_anim", "-lossless", "1", &at("a.webp")]);
    ffmpeg(&["-f", "lavfi", "-i", ring, "-c:v", "png", &at("a.mov")]);
    let hdr = ["-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params", "log-level=0"];
    let tags =
        ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "smpte2084", "-color_range", "tv"];
    let bars = ["-f", "lavfi", "-i", "testsrc=s=49x33:r=10:d=0.6"];
    let ten = at("ten.mkv");
    ffmpeg(&[&bars[..], &["-vf", "scale=96:64"], &hdr, &tags, &[&ten]].concat());
    ffmpeg(&[&bars[..], &["-c:v", "libx264", "-pix_fmt", "yuv444p", &at("odd.mp4")]].concat());
    let mut bad = Vec::new();
    for (from, to, flags, (codec, pixels, width, height), named) in [
        ("a.gif", "b.gif", "", ("gif", "bgra", 96, 64), ""),
        ("a.gif", "b.apng", "", ("apng", "rgba", 96, 64), ""),
        ("a.gif", "b.png", "", ("apng", "rgba", 96, 64), ""),
        ("a.gif", "b.webp", "", ("webp", "rgba", 96, 64), ""),
        ("a.webp", "c.gif", "", ("gif", "bgra", 96, 64), "partial transparency (a GIF"),
        // An animated picture becomes a video that every player shows, unless another pixel format is asked for.
        ("a.gif", "b.mp4", "", ("h264", "yuv420p", 96, 64), &format!("{COLOUR}; {CLEAR}")),
        ("a.gif", "c.mp4", "--pix-fmt yuv444p", ("h264", "yuv444p", 96, 64), CLEAR),
        ("a.gif", "d.mp4", "--codec libx265", ("hevc", "yuv420p", 96, 64), &format!("{COLOUR}; transparency (libx265")),
        ("a.gif", "e.mp4", "--codec libx265 --pix-fmt yuv444p", ("hevc", "yuv444p", 96, 64), "transparency (libx265"),
        ("a.webp", "f.mp4", "", ("h264", "yuv420p", 96, 64), &format!("{COLOUR}; {CLEAR}")),
        ("a.gif", "g.mkv", "--codec ffv1", ("ffv1", "bgra", 96, 64), ""),
        ("a.mov", "b.mov", "", ("prores", "yuva444p12le", 96, 64), ""),
        ("a.mov", "b.webm", "", ("vp9", "yuv420p", 96, 64), "some of the colour resolution"),
        ("ten.mkv", "ten.mp4", "--codec libx265", ("hevc", "yuv420p10le", 192, 128), ""),
        ("ten.mkv", "ten2.mkv", "--codec ffv1", ("ffv1", "yuv420p10le", 192, 128), ""),
        ("odd.mp4", "odd.mp4", "", ("h264", "yuv444p", 98, 66), ""),
        ("odd.mp4", "odd3.mp4", "--upscale 49x33 --filter lanczos", ("h264", "yuv444p", 49, 33), ""),
    ] {
        let how = if flags.contains("--upscale") { String::new() } else { X2.to_owned() };
        let args = format!("enhance {from} -o out/{to} --verify {how} {flags}");
        let args: Vec<_> = crate::split(args.trim()).into_iter().filter(|a| !a.is_empty()).collect();
        let output = bench.command().args(args).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let warned: Vec<_> = err.lines().filter_map(|l| l.split("left out: ").nth(1)).collect();
        let mut wants: Vec<_> = named.split("; ").filter(|want| !want.is_empty()).collect();
        wants.retain(|want| !warned.iter().any(|warning| warning.starts_with(want)));
        let count = named.split("; ").filter(|want| !want.is_empty()).count();
        if output.status.code() != Some(0) || warned.len() != count || !wants.is_empty() {
            bad.push(format!("{from} → {to}: {:?}, not named: {wants:?}; {err}", output.status.code()));
            continue;
        }
        if codec == "webp" {
            let found = webp_frames(&bench.path(&format!("out/{to}")));
            if found != (6, (width, height)) {
                bad.push(format!("{from} → {to}: {found:?}"));
            }
            continue;
        }
        let found = probe(&bench.path(&format!("out/{to}")), "v:0");
        let said = (found["codec_name"].as_str(), found["pix_fmt"].as_str(), &found["width"], &found["height"]);
        if said != (Some(codec), Some(pixels), &width.into(), &height.into()) || found["nb_read_frames"] != "6" {
            bad.push(format!("{from} → {to}: {said:?}, {} frames", found["nb_read_frames"]));
        }
        if from == "ten.mkv" && found["color_transfer"] != "smpte2084" {
            bad.push(format!("{from} → {to}: transfer {}", found["color_transfer"]));
        }
    }
    report(bad);
}

/// FFmpeg gives a PNG of two frames no frame rate.
#[test]
fn animations_of_two_frames() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for (from, to) in [
        ("moving.gif", "a.png"),
        ("moving.gif", "b.apng"),
        ("moving.gif", "c.webp"),
        ("moving.webp", "d.png"),
        ("moving.png", "e.png"),
        ("moving.png", "f.gif"),
        ("moving.png", "g.mp4"),
    ] {
        let run = bench.run(&format!("enhance {{media}}/{from} -o out/{to} --verify {X2}"));
        let path = bench.path(&format!("out/{to}"));
        let frames = match to.ends_with("webp") && path.exists() {
            true => webp_frames(&path).0.to_string().into(),
            false => probe(&path, "v:0")["nb_read_frames"].clone(),
        };
        if run.code != Some(0) || frames != "2" {
            bad.push(format!("{from} → {to}: {:?}, {frames} frames, {}", run.code, run.err));
        }
    }
    report(bad);
}

/// Transparent pixels are bright green. No green may appear at the edge of visible pixels.
#[test]
fn upscaled_pictures_have_no_colour_fringe() {
    let bench = Bench::new();
    let hole = "color=red:s=64x64,format=rgba,geq=r='if(lt(hypot(X-32,Y-32),20),200,0)':\
                g='if(lt(hypot(X-32,Y-32),20),40,255)':b=40:a='255*lt(hypot(X-32,Y-32),20)'";
    let source = bench.path("a.png");
    ffmpeg(&["-f", "lavfi", "-i", hole, "-frames:v", "1", source.to_str().unwrap()]);
    let mut bad = Vec::new();
    for (name, args) in [
        ("network", X2),
        ("lanczos", "--upscale 3 --filter lanczos"),
        ("bicubic", "--upscale 130x130 --filter bicubic"),
    ] {
        done(&bench.run(&format!("enhance a.png -o out/{name}.png --verify {args}")));
        let path = bench.path(&format!("out/{name}.png"));
        let raw = ffmpeg(&["-i", path.to_str().unwrap(), "-pix_fmt", "rgba", "-f", "rawvideo", "-"]);
        let seen: Vec<_> = raw.chunks(4).filter(|p| p[3] > 8).collect();
        let greenest = seen.iter().map(|p| p[1]).max().unwrap_or(255);
        let rim = seen.iter().filter(|p| p[3] < 250).count();
        if greenest > 60 || rim == 0 {
            bad.push(format!("{name}: green up to {greenest} where 40 is there, {rim} pixels of rim"));
        }
    }
    report(bad);
    assert!(fs::metadata(bench.path("out/network.png")).is_ok());
}
