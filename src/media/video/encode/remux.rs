//! Copies the source's other streams without re-encoding: audio, subtitles, cover art, attachments, chapters, metadata.
//!
//! With a time range, audio is cut between packets; subtitles and chapters are cut to the range. All streams are
//! shifted by the same time, so they stay in sync with the video.

use std::path::Path;

use ffmpeg_next::{
    Packet, ffi,
    format::context::{Input, Output},
    packet::Mut,
};

use super::{container::stores, subtitle::Recoder};
use crate::{
    error::{Error, Result},
    media::video::{
        decode::{
            info::{self, StreamInfo, StreamKind},
            time_jump::TimeJumps,
            timing::TimeRange,
        },
        ffmpeg::{self, c_string, check, reason, text},
        open::open,
    },
};

/// Metadata that describes the bytes of the source file, not its content.
const STALE: [&str; 10] = [
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "software",
    "duration",
    "rotate",
    "timecode",
    "bps",
    "alpha_mode",
];

/// Copies the source's other streams to the output.
pub(crate) struct Remuxer {
    input: Input,
    jumps: TimeJumps,
    /// For each stream of the source: its index in the output and the last decoding time stamp written there.
    targets: Vec<Option<(usize, i64)>>,
    /// For each stream of the source: a converter for subtitles that the container does not support.
    recoders: Vec<Option<Recoder>>,
    /// A packet that was read but is not due yet.
    pending: Option<Packet>,
    /// Time stamp of the source that is zero in the output, in microseconds.
    origin: i64,
    /// End of the time range in seconds of the output; `None`: the whole source is copied.
    end: Option<f64>,
    finished: bool,
    /// Streams that are not copied, each a phrase.
    pub left_out: Vec<String>,
}

impl Remuxer {
    /// Adds the source's streams, chapters and metadata to an output whose first stream is the video.
    ///
    /// Errors: the source cannot be read, or the container does not support the codec of its audio.
    pub(crate) fn open(source: &Path, range: Option<TimeRange>, target: &mut Output) -> Result<Self> {
        let input = open(source)?;
        let video = info::of_input(&input, source)?;
        let mut remuxer = Self {
            targets: Vec::new(),
            recoders: Vec::new(),
            pending: None,
            origin: video.origin + range.map_or(0, |range| (range.begin * 1e6).round() as i64),
            end: range.map(|range| range.end - range.begin),
            finished: true,
            left_out: Vec::new(),
            jumps: TimeJumps::new(&input),
            input,
        };
        let mut copied_streams = Vec::new();
        for stream in &video.streams {
            let recoder = if stream.kind == StreamKind::Subtitle { remuxer.recoder(stream, target) } else { None };
            remuxer.recoders.push(recoder);
            let copied = stream.index != video.index && remuxer.can_copy(stream, target)?;
            let number = if copied { remuxer.add_stream(stream, target)? } else { None };
            remuxer.targets.push(number.map(|n| (n, i64::MIN)));
            remuxer.finished &= number.is_none();
            copied_streams.push(copied);
        }
        let Self { jumps, input, .. } = &mut remuxer;
        jumps.keep_only(input, |index| copied_streams.get(index).copied().unwrap_or(false));
        remuxer.copy_descriptions(video.index, target);
        Ok(remuxer)
    }

    /// A converter for text subtitles whose codec the container does not support.
    fn recoder(&mut self, stream: &StreamInfo, target: &Output) -> Option<Recoder> {
        // SAFETY: a stream of the source and the format of the target, both only read.
        let (fits, container, source) = unsafe {
            let format = (*target.as_ptr()).oformat;
            let source = &**(*self.input.as_ptr()).streams.add(stream.index);
            (stores(format, (*source.codecpar).codec_id) == Some(true), text((*format).name), source)
        };
        let recoder = if fits { None } else { Recoder::new(source, &container) }?;
        if matches!(stream.codec.as_str(), "ass" | "ssa") {
            let (index, name) = (stream.index, &recoder.name);
            self.left_out
                .push(format!("positions and styles of the subtitles (stream {index}) that {name} does not support"));
        }
        Some(recoder)
    }

