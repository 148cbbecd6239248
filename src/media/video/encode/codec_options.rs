//! Collects the options of an encoder.

use ffmpeg_next::{Codec, ffi};

use super::{
    hdr,
    spec::{VideoOptions, VideoQuality},
};
use crate::{
    error::{Error, Result},
    media::video::{ffmpeg::c_string, side_data::SideData},
};

/// The options of an encoder. Errors: a rate factor or preset for an encoder that has none.
pub(crate) fn codec_options(
    codec: Codec,
    options: &VideoOptions,
    side_data: &[SideData],
) -> Result<Vec<(String, String)>> {
    let named = [("crf", options.crf.map(|v| v.to_string())), ("preset", options.preset.clone())];
    let mut settings = Vec::new();
    if options.crf.is_none() {
        settings.extend(quality(codec.name(), options.quality, &options.extra));
    }
    for (name, value) in named {
        let Some(value) = value else { continue };
        // SAFETY: with this flag, a pointer to the codec's class stands for an object of it.
        let known = unsafe {
            let class = &raw const (*codec.as_ptr()).priv_class;
            let flags = ffi::AV_OPT_SEARCH_FAKE_OBJ;
            let c_name = c_string(name);
            !(*class).is_null()
                && !ffi::av_opt_find(class.cast_mut().cast(), c_name.as_ptr(), std::ptr::null(), 0, flags).is_null()
        };
        if !known {
            let encoder = codec.name();
            return Err(Error::usage(format!("encoder {encoder} has no {name}; set its options with -e KEY=VALUE")));
        }
        settings.push((name.to_owned(), value));
    }
    for (key, value) in &options.extra {
        if key.contains('\0') || value.contains('\0') {
            return Err(Error::usage("-e KEY=VALUE contains a zero byte"));
        }
        settings.push((key.clone(), value.clone()));
    }
    match codec.name() {
        "libx265" => {
            // x265 writes to standard error directly, not through FFmpeg's log.
            let quiet = ("log-level", "error".to_owned());
            add_parameters(&mut settings, "x265-params", hdr::encoder_parameters(side_data).into_iter().chain([quiet]));
        }
        "libx264" => {
            let parameters = hdr::encoder_parameters(side_data).into_iter();
            let renamed = parameters.map(|(key, v)| (if key == "max-cll" { "cll" } else { "mastering-display" }, v));
            add_parameters(&mut settings, "x264-params", renamed);
        }
        _ => {}
    }
    Ok(settings)
}

/// The options of an encoder for a quality. `extra`: options of the user, which take precedence.
fn quality(encoder: &str, quality: VideoQuality, extra: &[(String, String)]) -> Vec<(String, String)> {
    let one = |name: &str, value: String| vec![(name.to_owned(), value)];
    let given = |names: &[&str]| extra.iter().any(|(key, _)| names.contains(&key.as_str()));
    match quality {
        VideoQuality::Encoder => Vec::new(),
        VideoQuality::Scale(q) => rate(encoder, q).map_or(Vec::new(), |(name, value)| one(name, value.to_string())),
        VideoQuality::VisuallyLossless => match encoder {
            "libx264" | "libx264rgb" | "libx265" => one("crf", "17".into()),
            "libvpx" | "libvpx-vp9" | "libaom-av1" | "libsvtav1" => one("crf", "15".into()),
            "librav1e" => one("qp", "40".into()),
            "libwebp_anim" | "libwebp" => one("quality", "95".into()),
            "mpeg4" | "mpeg2video" | "mpeg1video" | "mjpeg" | "libxvid" | "msmpeg4" | "msmpeg4v2" | "flv" | "h263p"
                if !given(&["b", "flags", "global_quality"]) =>
            {
                let quality = (ffi::FF_QP2LAMBDA * 2).to_string();
                vec![("flags".to_owned(), "+qscale".to_owned()), ("global_quality".to_owned(), quality)]
            }
            _ => Vec::new(),
        },
    }
}

/// Maps a quality of 0 to 100 to an option of the encoder. Rate factors range from 0 (lossless) to 51 or 63. WebP's
/// quality scale is half as steep, so that 50 is its default.
fn rate(encoder: &str, quality: u8) -> Option<(&'static str, f32)> {
    let missing = 1.0 - f32::from(quality.min(100)) / 100.0;
    match encoder {
        "libx264" | "libx264rgb" | "libx265" => Some(("crf", (missing * 51.0).floor())),
        "libvpx-vp9" | "libaom-av1" | "libsvtav1" => Some(("crf", (missing * 63.0).floor())),
        "libwebp_anim" | "libwebp" => Some(("quality", 100.0 - 50.0 * missing)),
        _ => None,
    }
}

/// Adds parameters to the encoder's own parameter list. Parameters that the user gave are kept.
pub(crate) fn add_parameters(
    settings: &mut Vec<(String, String)>,
    list: &str,
    parameters: impl Iterator<Item = (&'static str, String)>,
) {
    let at = settings.iter().position(|(key, _)| key == list);
    let mut value = at.map_or_else(String::new, |at| settings.remove(at).1);
    for (key, parameter) in parameters {
        let there = value.split(':').any(|pair| pair.split('=').next() == Some(key));
        if !there {
            value.push_str(&format!("{}{key}={parameter}", if value.is_empty() { "" } else { ":" }));
        }
    }
    if !value.is_empty() {
        settings.push((list.into(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options for every quality, as `key=value`.
    #[test]
    fn qualities() {
        use VideoQuality::{Encoder, Scale, VisuallyLossless};
        let rows = [
            ("libx264", Encoder, "", ""),
            ("libx264", Scale(50), "", "crf=25"),
            ("libx264", Scale(100), "", "crf=0"),
            ("libx265", Scale(0), "", "crf=51"),
            ("libvpx-vp9", Scale(50), "", "crf=31"),
            ("libwebp_anim", Scale(50), "", "quality=75"),
            ("ffv1", Scale(50), "", ""),
            ("libx264", VisuallyLossless, "", "crf=17"),
            ("libx265", VisuallyLossless, "", "crf=17"),
            ("libvpx-vp9", VisuallyLossless, "", "crf=15"),
            ("libsvtav1", VisuallyLossless, "", "crf=15"),
            ("libwebp_anim", VisuallyLossless, "", "quality=95"),
            ("mpeg4", VisuallyLossless, "", "flags=+qscale global_quality=236"),
            ("mpeg4", VisuallyLossless, "b", ""),
            ("prores_ks", VisuallyLossless, "", ""),
        ];
        for (encoder, asked, extra, want) in rows {
            let extra: Vec<_> = (!extra.is_empty()).then(|| (extra.to_owned(), "1M".to_owned())).into_iter().collect();
            let found: Vec<_> = quality(encoder, asked, &extra).iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!(found.join(" "), want, "{encoder} {asked:?}");
        }
    }

    #[test]
    fn parameters_of_the_user_are_kept() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let rows = [
            (vec![], "log-level=error"),
            (vec![pair("x265-params", "no-sao=1")], "no-sao=1:log-level=error"),
            (vec![pair("x265-params", "log-level=full")], "log-level=full"),
        ];
        for (mut settings, want) in rows {
            add_parameters(&mut settings, "x265-params", [("log-level", "error".to_owned())].into_iter());
            assert_eq!(settings, [pair("x265-params", want)]);
        }
    }
}
