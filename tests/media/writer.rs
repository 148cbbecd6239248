use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use crescendo::{
    Error,
    media::{
        Picture, PictureOptions,
        picture::write,
        queue::Chain,
        video::{Rational, Reader, Summary, VideoOptions, VideoSpec, Writer, video_encoders},
    },
    tensor::{Frame, Samples},
};
use serde_json::Value;

use crate::{ffmpeg, ffprobe, report};

/// Decodes a file, writes every frame twice, scales it by `scale` (nearest neighbour), and encodes it.
fn enhance(from: &Path, to: &Path, options: &VideoOptions, scale: usize) -> Result<Summary, Error> {
    let reader = Reader::open(from)?;
    let info = reader.info().clone();
    let (width, height) = (info.width * scale, info.height * scale);
    let output = VideoSpec::like(&info, (width, height), info.frame_rate.times(2), Some(from.into()));
    let mut writer = Writer::create(to, options, &output)?;
    for frame in reader {
        let frame = frame?.frame;
        let pick = |i: usize| {
            let (x, y, k) = (i / 3 % width / scale, i / 3 / width / scale, i % 3);
            (y * info.width + x) * 3 + k
        };
        let samples = match &frame.samples {
            Samples::U8(s) => Samples::U8((0..width * height * 3).map(|i| s[pick(i)]).collect()),
            Samples::U16(s) => Samples::U16((0..width * height * 3).map(|i| s[pick(i)]).collect()),
        };
        let large = Frame { width, height, channels: 3, samples };
        writer.write(&large)?;
        writer.write(&large)?;
    }
    writer.finish()
}

fn stream<'a>(probe: &'a Value, kind: &str) -> &'a Value {
    probe["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == kind).unwrap_or(&Value::Null)
}

