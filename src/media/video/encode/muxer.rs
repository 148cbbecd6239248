//! Writes the container: packets of the video, interleaved with the source's other streams.

use ffmpeg_next::{Packet, ffi, format::context, packet::Mut};

use super::{
    chunk_record::EncodeTotals,
    container::add_video,
    encoder::Encoder,
    readback::ExpectedTags,
    remux::Remuxer,
    spec::{Summary, VideoOptions, VideoSpec},
    verify::{self, ExpectedFrames},
};
use crate::{
    error::{At, Error, Result},
    files::PendingFile,
    media::video::{
        animation::webp::set_last_delay,
        ffmpeg::{self, c_string, check, reason, url},
        probe::other_streams,
        rational::Rational,
        side_data::SideData,
    },
};

/// A container file that is being written.
pub(super) struct Muxer {
    pub pending: PendingFile,
    target: context::Output,
    remuxer: Option<Remuxer>,
    size: (usize, usize),
    /// Time base of the video's packets.
    time_base: Rational,
    start: f64,
    side_data: Vec<SideData>,
    verify: bool,
    left_out_before: Vec<String>,
    /// FFmpeg's name of the container.
    container: String,
    /// Loop count of an animated picture, 0: endless.
    plays: Option<u32>,
    /// Whether the packets come from several encoders in turn.
    pub concatenates: bool,
    /// Decoding time stamp of the last packet.
    last: Option<i64>,
}

impl Muxer {
    /// Opens the temporary file and writes the container header.
    pub(super) fn open(
        pending: PendingFile,
        mut target: context::Output,
        container: String,
        options: &VideoOptions,
        spec: &VideoSpec,
        encoder: &mut Encoder,
    ) -> Result<Self> {
        let path = pending.target();
        add_video(&mut target, encoder, spec, &container).at(path.display())?;
        for (key, value) in &spec.metadata {
            // SAFETY: the context's dictionary. FFmpeg copies both strings.
            unsafe {
                let metadata = &mut (*target.as_mut_ptr()).metadata;
                ffi::av_dict_set(metadata, c_string(key).as_ptr(), c_string(value).as_ptr(), 0);
            }
        }
        let animation = matches!(container.as_str(), "apng" | "webp");
        let source = spec.source.as_deref();
        let beside = source.filter(|_| animation).map(other_streams).transpose()?;
        let open = |source| Remuxer::open(source, spec.time_range, &mut target);
        let remuxer = source.filter(|_| !animation).map(open).transpose()?;
        let mut left_out_before = spec.left_out.clone();
        left_out_before.extend(beside.unwrap_or_default());
        let muxer = Self {
            pending,
            target,
            remuxer,
            size: (spec.width, spec.height),
            // SAFETY: the encoder is open and owned.
            time_base: unsafe { (*encoder.context.as_ptr()).time_base }.into(),
            start: spec.start,
            side_data: spec.side_data.clone(),
            verify: options.verify,
            left_out_before,
            plays: animation.then(|| spec.plays.unwrap_or(0)),
            container,
            concatenates: false,
            last: None,
        };
        muxer.write_header(std::mem::take(&mut encoder.unused), &encoder.name)
    }

    fn write_header(mut self, mut unused: Vec<(String, String)>, encoder: &str) -> Result<Self> {
        let url = url(self.pending.temporary())?;
        if let Some(plays) = self.plays {
            unused.push((if self.container == "apng" { "plays" } else { "loop" }.into(), plays.to_string()));
        }
        let dictionary: ffmpeg_next::Dictionary = unused.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        ffmpeg::clear_line();
        // SAFETY: the context owns the file that it opens. The dictionary is owned again afterwards.
        let (code, left) = unsafe {
            let raw = &mut *self.target.as_mut_ptr();
            // No random numbers in the file: the same frames give the same bytes.
            raw.flags |= ffi::AVFMT_FLAG_BITEXACT;
            check(ffi::avio_open(&mut raw.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE)).map_err(|e| self.failed(&e))?;
            let mut left = dictionary.disown();
            let code = ffi::avformat_write_header(self.target.as_mut_ptr(), &mut left);
            (code, ffmpeg_next::Dictionary::own(left))
        };
        check(code).map_err(|e| self.failed(&e))?;
        let unknown: Vec<_> = left.iter().map(|(key, _)| key.to_owned()).collect();
        if !unknown.is_empty() {
            return Err(Error::usage(format!(
                "neither {encoder} nor the container has the option -e {}",
                unknown.join(", ")
            )));
        }
        self.check_disk()?;
        Ok(self)
    }

