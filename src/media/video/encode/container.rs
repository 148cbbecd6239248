//! Selects the container from the file name, and adds the video stream to it.

use std::path::Path;

use ffmpeg_next::{ffi, format::context};

use super::{encoder::Encoder, spec::VideoSpec};
use crate::{
    error::{Error, Result},
    media::{
        format::FileFormat,
        video::ffmpeg::{self, c_string, check, text, url},
    },
};

/// A container format.
pub(crate) struct Container {
    /// FFmpeg's name.
    pub name: String,
    global_header: bool,
}

impl Container {
    /// What opening an encoder depends on: the name, and whether the container stores codec headers globally.
    pub(crate) fn encoder_requirements(&self) -> (&str, bool) {
        (&self.name, self.global_header)
    }
}

/// Whether FFmpeg writes a video with this file extension.
pub fn is_container(path: &Path) -> bool {
    container(path, false).is_ok()
}

/// Opens a container by file extension. `animated`: write a `.png` as an animated PNG.
pub(crate) fn container(path: &Path, animated: bool) -> Result<(context::Output, Container)> {
    ffmpeg::init();
    let url = url(path)?;
    let format = FileFormat::of_path(path).filter(|format| format.writes_videos() || animated && format.animated);
    let muxer = format.and_then(|format| format.muxer).map(c_string);
    let name = muxer.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
    let mut raw = std::ptr::null_mut();
    // SAFETY: FFmpeg allocates a context, which is owned from here, or leaves null.
    unsafe {
        ffi::avformat_alloc_output_context2(&mut raw, std::ptr::null(), name, url.as_ptr());
        let known = !raw.is_null();
        let target = known.then(|| context::Output::wrap(raw));
        let named = |t: context::Output| {
            let format = &*(*t.as_ptr()).oformat;
            let global_header = format.flags & ffi::AVFMT_GLOBALHEADER != 0;
            (t, Container { name: text(format.name), global_header })
        };
        // Formats that write several files (image sequences) or none cannot be renamed.
        let single = |t: &context::Output| (*(*t.as_ptr()).oformat).flags & ffi::AVFMT_NOFILE == 0;
        target.filter(single).map(named).ok_or_else(|| {
            let what = match FileFormat::of_path(path) {
                Some(format) => format!("this video cannot be written as a {}", format.name),
                None => "no video container has this extension".into(),
            };
            Error::usage(format!("{}: {what}; use .mp4, .mkv or .webm", path.display()))
        })
    }
}

/// Whether a container stores a codec. `None`: FFmpeg does not know.
///
/// # Safety
/// `format` is a muxer of FFmpeg.
pub(super) unsafe fn stores(format: *const ffi::AVOutputFormat, codec: ffi::AVCodecID) -> Option<bool> {
    // SAFETY: guaranteed by the caller; FFmpeg only reads both.
    let (known, name, usual) = unsafe {
        let known = ffi::avformat_query_codec(format, codec, ffi::FF_COMPLIANCE_NORMAL);
        (known, text((*format).name), (*format).video_codec)
    };
    match (known, name.as_str()) {
        (0, _) => Some(false),
        (1, _) => Some(true),
        // FFmpeg writes any codec to a transport stream; players know these.
        (_, "mpegts") if !is_video(codec) => Some(TRANSPORT.contains(&codec)),
        (_, "yuv4mpegpipe") => Some(codec == usual),
        _ => None,
    }
}

/// Sound and subtitles of MPEG transport streams.
const TRANSPORT: [ffi::AVCodecID; 13] = {
    use ffi::AVCodecID::*;
    [
        AV_CODEC_ID_MP1,
        AV_CODEC_ID_MP2,
        AV_CODEC_ID_MP3,
        AV_CODEC_ID_AAC,
        AV_CODEC_ID_AAC_LATM,
        AV_CODEC_ID_AC3,
        AV_CODEC_ID_EAC3,
        AV_CODEC_ID_DTS,
        AV_CODEC_ID_TRUEHD,
        AV_CODEC_ID_OPUS,
        AV_CODEC_ID_DVB_SUBTITLE,
        AV_CODEC_ID_DVB_TELETEXT,
        AV_CODEC_ID_HDMV_PGS_SUBTITLE,
    ]
};

fn is_video(codec: ffi::AVCodecID) -> bool {
    // SAFETY: looks a number up.
    unsafe { ffi::avcodec_get_type(codec) == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO }
}

/// Adds the video as the first stream, with its tags.
pub(crate) fn add_video(
    target: &mut context::Output,
    encoder: &Encoder,
    spec: &VideoSpec,
    container: &str,
) -> Result<()> {
    let failed = |why: String| Error::failed(format!("adding the video to {container}: {why}"));
    // SAFETY: the new stream belongs to the target. FFmpeg copies the parameters, and the side data into its own
    // memory.
    unsafe {
        let context = &*encoder.context.as_ptr();
        let format = (*target.as_ptr()).oformat;
        if stores(format, context.codec_id) == Some(false) {
            let name = &encoder.name;
            return Err(Error::usage(format!("{container} does not support the codec of {name}; use .mkv")));
        }
        let stream = ffi::avformat_new_stream(target.as_mut_ptr(), std::ptr::null());
        let stream = stream.as_mut().ok_or_else(|| failed("out of memory".into()))?;
        check(ffi::avcodec_parameters_from_context(stream.codecpar, context)).map_err(failed)?;
        stream.time_base = context.time_base;
        if spec.is_steady() {
            stream.avg_frame_rate = context.framerate;
        }
        stream.sample_aspect_ratio = context.sample_aspect_ratio;
        for data in &spec.side_data {
            let memory = ffi::av_stream_new_side_data(stream, data.kind, data.bytes.len());
            if memory.is_null() {
                return Err(failed("out of memory".into()));
            }
            std::ptr::copy_nonoverlapping(data.bytes.as_ptr(), memory, data.bytes.len());
        }
    }
    Ok(())
}
