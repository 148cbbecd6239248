//! What to encode a video with: the request, and the encoder opened for it.

use std::path::PathBuf;

use ffmpeg_next::{Codec, codec, ffi};

use super::{
    Rational, TimeRange,
    color::{Color, Range},
    ffmpeg::{self, c_string, check, text, video_encoders},
    hdr,
    info::{SideData, VideoInfo},
    scale::{PixelFormat, Sampling},
};
use crate::{
    error::{Error, Result},
    media::format::FileFormat,
};

/// How a video is encoded: what the command line says.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// Any video encoder the linked FFmpeg has (`libx265`), or a codec's name for its first encoder (`h264`: libx264).
    /// `None`: VP9 in WebM, ProRes 4444 for transparency in MOV, an animated picture's own, else H.264.
    pub codec: Option<String>,
    /// Constant rate factor, smaller is better; `None`: by `quality`.
    pub crf: Option<f64>,
    /// 0 to 100 (best), for encoders that we know the scale of (x264, x265, VP9, AV1, WebP); `None`: the encoder's own
    /// default (libx264: 23).
    pub quality: Option<u8>,
    /// The encoder's preset: `medium`.
    pub preset: Option<String>,
    /// FFmpeg's pixel format; `None`: the encoder's nearest to the output's sampling, depth and transparency, 4:4:4 for an
    /// odd width or height.
    pub pix_fmt: Option<String>,
    /// More options of the encoder or the container, as on ffmpeg's command line.
    pub extra: Vec<(String, String)>,
    /// Whether a file of the same name may be replaced.
    pub overwrite: bool,
    /// Whether the finished file is decoded before it gets its name: frames, size, and the samples of lossless encoders.
    pub verify: bool,
}

impl Default for VideoOptions {
    /// H.264 with the encoder's defaults, nothing replaced.
    fn default() -> Self {
        Self {
            codec: None,
            crf: None,
            quality: None,
            preset: None,
            pix_fmt: None,
            extra: Vec::new(),
            overwrite: false,
            verify: false,
        }
    }
}

/// The video to write: what the frames are, and what is said about them.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSpec {
    /// Columns of every frame.
    pub width: usize,
    /// Rows of every frame.
    pub height: usize,
    /// Frames a second; frames follow one another at this rate where nothing else is said.
    pub frame_rate: Rational,
    /// Seconds a tick of the time stamps that [`Writer::write_at`](super::Writer::write_at) takes; the rate's reciprocal where
    /// frames keep the rate.
    pub time_base: Rational,
    /// Bits a sample to encode where the encoder can, from 8 on.
    pub bit_depth: u8,
    /// How much of colour to keep where the encoder can.
    pub sampling: Sampling,
    /// Whether frames may have transparency, to be kept where the encoder can.
    pub alpha: bool,
    /// How often an animated picture plays, 0 for endlessly; `None`: it was made from a video.
    pub plays: Option<u32>,
    /// When the first frame is shown, in seconds from the beginning of the container.
    pub start: f64,
    /// Colour tags; what is unspecified and needed is filled in ([`Color::resolved`]).
    pub color: Color,
    /// Width of a sample to its height; `0/1`: not said.
    pub sample_aspect_ratio: Rational,
    /// Passed on as it is: the display matrix (rotation) among it.
    pub side_data: Vec<SideData>,
    /// What is known not to be passed on, each a phrase, for [`Summary::left_out`](super::Summary::left_out).
    pub left_out: Vec<String>,
    /// Metadata of the container, besides and before that of `source`.
    pub metadata: Vec<(String, String)>,
    /// The file whose sound, subtitles, attachments, chapters and metadata are copied, none of it re-encoded.
    pub source: Option<PathBuf>,
    /// The part of `source` that is wanted; `None`: all of it.
    pub time_range: Option<TimeRange>,
}

impl VideoSpec {
    /// A generated video: BT.709, 8 bits, nothing else.
    pub fn new(width: usize, height: usize, frame_rate: Rational) -> Self {
        Self {
            width,
            height,
            frame_rate,
            time_base: frame_rate.inverse(),
            bit_depth: 8,
            sampling: Sampling::S420,
            alpha: false,
            plays: None,
            start: 0.0,
            color: Color::BT709,
            sample_aspect_ratio: Rational::new(0, 1),
            side_data: Vec::new(),
            left_out: Vec::new(),
            metadata: Vec::new(),
            source: None,
            time_range: None,
        }
    }