/// Returns the rotation of the display matrix in degrees, counter-clockwise.
fn rotation(video: &Value) -> i64 {
    let list = video["side_data_list"].as_array().cloned().unwrap_or_default();
    list.iter().find_map(|s| s["rotation"].as_i64()).unwrap_or(0)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn properties_of_the_source_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let video = "-f lavfi -i testsrc2=s=96x64:r=24:d=2";
    let sound = "-f lavfi -i sine=d=2";
    let bt709 = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv";
    let hdr = "-colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv";
    // Name of the source, inputs and options, extension of the output, expected ffprobe values.
    let rows = [
        ("plain.mp4", format!("{video} {sound} -c:v libx264"), "mp4", ["yuv420p", "tv", "smpte170m", "unknown", "1:1"]),
        (
            "bt709.mp4",
            format!("{video} {sound} -c:v libx264 {bt709}"),
            "mp4",
            ["yuv420p", "tv", "bt709", "bt709", "1:1"],
        ),
        (
            "full.mkv",
            format!("{video} {sound} -c:v libx264 -colorspace bt470bg -color_range pc"),
            "mkv",
            ["yuvj420p", "pc", "bt470bg", "unknown", "1:1"],
        ),
        (
            "hdr.mkv",
            format!("{video} {sound} -c:v libx265 -x265-params log-level=0 -pix_fmt yuv420p10le {hdr} -c:a libopus"),
            "mkv",
            ["yuv420p10le", "tv", "bt2020nc", "bt2020", "1:1"],
        ),
        (
            "wide.mp4",
            format!("{video} {sound} -c:v libx264 -aspect 16:9"),
            "mp4",
            ["yuv420p", "tv", "smpte170m", "unknown", "32:27"],
        ),
        (
            "turned.mp4",
            format!("{video} {sound} -c:v libx264"),
            "mp4",
            ["yuv420p", "tv", "smpte170m", "unknown", "1:1"],
        ),
        (
            "late.mp4",
            format!("{video} -itsoffset 0.7 {sound} -c:v libx264"),
            "mp4",
            ["yuv420p", "tv", "smpte170m", "unknown", "1:1"],
        ),
        (
            "late_video.mkv",
            format!("-itsoffset 0.5 {video} {sound} -c:v libx264 -c:a flac"),
            "mkv",
            ["yuv420p", "tv", "smpte170m", "unknown", "1:1"],
        ),
        (
            "odd.mp4",
            format!("-f lavfi -i testsrc=s=97x63:r=24:d=2 {sound} -c:v libx264 -pix_fmt yuv444p"),
            "mp4",
            ["yuv444p", "tv", "smpte170m", "unknown", "1:1"],
        ),
        (
            "old.avi",
            format!("{video} {sound} -c:v mpeg4 -c:a mp3"),
            "mp4",
            ["yuv420p", "tv", "smpte170m", "unknown", "1:1"],
        ),
        (
            "stream.ts",
            format!("{video} {sound} -c:v libx264 -c:a aac"),
            "mp4",
            ["yuv420p", "tv", "smpte170m", "unknown", "1:1"],
        ),
    ];
    let mut faults = Vec::new();
    for (name, line, ending, [pixels, range, space, primaries, aspect]) in rows {
        let result = at(&format!("{name}.{ending}"));
        ffmpeg(folder.path(), &format!("{line} -metadata title=Lake @/{name}"));
        if name == "turned.mp4" {
            ffmpeg(folder.path(), "-i @/turned.mp4 -c copy -metadata:s:v rotate=90 @/t.mp4");
            fs::rename(at("t.mp4"), at(name)).unwrap();
        }
        let summary = match enhance(&at(name), &result, &VideoOptions::default(), 1) {
            Ok(summary) => summary,
            Err(e) => {
                faults.push(format!("{name}: {e}"));
                continue;
            }
        };
        let (before, after) = (ffprobe(&at(name)), ffprobe(&result));
        let (v, a, old) = (stream(&after, "video"), stream(&after, "audio"), stream(&before, "video"));
        let said = |key: &str| v[key].as_str().unwrap_or("unknown").to_owned();
        let md5 = |path: &Path| {
            let line = format!("-i {} -map 0:a -c copy -f md5 -", path.display());
            String::from_utf8(ffmpeg(folder.path(), &line)).unwrap()
        };
        let number = |v: &Value, key: &str| v[key].as_str().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
        // Offset from the first video frame to the first audio packet.
        let gap =
            |probe: &Value| number(stream(probe, "audio"), "start_time") - number(stream(probe, "video"), "start_time");
        let frames = number(v, "nb_read_packets") as u64;
        // In MP4 the audio has no ADTS headers, unlike in a transport stream.
        let same_sound = name == "stream.ts" || md5(&at(name)) == md5(&result);
        let sound_packets = (number(stream(&before, "audio"), "nb_read_packets"), number(a, "nb_read_packets"));
        let checks = [
            ("codec", v["codec_name"] == "h264"),
            ("size", (&v["width"], &v["height"]) == (&old["width"], &old["height"])),
            ("frames", frames == 2 * number(old, "nb_read_packets") as u64 && frames == summary.frames),
            ("rate", v["avg_frame_rate"] == "48/1"),
            ("pixels", said("pix_fmt") == pixels),
            ("range", said("color_range") == range),
            ("space", said("color_space") == space),
            ("primaries", said("color_primaries") == primaries),
            (
                "aspect",
                said("sample_aspect_ratio") == aspect || aspect == "1:1" && said("sample_aspect_ratio") == "unknown",
            ),
            ("rotation", rotation(v) == rotation(old) && (rotation(v) == 90) == (name == "turned.mp4")),
            ("sound", same_sound && sound_packets.0 == sound_packets.1 && sound_packets.0 > 0.0),
            ("gap", (gap(&before) - gap(&after)).abs() < 0.03),
            ("title", name == "stream.ts" || after["format"]["tags"].to_string().contains("Lake")),
            ("bytes", summary.bytes == fs::metadata(&result).unwrap().len()),
            ("left out", summary.left_out.is_empty()),
        ];
        let bad: Vec<_> = checks.iter().filter(|c| !c.1).map(|c| c.0).collect();
        if !bad.is_empty() {
            faults.push(format!(
                "{name}: {bad:?}\n  {v}\n  gaps {} {}, packets {sound_packets:?}",
                gap(&before),
                gap(&after)
            ));
        }
    }
    report(&faults);
}

