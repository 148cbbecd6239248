//! Stream information from the headers of a video file.

use std::path::Path;

use ffmpeg_next::{DictionaryRef, ffi, format::context::Input};

use crate::{
    error::{Error, Result},
    media::video::{
        animation::apng,
        ffmpeg::{self, number, text},
        open::open,
        pixel::{
            color::Color,
            format::{PixelFormat, Subsampling},
        },
        rational::Rational,
        side_data::{SideData, rotation},
    },
};

/// Kinds of streams in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StreamKind {
    Video,
    /// A still picture beside the video, such as cover art.
    Picture,
    Audio,
    Subtitle,
    Data,
    Attachment,
}

/// Which field of an interlaced frame is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldOrder {
    /// The field of the even lines.
    TopFirst,
    /// The field of the odd lines.
    BottomFirst,
}

impl FieldOrder {
    /// From FFmpeg's `AVFieldOrder`: 0 is unknown, 1 progressive; 2 and 5 show the top field first.
    fn of(order: i32) -> Option<Self> {
        match order {
            2 | 5 => Some(Self::TopFirst),
            3 | 4 => Some(Self::BottomFirst),
            _ => None,
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopFirst => "top field first",
            Self::BottomFirst => "bottom field first",
        }
    }
}

/// One stream of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// Index in the container.
    pub index: usize,
    /// Kind of stream.
    pub kind: StreamKind,
    /// FFmpeg's codec name: `aac`.
    pub codec: String,
    /// ISO 639-2 language code, if present.
    pub language: Option<String>,
}

/// A video file and the stream that [`Reader`](super::super::Reader) decodes: the first one that is not cover art.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// FFmpeg's name of the container: `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// FFmpeg's name of the codec: `h264`.
    pub codec: String,
    /// FFmpeg's name of the pixel format: `yuv420p10le`.
    pub pixel_format: String,
    /// Bits per sample. Frames have 16 bits if this exceeds 8.
    pub bit_depth: u8,
    /// Whether the stream has transparency. Frames have it only if requested.
    pub alpha: bool,
    /// Chroma subsampling of the pixel format.
    pub sampling: Subsampling,
    /// Loop count of an animated picture, 0: endless. `None`: a video.
    pub plays: Option<u32>,
    /// Columns as stored, before rotation.
    pub width: usize,
    /// Rows as stored, before rotation.
    pub height: usize,
    /// Frames per second: the nominal rate if frames keep it, else the average.
    pub frame_rate: Rational,
    /// Whether the nominal and the average rate differ by more than 1 %: frame durations vary.
    pub variable_rate: bool,
    /// Number of frames, from the container or estimated from the duration.
    pub frames: Option<u64>,
    /// Duration in seconds.
    pub duration: Option<f64>,
    /// Start of the video, in seconds from the start of the container.
    pub start: f64,
    /// Seconds per tick of [`VideoFrame::pts`](super::frame::VideoFrame::pts).
    pub time_base: Rational,
    /// Rotation by players, in degrees clockwise, 0–359.
    pub rotation: u16,
    /// Width of a sample divided by its height; `0/1`: unknown, treated as square.
    pub sample_aspect_ratio: Rational,
    /// Colour tags as stored.
    pub color: Color,
    /// Order of the fields of interlaced frames, which are not deinterlaced. `None`: progressive or unknown.
    pub field_order: Option<FieldOrder>,
    /// Metadata that is copied unchanged, including the display matrix.
    pub side_data: Vec<SideData>,
    /// Metadata of frames that is not copied, each a phrase.
    pub left_out: Vec<String>,
    /// All streams, including this one.
    pub streams: Vec<StreamInfo>,
    /// Metadata of the container.
    pub metadata: Vec<(String, String)>,
    pub(crate) index: usize,
    /// First time stamp of the container, in microseconds.
    pub(crate) origin: i64,
}

impl VideoInfo {
    /// Describes the frames after turning them by the rotation, a quarter or half turn.
    pub fn turned(&mut self) {
        if self.rotation % 180 == 90 {
            std::mem::swap(&mut self.width, &mut self.height);
            if self.sample_aspect_ratio.is_known() {
                self.sample_aspect_ratio = self.sample_aspect_ratio.inverse();
            }
        }
        self.rotation = 0;
        self.side_data.retain(|data| !data.is_rotation());
    }
}

