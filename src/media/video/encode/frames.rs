//! Encodes frames to packets.

use std::{collections::BTreeMap, ffi::c_int, path::PathBuf};

use ffmpeg_next::{Packet, ffi, frame, packet::Mut};

use super::{
    chunk_record::EncodeTotals,
    encoder::{self, Encoder, memory_advice},
    spec::{VideoOptions, VideoSpec},
};
use crate::{
    error::{Error, Result},
    media::video::{
        ffmpeg::{self, check},
        pixel::{
            color::Color,
            convert::{Converter, Layout, allocate},
            hash::PixelHash,
        },
    },
    tensor::{Frame, Samples, check_room},
};

/// Receives packets as they are encoded.
pub(crate) type Take<'a> = dyn FnMut(Packet) -> Result<()> + 'a;

/// An encoder and the totals of its frames.
pub(crate) struct FrameEncoder {
    pub encoder: Encoder,
    pub totals: EncodeTotals,
    /// The output file, for messages.
    target: PathBuf,
    staged: frame::Video,
    converter: Option<Converter>,
    size: (i32, i32),
    alpha: bool,
    /// Frames before the first frame of this encoder.
    before: u64,
    /// Durations of frames in the encoder, by time stamp.
    durations: BTreeMap<i64, i64>,
}

// SAFETY: the encoder owns all parts. FFmpeg's contexts may move between threads.
unsafe impl Send for FrameEncoder {}

impl FrameEncoder {
    /// Opens the encoder for a container (FFmpeg's name, global header). `totals`: those of earlier encoders that
    /// this one continues.
    ///
    /// Errors: an unknown encoder (lists the available ones), pixel format or option.
    pub(crate) fn open(
        (container, global_header): (&str, bool),
        options: &VideoOptions,
        spec: &VideoSpec,
        target: PathBuf,
        totals: Option<EncodeTotals>,
    ) -> Result<Self> {
        let encoder = encoder::open(options, spec, container, global_header)?;
        let first = || {
            // SAFETY: the encoder is open and owned.
            let pixels = options.verify.then(|| PixelHash::of_encoder(unsafe { &*encoder.context.as_ptr() })).flatten();
            EncodeTotals { last: 1, longest: 1, pixels, ..EncodeTotals::default() }
        };
        let totals = totals.unwrap_or_else(first);
        Ok(Self {
            before: totals.frames,
            totals,
            encoder,
            target,
            staged: frame::Video::empty(),
            converter: None,
            size: (spec.width as i32, spec.height as i32),
            alpha: spec.alpha,
            durations: BTreeMap::new(),
        })
    }

