//! Containers, codecs and pixel formats: content is kept or named in a warning. ffmpeg writes the files, ffprobe checks them.

use std::{fs, path::Path};

use crescendo::{
    Error,
    media::video::{Reader, Summary, VideoOptions, VideoSpec, Writer},
    tensor::Frame,
};
use serde_json::Value;

use crate::{ffmpeg, ffprobe, report, run};

/// Decodes a file, converts every frame to floats and back as networks do, and encodes it.
pub(crate) fn reencode(from: &Path, to: &Path, options: &VideoOptions) -> Result<Summary, Error> {
    let reader = Reader::open(from)?.with_alpha();
    let info = reader.info().clone();
    let mut output = VideoSpec::like(&info, (info.width, info.height), info.frame_rate, Some(from.into()));
    if info.variable_rate {
        output.time_base = info.time_base;
    }
    let mut writer = Writer::create(to, options, &output)?;
    for frame in reader {
        writer.write(&Frame::from_planes(&frame?.frame.planes()?, output.bit_depth > 8)?)?;
    }
    writer.finish()
}

pub(crate) fn with_codec(codec: &str) -> VideoOptions {
    VideoOptions { codec: Some(codec.into()), ..VideoOptions::default() }
}

/// Returns the samples of all frames in a pixel format.
fn raw(folder: &Path, name: &str, pixels: &str, deep: bool) -> Vec<i32> {
    let raw = ffmpeg(folder, &format!("-i @/{name} -pix_fmt {pixels} -f rawvideo -"));
    if deep {
        raw.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()
    } else {
        raw.iter().map(|&v| v.into()).collect()
    }
}

/// No step between decoder and encoder has fewer bits than the source: through a lossless codec, gradients differ by at most one
/// code value, in every matrix and range.
#[test]
fn gradients_differ_by_at_most_one_code_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    // Pixel format, colour tags, bits, full range.
    for (pixels, tags, bits, full) in [
        ("yuv420p", "-colorspace bt709 -color_range tv", 8, false),
        ("yuv444p", "-colorspace smpte170m -color_range pc", 8, true),
        ("yuv420p10le", "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv", 10, false),
        ("yuv422p10le", "-colorspace bt709 -color_range tv", 10, false),
        (
            "yuv444p10le",
            "-colorspace bt2020nc -color_primaries bt2020 -color_trc arib-std-b67 -color_range tv",
            10,
            false,
        ),
        ("yuv444p10le", "-colorspace bt709 -color_range pc", 10, true),
        ("yuv420p12le", "-colorspace bt2020nc -color_range tv", 12, false),
        ("yuv444p12le", "-colorspace bt709 -color_range tv", 12, false),
        ("yuv444p16le", "-colorspace bt709 -color_range tv", 16, false),
        ("gbrp10le", "", 10, true),
        ("gbrp16le", "", 16, true),
    ] {
        let (one, top) = (1 << (bits - 8), (1 << bits) - 1);
        // Luma covers its whole range; chroma stays inside RGB. Both change slowly enough for 4:2:0.
        let (low, high) = if full { (0, top) } else { (16 * one, 235 * one) };
        let (middle, wave) = (128 * one, 14 * one);
        let grey = format!("lum='{low}+({high}-{low})*X/(W-1)':cb={middle}:cr={middle}");
        let colour = format!(
            "lum='{middle}+{wave}*sin(X/30)':cb='{middle}+{wave}*sin(X/41+Y/37)':cr='{middle}+{wave}*cos(X/53-Y/29)'"
        );
        let rgb = format!("r='{top}*X/(W-1)':g='{top}*Y/(H-1)':b='{top}*(1-X/(W-1))'");
        let pictures = if pixels.starts_with("gbr") { vec![rgb] } else { vec![grey, colour] };
        for (i, picture) in pictures.into_iter().enumerate() {
            let source = format!("-f lavfi -i color=s=512x64:r=5:d=0.4,format={pixels},geq={picture}");
            ffmpeg(folder.path(), &format!("{source} -c:v ffv1 -pix_fmt {pixels} {tags} @/a.mkv"));
            let (from, to) = (folder.path().join("a.mkv"), folder.path().join("b.mkv"));
            let options = VideoOptions { overwrite: true, ..with_codec("ffv1") };
            let left = reencode(&from, &to, &options).unwrap().left_out;
            let found = ffprobe(&to)["streams"][0]["pix_fmt"].clone();
            let (before, after) =
                (raw(folder.path(), "a.mkv", pixels, bits > 8), raw(folder.path(), "b.mkv", pixels, bits > 8));
            let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).max().unwrap();
            // Frames have 16 bits, so the conversions to and from RGB round twice.
            let limit = if bits == 16 && !pixels.starts_with("gbr") { 4 } else { 1 };
            if worst > limit || found != pixels || before.len() != after.len() || !left.is_empty() {
                faults.push(format!("{pixels} {tags} picture {i}: worst {worst}, {found}, {left:?}"));
            }
        }
    }
    report(&faults);
}