    /// Whether to copy a stream.
    fn can_copy(&mut self, stream: &StreamInfo, target: &Output) -> Result<bool> {
        let (index, codec) = (stream.index, &stream.codec);
        // SAFETY: a stream of the source and the format of the target, both only read.
        let (fits, container) = unsafe {
            let format = (*target.as_ptr()).oformat;
            let parameters = (**(*self.input.as_ptr()).streams.add(index)).codecpar;
            (stores(format, (*parameters).codec_id) == Some(true), text((*format).name))
        };
        let fits = match stream.kind {
            // Second videos and time codes belong to the old frames. The meaning of data streams is unknown.
            StreamKind::Video | StreamKind::Data => false,
            StreamKind::Attachment => container == "matroska",
            StreamKind::Picture if container == "matroska" => matches!(codec.as_str(), "png" | "mjpeg"),
            StreamKind::Subtitle => fits || self.recoders[index].is_some(),
            _ => fits,
        };
        if !fits && stream.kind == StreamKind::Audio {
            return Err(Error::usage(format!(
                "{container} does not support the source's audio codec (stream {index}, {codec}); use .mkv"
            )));
        }
        // SAFETY: as above. MP4 and MOV store chapter titles in a text track, which the muxer writes again.
        let titles = unsafe {
            let parameters = (**(*self.input.as_ptr()).streams.add(index)).codecpar;
            (*parameters).codec_tag == u32::from_le_bytes(*b"text") && (*self.input.as_ptr()).nb_chapters > 0
        };
        if !fits && !titles {
            self.left_out.push(format!("stream {index} ({:?}, {codec})", stream.kind).to_lowercase());
        }
        Ok(fits)
    }

    /// Adds a stream to the output, with the source's parameters. Returns its index; `None`: it has no packets.
    fn add_stream(&self, stream: &StreamInfo, target: &mut Output) -> Result<Option<usize>> {
        let index = stream.index;
        let failed = |why| Error::failed(format!("copying stream {index} of the source: {why}"));
        // SAFETY: a stream of the source is read and a new one of the target is filled. The target frees it.
        unsafe {
            let old = *(*self.input.as_ptr()).streams.add(index);
            let new = ffi::avformat_new_stream(target.as_mut_ptr(), std::ptr::null());
            if new.is_null() {
                return Err(failed("out of memory".into()));
            }
            check(ffi::avcodec_parameters_copy((*new).codecpar, (*old).codecpar)).map_err(failed)?;
            if let Some(recoder) = &self.recoders[index] {
                recoder.describe(&mut *(*new).codecpar).map_err(failed)?;
            }
            // The container chooses its own codec tag.
            (*(*new).codecpar).codec_tag = 0;
            ((*new).time_base, (*new).disposition) = ((*old).time_base, (*old).disposition);
            (*new).avg_frame_rate = (*old).avg_frame_rate;
            copy_metadata((*old).metadata, &mut (*new).metadata);
            if stream.kind == StreamKind::Picture && text((*(*target.as_ptr()).oformat).name) == "matroska" {
                attach(&*old, &mut *new).map_err(failed)?;
                return Ok(None);
            }
            Ok(Some((*new).index as usize))
        }
    }

    /// Copies chapters and metadata.
    fn copy_descriptions(&self, video: usize, target: &mut Output) {
        for chapter in self.input.chapters() {
            let base = chapter.time_base();
            let shift = rescale(self.origin, MICROSECONDS, base.into());
            let (mut start, mut end) = (chapter.start() - shift, chapter.end() - shift);
            if let Some(length) = self.end {
                let length = rescale((length * 1e6).round() as i64, MICROSECONDS, base.into());
                if end <= 0 || start >= length {
                    continue;
                }
                (start, end) = (start.max(0), end.min(length));
            }
            let title = chapter.metadata().get("title").unwrap_or_default().to_owned();
            // FFmpeg rejects a chapter that ends before it starts.
            let _ = target.add_chapter(chapter.id(), base, start, end, title);
        }
        // SAFETY: dictionaries of structures that are owned here.
        unsafe {
            let (from, to) = (&*self.input.as_ptr(), &mut *target.as_mut_ptr());
            copy_metadata(from.metadata, &mut to.metadata);
            copy_metadata((**from.streams.add(video)).metadata, &mut (**to.streams).metadata);
            (**to.streams).disposition = (**from.streams.add(video)).disposition;
        }
    }

