//! Frames to a video file.

use std::{collections::BTreeMap, path::Path};

use ffmpeg_next::{Packet, ffi, format::context, frame, packet::Mut};

use super::{
    Rational, animation,
    color::Color,
    copy::Copies,
    ffmpeg::{self, c_string, check, reason, text, url},
    info::SideData,
    kept::Asked,
    output::{self, Encoder, Output, VideoOptions},
    reader::allocate,
    scale::{Layout, Scaler},
    verify::{self, Pixels, Written},
};
use crate::{
    error::{At, Error, Result},
    media::Place,
    tensor::{Frame, Samples},
};

/// A video that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Video frames.
    pub frames: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Seconds of video.
    pub duration: f64,
    /// FFmpeg's name of the encoder that was used: `libx264`.
    pub encoder: String,
    /// What of the source is not in the file, each a phrase to tell the person.
    pub left_out: Vec<String>,
}

/// Encodes frames and writes them, interleaved with the source's other streams, to a file that gets its name in
/// [`Writer::finish`] ([`Place`]); dropped before, it leaves nothing behind.
///
/// It holds the frames that the encoder looks ahead at, and of the other streams what lies within ten seconds.
pub struct Writer {
    place: Place,
    target: context::Output,
    encoder: Encoder,
    copies: Option<Copies>,
    staged: frame::Video,
    scaler: Option<Scaler>,
    size: (i32, i32),
    alpha: bool,
    time_base: Rational,
    start: f64,
    frames: u64,
    /// Time stamp of the first frame and the end of the last.
    span: (i64, i64),
    /// Ticks that the last frame is shown.
    last: i64,
    /// Durations of frames that the encoder still holds, by time stamp.
    durations: BTreeMap<i64, i64>,
    /// Ticks of the longest frame.
    longest: i64,
    side_data: Vec<SideData>,
    /// What a lossless encoder was given.
    pixels: Option<Pixels>,
    verify: bool,
    told: Vec<String>,
    /// FFmpeg's name of the container.
    container: String,
    /// How often an animated picture plays, 0 for endlessly.
    plays: Option<u32>,
    /// Whether transparency was asked for and seen, and the encoder has none.
    flattened: bool,
}

// SAFETY: all parts are owned by the writer, and FFmpeg's contexts may move between threads.
unsafe impl Send for Writer {}

impl Writer {
    /// Opens the encoder and the file, and writes what stands before the first frame.
    ///
    /// Errors: a name without a container, a name that is taken, an unknown encoder (lists those there are), pixel
    /// format or option, a codec or sound that the container cannot hold, a folder that cannot be written.
    pub fn create(place: Place, options: &VideoOptions, output: &Output) -> Result<Self> {
        let path = place.target();
        ffmpeg::init();
        let mut target = container(path, output.plays.is_some())?;
        // SAFETY: the context that was just allocated.
        let (flags, name) = unsafe {
            let format = &*(*target.as_ptr()).oformat;
            (format.flags, text(format.name))
        };
        let encoder = output::open(options, output, &name, flags & ffi::AVFMT_GLOBALHEADER != 0)?;
        add_video(&mut target, &encoder, output, &name).at(path.display())?;
        for (key, value) in &output.metadata {
            // SAFETY: the context's dictionary; FFmpeg copies both strings.
            unsafe {
                let metadata = &mut (*target.as_mut_ptr()).metadata;
                ffi::av_dict_set(metadata, c_string(key).as_ptr(), c_string(value).as_ptr(), 0);
            }
        }
        let animation = matches!(name.as_str(), "apng" | "webp");
        let source = output.source.as_deref();
        let beside = source.filter(|_| animation).map(animation::beside).transpose()?;
        let copies = source.filter(|_| !animation).map(|source| Copies::open(source, &mut target)).transpose()?;
        let mut told = output.left_out.clone();
        told.extend(beside.unwrap_or_default());
        let mut writer = Self {
            place,
            target,
            encoder,
            copies,
            staged: frame::Video::empty(),
            scaler: None,
            size: (output.width as i32, output.height as i32),
            time_base: output.time_base,
            start: output.start,
            alpha: output.alpha,
            frames: 0,
            span: (0, 0),
            last: 1,
            durations: BTreeMap::new(),
            longest: 1,
            side_data: output.side_data.clone(),
            pixels: None,
            verify: options.verify,
            told,
            plays: animation.then(|| output.plays.unwrap_or(0)),
            container: name,
            flattened: false,
        };
        if options.verify {
            // SAFETY: the encoder is open and owned.
            writer.pixels = Pixels::of_encoder(unsafe { &*writer.encoder.context.as_ptr() });
        }
        writer.begin()?;
        Ok(writer)
    }

