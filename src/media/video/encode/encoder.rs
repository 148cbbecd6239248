//! Finds and opens the encoder.

use std::ffi::c_int;

use ffmpeg_next::{Codec, codec, ffi};

use super::{
    codec_options::{add_parameters, codec_options},
    pixel_choice::{choose, losses},
    spec::{VideoOptions, VideoSpec},
};
use crate::{
    error::{Error, Result},
    media::{
        format::FileFormat,
        video::{
            ffmpeg::{self, c_string, check, video_encoders},
            pixel::color::{Color, ColorRange},
        },
    },
};

/// An open encoder. `unused`: options that it does not know.
pub(crate) struct Encoder {
    pub context: codec::Context,
    pub name: String,
    pub format: ffi::AVPixelFormat,
    pub color: Color,
    /// Colour tags of the stream.
    pub tags: Color,
    pub is_rgb: bool,
    pub alpha: bool,
    /// Properties of the frames that the pixel format cannot store, each a phrase.
    pub left_out: Vec<String>,
    pub unused: Vec<(String, String)>,
}

/// Finds an encoder by its name, then by its codec's name. Errors: unknown; names similar ones.
pub(crate) fn find(name: &str) -> Result<Codec> {
    ffmpeg::init();
    let c_name = c_string(name);
    // SAFETY: FFmpeg looks the names up and returns static codecs or null.
    let found = unsafe {
        let by_name = ffi::avcodec_find_encoder_by_name(c_name.as_ptr());
        let codec = ffi::avcodec_descriptor_get_by_name(c_name.as_ptr());
        let found =
            if by_name.is_null() && !codec.is_null() { ffi::avcodec_find_encoder((*codec).id) } else { by_name };
        let is_video = !found.is_null() && (*found).type_ == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        is_video.then(|| Codec::wrap(found))
    };
    found.ok_or_else(|| {
        let near = match similar(name).as_slice() {
            [] => String::new(),
            [only] => format!("did you mean {only}? "),
            [first @ .., last] => format!("did you mean {} or {last}? ", first.join(", ")),
        };
        Error::usage(format!(
            "the linked FFmpeg has no video encoder {name}; {near}crescendo doctor --codecs lists all"
        ))
    })
}

/// At most four names of encoders and common codecs that are like `name`, best first.
fn similar(name: &str) -> Vec<String> {
    const CODECS: [&str; 4] = ["h264", "hevc", "av1", "vp9"];
    let all = video_encoders().into_iter().chain(CODECS.map(str::to_owned));
    let name = name.to_ascii_lowercase();
    let mut near: Vec<_> =
        all.map(|known| (strsim::jaro_winkler(&name, &known), known)).filter(|n| n.0 > 0.8).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.into_iter().take(4).map(|(_, known)| known).collect()
}

/// The default encoder of a container, by FFmpeg's name.
fn default_codec(container: &str, alpha: bool) -> &'static str {
    let (opaque, clear) = FileFormat::of_muxer(container).map_or(("h264", "h264"), |format| format.encoders);
    if alpha { clear } else { opaque }
}

