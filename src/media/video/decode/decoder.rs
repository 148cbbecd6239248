//! Opens FFmpeg's decoder for a video stream.

use ffmpeg_next::{Codec, codec, ffi, format::context::Input};

use super::info::{self, VideoInfo};
use crate::media::video::ffmpeg;

const AGAIN: i32 = ffi::AVERROR(libc::EAGAIN);

/// Opens the decoder of the video stream. Errors: FFmpeg has no decoder, or it rejects the stream.
pub(crate) fn open(input: &Input, info: &VideoInfo) -> Result<codec::Context, String> {
    let parameters = info::streams(input)[info.index].codecpar;
    // SAFETY: the parameters belong to a stream of `input`; the decoder copies them.
    unsafe {
        let codec = decoder_of(info::streams(input)[info.index]);
        if codec.is_null() {
            return Err("the linked FFmpeg has no decoder for it".into());
        }
        let opened = |threads| {
            let mut context = codec::Context::new_with_codec(Codec::wrap(codec));
            let pointer = context.as_mut_ptr();
            ffmpeg::check(ffi::avcodec_parameters_to_context(pointer, parameters))?;
            (*pointer).pkt_timebase = info.time_base.into();
            (*pointer).thread_count = threads;
            Ok::<_, String>((ffi::avcodec_open2(pointer, codec, std::ptr::null_mut()), context))
        };
        // 0: one thread per core, unless the system has no thread or no memory for its stack.
        let (code, context) = match opened(0)? {
            (AGAIN, _) => opened(1)?,
            first => first,
        };
        ffmpeg::check(code).map(|_| context)
    }
}

/// The decoder of a stream; null: there is none. FFmpeg's native VP8 and VP9 decoders ignore transparency, so libvpx
/// decodes streams that have it.
fn decoder_of(stream: &ffi::AVStream) -> *const ffi::AVCodec {
    // SAFETY: every stream has parameters. FFmpeg only looks up names and numbers.
    unsafe {
        let id = (*stream.codecpar).codec_id;
        let named = match id {
            ffi::AVCodecID::AV_CODEC_ID_VP8 => c"libvpx",
            _ => c"libvpx-vp9",
        };
        let clear = if info::has_alpha_beside(stream) {
            ffi::avcodec_find_decoder_by_name(named.as_ptr())
        } else {
            std::ptr::null()
        };
        if clear.is_null() { ffi::avcodec_find_decoder(id) } else { clear }
    }
}