    /// Opens the temporary file and writes the container's head.
    fn begin(&mut self) -> Result<()> {
        let url = url(self.place.temporary())?;
        let mut unused = std::mem::take(&mut self.encoder.unused);
        if let Some(plays) = self.plays {
            unused.push((if self.container == "apng" { "plays" } else { "loop" }.into(), plays.to_string()));
        }
        let dictionary: ffmpeg_next::Dictionary = unused.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        ffmpeg::clear_line();
        // SAFETY: the context owns the file it opens; the dictionary is owned again afterwards.
        let (code, left) = unsafe {
            let raw = &mut *self.target.as_mut_ptr();
            check(ffi::avio_open(&mut raw.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE)).map_err(|e| self.failed(&e))?;
            let mut left = dictionary.disown();
            let code = ffi::avformat_write_header(self.target.as_mut_ptr(), &mut left);
            (code, ffmpeg_next::Dictionary::own(left))
        };
        check(code).map_err(|e| self.failed(&e))?;
        let unknown: Vec<_> = left.iter().map(|(key, _)| key.to_owned()).collect();
        if !unknown.is_empty() {
            let encoder = &self.encoder.name;
            return Err(Error::usage(format!("neither {encoder} nor the container knows -e {}", unknown.join(", "))));
        }
        self.check_disk()
    }

