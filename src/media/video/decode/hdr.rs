//! Reads metadata that codecs store in frames: HDR10 static metadata, which is copied, and other kinds, which are
//! reported.

use ffmpeg_next::{Codec, Packet, codec, ffi, format::context::Input, frame, packet::Mut};

use super::info::{self, FieldOrder};
use crate::media::video::side_data::SideData;

/// Maximum number of packets read to find the first frame.
const MAX_PACKETS: usize = 256;

/// What the first frame says about a stream.
#[derive(Default)]
pub(crate) struct FrameFacts {
    /// Mastering display and content light level.
    pub side_data: Vec<SideData>,
    /// Names of metadata that is not copied.
    pub left_out: Vec<String>,
    /// `None`: the frame is progressive.
    pub field_order: Option<FieldOrder>,
}

/// Decodes the first frame of a stream. A stream that does not decode returns nothing; its reader reports the error.
pub(crate) fn of_first_frame(input: &mut Input, index: usize) -> FrameFacts {
    let Some(frame) = first_frame(input, index) else { return FrameFacts::default() };
    use ffi::{AVFrameSideDataType::*, AVPacketSideDataType::*};
    let found = |kind| {
        // SAFETY: FFmpeg returns null or an entry that the frame owns.
        unsafe {
            let entry = ffi::av_frame_get_side_data(frame.as_ptr(), kind).as_ref()?;
            Some(std::slice::from_raw_parts(entry.data, entry.size).to_vec())
        }
    };
    // Frames and streams use the same structures.
    let kept = [
        (AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, AV_PKT_DATA_MASTERING_DISPLAY_METADATA),
        (AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, AV_PKT_DATA_CONTENT_LIGHT_LEVEL),
    ];
    let named = [
        (AV_FRAME_DATA_DYNAMIC_HDR_PLUS, "HDR10+ metadata of each frame"),
        (AV_FRAME_DATA_DYNAMIC_HDR_VIVID, "HDR Vivid metadata of each frame"),
        (AV_FRAME_DATA_DOVI_METADATA, "Dolby Vision metadata of each frame"),
        (AV_FRAME_DATA_A53_CC, "closed captions within the frames"),
        (AV_FRAME_DATA_ICC_PROFILE, "the colour profile"),
    ];
    let side_data = kept.into_iter().filter_map(|(f, kind)| Some(SideData { kind, bytes: found(f)? })).collect();
    let left_out = named.into_iter().filter(|(kind, _)| found(*kind).is_some()).map(|(_, name)| name.into()).collect();
    // SAFETY: a frame that the decoder has filled.
    let raw = unsafe { &*frame.as_ptr() };
    let first = if raw.top_field_first != 0 { FieldOrder::TopFirst } else { FieldOrder::BottomFirst };
    FrameFacts { side_data, left_out, field_order: (raw.interlaced_frame != 0).then_some(first) }
}

fn first_frame(input: &mut Input, index: usize) -> Option<frame::Video> {
    let parameters = info::streams(input).get(index)?.codecpar;
    let mut frame = frame::Video::empty();
    // SAFETY: the stream belongs to `input`. Decoder, packets and frame are owned here.
    unsafe {
        let decoder = ffi::avcodec_find_decoder((*parameters).codec_id).as_ref()?;
        let mut context = codec::Context::new_with_codec(Codec::wrap(decoder));
        let raw = context.as_mut_ptr();
        let ready = ffi::avcodec_parameters_to_context(raw, parameters) >= 0
            && ffi::avcodec_open2(raw, decoder, std::ptr::null_mut()) >= 0;
        for _ in 0..if ready { MAX_PACKETS } else { 0 } {
            let mut packet = Packet::empty();
            let ended = ffi::av_read_frame(input.as_mut_ptr(), packet.as_mut_ptr()) < 0;
            if !ended && packet.stream() != index {
                continue;
            }
            let next = if ended { std::ptr::null() } else { packet.as_mut_ptr().cast_const() };
            ffi::avcodec_send_packet(raw, next);
            if ffi::avcodec_receive_frame(raw, frame.as_mut_ptr()) == 0 {
                return Some(frame);
            }
            if ended {
                break;
            }
        }
    }
    None
}