#[test]
fn subtitles_chapters_covers_and_audio_tracks_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.srt"), "1\n00:00:00,500 --> 00:00:01,000\nLake\n").unwrap();
    fs::write(
        folder.path().join("a.txt"),
        ";FFMETADATA1\ntitle=Film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1000\nEND=2000\ntitle=Two\n",
    )
    .unwrap();
    let line = "-f lavfi -i testsrc2=s=96x64:r=24:d=2 -f lavfi -i sine=d=2 -i @/a.srt -i @/a.txt -map 0:v -map 1:a -map 1:a -map 2:s \
                -map_metadata 3 -map_chapters 3 -metadata:s:a:1 language=fra -c:v libx264";
    ffmpeg(folder.path(), &format!("{line} -c:s mov_text @/a.mp4"));
    ffmpeg(folder.path(), &format!("{line} -c:s srt -attach @/a.txt -metadata:s:t mimetype=text/plain @/a.mkv"));
    let mut faults = Vec::new();
    for (from, to, left_out, streams) in [
        ("a.mp4", "mp4.mp4", 0, "video audio audio subtitle"),
        ("a.mkv", "mkv.mkv", 0, "video audio audio subtitle attachment"),
        ("a.mkv", "mkv.mp4", 1, "video audio audio subtitle"),
    ] {
        let to = folder.path().join(to);
        let summary = enhance(&folder.path().join(from), &to, &VideoOptions::default(), 2).unwrap();
        let probe = ffprobe(&to);
        let kinds: Vec<_> =
            probe["streams"].as_array().unwrap().iter().map(|s| s["codec_type"].as_str().unwrap()).collect();
        // MP4 stores chapter titles in a data stream, which the muxer writes again.
        let kinds: Vec<_> = kinds.into_iter().filter(|k| *k != "data").collect();
        let titles: Vec<_> =
            probe["chapters"].as_array().unwrap().iter().map(|c| c["tags"]["title"].as_str().unwrap_or("")).collect();
        if summary.left_out.len() != left_out || kinds.join(" ") != streams || titles != ["One", "Two"] {
            faults.push(format!("{from} → {}: {kinds:?}, {titles:?}, {:?}", to.display(), summary.left_out));
        }
        let french =
            probe["streams"][2]["tags"]["language"] == "fre" || probe["streams"][2]["tags"]["language"] == "fra";
        if !french {
            faults.push(format!("{}: second sound is {}", to.display(), probe["streams"][2]["tags"]));
        }
    }
    report(&faults);
}

/// A moving gradient.
fn frame(width: usize, height: usize, deep: bool, n: usize) -> Frame {
    let value = |i: usize| {
        let (x, y, k) = (i / 3 % width, i / 3 / width, i % 3);
        [(x + n) * 255 / (width + 40), y * 255 / height, (x + y) * 255 / (width + height)][k]
    };
    let count = width * height * 3;
    let samples = if deep {
        Samples::U16((0..count).map(|i| (value(i) * 257) as u16).collect())
    } else {
        Samples::U8((0..count).map(|i| value(i) as u8).collect())
    };
    Frame { width, height, channels: 3, samples }
}

fn encode(path: &Path, options: &VideoOptions, output: &VideoSpec, deep: bool, count: usize) -> Result<Summary, Error> {
    let mut writer = Writer::create(path, options, output)?;
    for n in 0..count {
        writer.write(&frame(output.width, output.height, deep, n))?;
    }
    writer.finish()
}

fn floats(frame: &Frame) -> Vec<f64> {
    match &frame.samples {
        Samples::U8(s) => s.iter().map(|&v| f64::from(v) / 255.0).collect(),
        Samples::U16(s) => s.iter().map(|&v| f64::from(v) / 65535.0).collect(),
    }
}