    /// Encodes the next frame, a tick after the one before.
    ///
    /// Errors: those of [`Writer::write_at`].
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        self.write_at(frame, self.span.1, 1)
    }

    /// Encodes a frame that is shown from `pts` for `duration` ticks of [`Output::time_base`]: RGB or RGBA of the output's
    /// size, 8 or 16 bits. Where the encoder has no transparency, frames are shown over black. Time stamps count from
    /// [`Output::start`]. Waits for the encoder and the disk.
    ///
    /// Errors: another size, transparency that was not announced, a time stamp that is not after the last, a failing encoder, a full disk.
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let channels = if self.alpha { 3..=4 } else { 3..=3 };
        if (frame.width, frame.height) != (width, height) || !channels.contains(&frame.channels) {
            let (w, h, c) = (frame.width, frame.height, frame.channels);
            return Err(self.failed(&format!(
                "frame {} is {w}x{h} with {c} channels where {width}x{height} with {} are encoded",
                self.frames,
                channels.end()
            )));
        }
        let over = (frame.channels == 4 && !self.encoder.alpha).then(|| frame.over_black());
        self.flattened |= over.as_ref().is_some_and(|(_, clear)| *clear);
        let frame = over.as_ref().map_or(frame, |(frame, _)| frame);
        let mut picture = self.convert(frame).map_err(|e| self.failed(&e))?;
        let first = self.frames == 0;
        if !first && pts < self.span.1 || duration < 1 {
            let (number, (_, end)) = (self.frames, self.span);
            let found = format!("frame {number} is shown from tick {pts} for {duration}");
            return Err(self.failed(&format!("{found}, and the one before until {end}")));
        }
        (self.last, self.longest) = (duration, self.longest.max(duration));
        self.span = (if first { pts } else { self.span.0 }, pts + duration);
        self.durations.insert(pts, duration);
        if let Some(mut pixels) = self.pixels.take() {
            self.pixels = pixels.add(&picture).map(|()| pixels);
        }
        picture.set_pts(Some(pts));
        self.send(Some(&picture))?;
        self.frames += 1;
        self.check_disk()
    }

    /// The frame in the encoder's pixel format.
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
            // SAFETY: any bytes are valid bytes, and there are twice as many as samples.
            Samples::U16(s) => unsafe { std::slice::from_raw_parts(s.as_ptr().cast(), s.len() * 2) },
        };
        let color = self.encoder.color;
        if self.scaler.as_ref().is_none_or(|s| s.from.format != source) {
            let from = Layout { format: source, color: Color { matrix: 1, ..color } };
            let to = Layout { format: self.encoder.format, color };
            self.scaler = Some(Scaler::new(from, to, self.size)?);
            self.staged = allocate(source, self.size)?;
        }
        let row = bytes.len() / frame.height;
        let stride = self.staged.stride(0);
        for (to, from) in self.staged.data_mut(0).chunks_mut(stride).zip(bytes.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        // The encoder keeps frames to look ahead at, so each has planes of its own.
        let mut picture = allocate(self.encoder.format, self.size)?;
        self.scaler.as_mut().ok_or("no converter")?.run(&self.staged, &mut picture)?;
        // Some encoders (ProRes) take the tags of the frame for those of the stream.
        // SAFETY: both structures are owned; the fields have the same types.
        unsafe {
            let (to, from) = (&mut *picture.as_mut_ptr(), &*self.encoder.context.as_ptr());
            (to.color_primaries, to.color_trc) = (from.color_primaries, from.color_trc);
            (to.colorspace, to.color_range) = (from.colorspace, from.color_range);
            to.chroma_location = from.chroma_sample_location;
        }
        Ok(picture)
    }

    /// Gives the encoder a frame, or the end, and writes the packets it has ready.
    fn send(&mut self, picture: Option<&frame::Video>) -> Result<()> {
        ffmpeg::clear_line();
        // SAFETY: the encoder takes a reference of the frame, or is told the end by a null pointer.
        let code = unsafe {
            let frame = picture.map_or(std::ptr::null(), |p| p.as_ptr());
            ffi::avcodec_send_frame(self.encoder.context.as_mut_ptr(), frame)
        };
        let place = |s: &Self| format!("encoder {} failed at frame {}", s.encoder.name, s.frames);
        check(code).map_err(|why| self.failed(&format!("{}: {why}", place(self))))?;
        loop {
            let mut packet = Packet::empty();
            // SAFETY: both structures are owned.
            let code = unsafe { ffi::avcodec_receive_packet(self.encoder.context.as_mut_ptr(), packet.as_mut_ptr()) };
            if code == ffi::AVERROR(ffmpeg_next::error::EAGAIN) || code == ffi::AVERROR_EOF {
                return Ok(());
            }
            check(code).map_err(|why| self.failed(&format!("{}: {why}", place(self))))?;
            self.mux(packet)?;
        }
    }

    /// Writes one packet of the video, after what is due of the other streams.
    fn mux(&mut self, mut packet: Packet) -> Result<()> {
        // SAFETY: the first stream is the video; the container has chosen its time base.
        let (from, to) =
            unsafe { ((*self.encoder.context.as_ptr()).time_base, (**(*self.target.as_ptr()).streams).time_base) };
        let told = packet.pts().and_then(|pts| self.durations.remove(&pts));
        if let Some(duration) = told.or((packet.duration() == 0).then_some(1)) {
            packet.set_duration(duration);
        }
        let due = packet.dts().unwrap_or(0) as f64 * Rational::from(from).value() + self.start;
        if let Some(copies) = &mut self.copies {
            copies.pump(&mut self.target, Some(due)).at(self.place.target().display())?;
        }
        packet.rescale_ts(from, to);
        let shift = (self.start / Rational::from(to).value()).round() as i64;
        packet.set_pts(packet.pts().map(|t| t + shift));
        packet.set_dts(packet.dts().map(|t| t + shift));
        packet.set_stream(0);
        ffmpeg::clear_line();
        // SAFETY: the container takes over the packet's reference and leaves it empty.
        let code = unsafe { ffi::av_interleaved_write_frame(self.target.as_mut_ptr(), packet.as_mut_ptr()) };
        check(code).map_err(|why| self.failed(&why))?;
        Ok(())
    }

    /// Encodes what is left, copies what is left and closes the file, which is not named yet.
    ///
    /// Errors: no frame was written, a failing encoder, a full disk.
    pub fn close(mut self) -> Result<(Place, Summary)> {
        if self.frames == 0 {
            return Err(self.failed("a video has at least one frame, and there was none"));
        }
        self.send(None)?;
        if let Some(copies) = &mut self.copies {
            copies.pump(&mut self.target, None).at(self.place.target().display())?;
        }
        self.end_apng();
        ffmpeg::clear_line();
        // SAFETY: the header was written; this is called once.
        check(unsafe { ffi::av_write_trailer(self.target.as_mut_ptr()) }).map_err(|why| self.failed(&why))?;
        // SAFETY: the context's open file.
        unsafe { ffi::avio_flush((*self.target.as_mut_ptr()).pb) };
        self.check_disk()?;
        let duration = (self.span.1 - self.span.0) as f64 * self.time_base.value();
        // Containers tell when frames begin; that the last one ends, some leave to be guessed.
        let slack = (2 * self.longest) as f64 * self.time_base.value();
        let Self {
            place,
            target,
            encoder,
            copies,
            frames,
            flattened,
            side_data,
            told,
            container,
            size,
            pixels,
            verify,
            ..
        } = self;
        let asked = Asked::of(&target, &side_data, encoder.tags, encoder.is_rgb);
        drop(target);
        if container == "webp" {
            animation::end_webp(place.temporary(), (duration * 1e3).round() as u32)?;
        }
        let written = Written { size: (size.0 as usize, size.1 as usize), frames, duration, slack, pixels };
        let check = |found: Result<(), String>| {
            found.map_err(|why| Error::failed(format!("writing {}: {why}; write it again", place.target().display())))
        };
        check(verify::packets(place.temporary(), &written))?;
        if verify {
            check(verify::decoded(place.temporary(), &written))?;
        }
        let missing = asked.missing(place.temporary())?;
        let mut left_out = told;
        left_out.extend(encoder.left_out);
        left_out.extend(missing);
        left_out.extend(flattened.then(|| clear(&encoder.name)));
        left_out.extend(copies.map(|c| c.left_out).unwrap_or_default());
        Ok((place, Summary { frames, bytes: 0, duration, encoder: encoder.name, left_out }))
    }

    /// Tells an APNG how long its last frame is shown: others are told by the next one.
    fn end_apng(&mut self) {
        if self.container == "apng" {
            let length = Rational::new(i32::try_from(self.last).unwrap_or(1), 1).value() * self.time_base.value();
            let delay = c_string(&format!("{}/1000", (length * 1e3).round()));
            // SAFETY: the muxer's own options, which it reads when the file is closed.
            unsafe {
                ffi::av_opt_set((*self.target.as_mut_ptr()).priv_data, c"final_delay".as_ptr(), delay.as_ptr(), 0)
            };
        }
    }

    /// The file's own state: containers ignore what writing returns.
    fn check_disk(&self) -> Result<()> {
        // SAFETY: the context's open file.
        let code = unsafe { (*(*self.target.as_ptr()).pb).error };
        if code < 0 { Err(self.failed(&reason(code))) } else { Ok(()) }
    }

    fn failed(&self, why: &str) -> Error {
        Error::failed(format!("writing {}: {why}", self.place.target().display()))
    }
}

