//! A video's frames, one by one, in RGB.

use std::path::{Path, PathBuf};

use ffmpeg_next::{
    Packet, codec, ffi,
    format::context::Input,
    frame,
    packet::{Mut, Ref},
};

use super::{
    decoder,
    frame::{ToRgb, VideoFrame},
    hdr,
    info::{self, VideoInfo},
};
use crate::{
    error::{Error, Result},
    media::video::ffmpeg::{self, last_line, reason},
};

const AGAIN: i32 = ffi::AVERROR(ffmpeg_next::error::EAGAIN);

/// Decodes a video. The iterator gives every frame in the order of display; it holds one at a time, and the decoder
/// the few it needs.
///
/// It ends with `None` after the last frame of a whole file. A file that is cut off gives all that is there, then an
/// error. A damaged frame gives an error that tells its number and time, and, to a caller who goes on, the frame as the
/// decoder mended it.
pub struct StreamReader {
    path: PathBuf,
    input: Input,
    decoder: codec::Context,
    info: VideoInfo,
    rgb: ToRgb,
    decoded: frame::Video,
    /// A frame whose damage has been told.
    mended: Option<VideoFrame>,
    /// After a seek: frames before this time stamp are passed over.
    from: Option<i64>,
    /// After a seek: no key frame has come yet.
    keyless: bool,
    /// What ends the video early, told after the decoder has given its last frame.
    ending: Option<Error>,
    state: State,
    frames: u64,
    packets: u64,
    /// Seconds of the container seen, over all streams.
    seen: f64,
}

#[derive(PartialEq)]
enum State {
    Reading,
    Draining,
    Done,
}

// SAFETY: all parts are owned by the reader, and FFmpeg's contexts may move between threads.
unsafe impl Send for StreamReader {}

