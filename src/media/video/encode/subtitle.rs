//! Converts text subtitles to a codec that the container supports.

use ffmpeg_next::{Codec, Packet, codec, ffi, packet::Mut};

use crate::media::video::{
    ffmpeg::{self, check, text},
    rational::Rational,
};

/// Maximum size of an encoded subtitle in bytes.
const LARGEST: usize = 1 << 16;

/// A decoder and an encoder of text subtitles.
pub(crate) struct Recoder {
    decoder: codec::Context,
    encoder: codec::Context,
    /// Buffer for an encoded subtitle.
    buffer: Vec<u8>,
    /// Seconds per tick of the input packets.
    base: Rational,
    /// FFmpeg's name of the output codec: `mov_text`.
    pub name: String,
}

impl Recoder {
    /// Opens decoder and encoder for a stream and a container. `None`: the stream is not text, or the container
    /// supports no text codec.
    pub(crate) fn new(stream: &ffi::AVStream, container: &str) -> Option<Self> {
        use ffi::AVCodecID::*;
        let target = match container {
            "mp4" | "mov" | "ipod" => AV_CODEC_ID_MOV_TEXT,
            "matroska" => AV_CODEC_ID_SUBRIP,
            "webm" => AV_CODEC_ID_WEBVTT,
            _ => return None,
        };
        // SAFETY: the stream's parameters are copied. `codec::Context` owns and frees both contexts.
        unsafe {
            let parameters = &*stream.codecpar;
            let described = ffi::avcodec_descriptor_get(parameters.codec_id).as_ref()?;
            if described.props & ffi::AV_CODEC_PROP_TEXT_SUB == 0 {
                return None;
            }
            let from = ffi::avcodec_find_decoder(parameters.codec_id).as_ref()?;
            let to = ffi::avcodec_find_encoder(target).as_ref()?;
            let mut decoder = codec::Context::new_with_codec(Codec::wrap(from));
            let raw = &mut *decoder.as_mut_ptr();
            (ffi::avcodec_parameters_to_context(raw, parameters) >= 0).then_some(())?;
            raw.pkt_timebase = stream.time_base;
            (ffi::avcodec_open2(raw, from, std::ptr::null_mut()) >= 0).then_some(())?;
            let mut encoder = codec::Context::new_with_codec(Codec::wrap(to));
            let new = &mut *encoder.as_mut_ptr();
            new.time_base = ffi::AVRational { num: 1, den: 1000 };
            // Encoders take styles from the header that every text decoder writes.
            if !raw.subtitle_header.is_null() {
                let size = raw.subtitle_header_size as usize;
                new.subtitle_header = ffi::av_mallocz(size + 1).cast();
                (!new.subtitle_header.is_null()).then_some(())?;
                std::ptr::copy_nonoverlapping(raw.subtitle_header, new.subtitle_header, size);
                new.subtitle_header_size = raw.subtitle_header_size;
            }
            (ffi::avcodec_open2(new, to, std::ptr::null_mut()) >= 0).then_some(())?;
            let base = stream.time_base.into();
            Some(Self { decoder, encoder, buffer: vec![0; LARGEST], base, name: text(to.name) })
        }
    }

    /// Writes the output codec to a stream's parameters.
    pub(crate) fn describe(&self, parameters: &mut ffi::AVCodecParameters) -> Result<(), String> {
        // SAFETY: FFmpeg copies from an open encoder.
        check(unsafe { ffi::avcodec_parameters_from_context(parameters, self.encoder.as_ptr()) }).map(|_| ())
    }

    /// Converts one packet; the time base does not change. `None`: the packet has no text.
    pub(crate) fn recode(&mut self, packet: &mut Packet) -> Result<Option<Packet>, String> {
        ffmpeg::clear_line();
        // SAFETY: FFmpeg fills the subtitle, and every path frees it. The encoder writes at most the buffer's length.
        let (size, shown) = unsafe {
            let mut subtitle: ffi::AVSubtitle = std::mem::zeroed();
            let mut got = 0;
            check(ffi::avcodec_decode_subtitle2(
                self.decoder.as_mut_ptr(),
                &mut subtitle,
                &mut got,
                packet.as_mut_ptr(),
            ))?;
            let shown = subtitle.end_display_time.saturating_sub(subtitle.start_display_time);
            let size = if got != 0 && subtitle.num_rects > 0 {
                let (buffer, length) = (self.buffer.as_mut_ptr(), self.buffer.len() as i32);
                ffi::avcodec_encode_subtitle(self.encoder.as_mut_ptr(), buffer, length, &subtitle)
            } else {
                0
            };
            ffi::avsubtitle_free(&mut subtitle);
            (check(size)?, shown)
        };
        if size == 0 {
            return Ok(None);
        }
        let mut new = Packet::copy(&self.buffer[..size as usize]);
        new.set_stream(packet.stream());
        new.set_pts(packet.pts());
        new.set_dts(packet.pts());
        let duration = (f64::from(shown) * 1e-3 / self.base.value()).round() as i64;
        new.set_duration(if packet.duration() > 0 { packet.duration() } else { duration });
        Ok(Some(new))
    }
}
