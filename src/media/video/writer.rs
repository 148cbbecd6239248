//! Frames to a video file.

use std::path::Path;

use ffmpeg_next::{Packet, ffi, format::context, packet::Mut};

use super::{
    Rational, animation,
    chunk::{Chunk, Packets},
    copy::Copies,
    encode::{Encode, Given},
    ffmpeg::{self, c_string, check, reason, text, url},
    info::SideData,
    kept::Asked,
    output::{Encoder, VideoOptions, VideoSpec},
    verify::{self, Written},
};
use crate::{
    error::{At, Error, Result},
    media::{PendingFile, format::FileFormat},
    tensor::Frame,
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
/// [`Writer::finish`] ([`PendingFile`]); dropped before, it leaves nothing behind.
///
/// It holds the frames that the encoder looks ahead at, and of the other streams what lies within ten seconds.
pub struct Writer {
    encode: Encode,
    muxer: Muxer,
}

// SAFETY: all parts are owned by the writer, and FFmpeg's contexts may move between threads.
unsafe impl Send for Writer {}

impl Writer {
    /// Opens the encoder and the file, and writes what stands before the first frame.
    ///
    /// Errors: a name without a container, a name that is taken, an unknown encoder (lists those there are), pixel
    /// format or option, a codec or sound that the container cannot hold, a folder that cannot be written.
    pub fn create(place: PendingFile, options: &VideoOptions, output: &VideoSpec) -> Result<Self> {
        let (target, form) = container(place.target(), output.plays.is_some())?;
        let mut encode = Encode::open(form.wants(), options, output, place.target().into(), None)?;
        let muxer = Muxer::begin(place, target, form.name, options, output, &mut encode.encoder)?;
        Ok(Self { encode, muxer })
    }

    /// Encodes the next frame, a tick after the one before.
    ///
    /// Errors: those of [`Writer::write_at`].
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        self.write_at(frame, self.encode.given.span.1, 1)
    }

    /// Encodes a frame that is shown from `pts` for `duration` ticks of [`VideoSpec::time_base`]: RGB or RGBA of the output's
    /// size, 8 or 16 bits. Where the encoder has no transparency, frames are shown over black. Time stamps count from
    /// [`VideoSpec::start`]. Waits for the encoder and the disk.
    ///
    /// Errors: another size, transparency that was not announced, a time stamp that is not after the last, a failing encoder, a full disk.
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let Self { encode, muxer } = self;
        encode.write_at(frame, pts, duration, &mut |packet| muxer.mux(packet))?;
        muxer.check_disk()
    }

    /// Encodes what is left, copies what is left and closes the file, which is not named yet.
    ///
    /// Errors: no frame was written, a failing encoder, a full disk.
    pub fn close(mut self) -> Result<(PendingFile, Summary)> {
        if self.encode.is_empty() {
            return Err(self.muxer.failed("a video has at least one frame, and there was none"));
        }
        let Self { encode, muxer } = &mut self;
        encode.finish(&mut |packet| muxer.mux(packet))?;
        self.muxer.close(self.encode.encoder, &self.encode.given)
    }
}

/// Opens encoder and container and lets them go.
pub(super) fn rehearse(place: PendingFile, options: &VideoOptions, output: &VideoSpec) -> Result<PendingFile> {
    let (target, form) = container(place.target(), output.plays.is_some())?;
    let mut encode = Encode::open(form.wants(), options, output, place.target().into(), None)?;
    Muxer::begin(place, target, form.name, options, output, &mut encode.encoder).map(|muxer| muxer.place)
}

/// Writes a file from finished chunks, whose packets are copied, and what travels beside them in the source; the file is not named
/// yet. It is a function of the chunks, the output and the source alone.
///
/// Errors: a chunk that cannot be read, or that an encoder of another kind made; a full disk; those of [`Writer::create`].
pub(super) fn join(
    place: PendingFile,
    options: &VideoOptions,
    output: &VideoSpec,
    chunks: &[Chunk],
) -> Result<(PendingFile, Summary)> {
    let (target, form) = container(place.target(), output.plays.is_some())?;
    let given = chunks.last().map(|c| c.given.clone()).unwrap_or_default();
    let mut encode = Encode::open(form.wants(), options, output, place.target().into(), Some(given))?;
    let mut muxer = Muxer::begin(place, target, form.name, options, output, &mut encode.encoder)?;
    muxer.joins = true;
    let head = encode.head();
    for chunk in chunks {
        let packets = Packets::open(&chunk.file)?;
        if packets.head != head {
            let (file, name) = (chunk.file.display(), &encode.encoder.name);
            return Err(muxer.failed(&format!(
                "{file} was made by another {name} than this one, and both do not go together; --overwrite starts anew"
            )));
        }
        for packet in packets {
            crate::progress::check()?;
            muxer.mux(packet?)?;
        }
        muxer.check_disk()?;
    }
    muxer.close(encode.encoder, &encode.given)
}