/// Returns ffprobe's entry for the first stream of a type.
fn stream<'a>(probe: &'a Value, kind: &str) -> &'a Value {
    probe["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == kind).unwrap_or(&Value::Null)
}

/// Returns the side data of the video and of its first frame as one string.
fn side_data(path: &Path) -> String {
    let line = "-v error -select_streams v:0 -read_intervals %+#1 -show_streams -show_frames -of json";
    let arguments: Vec<_> = line.split(' ').chain([path.to_str().unwrap()]).collect();
    let probe: Value = serde_json::from_slice(&run("ffprobe", &arguments).stdout).unwrap();
    format!("{} {}", probe["streams"][0]["side_data_list"], probe["frames"][0]["side_data_list"])
}

const BT709: &str = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv";
const PQ: &str = "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv";
const HLG: &str = "-colorspace bt2020nc -color_primaries bt2020 -color_trc arib-std-b67 -color_range tv";

/// Rows: source, encoder and container; expected ffprobe values and expected warnings.
#[test]
fn every_container_keeps_what_it_supports_and_names_losses() {
    let folder = tempfile::tempdir().unwrap();
    let bars = "-f lavfi -i testsrc2=s=96x64:r=10:d=0.5";
    let x265 = "-c:v libx265 -x265-params log-level=0";
    let of = |name: &str, pixels: &str, options: &str| {
        let hd = if options.contains(BT709) {
            ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
        } else {
            ""
        };
        ffmpeg(folder.path(), &format!("{bars} -vf format={pixels}{hd} -pix_fmt {pixels} {options} @/{name}"));
    };
    of("sdr.mp4", "yuv420p", &format!("-c:v libx264 {BT709}"));
    of("full.mkv", "yuv420p", "-c:v libx264 -colorspace bt709 -color_range pc");
    of("ten.mkv", "yuv420p10le", &format!("{x265} {HLG}"));
    of("422.mov", "yuv422p10le", &format!("-c:v prores_ks {BT709}"));
    of("444.mkv", "yuv444p", &format!("-c:v libx264 {BT709}"));
    of("twelve.mkv", "yuv444p12le", &format!("-c:v ffv1 {BT709}"));
    of("rgb.mkv", "gbrp", "-c:v ffv1");
    of("rgb16.mov", "rgb48be", "-c:v png");
    let mut faults = Vec::new();
    // Source, encoder, extension; codec, pixel format, colour space, transfer; expected warnings.
    for (from, codec, ending, name, pixels, space, transfer, named) in [
        ("sdr.mp4", "h264", "mp4", "h264", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "libx265", "mov", "hevc", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "libx265", "mkv", "hevc", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "libvpx-vp9", "webm", "vp9", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "libsvtav1", "mp4", "av1", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "libsvtav1", "webm", "av1", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "ffv1", "mkv", "ffv1", "yuv420p", "bt709", "bt709", ""),
        ("sdr.mp4", "mpeg4", "avi", "mpeg4", "yuv420p", "", "", "the colour tags of primaries, transfer, matrix"),
        ("full.mkv", "h264", "mp4", "h264", "yuvj420p", "bt709", "", ""),
        ("full.mkv", "libvpx-vp9", "webm", "vp9", "yuv420p", "bt709", "", ""),
        ("ten.mkv", "hevc", "mp4", "hevc", "yuv420p10le", "bt2020nc", "arib-std-b67", ""),
        ("ten.mkv", "h264", "mkv", "h264", "yuv420p10le", "bt2020nc", "arib-std-b67", ""),
        ("ten.mkv", "libvpx-vp9", "webm", "vp9", "yuv420p10le", "bt2020nc", "arib-std-b67", ""),
        ("ten.mkv", "libsvtav1", "mkv", "av1", "yuv420p10le", "bt2020nc", "arib-std-b67", ""),
        (
            "ten.mkv",
            "mpeg4",
            "mp4",
            "mpeg4",
            "yuv420p",
            "bt2020nc",
            "arib-std-b67",
            "2 of 10 bits per sample (mpeg4 writes 8",
        ),
        ("422.mov", "prores_ks", "mov", "prores", "yuv422p10le", "bt709", "bt709", ""),
        ("422.mov", "libx265", "mkv", "hevc", "yuv422p10le", "bt709", "bt709", ""),
        ("422.mov", "libsvtav1", "mkv", "av1", "yuv420p10le", "bt709", "bt709", "some of the colour resolution"),
        ("444.mkv", "h264", "mp4", "h264", "yuv444p", "bt709", "bt709", ""),
        ("twelve.mkv", "libx265", "mkv", "hevc", "yuv444p12le", "bt709", "bt709", ""),
        (
            "twelve.mkv",
            "h264",
            "mkv",
            "h264",
            "yuv444p10le",
            "bt709",
            "bt709",
            "2 of 12 bits per sample (libx264 writes 10",
        ),
        ("rgb.mkv", "ffv1", "mkv", "ffv1", "bgr0", "gbr", "", ""),
        ("rgb.mkv", "h264", "mp4", "h264", "yuv444p", "smpte170m", "", ""),
        ("rgb16.mov", "png", "mov", "png", "rgb48be", "", "", ""),
        ("rgb16.mov", "ffv1", "mkv", "ffv1", "gbrp16le", "gbr", "", ""),
    ] {
        let to = folder.path().join(format!("{from}.{codec}.{ending}"));
        let row = format!("{from} → {codec} in {ending}");
        let summary = match reencode(&folder.path().join(from), &to, &with_codec(codec)) {
            Ok(summary) => summary,
            Err(e) => {
                faults.push(format!("{row}: {e}"));
                continue;
            }
        };
        let probe = ffprobe(&to);
        let video = stream(&probe, "video");
        let said = |key: &str| video[key].as_str().filter(|v| *v != "unknown").unwrap_or("").to_owned();
        let count = |path: &Path| stream(&ffprobe(path), "video")["nb_read_packets"].clone();
        let frames = (count(&folder.path().join(from)), count(&to));
        let found = [said("codec_name"), said("pix_fmt"), said("color_space"), said("color_transfer")];
        let left = summary.left_out.join("; ");
        let range = from != "full.mkv" || said("color_range") == "pc";
        let right = found == [name, pixels, space, transfer].map(String::from) && frames.0 == frames.1 && range;
        if !right || left.is_empty() != named.is_empty() || !left.contains(named) {
            faults.push(format!("{row}: {found:?} {:?}, {frames:?} frames, left out: {left}", said("color_range")));
        }
    }
    report(&faults);
}

