//! Checks options of the user before any work is done.

use std::path::Path;

use ffmpeg_next::{Codec, ffi};

use super::{codec_options::codec_options, encoder::find, pixel_choice::offers, spec::VideoOptions};
use crate::{
    error::{Error, Result},
    media::{
        format::FileFormat,
        video::{ffmpeg::c_string, rational::Rational},
    },
};

/// Checks encoder, pixel format, rate factor and preset. `target`: the output, if there is one with a known name.
///
/// Errors: an encoder or a pixel format that FFmpeg does not have, or that do not fit each other; a rate factor out of
/// range; a rate factor or preset for an encoder that has none.
pub fn check_options(options: &VideoOptions, target: Option<&Path>) -> Result<()> {
    if let Some(name) = &options.pix_fmt
        // SAFETY: FFmpeg looks the name up.
        && unsafe { ffi::av_get_pix_fmt(c_string(name).as_ptr()) } == ffi::AVPixelFormat::AV_PIX_FMT_NONE
    {
        return Err(Error::usage(format!(
            "--pix-fmt {name}: FFmpeg has no such pixel format; yuv420p, yuv444p and yuv420p10le are common"
        )));
    }
    let format = target.and_then(FileFormat::of_path).filter(|format| format.writes_videos());
    let codecs: Vec<Codec> = match (&options.codec, format) {
        (Some(name), _) => vec![find(name)?],
        (None, Some(format)) => [format.encoders.0, format.encoders.1].iter().filter_map(|n| find(n).ok()).collect(),
        (None, None) => Vec::new(),
    };
    let limits = codecs.iter().map(|codec| (codec.name(), highest_crf(codec.name())));
    let (encoder, most) = limits.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("a video encoder", HIGHEST_CRF));
    if let Some(crf) = options.crf.filter(|crf| *crf > most) {
        return Err(Error::usage(format!("--crf {crf}: {encoder} takes at most {most}; lower is better")));
    }
    // One of several default encoders must do.
    let results = codecs.iter().map(|codec| offers(*codec, options).and(codec_options(*codec, options, &[]).map(drop)));
    let mut results: Vec<Result<()>> = results.collect();
    if results.iter().any(Result::is_ok) { Ok(()) } else { results.pop().unwrap_or(Ok(())) }
}

/// The highest rate factor of any encoder.
const HIGHEST_CRF: f64 = 63.0;

/// The highest rate factor of an encoder. FFmpeg's own limits are those of a number, not of the encoder.
fn highest_crf(encoder: &str) -> f64 {
    if encoder.starts_with("libx26") { 51.0 } else { HIGHEST_CRF }
}

/// Checks that a file of this name can be written at a frame rate.
///
/// Errors: an animated picture whose players slow down frames of this duration; names the highest rate.
pub fn check_rate(target: &Path, rate: Rational) -> Result<()> {
    let format = FileFormat::of_path(target);
    let Some((format, shortest)) = format.and_then(|f| Some((f, f.shortest_frame?))) else { return Ok(()) };
    let most = f64::from(1000 / shortest * 10 + 1000 % shortest * 10 / shortest) / 10.0;
    if rate.value() * f64::from(shortest) <= 1000.0 * (1.0 + 1e-6) {
        return Ok(());
    }
    let (path, name) = (target.display(), format.name);
    Err(Error::usage(format!(
        "{path}: {name} has at most {most} frames per second, this video has {rate}; use --interpolate {most}fps, or .mp4"
    )))
}

/// The warning for frames that a file of this name cannot show as briefly as they last, in a video whose average rate fits
/// ([`check_rate`]). `shortest`: seconds. `None`: it can.
pub fn short_frames(target: &Path, shortest: f64) -> Option<String> {
    let format = FileFormat::of_path(target)?;
    let least = format.shortest_frame.filter(|least| shortest * 1e3 < f64::from(*least) * (1.0 - 1e-6))?;
    let (path, name, shortest) = (target.display(), format.name, shortest * 1e3);
    Some(format!(
        "{path}: some frames last {shortest:.1} ms, and {name} shows none for less than {least} ms; they are shown longer, \
         and the frames after them shorter"
    ))
}