/// What is said of transparency that an encoder does not have.
fn clear(encoder: &str) -> String {
    format!(
        "transparency ({encoder} has none, so frames are shown over black; -o x.mov --codec prores_ks, -o x.webm --codec \
         libvpx-vp9, .apng, .webp and .gif keep it)"
    )
}

/// A container by the ending of a file's name. `animated`: a `.png` is an animated one.
fn container(path: &Path, animated: bool) -> Result<context::Output> {
    let url = url(path)?;
    let png = animated && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    let name = if png { c"apng".as_ptr() } else { std::ptr::null() };
    let mut raw = std::ptr::null_mut();
    // SAFETY: FFmpeg allocates a context, which is then owned, or leaves null.
    unsafe {
        ffi::avformat_alloc_output_context2(&mut raw, std::ptr::null(), name, url.as_ptr());
        let known = !raw.is_null();
        let target = known.then(|| context::Output::wrap(raw));
        // Formats that write files of their own (image sequences) or need none cannot be renamed as a whole.
        let single = |t: &context::Output| (*(*t.as_ptr()).oformat).flags & ffi::AVFMT_NOFILE == 0;
        target.filter(single).ok_or_else(|| {
            Error::usage(format!("{}: no video container has this ending; write a .mp4, .mkv or .webm", path.display()))
        })
    }
}

/// Adds the video as the first stream, with what is said about it.
fn add_video(target: &mut context::Output, encoder: &Encoder, output: &Output, container: &str) -> Result<()> {
    let failed = |why: String| Error::failed(format!("adding the video to {container}: {why}"));
    // SAFETY: the new stream belongs to the target; FFmpeg copies the parameters, and side data into its own memory.
    unsafe {
        let context = &*encoder.context.as_ptr();
        let format = (*target.as_ptr()).oformat;
        if ffi::avformat_query_codec(format, context.codec_id, ffi::FF_COMPLIANCE_NORMAL) == 0 {
            let name = &encoder.name;
            return Err(Error::usage(format!("{container} cannot hold what {name} encodes; write a .mkv")));
        }
        let stream = ffi::avformat_new_stream(target.as_mut_ptr(), std::ptr::null());
        let stream = stream.as_mut().ok_or_else(|| failed("out of memory".into()))?;
        check(ffi::avcodec_parameters_from_context(stream.codecpar, context)).map_err(failed)?;
        stream.time_base = context.time_base;
        if output.is_steady() {
            stream.avg_frame_rate = context.framerate;
        }
        stream.sample_aspect_ratio = context.sample_aspect_ratio;
        for data in &output.side_data {
            let memory = ffi::av_stream_new_side_data(stream, data.kind, data.bytes.len());
            if memory.is_null() {
                return Err(failed("out of memory".into()));
            }
            std::ptr::copy_nonoverlapping(data.bytes.as_ptr(), memory, data.bytes.len());
        }
    }
    Ok(())
}
