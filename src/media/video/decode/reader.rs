//! Decodes a video with FFmpeg.

use std::path::{Path, PathBuf};

use ffmpeg_next::{Packet, codec, ffi, format::context::Input, frame, packet::Ref};

use super::{
    decoder,
    frame::{ToRgb, VideoFrame},
    hdr,
    info::{self, VideoInfo},
    time_jump::TimeJumps,
};
use crate::{
    error::{Error, Result},
    media::video::{
        ffmpeg::{self, last_line, reason},
        open::open,
    },
};

const AGAIN: i32 = ffi::AVERROR(ffmpeg_next::error::EAGAIN);

/// Decodes a video. See [`Reader`](super::super::Reader) for what the iterator returns.
pub(crate) struct StreamReader {
    path: PathBuf,
    input: Input,
    jumps: TimeJumps,
    decoder: codec::Context,
    info: VideoInfo,
    rgb: ToRgb,
    decoded: frame::Video,
    /// A damaged frame whose error has been returned.
    concealed: Option<VideoFrame>,
    /// After a seek: frames before this time stamp are skipped.
    skip_until: Option<i64>,
    /// After a seek: no key frame has been decoded yet.
    awaits_key_frame: bool,
    /// An early end of the file, reported after the decoder's last frame.
    early_end: Option<Error>,
    state: State,
    frames: u64,
    packets: u64,
    /// Highest time read from the container, over all streams, in seconds.
    read_until: f64,
    /// End of the last whole packet of the video, in seconds.
    video_until: f64,
}

#[derive(PartialEq)]
enum State {
    Reading,
    Draining,
    Done,
}

// SAFETY: the reader owns all parts. FFmpeg's contexts may move between threads.
unsafe impl Send for StreamReader {}