/// Checks that a file of this name can show a frame for `longest` seconds.
///
/// Errors: it cannot; names the most seconds.
pub fn check_longest(target: &Path, longest: f64) -> Result<()> {
    let Some(format) = FileFormat::of_path(target) else { return Ok(()) };
    let Some(most) = format.longest_frame.map(|ms| f64::from(ms) * 1e-3) else { return Ok(()) };
    if longest <= most * (1.0 + 1e-9) {
        return Ok(());
    }
    let (path, name) = (target.display(), format.name);
    Err(Error::usage(format!(
        "{path}: a frame lasts {longest:.3} s, and {name} shows none for more than {most} s; use .mkv, or --interpolate 1fps"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// File, longest frame in seconds, and a part of the message; empty: none.
    #[test]
    fn long_frames_are_refused() {
        let rows = [
            ("a.gif", 655.35, ""),
            ("a.gif", 655.36, "a frame lasts 655.360 s, and GIF shows none for more than 655.35 s"),
            ("a.webp", 16_777.215, ""),
            ("a.webp", 16_777.216, "WebP shows none for more than 16777.215 s"),
            ("a.png", 65_535.0, "PNG shows none for more than 21474 s"),
            ("a.apng", 21_474.0, ""),
            ("a.mkv", 65_535.0, ""),
        ];
        for (name, longest, want) in rows {
            let found = check_longest(Path::new(name), longest).err().map_or_else(String::new, |e| e.to_string());
            assert!(found.is_empty() == want.is_empty() && found.contains(want), "{name} {longest}: {found}");
        }
    }

    /// Options and output, and a part of the message; empty: valid.
    #[test]
    fn options_are_checked_before_any_work() {
        type Row<'a> = (&'a str, &'a str, &'a str, f64, &'a str);
        let rows: &[Row<'_>] = &[
            ("", "", "a.mp4", 17.0, ""),
            ("libx264", "yuv444p", "", 51.0, ""),
            ("h264", "yuv420p", "a.mkv", 0.0, ""),
            ("libvpx-vp9", "", "a.webm", 60.0, ""),
            ("libx264", "", "", 99.0, "--crf 99: libx264 takes at most 51"),
            ("", "", "a.mp4", 52.0, "at most 51"),
            ("", "", "a.webm", 64.0, "libvpx-vp9 takes at most 63"),
            ("", "", "", 64.0, "at most 63"),
            ("", "", "a.png", 64.0, "at most 63"),
            ("libx26", "", "", 17.0, "did you mean libx264"),
            ("h256", "", "", 17.0, "h264"),
            ("prores", "nv12x", "", 0.0, "--pix-fmt nv12x"),
            ("libx264", "gbrap16le", "", 17.0, "has no pixel format gbrap16le"),
            ("", "yuv444p", "a.mov", 17.0, ""),
            // The default encoder of .mov for transparency has it.
            ("", "yuva444p10le", "a.mov", 0.0, ""),
            ("", "yuva444p", "a.mp4", 17.0, "has no pixel format yuva444p"),
        ];
        let mut wrong = Vec::new();
        for (codec, pix_fmt, target, crf, want) in rows {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let crf = Some(*crf).filter(|crf| *crf > 0.0);
            let options = VideoOptions { codec: given(codec), pix_fmt: given(pix_fmt), crf, ..VideoOptions::default() };
            let target = given(target);
            let found = check_options(&options, target.as_deref().map(Path::new));
            let found = found.err().map_or_else(String::new, |e| e.to_string());
            if found.is_empty() != want.is_empty() || !found.contains(want) || found.len() > 300 {
                wrong.push(format!("{codec} {pix_fmt} {target:?} {crf:?}: wanted {want}, got {found}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn rates_of_animated_pictures() {
        let rows = [
            ("a.gif", (50, 1), ""),
            ("a.gif", (51, 1), "GIF has at most 50 frames per second"),
            ("a.GIF", (60000, 1001), "this video has 60000/1001"),
            ("a.webp", (90, 1), ""),
            ("a.webp", (240, 1), "WebP has at most 90.9 frames per second"),
            ("a.png", (240, 1), ""),
            ("a.apng", (240, 1), ""),
            ("a.mp4", (240, 1), ""),
        ];
        for (name, (num, den), want) in rows {
            let found = check_rate(Path::new(name), Rational::new(num, den));
            let found = found.err().map_or_else(String::new, |e| e.to_string());
            assert!(found.contains(want) && found.is_empty() == want.is_empty(), "{name} {num}/{den}: {found}");
        }
    }

    /// File, shortest frame in seconds, and a part of the warning; empty: none.
    #[test]
    fn short_frames_are_named() {
        let rows = [
            ("a.gif", 0.02, ""),
            ("a.gif", 0.019, "some frames last 19.0 ms, and GIF shows none for less than 20 ms"),
            ("a.webp", 0.011, ""),
            ("a.webp", 1.0 / 90.9, ""),
            ("a.WEBP", 0.0005, "last 0.5 ms, and WebP shows none for less than 11 ms"),
            ("a.apng", 0.001, ""),
            ("a.mp4", 0.001, ""),
        ];
        for (name, shortest, want) in rows {
            let found = short_frames(Path::new(name), shortest).unwrap_or_default();
            assert!(found.is_empty() == want.is_empty() && found.contains(want), "{name} {shortest}: {found}");
        }
    }
}