/// HDR10 static metadata from the container or from the stream is written to both, if both support it.
#[test]
fn hdr10_metadata_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "-f lavfi -i testsrc2=s=96x64:r=10:d=0.5 -vf format=yuv420p10le -c:v libx265 {PQ} -x265-params log-level=0:hdr10=1:\
         master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    );
    ffmpeg(folder.path(), &format!("{source} @/a.mkv"));
    ffmpeg(folder.path(), &format!("{source} @/a.mp4"));
    let mut faults = Vec::new();
    for (from, codec, ending, named) in [
        ("a.mkv", "hevc", "mkv", ""),
        ("a.mp4", "hevc", "mp4", ""),
        ("a.mp4", "hevc", "mov", ""),
        ("a.mkv", "h264", "mkv", ""),
        ("a.mkv", "libvpx-vp9", "webm", ""),
        ("a.mkv", "libsvtav1", "mkv", ""),
        ("a.mkv", "mpeg4", "avi", "HDR10's mastering display"),
    ] {
        let to = folder.path().join(format!("{from}.{codec}.{ending}"));
        let left = reencode(&folder.path().join(from), &to, &with_codec(codec)).unwrap().left_out.join("; ");
        let text = side_data(&to).replace(['"', ' '], "");
        let value = |key: &str| {
            let mut parts = text.split(&format!("{key}:")).nth(1)?.split([',', '}']).next()?.split('/');
            Some(parts.next()?.parse::<f64>().ok()? / parts.next().map_or(Some(1.0), |d| d.parse().ok())?)
        };
        let wanted = [("red_x", 0.68), ("green_y", 0.69), ("white_point_x", 0.3127), ("min_luminance", 0.005)];
        let wanted =
            wanted.into_iter().chain([("max_luminance", 1000.0), ("max_content", 1000.0), ("max_average", 400.0)]);
        let lacks: Vec<_> =
            wanted.filter(|(key, w)| value(key).is_none_or(|found| (found / w - 1.0).abs() > 1e-3)).collect();
        if lacks.is_empty() != named.is_empty() || left.is_empty() != named.is_empty() || !left.contains(named) {
            faults.push(format!("{from} → {codec} in {ending}: lacks {lacks:?}; left out: {left}; {text}"));
        }
    }
    report(&faults);
}