    /// Writes one packet of the video, after the packets of other streams that are due before it.
    pub(super) fn write(&mut self, mut packet: Packet) -> Result<()> {
        // SAFETY: the first stream is the video. The container has chosen its time base.
        let to = unsafe { (**(*self.target.as_ptr()).streams).time_base };
        if let Some(dts) = packet.dts().filter(|_| self.concatenates) {
            // An encoder that reorders frames starts decoding before its first frame is displayed, when the previous
            // encoder has not ended. All frames of the previous encoder are displayed earlier, so every packet still
            // gets its own tick.
            let due = self.last.map_or(dts, |last| dts.max(last + 1));
            packet.set_dts(Some(due));
            self.last = Some(due);
        }
        let due = packet.dts().unwrap_or(0) as f64 * self.time_base.value() + self.start;
        if let Some(remuxer) = &mut self.remuxer {
            remuxer.copy_until(&mut self.target, Some(due)).at(self.pending.target().display())?;
        }
        packet.rescale_ts(ffi::AVRational::from(self.time_base), to);
        let shift = (self.start / Rational::from(to).value()).round() as i64;
        packet.set_pts(packet.pts().map(|t| t + shift));
        packet.set_dts(packet.dts().map(|t| t + shift));
        packet.set_stream(0);
        ffmpeg::clear_line();
        // SAFETY: the container takes the packet's reference and leaves the packet empty.
        let code = unsafe { ffi::av_interleaved_write_frame(self.target.as_mut_ptr(), packet.as_mut_ptr()) };
        check(code).map_err(|why| self.failed(&why))?;
        Ok(())
    }

    /// Copies the rest of the other streams, closes the file and checks it.
    pub(super) fn close(mut self, encoder: Encoder, totals: &EncodeTotals) -> Result<(PendingFile, Summary)> {
        if let Some(remuxer) = &mut self.remuxer {
            remuxer.copy_until(&mut self.target, None).at(self.pending.target().display())?;
        }
        self.set_apng_final_delay(totals.last);
        ffmpeg::clear_line();
        // SAFETY: the header was written, and this is called once.
        check(unsafe { ffi::av_write_trailer(self.target.as_mut_ptr()) }).map_err(|why| self.failed(&why))?;
        // SAFETY: the context's open file.
        unsafe { ffi::avio_flush((*self.target.as_mut_ptr()).pb) };
        self.check_disk()?;
        let frames = totals.frames;
        let duration = (totals.span.1 - totals.span.0) as f64 * self.time_base.value();
        // Containers store when frames start. Some leave the end of the last frame to be guessed.
        let slack = (2 * totals.longest) as f64 * self.time_base.value();
        let Self { pending, target, remuxer, side_data, left_out_before, container, size, verify, .. } = self;
        let expected = ExpectedTags::of(&target, &side_data, encoder.tags, encoder.is_rgb);
        drop(target);
        if container == "webp" {
            set_last_delay(pending.temporary(), (duration * 1e3).round() as u32)?;
        }
        let written = ExpectedFrames { size, frames, duration, slack, pixels: totals.pixels.clone() };
        let check = |found: Result<(), String>| {
            found.map_err(|why| Error::failed(format!("writing {}: {why}; write it again", pending.target().display())))
        };
        check(verify::packets(pending.temporary(), &written))?;
        if verify {
            check(verify::decoded(pending.temporary(), &written))?;
        }
        let missing = expected.missing(pending.temporary())?;
        let mut left_out = left_out_before;
        left_out.extend(encoder.left_out);
        left_out.extend(missing);
        left_out.extend(totals.flattened.then(|| flattened(&encoder.name)));
        left_out.extend(remuxer.map(|c| c.left_out).unwrap_or_default());
        Ok((pending, Summary { frames, bytes: 0, duration, encoder: encoder.name, left_out }))
    }

    /// Sets the duration of the last frame of an APNG, in ticks. Other durations follow from the next frame.
    fn set_apng_final_delay(&mut self, last: i64) {
        if self.container == "apng" {
            let length = Rational::new(i32::try_from(last).unwrap_or(1), 1).value() * self.time_base.value();
            let delay = c_string(&format!("{}/1000", (length * 1e3).round()));
            // SAFETY: the muxer's private options, which it reads when the file is closed.
            unsafe {
                ffi::av_opt_set((*self.target.as_mut_ptr()).priv_data, c"final_delay".as_ptr(), delay.as_ptr(), 0)
            };
        }
    }

    /// Reports write errors of the file. Containers ignore them.
    pub(super) fn check_disk(&self) -> Result<()> {
        // SAFETY: the context's open file.
        let code = unsafe { (*(*self.target.as_ptr()).pb).error };
        if code < 0 { Err(self.failed(&reason(code))) } else { Ok(()) }
    }

    /// An error that names the output file.
    pub(super) fn failed(&self, why: &str) -> Error {
        Error::failed(format!("writing {}: {why}", self.pending.target().display()))
    }
}

/// The warning for transparency that an encoder does not support.
fn flattened(encoder: &str) -> String {
    format!(
        "transparency ({encoder} does not support it, so frames are blended over black; -o x.mov --codec prores_ks, -o x.webm --codec \
         libvpx-vp9, .apng, .webp and .gif keep it)"
    )
}
