//! Chooses the pixel format to encode in.

use ffmpeg_next::{Codec, ffi};

use super::spec::{VideoOptions, VideoSpec};
use crate::{
    error::{Error, Result},
    media::video::{
        ffmpeg::{c_string, text},
        pixel::format::{PixelFormat, Subsampling},
    },
};

/// Chooses the pixel format. Errors: a format that FFmpeg or the encoder does not know.
pub(crate) fn choose(
    codec: Codec,
    options: &VideoOptions,
    spec: &VideoSpec,
) -> Result<(ffi::AVPixelFormat, PixelFormat)> {
    use ffi::AVPixelFormat::*;
    let offered = offered(codec);
    let named = |format: ffi::AVPixelFormat| PixelFormat::of(format as i32).map(|(_, known)| (format, known));
    // SAFETY: FFmpeg looks the name up.
    let by_name = |name: &str| unsafe { ffi::av_get_pix_fmt(c_string(name).as_ptr()) };
    // libwebp's YCbCr is always BT.601, so it gets RGB and converts it.
    let webp = codec.name().starts_with("libwebp").then(|| "bgra".to_owned());
    let wanted = match options.pix_fmt.as_ref().or(webp.as_ref()) {
        Some(name) => by_name(name),
        None => {
            let names = candidates(spec, if becomes_420(codec, spec) { Subsampling::S420 } else { spec.sampling });
            names.iter().map(|name| by_name(name)).find(|f| *f != AV_PIX_FMT_NONE).unwrap_or(AV_PIX_FMT_YUV420P)
        }
    };
    if wanted != AV_PIX_FMT_NONE && (offered.is_empty() || offered.contains(&wanted)) {
        return named(wanted).ok_or_else(|| Error::usage("the pixel format is unknown"));
    }
    if let Some(name) = &options.pix_fmt {
        return Err(refused(codec, name));
    }
    let terminated: Vec<_> = offered.into_iter().chain([AV_PIX_FMT_NONE]).collect();
    // SAFETY: FFmpeg reads the list to its end.
    let best = unsafe {
        ffi::avcodec_find_best_pix_fmt_of_list(terminated.as_ptr(), wanted, spec.alpha.into(), std::ptr::null_mut())
    };
    let encoder = text(unsafe { (*codec.as_ptr()).name });
    named(best)
        .ok_or_else(|| Error::usage(format!("encoder {encoder} does not accept frames from memory; choose another")))
}

/// Whether the frames of an animated picture become 4:2:0: a lossy encoder that has it writes a video. An odd size has no 4:2:0.
fn becomes_420(codec: Codec, spec: &VideoSpec) -> bool {
    // SAFETY: FFmpeg looks the number up and returns a constant or null.
    let described = unsafe { ffi::avcodec_descriptor_get((*codec.as_ptr()).id).as_ref() };
    let lossy = described.is_some_and(|d| d.props & ffi::AV_CODEC_PROP_LOSSY != 0);
    spec.plays.is_some() && lossy && offered(codec).contains(&ffi::AVPixelFormat::AV_PIX_FMT_YUV420P)
}

/// The pixel formats of an encoder; empty: any.
fn offered(codec: Codec) -> Vec<ffi::AVPixelFormat> {
    // SAFETY: a static list that ends with NONE, or null if the encoder accepts any.
    unsafe {
        let list = (*codec.as_ptr()).pix_fmts;
        let at = |i| (!list.is_null()).then(|| *list.add(i)).filter(|f| *f != ffi::AVPixelFormat::AV_PIX_FMT_NONE);
        (0..).map_while(at).collect()
    }
}

/// Checks that an encoder has the pixel format of the options. Errors: it has not; names those that it has.
pub(crate) fn offers(codec: Codec, options: &VideoOptions) -> Result<()> {
    let Some(name) = &options.pix_fmt else { return Ok(()) };
    // SAFETY: FFmpeg looks the name up.
    let format = unsafe { ffi::av_get_pix_fmt(c_string(name).as_ptr()) };
    let offered = offered(codec);
    if offered.is_empty() || offered.contains(&format) { Ok(()) } else { Err(refused(codec, name)) }
}

fn refused(codec: Codec, name: &str) -> Error {
    let names: Vec<_> =
        offered(codec).iter().filter_map(|f| PixelFormat::of(*f as i32)).map(|(_, known)| known.name()).collect();
    let names = if names.is_empty() { "any that ffmpeg -pix_fmts lists".into() } else { names.join(", ") };
    Error::usage(format!("encoder {} has no pixel format {name}; it has {names}", codec.name()))
}

/// Names of the pixel formats that match a spec, best first. FFmpeg does not have every combination.
fn candidates(spec: &VideoSpec, sampling: Subsampling) -> [String; 2] {
    let alpha = if spec.alpha { "a" } else { "" };
    let odd = spec.width % 2 + spec.height % 2 > 0;
    let layout = match sampling {
        Subsampling::Rgb if spec.alpha => "gbrap".into(),
        Subsampling::Rgb => "gbrp".into(),
        Subsampling::S422 if !odd => format!("yuv{alpha}422p"),
        Subsampling::S420 if !odd => format!("yuv{alpha}420p"),
        _ => format!("yuv{alpha}444p"),
    };
    let depth = match spec.bit_depth {
        ..=8 => "",
        9 | 10 => "10le",
        11 | 12 => "12le",
        13.. => "16le",
    };
    [format!("{layout}{depth}"), format!("{layout}16le")]
}