    /// A video that is made from another and keeps what can be kept. The source's colours are resolved by its own size,
    /// as [`Reader`](super::Reader) reads them. `source`: where sound and the rest come from.
    pub fn like(info: &VideoInfo, size: (usize, usize), frame_rate: Rational, source: Option<PathBuf>) -> Self {
        let color = info.color.resolved(info.width, info.height);
        // The full range of RGB says nothing about that of YCbCr.
        let range = if info.sampling == Sampling::Rgb { Range::Limited } else { color.range };
        Self {
            bit_depth: info.bit_depth,
            // An animated picture becomes the video that every player plays.
            sampling: if info.plays.is_some() { Sampling::S420 } else { info.sampling },
            alpha: info.alpha,
            plays: info.plays,
            start: info.start,
            color: Color { range, ..color },
            sample_aspect_ratio: info.sample_aspect_ratio,
            side_data: info.side_data.clone(),
            left_out: info.left_out.clone(),
            // An animated WebP has nothing beside its frames, and FFmpeg does not read it.
            source: source.filter(|_| info.container != "webp"),
            ..Self::new(size.0, size.1, frame_rate)
        }
    }

    /// Whether a tick is the length of a frame.
    pub(super) fn is_steady(&self) -> bool {
        let (a, b) = (self.time_base, self.frame_rate);
        i64::from(a.num) * i64::from(b.num) == i64::from(a.den) * i64::from(b.den)
    }
}

/// An opened encoder. `unused`: the options that it does not know.
pub(super) struct Encoder {
    pub context: codec::Context,
    pub name: String,
    pub format: ffi::AVPixelFormat,
    pub color: Color,
    /// What the encoder was told.
    pub tags: Color,
    pub is_rgb: bool,
    pub alpha: bool,
    /// What of the output's form the pixel format does not hold, each a phrase.
    pub left_out: Vec<String>,
    pub unused: Vec<(String, String)>,
}

/// Finds an encoder by its own name, then by its codec's. Error: lists those there are.
pub(super) fn find(name: &str) -> Result<Codec> {
    ffmpeg::init();
    let c_name = c_string(name);
    // SAFETY: FFmpeg looks the names up and returns constants or null.
    let found = unsafe {
        let by_name = ffi::avcodec_find_encoder_by_name(c_name.as_ptr());
        let codec = ffi::avcodec_descriptor_get_by_name(c_name.as_ptr());
        let found =
            if by_name.is_null() && !codec.is_null() { ffi::avcodec_find_encoder((*codec).id) } else { by_name };
        let is_video = !found.is_null() && (*found).type_ == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        is_video.then(|| Codec::wrap(found))
    };
    found.ok_or_else(|| {
        Error::usage(format!("the linked FFmpeg has no video encoder {name}; it has {}", video_encoders().join(", ")))
    })
}

/// The default encoder of a container of FFmpeg's name.
fn default_codec(container: &str, alpha: bool) -> &'static str {
    let (opaque, clear) = FileFormat::of_muxer(container).map_or(("h264", "h264"), |format| format.encoders);
    if alpha { clear } else { opaque }
}

/// Opens the encoder for an output in a container of FFmpeg's name.
pub(super) fn open(
    options: &VideoOptions,
    output: &VideoSpec,
    container: &str,
    global_header: bool,
) -> Result<Encoder> {
    let codec = find(options.codec.as_deref().unwrap_or_else(|| default_codec(container, output.alpha)))?;
    let name = codec.name().to_owned();
    if output.width * output.height == 0
        || output.width.max(output.height) > 65535
        || !output.frame_rate.is_known()
        || !output.time_base.is_known()
    {
        let (w, h, rate) = (output.width, output.height, output.frame_rate);
        return Err(Error::usage(format!("a video of {w}x{h} at {rate} frames a second cannot be written")));
    }
    let (format, known) = pixel_format(codec, options, output)?;
    let mut color = output.color.resolved(output.width, output.height);
    if !color.has_known_matrix() {
        return Err(Error::usage(format!(
            "frames cannot be encoded with matrix coefficients {} of H.273",
            color.matrix
        )));
    }
    if known.name().starts_with("yuvj") {
        color.range = Range::Full;
    }
    // The matrix of RGB formats is the identity, their range full.
    let tags = if known.is_rgb() { Color { matrix: 0, range: Range::Full, ..color } } else { color };
    let mut context = codec::Context::new_with_codec(codec);
    let rate = output.frame_rate;
    // SAFETY: the context is owned and not yet open.
    unsafe {
        let raw = &mut *context.as_mut_ptr();
        (raw.width, raw.height, raw.pix_fmt) = (output.width as i32, output.height as i32, format);
        (raw.time_base, raw.framerate) = (output.time_base.into(), rate.into());
        raw.sample_aspect_ratio = output.sample_aspect_ratio.into();
        raw.thread_count = 0;
        if global_header {
            raw.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
        }
        tags.tag(raw);
    }
    let mut wanted = settings(codec, options, &output.side_data)?;
    if !output.is_steady() && name == "libx265" {
        // It would take the time base for the rate.
        own_words(&mut wanted, "x265-params", [("fps", format!("{}/{}", rate.num, rate.den))].into_iter());
    }
    if name == "libx264" && !output.width.div_ceil(16).is_multiple_of(8) && has_avx512() {
        own_words(&mut wanted, "x264-params", [("asm", WITHOUT_AVX512.to_owned())].into_iter());
    }
    let dictionary: ffmpeg_next::Dictionary = wanted.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    ffmpeg::clear_line();
    // SAFETY: FFmpeg takes the options it knows out of the dictionary, which is owned again afterwards.
    let (code, unused) = unsafe {
        let mut left = dictionary.disown();
        let code = ffi::avcodec_open2(context.as_mut_ptr(), codec.as_ptr(), &mut left);
        (code, ffmpeg_next::Dictionary::own(left))
    };
    let (w, h, pixels) = (output.width, output.height, known.name());
    check(code).map_err(|why| {
        Error::failed(format!("encoder {name} cannot write {w}x{h} at {rate} frames a second in {pixels} ({why})"))
    })?;
    let unused = unused.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let left_out = if options.pix_fmt.is_some() { Vec::new() } else { losses(output, &known, &name) };
    let (alpha, is_rgb) = (known.has_alpha(), known.is_rgb());
    Ok(Encoder { context, name, format, color, tags, is_rgb, alpha, left_out, unused })
}