/// Opens a file and reads its information with FFmpeg.
pub(crate) fn probe(path: &Path) -> Result<VideoInfo> {
    of_input(&open(path)?, path)
}

/// The information of an open container. `path`: for messages.
pub(crate) fn of_input(input: &Input, path: &Path) -> Result<VideoInfo> {
    let streams: Vec<_> = streams(input).iter().map(|s| describe(s)).collect();
    let failed = |why: String| Error::failed(format!("{}: {why}", path.display()));
    // SAFETY: the container lives as long as `input`.
    let (context, container) = unsafe { (&*input.as_ptr(), text((*(*input.as_ptr()).iformat).name)) };
    let index = video_index(&streams).map_err(failed)?;
    // SAFETY: the stream belongs to the container.
    let (stream, parameters) = unsafe {
        let stream = &**context.streams.add(index);
        (stream, &*stream.codecpar)
    };
    let format = pixel_format(parameters, &streams[index].codec).map_err(failed)?;
    let origin = if context.start_time == ffi::AV_NOPTS_VALUE { 0 } else { context.start_time };
    let time_base = Rational::from(stream.time_base);
    let seconds = |ticks: i64| (ticks != ffi::AV_NOPTS_VALUE).then(|| ticks as f64 * time_base.value());
    let whole = (context.duration > 0).then_some(context.duration as f64 * 1e-6);
    let duration = seconds(stream.duration).filter(|d| *d > 0.0).or(whole);
    let of_delays = || (container == "apng").then(|| apng::average_rate(path)).flatten().map(|rate| (rate, true));
    let (frame_rate, variable_rate) = rate(stream, duration.unwrap_or(0.0))
        .or_else(of_delays)
        .ok_or_else(|| failed("the video stream has no frame rate".into()))?;
    let estimate = duration.map(|d| (d * frame_rate.value()).round() as u64);
    let side_data = side_data(stream);
    Ok(VideoInfo {
        container,
        codec: streams[index].codec.clone(),
        pixel_format: format.name(),
        bit_depth: format.bits(),
        alpha: format.has_alpha() || has_alpha_beside(stream),
        sampling: format.sampling(),
        plays: None,
        width: parameters.width as usize,
        height: parameters.height as usize,
        frame_rate,
        variable_rate,
        frames: u64::try_from(stream.nb_frames).ok().filter(|n| *n > 0).or(estimate),
        duration,
        start: seconds(stream.start_time).map_or(0.0, |s| s - origin as f64 * 1e-6),
        time_base,
        rotation: rotation(&side_data),
        // SAFETY: FFmpeg only reads both structures.
        sample_aspect_ratio: unsafe {
            ffi::av_guess_sample_aspect_ratio(
                input.as_ptr().cast_mut(),
                std::ptr::from_ref(stream).cast_mut(),
                std::ptr::null_mut(),
            )
            .into()
        },
        color: Color::of_parameters(parameters),
        // SAFETY: a field of a borrowed structure.
        field_order: FieldOrder::of(unsafe { number(&raw const parameters.field_order) }),
        side_data,
        left_out: Vec::new(),
        streams,
        metadata: pairs(context.metadata),
        index,
        origin,
    })
}

/// The index of the first video stream. Errors: there is none.
fn video_index(streams: &[StreamInfo]) -> Result<usize, String> {
    let index = streams.iter().position(|s| s.kind == StreamKind::Video);
    index.ok_or_else(|| {
        let found: Vec<_> = streams.iter().map(|s| format!("{:?} {}", s.kind, s.codec).to_lowercase()).collect();
        format!("contains no video ({})", if found.is_empty() { "nothing".into() } else { found.join(", ") })
    })
}

/// The pixel format of a video stream. Errors: FFmpeg found no frame in it.
fn pixel_format(parameters: &ffi::AVCodecParameters, codec: &str) -> Result<PixelFormat, String> {
    match PixelFormat::of(parameters.format) {
        Some((_, format)) if parameters.width > 0 && parameters.height > 0 => Ok(format),
        _ => {
            let why = ffmpeg::last_line().unwrap_or_else(|| "no frame could be found".into());
            Err(format!("the video stream ({codec}) is damaged or truncated: {why}"))
        }
    }
}