#[test]
fn encoded_frames_decode_within_a_psnr() {
    let folder = tempfile::tempdir().unwrap();
    let options = |codec: &str, crf: Option<f64>| {
        // ProRes spends few bits on small pictures by default.
        let extra = if codec == "prores_ks" { vec![("bits_per_mb".into(), "8000".into())] } else { Vec::new() };
        VideoOptions { codec: Some(codec.into()), crf, extra, ..VideoOptions::default() }
    };
    // Extension, codec, CRF, size, bits; expected pixel format and minimum PSNR in dB.
    let rows = [
        ("mp4", "h264", Some(10.0), (96, 64), 8, "yuv420p", 38.0),
        ("mp4", "h264", Some(10.0), (97, 63), 8, "yuv444p", 40.0),
        ("mp4", "libx264", None, (96, 64), 10, "yuv420p10le", 36.0),
        ("mkv", "libx265", Some(12.0), (96, 64), 10, "yuv420p10le", 38.0),
        ("webm", "libvpx-vp9", Some(10.0), (97, 63), 8, "yuv444p", 36.0),
        ("mkv", "ffv1", None, (97, 63), 8, "yuv444p", 48.0),
        ("mp4", "libx264rgb", Some(0.0), (96, 64), 8, "", 90.0),
        ("mov", "prores_ks", None, (96, 64), 10, "yuv422p10le", 38.0),
    ];
    let mut faults = Vec::new();
    for (i, (ending, codec, crf, (width, height), bits, pixels, least)) in rows.into_iter().enumerate() {
        let path = folder.path().join(format!("{i}.{ending}"));
        let output = VideoSpec { bit_depth: bits, ..VideoSpec::new(width, height, Rational::new(25, 1)) };
        if let Err(e) = encode(&path, &options(codec, crf), &output, bits > 8, 12) {
            faults.push(format!("{codec}: {e}"));
            continue;
        }
        let mut error = 0.0;
        let reader = Reader::open(&path).unwrap();
        let format = reader.info().pixel_format.clone();
        let count = reader.map(Result::unwrap).enumerate().map(|(n, decoded)| {
            let (ours, wanted) = (floats(&decoded.frame), floats(&frame(width, height, bits > 8, n)));
            error += ours.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / ours.len() as f64 / 12.0;
        });
        let count = count.count();
        let psnr = -10.0 * error.max(1e-12).log10();
        if count != 12 || psnr < least || !pixels.is_empty() && format != pixels {
            faults.push(format!("{codec} {width}x{height} {bits}: {count} frames in {format}, {psnr:.1} dB"));
        }
    }
    report(&faults);
}

#[test]
fn invalid_requests_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("taken.mp4"), b"mine").unwrap();
    let with = |change: fn(&mut VideoOptions)| {
        let mut options = VideoOptions::default();
        change(&mut options);
        options
    };
    let rows = [
        ("taken.mp4", with(|_| {}), "already exists; choose another name or pass --overwrite"),
        ("a.xyz", with(|_| {}), "no video container has this extension; use .mp4, .mkv or .webm"),
        ("a.mp4", with(|o| o.codec = Some("h267".into())), "no video encoder h267; did you mean h26"),
        ("a.webm", with(|o| o.codec = Some("h264".into())), "webm does not support the codec of libx264; use .mkv"),
        ("a.mp4", with(|o| o.pix_fmt = Some("rgb24".into())), "libx264 has no pixel format rgb24; it has yuv420p"),
        ("a.mp4", with(|o| o.pix_fmt = Some("yuv420p".into())), "width not divisible by 2"),
        ("a.mp4", with(|o| o.preset = Some("instant".into())), "encoder libx264 cannot write 97x63"),
        ("a.mkv", with(|o| (o.codec, o.crf) = (Some("ffv1".into()), Some(5.0))), "encoder ffv1 has no crf"),
        ("a.mp4", with(|o| o.extra = vec![("tune2".into(), "x".into())]), "nor the container has the option -e tune2"),
        ("none/a.mp4", with(|_| {}), "does not exist; create it"),
    ];
    let mut faults = Vec::new();
    for (name, options, wanted) in rows {
        let result =
            encode(&folder.path().join(name), &options, &VideoSpec::new(97, 63, Rational::new(25, 1)), false, 2);
        let error = result.err().map_or(String::new(), |e| e.to_string());
        if !error.contains(wanted) || error.contains('\n') || names(folder.path()) != ["taken.mp4"] {
            faults.push(format!("{name}: {error:?}, {:?}", names(folder.path())));
        }
    }
    assert_eq!(fs::read(folder.path().join("taken.mp4")).unwrap(), b"mine");
    let path = folder.path().join("b.mp4");
    let output = VideoSpec::new(96, 64, Rational::new(25, 1));
    let mut writer = Writer::create(&path, &VideoOptions::default(), &output).unwrap();
    assert_eq!(names(folder.path()), [".b.part.mp4", "taken.mp4"]);
    let second = Writer::create(&path, &VideoOptions::default(), &output).err().unwrap().to_string();
    assert!(second.contains("another process is writing this file"), "{second}");
    let error = writer.write(&frame(96, 66, false, 0)).unwrap_err().to_string();
    assert!(error.contains("frame 0 is 96x66 with 3 channels, expected 96x64 with at most 3"), "{error}");
    writer.write(&frame(96, 64, false, 0)).unwrap();
    drop(writer);
    assert_eq!(names(folder.path()), ["taken.mp4"]);
    assert!(video_encoders().contains(&"libx264".to_owned()));
    report(&faults);
}