/// The file: packets of the video, and the source's other streams between them.
struct Muxer {
    place: PendingFile,
    target: context::Output,
    copies: Option<Copies>,
    size: (usize, usize),
    /// Of the video's packets.
    time_base: Rational,
    start: f64,
    side_data: Vec<SideData>,
    verify: bool,
    told: Vec<String>,
    /// FFmpeg's name of the container.
    container: String,
    /// How often an animated picture plays, 0 for endlessly.
    plays: Option<u32>,
    /// Whether packets are those of several encoders, one after the other.
    joins: bool,
    /// The last packet's decoding time stamp.
    last: Option<i64>,
}

impl Muxer {
    /// Opens the temporary file and writes the container's head.
    fn begin(
        place: PendingFile,
        mut target: context::Output,
        container: String,
        options: &VideoOptions,
        output: &VideoSpec,
        encoder: &mut Encoder,
    ) -> Result<Self> {
        let path = place.target();
        add_video(&mut target, encoder, output, &container).at(path.display())?;
        for (key, value) in &output.metadata {
            // SAFETY: the context's dictionary; FFmpeg copies both strings.
            unsafe {
                let metadata = &mut (*target.as_mut_ptr()).metadata;
                ffi::av_dict_set(metadata, c_string(key).as_ptr(), c_string(value).as_ptr(), 0);
            }
        }
        let animation = matches!(container.as_str(), "apng" | "webp");
        let source = output.source.as_deref();
        let beside = source.filter(|_| animation).map(animation::beside).transpose()?;
        let open = |source| Copies::open(source, output.time_range, &mut target);
        let copies = source.filter(|_| !animation).map(open).transpose()?;
        let mut told = output.left_out.clone();
        told.extend(beside.unwrap_or_default());
        let muxer = Self {
            place,
            target,
            copies,
            size: (output.width, output.height),
            // SAFETY: the encoder is open and owned.
            time_base: unsafe { (*encoder.context.as_ptr()).time_base }.into(),
            start: output.start,
            side_data: output.side_data.clone(),
            verify: options.verify,
            told,
            plays: animation.then(|| output.plays.unwrap_or(0)),
            container,
            joins: false,
            last: None,
        };
        muxer.head(std::mem::take(&mut encoder.unused), &encoder.name)
    }

    fn head(mut self, mut unused: Vec<(String, String)>, encoder: &str) -> Result<Self> {
        let url = url(self.place.temporary())?;
        if let Some(plays) = self.plays {
            unused.push((if self.container == "apng" { "plays" } else { "loop" }.into(), plays.to_string()));
        }
        let dictionary: ffmpeg_next::Dictionary = unused.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        ffmpeg::clear_line();
        // SAFETY: the context owns the file it opens; the dictionary is owned again afterwards.
        let (code, left) = unsafe {
            let raw = &mut *self.target.as_mut_ptr();
            // No random numbers: the same frames make the same file.
            raw.flags |= ffi::AVFMT_FLAG_BITEXACT;
            check(ffi::avio_open(&mut raw.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE)).map_err(|e| self.failed(&e))?;
            let mut left = dictionary.disown();
            let code = ffi::avformat_write_header(self.target.as_mut_ptr(), &mut left);
            (code, ffmpeg_next::Dictionary::own(left))
        };
        check(code).map_err(|e| self.failed(&e))?;
        let unknown: Vec<_> = left.iter().map(|(key, _)| key.to_owned()).collect();
        if !unknown.is_empty() {
            return Err(Error::usage(format!("neither {encoder} nor the container knows -e {}", unknown.join(", "))));
        }
        self.check_disk()?;
        Ok(self)
    }