    /// Encodes a frame that is displayed from `pts` for `duration` ticks.
    ///
    /// Errors: those of [`Writer::write_at`](crate::media::video::Writer::write_at), and those of `take`.
    pub(crate) fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64, take: &mut Take<'_>) -> Result<()> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let channels = if self.alpha { 3..=4 } else { 3..=3 };
        let (number, (begin, end)) = (self.totals.frames, self.totals.span);
        if (frame.width, frame.height) != (width, height) || !channels.contains(&frame.channels) {
            let (w, h, c) = (frame.width, frame.height, frame.channels);
            return Err(self.failed(&format!(
                "frame {number} is {w}x{h} with {c} channels, expected {width}x{height} with at most {}",
                channels.end()
            )));
        }
        let flattens = frame.channels == 4 && !self.encoder.alpha;
        if flattens {
            let bytes = width * height * 3 * if frame.is_deep() { 2 } else { 1 };
            check_room::<u8>(bytes).map_err(|e| self.failed(&e.to_string()))?;
        }
        let over = flattens.then(|| frame.over_black());
        self.totals.flattened |= over.as_ref().is_some_and(|(_, clear)| *clear);
        let frame = over.as_ref().map_or(frame, |(frame, _)| frame);
        let mut picture = self.convert(frame).map_err(|e| self.failed(&e))?;
        let first = number == 0;
        if !first && pts < end || duration < 1 {
            let found = format!("frame {number} is shown from tick {pts} for {duration}");
            return Err(self.failed(&format!("{found}, but the previous one until {end}")));
        }
        (self.totals.last, self.totals.longest) = (duration, self.totals.longest.max(duration));
        self.totals.span = (if first { pts } else { begin }, pts + duration);
        self.durations.insert(pts, duration);
        if let Some(mut pixels) = self.totals.pixels.take() {
            self.totals.pixels = pixels.add(&picture).map_err(|e| self.failed(&e.to_string()))?.then_some(pixels);
        }
        picture.set_pts(Some(pts));
        self.send(Some(&picture), take)?;
        self.totals.frames += 1;
        Ok(())
    }

    /// Flushes the encoder.
    pub(crate) fn finish(&mut self, take: &mut Take<'_>) -> Result<()> {
        self.send(None, take)
    }

    /// The codec header (FFmpeg's extradata).
    pub(crate) fn head(&self) -> Vec<u8> {
        // SAFETY: the encoder is open and owned. Its header has that length.
        unsafe {
            let context = &*self.encoder.context.as_ptr();
            let length = usize::try_from(context.extradata_size).unwrap_or(0);
            let none = context.extradata.is_null() || length == 0;
            if none { Vec::new() } else { std::slice::from_raw_parts(context.extradata, length).to_vec() }
        }
    }

    /// Whether this encoder has received no frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.totals.frames == self.before
    }

    /// Converts a frame to the encoder's pixel format.
    fn convert(&mut self, frame: &Frame) -> Result<frame::Video, String> {
        use ffi::AVPixelFormat::*;
        let big = cfg!(target_endian = "big");
        let source = match (frame.is_deep(), frame.channels) {
            (false, 3) => AV_PIX_FMT_RGB24,
            (false, _) => AV_PIX_FMT_RGBA,
            (true, 3) if big => AV_PIX_FMT_RGB48BE,
            (true, 3) => AV_PIX_FMT_RGB48LE,
            (true, _) if big => AV_PIX_FMT_RGBA64BE,
            (true, _) => AV_PIX_FMT_RGBA64LE,
        };
        let bytes: &[u8] = match &frame.samples {
            Samples::U8(s) => s,
            // SAFETY: every byte pattern is valid, and there are two bytes per sample.
            Samples::U16(s) => unsafe { std::slice::from_raw_parts(s.as_ptr().cast(), s.len() * 2) },
        };
        let color = self.encoder.color;
        if self.converter.as_ref().is_none_or(|s| s.from.format != source) {
            let from = Layout { format: source, color: Color { matrix: 1, ..color } };
            let to = Layout { format: self.encoder.format, color };
            self.converter = Some(Converter::new(from, to, self.size)?);
            self.staged = allocate(source, self.size)?;
        }
        let row = bytes.len() / frame.height;
        let stride = self.staged.stride(0);
        for (to, from) in self.staged.data_mut(0).chunks_mut(stride).zip(bytes.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        // The encoder keeps frames for its lookahead, so each one needs its own buffer.
        let mut picture = allocate(self.encoder.format, self.size)?;
        self.converter.as_mut().ok_or("no converter")?.run(&self.staged, &mut picture)?;
        // Some encoders (ProRes) use the tags of the frame for the stream.
        // SAFETY: both structures are owned; the fields have the same types.
        unsafe {
            let (to, from) = (&mut *picture.as_mut_ptr(), &*self.encoder.context.as_ptr());
            (to.color_primaries, to.color_trc) = (from.color_primaries, from.color_trc);
            (to.colorspace, to.color_range) = (from.colorspace, from.color_range);
            to.chroma_location = from.chroma_sample_location;
        }
        Ok(picture)
    }

    /// Sends a frame, or the end of the stream, and passes on the packets that are ready.
    fn send(&mut self, picture: Option<&frame::Video>, take: &mut Take<'_>) -> Result<()> {
        ffmpeg::clear_line();
        // SAFETY: the encoder takes a reference to the frame. A null pointer signals the end.
        let code = unsafe {
            let frame = picture.map_or(std::ptr::null(), |p| p.as_ptr());
            ffi::avcodec_send_frame(self.encoder.context.as_mut_ptr(), frame)
        };
        self.checked(code)?;
        loop {
            let mut packet = Packet::empty();
            // SAFETY: both structures are owned.
            let code = unsafe { ffi::avcodec_receive_packet(self.encoder.context.as_mut_ptr(), packet.as_mut_ptr()) };
            if code == ffi::AVERROR(ffmpeg_next::error::EAGAIN) || code == ffi::AVERROR_EOF {
                return Ok(());
            }
            self.checked(code)?;
            let told = packet.pts().and_then(|pts| self.durations.remove(&pts));
            if let Some(duration) = told.or((packet.duration() == 0).then_some(1)) {
                packet.set_duration(duration);
            }
            take(packet)?;
        }
    }

    /// Reports an error code of the encoder.
    fn checked(&self, code: c_int) -> Result<()> {
        let (name, frame, advice) = (&self.encoder.name, self.totals.frames, memory_advice(code));
        let failure = |why| self.failed(&format!("encoder {name} failed at frame {frame}: {why}{advice}"));
        check(code).map(drop).map_err(failure)
    }

    fn failed(&self, why: &str) -> Error {
        Error::failed(format!("writing {}: {why}", self.target.display()))
    }
}