/// Everything in x264 that a machine with AVX-512 has below it. With AVX-512, x264 164's macroblock tree reads memory that nobody
/// wrote where a row's macroblocks are no multiple of 8, so that the same frames give another file each time.
const WITHOUT_AVX512: &str = "MMX2,SSE2Fast,SSSE3,SSE4.2,LZCNT,AVX,BMI2,FMA3,AVX2";

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// The encoder's options. Error: a rate factor or preset for an encoder without.
fn settings(codec: Codec, options: &VideoOptions, side_data: &[SideData]) -> Result<Vec<(String, String)>> {
    let named = [("crf", options.crf.map(|v| v.to_string())), ("preset", options.preset.clone())];
    let mut settings = Vec::new();
    if let Some((name, value)) = options.quality.filter(|_| options.crf.is_none()).and_then(|q| rate(codec.name(), q)) {
        settings.push((name.to_owned(), value.to_string()));
    }
    for (name, value) in named {
        let Some(value) = value else { continue };
        // SAFETY: a pointer to the codec's class stands for an object of it in this search.
        let known = unsafe {
            let class = &raw const (*codec.as_ptr()).priv_class;
            let flags = ffi::AV_OPT_SEARCH_FAKE_OBJ;
            let c_name = c_string(name);
            !(*class).is_null()
                && !ffi::av_opt_find(class.cast_mut().cast(), c_name.as_ptr(), std::ptr::null(), 0, flags).is_null()
        };
        if !known {
            let encoder = codec.name();
            return Err(Error::usage(format!(
                "encoder {encoder} has no {name}; give its own options with -e KEY=VALUE"
            )));
        }
        settings.push((name.to_owned(), value));
    }
    for (key, value) in &options.extra {
        if key.contains('\0') || value.contains('\0') {
            return Err(Error::usage("-e KEY=VALUE holds a zero byte"));
        }
        settings.push((key.clone(), value.clone()));
    }
    match codec.name() {
        "libx265" => {
            // x265 writes to standard error by itself, past FFmpeg's log.
            let quiet = ("log-level", "error".to_owned());
            own_words(&mut settings, "x265-params", hdr::encoder_words(side_data).into_iter().chain([quiet]));
        }
        "libx264" => {
            let words = hdr::encoder_words(side_data).into_iter();
            let renamed = words.map(|(key, v)| (if key == "max-cll" { "cll" } else { "mastering-display" }, v));
            own_words(&mut settings, "x264-params", renamed);
        }
        _ => {}
    }
    Ok(settings)
}

/// An encoder's own measure of a quality of 0 to 100. Rate factors run from 0, lossless, to 51 or 63; WebP's own quality has
/// twice as fine a scale, so that the middle is its default.
fn rate(encoder: &str, quality: u8) -> Option<(&'static str, f32)> {
    let missing = 1.0 - f32::from(quality.min(100)) / 100.0;
    match encoder {
        "libx264" | "libx264rgb" | "libx265" => Some(("crf", (missing * 51.0).floor())),
        "libvpx-vp9" | "libaom-av1" | "libsvtav1" => Some(("crf", (missing * 63.0).floor())),
        "libwebp_anim" | "libwebp" => Some(("quality", 100.0 - 50.0 * missing)),
        _ => None,
    }
}