/// Properties of the frames that a pixel format cannot store. Transparency is reported with the first transparent frame.
pub(crate) fn losses(spec: &VideoSpec, format: &PixelFormat, codec: Codec) -> Vec<String> {
    let (pixels, depth, encoder) = (format.name(), spec.bit_depth, codec.name());
    let mut losses = Vec::new();
    if format.bits() < depth.min(16) {
        let kept = format.bits();
        losses.push(format!("{} of {depth} bits per sample ({encoder} writes {kept}, {pixels})", depth - kept));
    }
    // RGB and 4:4:4 have the same number of samples.
    if format.sampling() < spec.sampling.min(Subsampling::S444) {
        let full = offered(codec).contains(&ffi::AVPixelFormat::AV_PIX_FMT_YUV444P);
        let chosen = full && becomes_420(codec, spec);
        let advice = if chosen { ", which every player shows; --pix-fmt yuv444p keeps it" } else { "" };
        losses.push(format!("some of the colour resolution ({encoder} writes {pixels}{advice})"));
    }
    losses
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::media::video::{encode::encoder::find, rational::Rational};

    /// Frames, encoder, and the chosen pixel format with its losses.
    #[test]
    fn the_nearest_pixel_format_is_chosen() {
        use Subsampling::{Rgb, S420, S422, S444};
        let rows = [
            ("libx264", S420, 8, false, (64, 64), "yuv420p", 0),
            ("libx264", S422, 8, false, (64, 64), "yuv422p", 0),
            ("libx264", S444, 8, false, (64, 64), "yuv444p", 0),
            ("libx264", S420, 8, false, (63, 64), "yuv444p", 0),
            ("libx264", S422, 10, false, (64, 63), "yuv444p10le", 0),
            ("libx264", S444, 10, false, (64, 64), "yuv444p10le", 0),
            ("libx264", S420, 12, false, (64, 64), "yuv420p10le", 1),
            ("libx264", Rgb, 8, false, (64, 64), "yuv444p", 0),
            ("libx264rgb", Rgb, 8, false, (64, 64), "bgr24", 0),
            ("libvpx-vp9", S420, 8, true, (64, 64), "yuva420p", 0),
            ("libvpx-vp9", S444, 12, false, (64, 64), "yuv444p12le", 0),
            ("libx265", S422, 12, false, (64, 64), "yuv422p12le", 0),
            ("ffv1", Rgb, 16, true, (64, 64), "gbrap16le", 0),
            ("prores_ks", S420, 8, true, (64, 64), "yuva444p10le", 0),
            ("mpeg4", S444, 8, false, (64, 64), "yuv420p", 1),
            ("libwebp_anim", S420, 8, true, (64, 64), "bgra", 0),
        ];
        let mut wrong = Vec::new();
        for (encoder, subsampling, bit_depth, alpha, (width, height), want, lost) in rows {
            let new = VideoSpec::new(width, height, Rational::new(25, 1));
            let spec = VideoSpec { sampling: subsampling, bit_depth, alpha, ..new };
            let codec = find(encoder).unwrap();
            let (_, found) = choose(codec, &VideoOptions::default(), &spec).unwrap();
            let losses = losses(&spec, &found, codec);
            if found.name() != want || losses.len() != lost {
                wrong.push(format!(
                    "{encoder} {subsampling:?} {bit_depth} {alpha} {width}x{height}: {} {losses:?}",
                    found.name()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Encoder of a GIF's frames, with transparency and odd sizes, and the chosen pixel format; what the warning says.
    #[test]
    fn animated_pictures_become_420_in_lossy_videos() {
        let (even, odd) = ((64, 64), (63, 64));
        let rows = [
            ("libx264", false, even, "yuv420p", "every player shows; --pix-fmt yuv444p"),
            ("libx264", true, even, "yuv420p", "--pix-fmt yuv444p"),
            ("libx264", false, odd, "yuv444p", ""),
            ("libx265", false, even, "yuv420p", "--pix-fmt yuv444p"),
            ("libvpx-vp9", true, even, "yuva420p", "--pix-fmt yuv444p"),
            ("mpeg4", false, even, "yuv420p", "(mpeg4 writes yuv420p)"),
            ("libx264rgb", false, even, "bgr24", ""),
            ("prores_ks", true, even, "yuva444p10le", ""),
            ("ffv1", true, even, "bgra", ""),
            ("png", false, even, "rgb24", ""),
            ("apng", true, even, "rgba", ""),
            ("libwebp_anim", true, even, "bgra", ""),
        ];
        let mut wrong = Vec::new();
        for (encoder, alpha, (width, height), want, says) in rows {
            let new = VideoSpec::new(width, height, Rational::new(10, 1));
            let spec = VideoSpec { sampling: Subsampling::Rgb, alpha, plays: Some(0), ..new };
            let codec = find(encoder).unwrap();
            let (_, found) = choose(codec, &VideoOptions::default(), &spec).unwrap();
            let losses = losses(&spec, &found, codec).join("; ");
            if found.name() != want || losses.is_empty() != says.is_empty() || !losses.contains(says) {
                wrong.push(format!("{encoder} {alpha} {width}x{height}: {} {losses:?}", found.name()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