    /// Writes all packets that are due before `until` (seconds from the start), or all packets.
    pub(crate) fn copy_until(&mut self, target: &mut Output, until: Option<f64>) -> Result<()> {
        while !self.finished {
            let packet = match self.pending.take() {
                Some(packet) => packet,
                None => match self.next()? {
                    Some(packet) => packet,
                    None => break,
                },
            };
            if until.is_some_and(|until| self.time(&packet) > until) {
                self.pending = Some(packet);
                return Ok(());
            }
            // Packets of different streams with similar times are near each other, so nothing relevant follows.
            if self.end.is_some_and(|end| self.time(&packet) > end + 60.0) {
                break;
            }
            if let Some(packet) = self.cut(packet) {
                self.write(packet, target)?;
            }
        }
        self.finished = true;
        Ok(())
    }

    /// Reads the next packet of a copied stream.
    fn next(&mut self) -> Result<Option<Packet>> {
        loop {
            let mut packet = Packet::empty();
            match self.jumps.read(&mut self.input, &mut packet) {
                ffi::AVERROR_EOF => return Ok(None),
                code if code < 0 => {
                    return Err(Error::failed(format!("reading the source's other streams: {}", reason(code))));
                }
                _ if self.targets.get(packet.stream()).is_some_and(Option::is_some) => return Ok(Some(packet)),
                _ => {}
            }
        }
    }

    /// When a packet is due, in seconds from the start.
    fn time(&self, packet: &Packet) -> f64 {
        let base = info::streams(&self.input)[packet.stream()].time_base;
        let stamp = packet.dts().or(packet.pts()).unwrap_or(0);
        stamp as f64 * f64::from(base.num) / f64::from(base.den) - self.origin as f64 * 1e-6
    }

    /// Cuts a packet to the time range. Audio packets that start in the range are copied unchanged; subtitles are shortened.
    /// Packets of attached pictures have no time.
    fn cut(&self, mut packet: Packet) -> Option<Packet> {
        let Some(end) = self.end else { return Some(packet) };
        let stream = info::streams(&self.input)[packet.stream()];
        let base = f64::from(stream.time_base.num) / f64::from(stream.time_base.den);
        let begin = self.time(&packet);
        let kind = info::describe(stream).kind;
        match kind {
            StreamKind::Audio => (begin > -1e-6 && begin < end - 1e-6).then_some(packet),
            StreamKind::Subtitle => {
                let last = begin + packet.duration().max(0) as f64 * base;
                let (from, to) = (begin.max(0.0), last.min(end));
                if begin >= end || last <= 0.0 && begin < 0.0 {
                    return None;
                }
                let moved = ((from - begin) / base).round() as i64;
                packet.set_pts(packet.pts().map(|t| t + moved));
                packet.set_dts(packet.dts().map(|t| t + moved));
                if packet.duration() > 0 {
                    packet.set_duration(((to - from) / base).round().max(1.0) as i64);
                }
                Some(packet)
            }
            _ => Some(packet),
        }
    }