impl StreamReader {
    /// Opens a video for decoding. Errors: those of [`probe`](super::super::probe()), or no decoder.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let input = open(path)?;
        let mut info = info::of_input(&input, path)?;
        // Codecs store HDR10 metadata in frames, and the container may not repeat it. A separate input is read, so this
        // one stays at its start.
        let facts = hdr::of_first_frame(&mut open(path)?, info.index);
        let new =
            facts.side_data.into_iter().filter(|t| info.side_data.iter().all(|s| s.kind != t.kind)).collect::<Vec<_>>();
        info.side_data.extend(new);
        (info.left_out, info.field_order) = (facts.left_out, info.field_order.or(facts.field_order));
        let failed = |why: String| Error::failed(format!("{}: decoding {}: {why}", path.display(), info.codec));
        ffmpeg::clear_line();
        let decoder = decoder::open(&input, &info).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            jumps: TimeJumps::new(&input),
            input,
            decoder,
            info,
            rgb: ToRgb::new(),
            decoded: frame::Video::empty(),
            concealed: None,
            skip_until: None,
            awaits_key_frame: false,
            early_end: None,
            state: State::Reading,
            frames: 0,
            packets: 0,
            read_until: 0.0,
            video_until: 0.0,
        })
    }

    /// Returns RGBA frames if the source has transparency.
    #[must_use]
    pub(crate) fn with_alpha(mut self) -> Self {
        self.rgb.alpha = self.info.alpha;
        self
    }

    /// Sets the loop count of an animated picture, which FFmpeg does not report.
    pub(crate) fn set_plays(&mut self, plays: Option<u32>) {
        self.info.plays = plays;
    }

    /// The last returned frame, as decoded.
    pub(crate) fn decoded(&self) -> &frame::Video {
        &self.decoded
    }

    /// Information about the file.
    pub(crate) fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Seeks to the last key frame at or before a time stamp, and returns frames from that time stamp. `false`: the
    /// container has no reliable index, or it leads elsewhere; the position of the reader is then undefined.
    pub(crate) fn seek(&mut self, pts: i64) -> bool {
        let container = self.info.container.as_str();
        if !(container.starts_with("mov,") || container.starts_with("matroska")) {
            return false;
        }
        let second = (1.0 / self.info.time_base.value()) as i64;
        // A key frame may be decoded before the time and displayed after it, so the seek steps back further until one
        // is displayed in time.
        [0, 2, 15, 120].iter().any(|back| self.seek_to(pts - back * second, pts).unwrap_or(false))
    }

    /// Seeks to a key frame with the container's index. Returns whether it is displayed by `pts`.
    fn seek_to(&mut self, stamp: i64, pts: i64) -> Result<bool> {
        let index = self.info.index as i32;
        // SAFETY: container and decoder are open and owned.
        unsafe {
            if ffi::av_seek_frame(self.input.as_mut_ptr(), index, stamp, ffi::AVSEEK_FLAG_BACKWARD) < 0 {
                return Ok(false);
            }
            ffi::avcodec_flush_buffers(self.decoder.as_mut_ptr());
        }
        (self.state, self.early_end, self.concealed) = (State::Reading, None, None);
        (self.frames, self.packets, self.skip_until, self.awaits_key_frame) = (0, 0, None, true);
        let Some(first) = self.decode()? else { return Ok(false) };
        self.skip_until = Some(pts);
        let early = first.pts <= pts;
        self.concealed = (first.pts == pts).then_some(first);
        Ok(early)
    }

    /// Whether the decoded frame is to be skipped: it comes before the key frame or before the requested time.
    fn is_skipped(&mut self) -> bool {
        // SAFETY: a frame that the decoder has filled.
        let raw = unsafe { &*self.decoded.as_ptr() };
        if self.awaits_key_frame && raw.key_frame == 0 {
            return true;
        }
        self.awaits_key_frame = false;
        let stamp = raw.best_effort_timestamp;
        self.skip_until.is_some_and(|skip_until| stamp != ffi::AV_NOPTS_VALUE && stamp < skip_until)
    }

    /// Decodes the next frame, reading as many packets as needed. `None`: the end.
    fn decode(&mut self) -> Result<Option<VideoFrame>> {
        loop {
            // SAFETY: both structures are owned. FFmpeg releases the previous content of the frame.
            match unsafe { ffi::avcodec_receive_frame(self.decoder.as_mut_ptr(), self.decoded.as_mut_ptr()) } {
                0 if self.is_skipped() => {}
                0 => return self.convert().map(Some),
                AGAIN => self.feed()?,
                ffi::AVERROR_EOF => return self.end(),
                code => self.damaged(code)?,
            }
        }
    }

    fn end(&mut self) -> Result<Option<VideoFrame>> {
        self.state = State::Done;
        match self.early_end.take() {
            Some(error) => Err(error),
            None if self.frames == 0 => {
                let why = last_line().unwrap_or_else(|| "the stream is empty".into());
                Err(self.failed(&format!("no frame could be decoded: {why}")))
            }
            None => Ok(None),
        }
    }

    /// Sends the next packet to the decoder, or the end of the stream.
    fn feed(&mut self) -> Result<()> {
        let mut packet = Packet::empty();
        ffmpeg::clear_line();
        let code = self.jumps.read(&mut self.input, &mut packet);
        // SAFETY: a packet that was read, or an empty one.
        let raw = unsafe { &*packet.as_ptr() };
        let ours = raw.stream_index as usize == self.info.index;
        // Demuxers mark packets that are incomplete, but also the one before a splice, which decodes.
        // SAFETY: the container's stream is open.
        let cut =
            raw.flags & ffi::AV_PKT_FLAG_CORRUPT != 0 && unsafe { ffi::avio_feof((*self.input.as_ptr()).pb) } != 0;
        if code >= 0 {
            self.track_time(raw, ours && !cut);
            if !ours {
                return Ok(());
            }
            if self.awaits_key_frame && self.packets == 0 {
                // SAFETY: the stream's index is only read. Counting continues from the packet that the seek found.
                let before = unsafe {
                    let stream = std::ptr::from_ref(info::streams(&self.input)[self.info.index]).cast_mut();
                    ffi::av_index_search_timestamp(stream, raw.dts, ffi::AVSEEK_FLAG_ANY)
                };
                self.packets = u64::try_from(before).unwrap_or(0);
            }
            self.packets += 1;
        }
        let whole = code >= 0 && !cut;
        if !whole {
            self.early_end = match code {
                ffi::AVERROR_EOF => self.cut_off(),
                code if code < 0 => Some(self.broken(&reason(code))),
                _ => Some(self.broken("its last packet is incomplete")),
            };
            self.state = State::Draining;
        }
        let next = if whole { packet.as_ptr() } else { std::ptr::null() };
        // SAFETY: the decoder takes a reference to the packet. A null pointer signals the end.
        match unsafe { ffi::avcodec_send_packet(self.decoder.as_mut_ptr(), next) } {
            code if code < 0 && code != ffi::AVERROR_EOF => self.damaged(code),
            _ => Ok(()),
        }
    }

    /// Records how far into the container a packet reaches.
    fn track_time(&mut self, packet: &ffi::AVPacket, whole_video: bool) {
        let stream = info::streams(&self.input)[packet.stream_index as usize];
        let base = f64::from(stream.time_base.num) / f64::from(stream.time_base.den);
        if packet.pts != ffi::AV_NOPTS_VALUE {
            let end = packet.pts.saturating_add(packet.duration.max(0)) as f64 * base - self.info.origin as f64 * 1e-6;
            self.read_until = self.read_until.max(end);
            if whole_video {
                self.video_until = self.video_until.max(end);
            }
        }
    }

    /// Detects a truncated file at its end. The index of an MP4 counts every packet, other containers store a duration,
    /// and Matroska's demuxer logs an incomplete element.
    fn cut_off(&self) -> Option<Error> {
        let stream = info::streams(&self.input)[self.info.index];
        // SAFETY: FFmpeg only reads. The container is owned.
        let (indexed, context) = unsafe { (ffi::avformat_index_get_entries_count(stream), &*self.input.as_ptr()) };
        let indexed = u64::try_from(indexed).unwrap_or(0);
        if self.info.container.starts_with("mov,") && self.packets < indexed {
            return Some(self.broken(&format!("{} of {indexed} frames are in the file", self.packets)));
        }
        let from_stream = ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
        let length = context.duration.max(0) as f64 * 1e-6;
        // Matroska's muxers disagree whether the duration includes the time before the first packet.
        let reached = self.read_until + (self.info.origin as f64 * 1e-6).max(0.0);
        if context.duration_estimation_method == from_stream && reached < length - (0.05 * length).max(2.0) {
            return Some(self.broken(&format!("its header states a duration of {length:.3} s")));
        }
        last_line().filter(|line| line.contains("prematurely")).map(|line| self.broken(&line))
    }

    /// The error for a decoder error code. Ignored before the first frame: recordings may start between key frames.
    fn damaged(&mut self, code: i32) -> Result<()> {
        if code == ffi::AVERROR(libc::ENOMEM) {
            self.state = State::Done;
            let (position, VideoInfo { width, height, .. }) = (self.next_position(), &self.info);
            return Err(self.failed(&format!("{position}: out of memory while decoding {width}x{height} pixels")));
        }
        if self.frames == 0 {
            return Ok(());
        }
        Err(self.failed(&format!("{} is damaged: {}", self.next_position(), reason(code))))
    }

    fn broken(&self, why: &str) -> Error {
        self.failed(&format!(
            "the file is truncated at {0} s: {why}; get a complete copy of it, or use what it has: enhance --end {0} or \
             --conceal-errors",
            (self.video_until * 1e3).round() / 1e3
        ))
    }

    fn failed(&self, what: &str) -> Error {
        Error::failed(format!("{}: {what}", self.path.display()))
    }

    /// Number and time of the next frame, for messages.
    fn next_position(&self) -> String {
        let rate = self.info.frame_rate.value();
        format!("frame {} (at about {:.3} s)", self.frames, self.info.start + self.frames as f64 / rate)
    }

    /// Converts the decoded frame to RGB.
    fn convert(&mut self) -> Result<VideoFrame> {
        // SAFETY: a frame that the decoder has filled.
        let raw = unsafe { &*self.decoded.as_ptr() };
        let damage = raw.decode_error_flags != 0 || raw.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0;
        let stamp = Some(raw.best_effort_timestamp).filter(|t| *t != ffi::AV_NOPTS_VALUE);
        let time = stamp.map(|t| t as f64 * self.info.time_base.value() - self.info.origin as f64 * 1e-6);
        let time = time.unwrap_or(self.info.start + self.frames as f64 / self.info.frame_rate.value());
        let frame = self.rgb.convert(&self.decoded, &self.info).map_err(|why| {
            self.state = State::Done;
            self.failed(&format!("frame {} (at {time:.3} s): {why}", self.frames))
        })?;
        let fallback = (time / self.info.time_base.value()) as i64;
        let frame = VideoFrame { frame, pts: stamp.unwrap_or(fallback), time };
        self.frames += 1;
        if damage {
            self.concealed = Some(frame);
            let why = last_line().map_or(String::new(), |line| format!(" ({line})"));
            return Err(self.failed(&format!("frame {} (at {time:.3} s) is damaged{why}", self.frames - 1)));
        }
        Ok(frame)
    }
}

impl Iterator for StreamReader {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(frame) = self.concealed.take() {
            return Some(Ok(frame));
        }
        if self.state == State::Done {
            return None;
        }
        self.decode().transpose()
    }
}