/// The test below runs this in a separate process, to measure its peak memory.
#[test]
#[ignore = "started by memory_does_not_grow_with_length"]
fn copy_a_clip() {
    let clip = PathBuf::from(std::env::var_os("CLIP").unwrap());
    let reader = Reader::open(&clip).unwrap();
    let info = reader.info().clone();
    let output = VideoSpec::like(&info, (info.width, info.height), info.frame_rate, Some(clip.clone()));
    let options = VideoOptions { preset: Some("ultrafast".into()), ..VideoOptions::default() };
    let mut writer = Writer::create(&clip.with_extension("copy.mp4"), &options, &output).unwrap();
    let cancel = AtomicBool::new(false);
    Chain::source(&cancel, "decode", 4, reader).sink("encode", |frame| writer.write(&frame.frame)).unwrap();
    assert_eq!(Some(writer.finish().unwrap().frames), info.frames);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("PEAK {}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn memory_does_not_grow_with_length() {
    let folder = tempfile::tempdir().unwrap();
    let peaks: Vec<f64> = [6, 60]
        .into_iter()
        .map(|seconds| {
            let line = format!("-f lavfi -i testsrc2=s=640x360:r=25:d={seconds} -f lavfi -i sine=d={seconds}");
            ffmpeg(folder.path(), &format!("{line} -c:v libx264 -preset ultrafast @/{seconds}.mp4"));
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "writer::copy_a_clip", "--ignored", "--nocapture"]);
            let output = child.env("CLIP", folder.path().join(format!("{seconds}.mp4"))).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().find_map(|l| l.split("PEAK ").nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
        })
        .collect();
    assert!(peaks[1] < peaks[0] * 1.05, "{peaks:?} kB for 6 s and 60 s");
}

/// The test below runs this in a separate process with a file size limit.
#[test]
#[ignore = "started by a_full_disk_leaves_no_file"]
fn write_more_than_fits() {
    let folder = PathBuf::from(std::env::var_os("FULL_DISK").unwrap());
    let options = VideoOptions { extra: vec![("qp".into(), "0".into())], ..VideoOptions::default() };
    let noisy = |n: usize| {
        let mut state = n as u32 + 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        Frame {
            width: 256,
            height: 256,
            channels: 3,
            samples: Samples::U8((0..256 * 256 * 3).map(|_| next()).collect()),
        }
    };
    let mut writer =
        Writer::create(&folder.join("a.mp4"), &options, &VideoSpec::new(256, 256, Rational::new(25, 1))).unwrap();
    let video = (0..60).try_for_each(|n| writer.write(&noisy(n))).and_then(|()| writer.finish()).unwrap_err();
    let picture = write(&folder.join("a.png"), &Picture::from(noisy(0)), &PictureOptions::default()).unwrap_err();
    println!("{video}\n{picture}");
}

#[test]
fn a_full_disk_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    // A file size limit (64 blocks, no signal) fails writes like a full disk and needs no privileges.
    let script = "ulimit -f 64; trap '' XFSZ; exec \"$0\" --exact writer::write_more_than_fits --ignored --nocapture";
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new("sh").arg("-c").arg(script).arg(program).env("FULL_DISK", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for name in ["a.mp4", "a.png"] {
        let wanted = format!("writing {}: File too large", folder.path().join(name).display());
        assert!(text.lines().any(|line| line.starts_with(&wanted)), "{name}: {text}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}