impl StreamReader {
    /// Opens a video for decoding. Errors: those of [`probe`](super::probe), or no decoder.
    pub fn open(path: &Path) -> Result<Self> {
        let input = ffmpeg::open(path)?;
        let mut info = info::of_input(&input, path)?;
        // Codecs keep HDR10's metadata in their frames, containers need not. An input of its own: this one stays at its begin.
        let (told, left_out) = hdr::of_first_frame(&mut ffmpeg::open(path)?, info.index);
        let new = told.into_iter().filter(|t| info.side_data.iter().all(|s| s.kind != t.kind)).collect::<Vec<_>>();
        info.side_data.extend(new);
        info.left_out = left_out;
        let failed = |why: String| Error::failed(format!("{}: decoding {}: {why}", path.display(), info.codec));
        ffmpeg::clear_line();
        let decoder = decoder::open(&input, &info).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            input,
            decoder,
            info,
            rgb: ToRgb::new(),
            decoded: frame::Video::empty(),
            mended: None,
            from: None,
            keyless: false,
            ending: None,
            state: State::Reading,
            frames: 0,
            packets: 0,
            seen: 0.0,
        })
    }

    /// The same reader giving RGBA frames where the source has transparency.
    #[must_use]
    pub fn with_alpha(mut self) -> Self {
        self.rgb.alpha = self.info.alpha;
        self
    }

    /// Says how often an animated picture plays, which FFmpeg does not.
    pub fn set_plays(&mut self, plays: Option<u32>) {
        self.info.plays = plays;
    }

    /// The frame that was given last, as it was decoded.
    pub fn decoded(&self) -> &frame::Video {
        &self.decoded
    }

    /// What the file holds.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Goes to the key frame at a time stamp or the last before it, and gives the frames from that time stamp on. `false` where the
    /// container has no index to trust, or leads elsewhere: where the reader then stands is not known.
    pub fn seek(&mut self, pts: i64) -> bool {
        let container = self.info.container.as_str();
        if !(container.starts_with("mov,") || container.starts_with("matroska")) {
            return false;
        }
        let second = (1.0 / self.info.time_base.value()) as i64;
        // Key frames may be decoded before the time and shown after it.
        [0, 2, 15, 120].iter().any(|back| self.seek_to(pts - back * second, pts).unwrap_or(false))
    }

    /// Goes to a key frame by the container's index; whether it is shown by `pts`.
    fn seek_to(&mut self, stamp: i64, pts: i64) -> Result<bool> {
        let index = self.info.index as i32;
        // SAFETY: container and decoder are open and owned.
        unsafe {
            if ffi::av_seek_frame(self.input.as_mut_ptr(), index, stamp, ffi::AVSEEK_FLAG_BACKWARD) < 0 {
                return Ok(false);
            }
            ffi::avcodec_flush_buffers(self.decoder.as_mut_ptr());
        }
        (self.state, self.ending, self.mended) = (State::Reading, None, None);
        (self.frames, self.packets, self.from, self.keyless) = (0, 0, None, true);
        let Some(first) = self.decode()? else { return Ok(false) };
        self.from = Some(pts);
        let early = first.pts <= pts;
        self.mended = (first.pts == pts).then_some(first);
        Ok(early)
    }

    /// Whether the decoded frame is one that nobody wants: before the key frame that was sought, or before the time.
    fn passes_over(&mut self) -> bool {
        // SAFETY: a frame that the decoder has just filled.
        let raw = unsafe { &*self.decoded.as_ptr() };
        if self.keyless && raw.key_frame == 0 {
            return true;
        }
        self.keyless = false;
        let stamp = raw.best_effort_timestamp;
        self.from.is_some_and(|from| stamp != ffi::AV_NOPTS_VALUE && stamp < from)
    }

    /// The decoder's next frame, read on as far as it needs; `None` at the end.
    fn decode(&mut self) -> Result<Option<VideoFrame>> {
        loop {
            // SAFETY: both structures are owned; FFmpeg frees what the frame held before.
            match unsafe { ffi::avcodec_receive_frame(self.decoder.as_mut_ptr(), self.decoded.as_mut_ptr()) } {
                0 if self.passes_over() => {}
                0 => return self.take().map(Some),
                AGAIN => self.feed()?,
                ffi::AVERROR_EOF => return self.end(),
                code => self.damaged(code)?,
            }
        }
    }

    fn end(&mut self) -> Result<Option<VideoFrame>> {
        self.state = State::Done;
        match self.ending.take() {
            Some(error) => Err(error),
            None if self.frames == 0 => {
                let why = last_line().unwrap_or_else(|| "the stream is empty".into());
                Err(self.failed(&format!("no frame could be decoded: {why}")))
            }
            None => Ok(None),
        }
    }

    /// Gives the decoder one more packet, or the end.
    fn feed(&mut self) -> Result<()> {
        let mut packet = Packet::empty();
        ffmpeg::clear_line();
        // SAFETY: both structures are owned.
        let code = unsafe { ffi::av_read_frame(self.input.as_mut_ptr(), packet.as_mut_ptr()) };
        // SAFETY: a packet that was read, or an empty one.
        let raw = unsafe { &*packet.as_ptr() };
        let ours = raw.stream_index as usize == self.info.index;
        if code >= 0 {
            self.see(raw);
            if !ours {
                return Ok(());
            }
            if self.keyless && self.packets == 0 {
                // SAFETY: the stream's index, which is only read. The count goes on from the packet that was sought.
                let before = unsafe {
                    let stream = std::ptr::from_ref(info::streams(&self.input)[self.info.index]).cast_mut();
                    ffi::av_index_search_timestamp(stream, raw.dts, ffi::AVSEEK_FLAG_ANY)
                };
                self.packets = u64::try_from(before).unwrap_or(0);
            }
            self.packets += 1;
        }
        let whole = code >= 0 && raw.flags & ffi::AV_PKT_FLAG_CORRUPT == 0;
        if !whole {
            self.ending = match code {
                ffi::AVERROR_EOF => self.cut_off(),
                code if code < 0 => Some(self.broken(&reason(code))),
                _ => Some(self.broken("a piece of it is missing")),
            };
            self.state = State::Draining;
        }
        let next = if whole { packet.as_ptr() } else { std::ptr::null() };
        // SAFETY: the decoder copies a reference to the packet, or is told the end by a null pointer.
        match unsafe { ffi::avcodec_send_packet(self.decoder.as_mut_ptr(), next) } {
            code if code < 0 && code != ffi::AVERROR_EOF => self.damaged(code),
            _ => Ok(()),
        }
    }

    /// Notes how far into the container a packet reaches.
    fn see(&mut self, packet: &ffi::AVPacket) {
        let stream = info::streams(&self.input)[packet.stream_index as usize];
        let base = f64::from(stream.time_base.num) / f64::from(stream.time_base.den);
        if packet.pts != ffi::AV_NOPTS_VALUE {
            let end = (packet.pts + packet.duration.max(0)) as f64 * base - self.info.origin as f64 * 1e-6;
            self.seen = self.seen.max(end);
        }
    }

    /// An error if the end of the file is not that of the video: the index of an MP4 knows every packet, other
    /// containers tell a duration, and Matroska's demuxer logs an element that is not complete.
    fn cut_off(&self) -> Option<Error> {
        let stream = info::streams(&self.input)[self.info.index];
        // SAFETY: FFmpeg only reads; the container is owned.
        let (indexed, context) = unsafe { (ffi::avformat_index_get_entries_count(stream), &*self.input.as_ptr()) };
        let indexed = u64::try_from(indexed).unwrap_or(0);
        if self.info.container.starts_with("mov,") && self.packets < indexed {
            return Some(self.broken(&format!("{} of {indexed} frames are in the file", self.packets)));
        }
        let told = ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
        let length = context.duration.max(0) as f64 * 1e-6;
        if context.duration_estimation_method == told && self.seen < length - (0.05 * length).max(2.0) {
            return Some(self.broken(&format!("the file says it lasts {length:.3} s")));
        }
        last_line().filter(|line| line.contains("prematurely")).map(|line| self.broken(&line))
    }

    /// An error that a code of the decoder means, unless no frame has come yet: recordings begin between key frames.
    fn damaged(&mut self, code: i32) -> Result<()> {
        if self.frames == 0 {
            return Ok(());
        }
        Err(self.failed(&format!("{} is damaged: {}", self.place(), reason(code))))
    }

    fn broken(&self, why: &str) -> Error {
        self.failed(&format!(
            "the file is cut off at {} s: {why}; get a whole copy of it",
            (self.seen * 1e3).round() / 1e3
        ))
    }

    fn failed(&self, what: &str) -> Error {
        Error::failed(format!("{}: {what}", self.path.display()))
    }

    /// The frame that is next.
    fn place(&self) -> String {
        let rate = self.info.frame_rate.value();
        format!("frame {} (at about {:.3} s)", self.frames, self.info.start + self.frames as f64 / rate)
    }

    /// The decoded frame in RGB.
    fn take(&mut self) -> Result<VideoFrame> {
        // SAFETY: a frame that the decoder has just filled.
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
            self.mended = Some(frame);
            let why = last_line().map_or(String::new(), |line| format!(" ({line})"));
            return Err(self.failed(&format!("frame {} (at {time:.3} s) is damaged{why}", self.frames - 1)));
        }
        Ok(frame)
    }
}

impl Iterator for StreamReader {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(frame) = self.mended.take() {
            return Some(Ok(frame));
        }
        if self.state == State::Done {
            return None;
        }
        self.decode().transpose()
    }
}