    fn write(&mut self, mut packet: Packet, target: &mut Output) -> Result<()> {
        let index = packet.stream();
        if let Some(Some(recoder)) = self.recoders.get_mut(index) {
            let recoded = recoder.recode(&mut packet);
            let failed = |why| Error::failed(format!("converting the subtitles of stream {index}: {why}"));
            match recoded.map_err(failed)? {
                Some(new) => packet = new,
                None => return Ok(()),
            }
        }
        let Some(Some((number, last))) = self.targets.get_mut(index) else { return Ok(()) };
        let from = info::streams(&self.input)[index].time_base;
        // SAFETY: the stream that `add_stream` created. The container has chosen its time base.
        let to = unsafe { (**(*target.as_ptr()).streams.add(*number)).time_base };
        let shift = rescale(self.origin, MICROSECONDS, from);
        packet.set_pts(packet.pts().map(|t| t - shift));
        packet.set_dts(packet.dts().map(|t| t - shift));
        packet.rescale_ts(from, to);
        // Damaged recordings contain decreasing time stamps, which containers reject. The packet moves to one tick
        // after the previous one.
        if let Some(dts) = packet.dts() {
            let due = dts.max(last.saturating_add(1));
            packet.set_dts(Some(due));
            packet.set_pts(packet.pts().map(|t| t.max(due)));
            *last = due;
        }
        packet.set_stream(*number);
        packet.set_position(-1);
        ffmpeg::clear_line();
        // SAFETY: the target takes the packet's reference and leaves the packet empty.
        let code = unsafe { ffi::av_interleaved_write_frame(target.as_mut_ptr(), packet.as_mut_ptr()) };
        check(code).map_err(|why| Error::failed(format!("copying stream {index} of the source: {why}")))?;
        Ok(())
    }
}

/// Turns cover art into an attachment, which is how Matroska stores pictures. As a stream it would be a second video.
///
/// # Safety
/// `old` is a stream with an attached picture; `new` is a stream of another container whose header is not written yet.
unsafe fn attach(old: &ffi::AVStream, new: &mut ffi::AVStream) -> Result<(), String> {
    let (picture, padding) = (&old.attached_pic, ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize);
    let size = picture.size.max(0) as usize;
    // SAFETY: guaranteed by the caller. The stream's parameters own the copy.
    unsafe {
        let parameters = &mut *new.codecpar;
        let name = if parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_PNG { "png" } else { "jpg" };
        let media = if name == "png" { c"image/png" } else { c"image/jpeg" };
        let data: *mut u8 = ffi::av_mallocz(size + padding).cast();
        if data.is_null() {
            return Err("out of memory".into());
        }
        std::ptr::copy_nonoverlapping(picture.data, data, size);
        ffi::av_freep((&raw mut parameters.extradata).cast());
        (parameters.extradata, parameters.extradata_size) = (data, size as i32);
        parameters.codec_type = ffi::AVMediaType::AVMEDIA_TYPE_ATTACHMENT;
        let keep = ffi::AV_DICT_DONT_OVERWRITE;
        let file = c_string(&format!("cover.{name}"));
        ffi::av_dict_set(&mut new.metadata, c"filename".as_ptr(), file.as_ptr(), keep);
        ffi::av_dict_set(&mut new.metadata, c"mimetype".as_ptr(), media.as_ptr(), keep);
    }
    new.disposition = 0;
    Ok(())
}

const MICROSECONDS: ffi::AVRational = ffi::AVRational { num: 1, den: 1_000_000 };

fn rescale(value: i64, from: ffi::AVRational, to: ffi::AVRational) -> i64 {
    // SAFETY: pure arithmetic.
    unsafe { ffi::av_rescale_q(value, from, to) }
}

/// Copies metadata that describes the content. Existing entries are kept.
///
/// # Safety
/// `from` is null or a dictionary; `to` is the dictionary field of a structure.
unsafe fn copy_metadata(from: *const ffi::AVDictionary, to: &mut *mut ffi::AVDictionary) {
    for (key, value) in info::pairs(from) {
        let lower = key.to_ascii_lowercase();
        let counted = lower.starts_with("_statistics") || lower.starts_with("number_of_");
        if !counted && !STALE.contains(&lower.as_str()) {
            let keep = ffi::AV_DICT_DONT_OVERWRITE;
            // SAFETY: guaranteed by the caller. FFmpeg copies both strings.
            unsafe { ffi::av_dict_set(to, c_string(&key).as_ptr(), c_string(&value).as_ptr(), keep) };
        }
    }
}