    /// Writes one packet of the video, after what is due of the other streams.
    fn mux(&mut self, mut packet: Packet) -> Result<()> {
        // SAFETY: the first stream is the video; the container has chosen its time base.
        let to = unsafe { (**(*self.target.as_ptr()).streams).time_base };
        if let Some(dts) = packet.dts().filter(|_| self.joins) {
            // An encoder that reorders frames begins before its first one, where the one before it has not ended. Each frame of
            // that one is shown before all of this one, so there is a tick for every packet.
            let due = self.last.map_or(dts, |last| dts.max(last + 1));
            packet.set_dts(Some(due));
            self.last = Some(due);
        }
        let due = packet.dts().unwrap_or(0) as f64 * self.time_base.value() + self.start;
        if let Some(copies) = &mut self.copies {
            copies.pump(&mut self.target, Some(due)).at(self.place.target().display())?;
        }
        packet.rescale_ts(ffi::AVRational::from(self.time_base), to);
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

    /// Copies what is left, closes the file and reads it again.
    fn close(mut self, encoder: Encoder, given: &Given) -> Result<(PendingFile, Summary)> {
        if let Some(copies) = &mut self.copies {
            copies.pump(&mut self.target, None).at(self.place.target().display())?;
        }
        self.end_apng(given.last);
        ffmpeg::clear_line();
        // SAFETY: the header was written; this is called once.
        check(unsafe { ffi::av_write_trailer(self.target.as_mut_ptr()) }).map_err(|why| self.failed(&why))?;
        // SAFETY: the context's open file.
        unsafe { ffi::avio_flush((*self.target.as_mut_ptr()).pb) };
        self.check_disk()?;
        let frames = given.frames;
        let duration = (given.span.1 - given.span.0) as f64 * self.time_base.value();
        // Containers tell when frames begin; that the last one ends, some leave to be guessed.
        let slack = (2 * given.longest) as f64 * self.time_base.value();
        let Self { place, target, copies, side_data, told, container, size, verify, .. } = self;
        let asked = Asked::of(&target, &side_data, encoder.tags, encoder.is_rgb);
        drop(target);
        if container == "webp" {
            animation::end_webp(place.temporary(), (duration * 1e3).round() as u32)?;
        }
        let written = Written { size, frames, duration, slack, pixels: given.pixels.clone() };
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
        left_out.extend(given.flattened.then(|| clear(&encoder.name)));
        left_out.extend(copies.map(|c| c.left_out).unwrap_or_default());
        Ok((place, Summary { frames, bytes: 0, duration, encoder: encoder.name, left_out }))
    }

    /// Tells an APNG how long its last frame is shown, in ticks: others are told by the next one.
    fn end_apng(&mut self, last: i64) {
        if self.container == "apng" {
            let length = Rational::new(i32::try_from(last).unwrap_or(1), 1).value() * self.time_base.value();
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

/// What a container is.
pub(super) struct Container {
    /// FFmpeg's name.
    pub name: String,
    global_header: bool,
}

impl Container {
    /// What an encoder has to know of it.
    pub fn wants(&self) -> (&str, bool) {
        (&self.name, self.global_header)
    }
}

/// A container by the ending of a file's name. `animated`: a `.png` is an animated one.
pub(super) fn container(path: &Path, animated: bool) -> Result<(context::Output, Container)> {
    ffmpeg::init();
    let url = url(path)?;
    let format = FileFormat::of_path(path).filter(|format| format.writes_videos() || animated && format.animated);
    let muxer = format.and_then(|format| format.muxer).map(c_string);
    let name = muxer.as_ref().map_or(std::ptr::null(), |name| name.as_ptr());
    let mut raw = std::ptr::null_mut();
    // SAFETY: FFmpeg allocates a context, which is then owned, or leaves null.
    unsafe {
        ffi::avformat_alloc_output_context2(&mut raw, std::ptr::null(), name, url.as_ptr());
        let known = !raw.is_null();
        let target = known.then(|| context::Output::wrap(raw));
        let named = |t: context::Output| {
            let format = &*(*t.as_ptr()).oformat;
            let global_header = format.flags & ffi::AVFMT_GLOBALHEADER != 0;
            (t, Container { name: text(format.name), global_header })
        };
        // Formats that write files of their own (image sequences) or need none cannot be renamed as a whole.
        let single = |t: &context::Output| (*(*t.as_ptr()).oformat).flags & ffi::AVFMT_NOFILE == 0;
        target.filter(single).map(named).ok_or_else(|| {
            Error::usage(format!("{}: no video container has this ending; write a .mp4, .mkv or .webm", path.display()))
        })
    }
}

/// Adds the video as the first stream, with what is said about it.
fn add_video(target: &mut context::Output, encoder: &Encoder, output: &VideoSpec, container: &str) -> Result<()> {
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