/// Adds words to the encoder's own list of parameters, but none that is there: the person's come first.
fn own_words(settings: &mut Vec<(String, String)>, list: &str, words: impl Iterator<Item = (&'static str, String)>) {
    let at = settings.iter().position(|(key, _)| key == list);
    let mut value = at.map_or_else(String::new, |at| settings.remove(at).1);
    for (key, word) in words {
        let there = value.split(':').any(|pair| pair.split('=').next() == Some(key));
        if !there {
            value.push_str(&format!("{}{key}={word}", if value.is_empty() { "" } else { ":" }));
        }
    }
    if !value.is_empty() {
        settings.push((list.into(), value));
    }
}

/// The pixel format to encode in. Error: one that FFmpeg or the encoder does not know.
fn pixel_format(codec: Codec, options: &VideoOptions, output: &VideoSpec) -> Result<(ffi::AVPixelFormat, PixelFormat)> {
    use ffi::AVPixelFormat::*;
    // SAFETY: a constant list that ends with NONE, or null for any.
    let offered: Vec<ffi::AVPixelFormat> = unsafe {
        let list = (*codec.as_ptr()).pix_fmts;
        let at = |i| (!list.is_null()).then(|| *list.add(i)).filter(|f| *f != AV_PIX_FMT_NONE);
        (0..).map_while(at).collect()
    };
    let named = |format: ffi::AVPixelFormat| PixelFormat::of(format as i32).map(|(_, known)| (format, known));
    // SAFETY: FFmpeg looks the name up.
    let by_name = |name: &str| unsafe { ffi::av_get_pix_fmt(c_string(name).as_ptr()) };
    // libwebp's YCbCr is always BT.601: it shall make its own.
    let webp = codec.name().starts_with("libwebp").then(|| "bgra".to_owned());
    let wanted = match options.pix_fmt.as_ref().or(webp.as_ref()) {
        Some(name) => by_name(name),
        None => {
            let names = wanted(output);
            names.iter().map(|name| by_name(name)).find(|f| *f != AV_PIX_FMT_NONE).unwrap_or(AV_PIX_FMT_YUV420P)
        }
    };
    if wanted != AV_PIX_FMT_NONE && (offered.is_empty() || offered.contains(&wanted)) {
        return named(wanted).ok_or_else(|| Error::usage("the pixel format is unknown"));
    }
    if let Some(name) = &options.pix_fmt {
        let names: Vec<_> = offered.iter().filter_map(|f| named(*f)).map(|(_, known)| known.name()).collect();
        let names = if names.is_empty() { "any that ffmpeg -pix_fmts lists".into() } else { names.join(", ") };
        return Err(Error::usage(format!("encoder {} has no pixel format {name}; it has {names}", codec.name())));
    }
    let terminated: Vec<_> = offered.into_iter().chain([AV_PIX_FMT_NONE]).collect();
    // SAFETY: FFmpeg reads the list to its end.
    let best = unsafe {
        ffi::avcodec_find_best_pix_fmt_of_list(terminated.as_ptr(), wanted, output.alpha.into(), std::ptr::null_mut())
    };
    let encoder = text(unsafe { (*codec.as_ptr()).name });
    named(best).ok_or_else(|| Error::usage(format!("encoder {encoder} takes no pixels from memory; choose another")))
}

/// Names of the pixel format that holds an output, the best first: FFmpeg does not have every combination.
fn wanted(output: &VideoSpec) -> [String; 2] {
    let alpha = if output.alpha { "a" } else { "" };
    let odd = output.width % 2 + output.height % 2 > 0;
    let layout = match output.sampling {
        Sampling::Rgb if output.alpha => "gbrap".into(),
        Sampling::Rgb => "gbrp".into(),
        Sampling::S422 if !odd => format!("yuv{alpha}422p"),
        Sampling::S420 if !odd => format!("yuv{alpha}420p"),
        _ => format!("yuv{alpha}444p"),
    };
    let depth = match output.bit_depth {
        ..=8 => "",
        9 | 10 => "10le",
        11 | 12 => "12le",
        13.. => "16le",
    };
    [format!("{layout}{depth}"), format!("{layout}16le")]
}

/// What of an output's form a pixel format does not hold. Transparency is told when some is seen.
fn losses(output: &VideoSpec, format: &PixelFormat, encoder: &str) -> Vec<String> {
    let (pixels, depth) = (format.name(), output.bit_depth);
    let mut losses = Vec::new();
    if format.bits() < depth.min(16) {
        let kept = format.bits();
        losses.push(format!("{} of {depth} bits a sample ({encoder} writes {kept}, {pixels})", depth - kept));
    }
    // RGB and 4:4:4 have as many samples.
    if format.sampling() < output.sampling.min(Sampling::S444) {
        losses.push(format!("some of the colour resolution ({encoder} writes {pixels})"));
    }
    losses
}