/// Opens the encoder for a spec in a container, by FFmpeg's name.
pub(crate) fn open(options: &VideoOptions, spec: &VideoSpec, container: &str, global_header: bool) -> Result<Encoder> {
    let codec = find(options.codec.as_deref().unwrap_or_else(|| default_codec(container, spec.alpha)))?;
    let name = codec.name().to_owned();
    if spec.width * spec.height == 0
        || spec.width.max(spec.height) > 65535
        || !spec.frame_rate.is_known()
        || !spec.time_base.is_known()
    {
        let (w, h, rate) = (spec.width, spec.height, spec.frame_rate);
        return Err(Error::usage(format!("a video of {w}x{h} at {rate} frames per second cannot be written")));
    }
    let (format, known) = choose(codec, options, spec)?;
    let mut color = spec.color.resolved(spec.width, spec.height);
    if !color.has_known_matrix() {
        return Err(Error::usage(format!(
            "frames cannot be encoded with matrix coefficients {} of H.273",
            color.matrix
        )));
    }
    if known.name().starts_with("yuvj") {
        color.range = ColorRange::Full;
    }
    // RGB formats have the identity matrix and full range.
    let tags = if known.is_rgb() { Color { matrix: 0, range: ColorRange::Full, ..color } } else { color };
    let mut context = codec::Context::new_with_codec(codec);
    let rate = spec.frame_rate;
    // SAFETY: the context is owned and not yet open.
    unsafe {
        let raw = &mut *context.as_mut_ptr();
        (raw.width, raw.height, raw.pix_fmt) = (spec.width as i32, spec.height as i32, format);
        (raw.time_base, raw.framerate) = (spec.time_base.into(), rate.into());
        raw.sample_aspect_ratio = spec.sample_aspect_ratio.into();
        raw.thread_count = 0;
        if global_header {
            raw.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
        }
        tags.tag(raw);
        if container == "avi" {
            // AVI stores no display times: reordered frames would be shown late, behind the sound. `-e bf=N` overrides it.
            raw.max_b_frames = 0;
        }
    }
    let settings = all_options(codec, options, spec)?;
    let dictionary: ffmpeg_next::Dictionary = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    ffmpeg::clear_line();
    // SAFETY: FFmpeg removes the options it knows from the dictionary, which is owned again afterwards.
    let (code, unused) = unsafe {
        let mut left = dictionary.disown();
        let code = ffi::avcodec_open2(context.as_mut_ptr(), codec.as_ptr(), &mut left);
        (code, ffmpeg_next::Dictionary::own(left))
    };
    let (w, h, pixels) = (spec.width, spec.height, known.name());
    check(code).map_err(|why| {
        let advice = memory_advice(code);
        Error::failed(format!(
            "encoder {name} cannot write {w}x{h} at {rate} frames per second in {pixels} ({why}){advice}"
        ))
    })?;
    let unused = unused.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let left_out = if options.pix_fmt.is_some() { Vec::new() } else { losses(spec, &known, codec) };
    let (alpha, is_rgb) = (known.has_alpha(), known.is_rgb());
    Ok(Encoder { context, name, format, color, tags, is_rgb, alpha, left_out, unused })
}

/// What to do about an error code of an encoder. Encoders do not say that memory was missing.
pub(super) fn memory_advice(code: c_int) -> &'static str {
    let memory = [ffi::AVERROR_EXTERNAL, ffi::AVERROR(libc::ENOMEM)].contains(&code);
    if memory { "; it may need more memory: use a smaller size" } else { "" }
}

/// The options of the user and those that work around defects of encoders.
fn all_options(codec: Codec, options: &VideoOptions, spec: &VideoSpec) -> Result<Vec<(String, String)>> {
    let mut settings = codec_options(codec, options, &spec.side_data)?;
    if !spec.is_steady() && codec.name() == "libx265" {
        // x265 would use the time base as the frame rate.
        add_parameters(
            &mut settings,
            "x265-params",
            [("fps", format!("{}/{}", spec.frame_rate.num, spec.frame_rate.den))].into_iter(),
        );
    }
    if codec.name() == "libx264" && !spec.width.div_ceil(16).is_multiple_of(8) && has_avx512() {
        add_parameters(&mut settings, "x264-params", [("asm", WITHOUT_AVX512.to_owned())].into_iter());
    }
    Ok(settings)
}

/// All instruction sets below AVX-512. With AVX-512, the macroblock tree of x264 164 reads uninitialised memory if a
/// row's number of macroblocks is not a multiple of 8, so the same frames give a different file each time.
const WITHOUT_AVX512: &str = "MMX2,SSE2Fast,SSSE3,SSE4.2,LZCNT,AVX,BMI2,FMA3,AVX2";

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}