/// Makes a clip with moving transparency: a half-transparent and an opaque square on a transparent background.
fn transparent_clip(options: &str) -> String {
    "-f lavfi -i color=red:s=64x48:r=10:d=0.5,format=PIXELS,geq=r=40+3*X:g=200-2*Y:b=90:\
     a='if(lt(X,20+10*T),0,if(lt(X,44),128,255))' "
        .replace("PIXELS", "rgba")
        + options
}

#[test]
fn transparency_is_kept_or_named() {
    let folder = tempfile::tempdir().unwrap();
    ffmpeg(folder.path(), &transparent_clip("-c:v png -pix_fmt rgba @/png.mov"));
    ffmpeg(folder.path(), &transparent_clip("-c:v qtrle -pix_fmt argb @/rle.mov"));
    ffmpeg(folder.path(), &transparent_clip("-c:v prores_ks -pix_fmt yuva444p10le @/prores.mov"));
    ffmpeg(folder.path(), &transparent_clip("-c:v libvpx-vp9 -crf 5 -b:v 0 -pix_fmt yuva420p @/vp9.webm"));
    ffmpeg(folder.path(), &transparent_clip("-c:v ffv1 -pix_fmt yuva420p -metadata:s:v alpha_mode=1 @/marked.mkv"));
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=s=64x48:r=10:d=0.5,format=rgba -c:v qtrle -pix_fmt argb @/opaque.mov");
    let alpha = |name: &str| {
        let decoder = if name == "vp9.webm" || name.contains("libvpx") { "-c:v libvpx-vp9 " } else { "" };
        let line = format!("{decoder}-i @/{name} -vf format=yuva444p,alphaextract -pix_fmt gray -f rawvideo -");
        ffmpeg(folder.path(), &line)
    };
    let mut faults = Vec::new();
    // Source, encoder, extension, pixel format, maximum mean error of alpha; expected warning if alpha is lost.
    for (from, codec, ending, pixels, limit, named) in [
        ("png.mov", "prores_ks", "mov", "yuva444p12le", 1.0, ""),
        ("png.mov", "qtrle", "mov", "argb", 0.0, ""),
        ("png.mov", "png", "mov", "rgba", 0.0, ""),
        ("png.mov", "ffv1", "mkv", "bgra", 0.0, ""),
        ("png.mov", "libvpx-vp9", "webm", "yuv420p", 4.0, "some of the colour"),
        ("png.mov", "libvpx-vp9", "mkv", "yuv420p", 4.0, "some of the colour"),
        ("rle.mov", "libvpx-vp9", "webm", "yuv420p", 4.0, "some of the colour"),
        ("prores.mov", "prores_ks", "mov", "yuva444p12le", 1.0, "2 of 12 bits"),
        ("vp9.webm", "libvpx-vp9", "webm", "yuv420p", 4.0, ""),
        ("vp9.webm", "prores_ks", "mov", "yuva444p12le", 4.0, ""),
        ("marked.mkv", "ffv1", "mkv", "yuva420p", 1.0, ""),
        (
            "png.mov",
            "h264",
            "mp4",
            "yuv444p",
            0.0,
            "transparency (libx264 does not support it, so frames are blended over black",
        ),
        ("vp9.webm", "h264", "mkv", "yuv420p", 0.0, "transparency (libx264 does not support it"),
        ("opaque.mov", "h264", "mp4", "yuv444p", 0.0, ""),
    ] {
        let name = format!("{from}.{codec}.{ending}");
        let row = format!("{from} → {codec} in {ending}");
        let to = folder.path().join(&name);
        let options = VideoOptions { crf: (codec == "libvpx-vp9").then_some(5.0), ..with_codec(codec) };
        let summary = match reencode(&folder.path().join(from), &to, &options) {
            Ok(summary) => summary,
            Err(e) => {
                faults.push(format!("{row}: {e}"));
                continue;
            }
        };
        let left = summary.left_out.join("; ");
        let found = ffprobe(&to)["streams"][0]["pix_fmt"].clone();
        let kept = !named.starts_with("transparency") && from != "opaque.mov";
        let (before, after) = (alpha(from), if kept { alpha(&name) } else { Vec::new() });
        let error =
            before.iter().zip(&after).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / before.len() as f64;
        let whole = !kept || before.len() == after.len();
        if found != pixels || !whole || error > limit || left.is_empty() != named.is_empty() || !left.contains(named) {
            faults.push(format!("{row}: {found}, alpha differs by {error:.2}, whole {whole}, left out: {left}"));
        }
    }
    report(&faults);
}