/// Whether a VP8 or VP9 stream stores transparency in a second stream within its packets, as WebM does.
pub(crate) fn has_alpha_beside(stream: &ffi::AVStream) -> bool {
    // SAFETY: every stream has parameters.
    let codec = unsafe { (*stream.codecpar).codec_id };
    // FFmpeg's Matroska muxer also marks streams whose frames have transparency themselves.
    matches!(codec, ffi::AVCodecID::AV_CODEC_ID_VP8 | ffi::AVCodecID::AV_CODEC_ID_VP9)
        && pairs(stream.metadata).iter().any(|(key, value)| key.eq_ignore_ascii_case("alpha_mode") && value == "1")
}

/// The streams of a container.
pub(crate) fn streams(input: &Input) -> Vec<&ffi::AVStream> {
    // SAFETY: the container's array has that many streams, which live as long as it.
    unsafe {
        let context = &*input.as_ptr();
        (0..context.nb_streams as usize).map(|i| &**context.streams.add(i)).collect()
    }
}

/// Describes a stream.
pub(crate) fn describe(stream: &ffi::AVStream) -> StreamInfo {
    use ffi::AVMediaType::*;
    // SAFETY: every stream has parameters. The codec number is only looked up.
    let (kind, codec) = unsafe {
        let parameters = &*stream.codecpar;
        (parameters.codec_type, text(ffi::avcodec_get_name(parameters.codec_id)))
    };
    let kind = match kind {
        AVMEDIA_TYPE_VIDEO if stream.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0 => StreamKind::Picture,
        AVMEDIA_TYPE_VIDEO => StreamKind::Video,
        AVMEDIA_TYPE_AUDIO => StreamKind::Audio,
        AVMEDIA_TYPE_SUBTITLE => StreamKind::Subtitle,
        AVMEDIA_TYPE_ATTACHMENT => StreamKind::Attachment,
        _ => StreamKind::Data,
    };
    let language = pairs(stream.metadata).into_iter().find(|(k, _)| k == "language").map(|(_, v)| v);
    StreamInfo { index: stream.index as usize, kind, codec, language }
}

/// The entries of a dictionary.
pub(crate) fn pairs(dictionary: *const ffi::AVDictionary) -> Vec<(String, String)> {
    // SAFETY: null, or a dictionary that its structure owns.
    let dictionary = unsafe { DictionaryRef::wrap(dictionary) };
    dictionary.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Returns the frame rate, and whether frame durations vary. The nominal rate is a simple ratio; the average is exact
/// over the whole length. The nominal rate is used if both differ by less than half a frame at the end.
fn rate(stream: &ffi::AVStream, duration: f64) -> Option<(Rational, bool)> {
    let (nominal, average) = (Rational::from(stream.r_frame_rate), Rational::from(stream.avg_frame_rate));
    let (n, a) = (nominal.value(), average.value());
    match (nominal.is_known() && n <= 1000.0, average.is_known()) {
        (true, true) if (n - a).abs() * duration.max(1.0) < 0.5 => Some((nominal, false)),
        (true, true) => Some((average, (a / n - 1.0).abs() > 0.01)),
        (true, false) => Some((nominal, false)),
        (false, true) => Some((average, true)),
        (false, false) => None,
    }
}

fn side_data(stream: &ffi::AVStream) -> Vec<SideData> {
    use ffi::AVPacketSideDataType::*;
    let kept = [
        AV_PKT_DATA_DISPLAYMATRIX,
        AV_PKT_DATA_STEREO3D,
        AV_PKT_DATA_MASTERING_DISPLAY_METADATA,
        AV_PKT_DATA_CONTENT_LIGHT_LEVEL,
        AV_PKT_DATA_SPHERICAL,
    ];
    let read = |kind| {
        let mut size = 0;
        // SAFETY: FFmpeg returns null, or that many bytes that the stream owns.
        unsafe {
            let data = ffi::av_stream_get_side_data(stream, kind, &mut size);
            (!data.is_null()).then(|| SideData { kind, bytes: std::slice::from_raw_parts(data, size).to_vec() })
        }
    };
    kept.into_iter().filter_map(read).collect()
}