/// Other streams and metadata are copied if the container supports them, converted if necessary, else named in a warning.
#[test]
fn other_streams_are_kept_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.srt"), "1\n00:00:00,500 --> 00:00:01,250\nA lake\n").unwrap();
    ffmpeg(folder.path(), "-i @/a.srt @/a.ass");
    ffmpeg(folder.path(), "-f lavfi -i color=blue:s=32x32 -frames:v 1 @/cover.png");
    fs::write(at("font.ttf"), b"no font").unwrap();
    fs::write(at("a.txt"), ";FFMETADATA1\ntitle=Film\nmood=calm\n").unwrap();
    let bars = "-f lavfi -i testsrc2=s=96x64:r=10:d=2";
    let line = format!("{bars} -i @/a.srt -i @/a.ass -i @/a.txt -map 0:v -map 1:s -map 2:s -map_metadata 3 -aspect 2");
    let attached = "-attach @/font.ttf -metadata:s:t mimetype=font/ttf";
    ffmpeg(folder.path(), &format!("{line} -c:v libx264 -c:s copy {attached} @/plain.mkv"));
    ffmpeg(
        folder.path(),
        &format!(
            "{bars} -i @/cover.png -map 0:v -map 1:v -c:v:0 libx264 -c:v:1 png -disposition:v:1 attached_pic @/cover.mp4"
        ),
    );
    ffmpeg(folder.path(), &format!("{bars} -i @/a.srt -map 0:v -map 1:s -c:v libx264 -c:s mov_text @/text.mp4"));
    ffmpeg(folder.path(), &format!("{bars} -c:v libx264 @/t.mp4"));
    ffmpeg(folder.path(), "-i @/t.mp4 -c copy -metadata:s:v rotate=90 @/turned.mp4");
    let mut faults = Vec::new();
    // Source, output, codec, codecs of the other streams, cover present; expected warnings.
    for (from, to, codec, streams, named) in [
        ("plain.mkv", "a.mkv", "h264", "subrip ass ttf", vec![]),
        (
            "plain.mkv",
            "a.mp4",
            "h264",
            "mov_text mov_text",
            vec!["positions and styles of the subtitles (stream 2)", "stream 3 (attachment", "metadata: mood"],
        ),
        (
            "plain.mkv",
            "a.webm",
            "libvpx-vp9",
            "webvtt webvtt",
            vec!["positions and styles of the subtitles (stream 2)", "stream 3 (attachment"],
        ),
        ("text.mp4", "b.mkv", "h264", "subrip", vec![]),
        ("text.mp4", "b.mov", "h264", "mov_text", vec![]),
        ("cover.mp4", "c.mp4", "h264", "png*", vec![]),
        ("cover.mp4", "c.mkv", "h264", "png*", vec![]),
        ("turned.mp4", "d.mov", "h264", "", vec![]),
        ("turned.mp4", "d.mkv", "h264", "", vec!["the rotation by 270 degrees (.mkv does not store it)"]),
    ] {
        let summary = match reencode(&at(from), &at(to), &with_codec(codec)) {
            Ok(summary) => summary,
            Err(e) => {
                faults.push(format!("{from} → {to}: {e}"));
                continue;
            }
        };
        let (before, probe) = (ffprobe(&at(from)), ffprobe(&at(to)));
        let others = probe["streams"].as_array().unwrap().iter().skip(1).map(|s| {
            let cover = if s["disposition"]["attached_pic"] == 1 { "*" } else { "" };
            format!("{}{cover}", s["codec_name"].as_str().unwrap_or("ttf"))
        });
        let others = others.collect::<Vec<_>>().join(" ");
        let aspect = |p: &Value| stream(p, "video")["sample_aspect_ratio"].as_str().unwrap_or("1:1").to_owned();
        let unnamed: Vec<_> = named.iter().filter(|n| !summary.left_out.iter().any(|l| l.starts_with(**n))).collect();
        let words = |name: &str| {
            let line = format!("-i @/{name} -map 0:s:0 -f srt -");
            String::from_utf8_lossy(&ffmpeg(folder.path(), &line)).into_owned()
        };
        let text = !others.contains("ass") && !others.contains("t_t") || {
            let words = words(to);
            words.contains("00:00:00,500 --> 00:00:01,250") && words.contains("A lake")
        };
        let right = others == streams && aspect(&before) == aspect(&probe) && text;
        if !right || !unnamed.is_empty() || summary.left_out.len() != named.len() {
            let aspects = (aspect(&before), aspect(&probe));
            faults.push(format!("{from} → {to}: {others}, {aspects:?}, text {text}, {:?}", summary.left_out));
        }
    }
    report(&faults);
}
