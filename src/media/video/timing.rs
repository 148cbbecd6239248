//! When the frames of a video are shown, read from its packets.

use std::path::Path;

use ffmpeg_next::{
    Packet, ffi,
    format::context::Input,
    packet::{Mut, Ref},
};

use super::{Rational, VideoFrame, VideoInfo, animation::WebP, ffmpeg, info};
use crate::error::{Error, Result};

/// The part of a frame's length by which a time may differ from the rate's, beside the rounding of time stamps.
const JITTER: f64 = 0.02;

/// A part of a file, in seconds from the beginning of its container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeRange {
    /// Where it begins.
    pub begin: f64,
    /// Where it ends; far away where nothing was asked for.
    pub end: f64,
    /// When its first frame is shown, after `begin`.
    pub start: f64,
}

/// Which frames of a stream are a part's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Frames before it.
    pub skip: u64,
    /// Time stamp of its first frame, in ticks of the stream.
    pub first: i64,
    /// Time stamp of the frame after it.
    pub after: i64,
}

/// When frames are shown: what headers only promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Frames a second: exact where `steady`, else the average.
    pub rate: Rational,
    /// Whether every frame has its place at this rate. One in ten places may be empty, as in recordings with gaps.
    pub steady: bool,
    /// Seconds a tick of positions: the length of a frame where `steady`, else a tick of the stream's time stamps.
    pub tick: Rational,
    /// Frames that are shown.
    pub frames: u64,
    /// How long the last one is shown, in ticks.
    pub last: i64,
    /// Position of the last frame, in ticks from the beginning of the video.
    pub end: i64,
    /// Whether packets tell when they are shown. Where not, decoders tell times late by as many frames as they hold.
    pub stamped: bool,
    /// Which frames of the file these are; `None`: all.
    pub window: Option<Window>,
}

impl Timing {
    /// Frames one after another at a rate.
    pub fn at_rate(rate: Rational, frames: u64) -> Self {
        Self {
            rate,
            steady: true,
            tick: rate.inverse(),
            frames,
            last: 1,
            end: frames as i64 - 1,
            stamped: true,
            window: None,
        }
    }

    /// Reads every packet of the video, decoding none; memory grows by eight bytes a frame while it does. Where packets carry no
    /// time stamps, frames are taken to follow one another at the rate that the headers tell. What is damaged is for
    /// [`Reader`](super::Reader) to tell.
    ///
    /// Errors: those of [`probe`](super::probe).
    pub fn read(path: &Path) -> Result<Self> {
        if let Some(webp) = WebP::open(path)? {
            return Ok(webp.timing());
        }
        let mut input = ffmpeg::open(path)?;
        let info = info::of_input(&input, path)?;
        let (mut stamps, bare, last) = packets(&mut input, &info);
        if bare > 0 || stamps.is_empty() {
            let frames = if bare > 0 { bare + stamps.len() as u64 } else { info.frames.unwrap_or(1) };
            return Ok(Self { stamped: false, ..Self::at_rate(info.frame_rate, frames) });
        }
        let stream = info::streams(&input)[info.index];
        let rates = [info.frame_rate, stream.r_frame_rate.into(), stream.avg_frame_rate.into()];
        stamps.sort_unstable();
        Ok(Self::of(&info, &rates, (&stamps, origin(&info)), last))
    }

    /// As [`Timing::read`] of what is shown from `begin` until `end`, in seconds from the beginning of the container: frames that
    /// begin to be shown there. Its first frame has position 0.
    ///
    /// Errors: those of [`probe`](super::probe), a time after the end, no frame between both, an animated WebP.
    pub fn read_range(path: &Path, begin: Option<f64>, end: Option<f64>) -> Result<(Self, TimeRange)> {
        let name = path.display();
        if WebP::open(path)?.is_some() {
            return Err(Error::failed(format!(
                "{name}: an animated WebP has no part to take; leave out --start and --end"
            )));
        }
        let mut input = ffmpeg::open(path)?;
        let info = info::of_input(&input, path)?;
        let (mut stamps, bare, last) = packets(&mut input, &info);
        let (base, rate) = (info.time_base.value(), info.frame_rate);
        let stamped = bare == 0 && !stamps.is_empty();
        stamps.sort_unstable();
        let count = if stamped { 0 } else { (bare + stamps.len() as u64).max(info.frames.unwrap_or(1)) };
        let times: Vec<f64> = match stamped {
            true => stamps.iter().map(|t| *t as f64 * base - info.origin as f64 * 1e-6).collect(),
            false => (0..count).map(|k| info.start + k as f64 / rate.value()).collect(),
        };
        let (near, usual) = (if stamped { 0.5 * base } else { 1e-6 }, 1.0 / rate.value());
        let length = if stamped && last > 0 { last as f64 * base } else { usual };
        let over = times.last().map_or(0.0, |t| t + length);
        for (flag, at, most) in [("--start", begin, over - near), ("--end", end, over + usual + near)] {
            if let Some(at) = at.filter(|at| *at > most) {
                return Err(Error::failed(format!(
                    "{name} ends at {over:.3} s, before {flag} {at}; give a time within it"
                )));
            }
        }
        let index = |at: f64| times.partition_point(|t| *t < at - near);
        let (from, to) = (begin.map_or(0, index), end.map_or(times.len(), index));
        if from >= to {
            let (begin, end) = (begin.unwrap_or(0.0), end.unwrap_or(over));
            return Err(Error::failed(format!(
                "{name} has no frame from {begin} s to {end} s; give a longer part of it"
            )));
        }
        let begin = begin.unwrap_or(0.0);
        let part = TimeRange { begin, end: end.unwrap_or(1e9), start: times[from] - begin };
        let mut window = Window { skip: from as u64, first: 0, after: i64::MAX };
        if !stamped {
            let timing = Self::at_rate(rate, (to - from) as u64);
            return Ok((Self { stamped: false, window: Some(window), ..timing }, part));
        }
        (window.first, window.after) = (stamps[from], stamps.get(to).copied().unwrap_or(i64::MAX));
        let next = stamps.get(to).map_or(last, |next| next - stamps[to - 1]);
        let left = end.map_or(i64::MAX, |end| ((end - times[to - 1]) / base).round().max(1.0) as i64);
        let stream = info::streams(&input)[info.index];
        let rates = [info.frame_rate, stream.r_frame_rate.into(), stream.avg_frame_rate.into()];
        let timing = Self::of(&info, &rates, (&stamps[from..to], stamps[from]), next.min(left));
        Ok((Self { window: Some(window), ..timing }, part))
    }

    /// The timing of frames with these rising time stamps, the last of which is shown for so many ticks; and the stamp of position
    /// 0. `rates`: which may be steady.
    fn of(info: &VideoInfo, rates: &[Rational], (stamps, origin): (&[i64], i64), last: i64) -> Self {
        let base = info.time_base.value();
        let times: Vec<f64> = stamps.iter().map(|t| (t - origin) as f64 * base).collect();
        let frames = times.len() as u64;
        let steady = rates.iter().filter(|r| r.is_known()).find_map(|rate| Some((*rate, places(&times, *rate, base)?)));
        match steady {
            Some((rate, end)) => {
                let last = (last as f64 * base * rate.value()).round().max(1.0) as i64;
                Self { rate, steady: true, tick: rate.inverse(), frames, last, end, stamped: true, window: None }
            }
            None => {
                let usual = (1.0 / (info.frame_rate.value() * base)).round() as i64;
                let last = if last > 0 { last } else { usual.max(1) };
                let end = stamps.last().map_or(0, |t| t - origin);
                let (rate, tick) = (info.frame_rate, info.time_base);
                Self { rate, steady: false, tick, frames, last, end, stamped: true, window: None }
            }
        }
    }

    /// What gives frames their positions.
    pub fn clock(&self, info: &VideoInfo) -> Clock {
        let first = || self.window.map_or_else(|| origin(info), |window| window.first);
        Clock { timing: *self, origin: self.stamped.then(first), base: info.time_base.value(), last: None }
    }
}

/// Time stamps of the packets that are shown, how many more tell none, and how long the last one is shown.
fn packets(input: &mut Input, info: &VideoInfo) -> (Vec<i64>, u64, i64) {
    for stream in &info.streams {
        // SAFETY: a stream of the container; its demuxer then skips the packets.
        unsafe {
            let raw = *(*input.as_mut_ptr()).streams.add(stream.index);
            let ours = stream.index == info.index;
            (*raw).discard = if ours { ffi::AVDiscard::AVDISCARD_DEFAULT } else { ffi::AVDiscard::AVDISCARD_ALL };
        }
    }
    let (mut stamps, mut bare, mut last) = (Vec::new(), 0, (i64::MIN, 0));
    loop {
        let mut packet = Packet::empty();
        // SAFETY: both structures are owned; any error ends the reading.
        let (code, raw) = unsafe { (ffi::av_read_frame(input.as_mut_ptr(), packet.as_mut_ptr()), &*packet.as_ptr()) };
        if code < 0 {
            return (stamps, bare, last.1);
        }
        if raw.stream_index as usize != info.index || raw.flags & ffi::AV_PKT_FLAG_DISCARD != 0 {
            continue;
        }
        if raw.pts == ffi::AV_NOPTS_VALUE {
            bare += 1;
        } else {
            stamps.push(raw.pts);
            last = last.max((raw.pts, raw.duration));
        }
    }
}

/// The time stamp at which the video begins.
fn origin(info: &VideoInfo) -> i64 {
    ((info.start + info.origin as f64 * 1e-6) / info.time_base.value()).round() as i64
}

/// The place of the last frame if all have one of their own at a rate: none between two, not many empty.
fn places(times: &[f64], rate: Rational, tick: f64) -> Option<i64> {
    let allowed = 1.01 * tick * rate.value() + JITTER;
    let mut before = -1.0;
    for time in times {
        let at = time * rate.value();
        let place = at.round();
        if (at - place).abs() > allowed.min(0.4) || place <= before {
            return None;
        }
        before = place;
    }
    let held = times.first().map_or(0.0, |t| before - (t * rate.value()).round() + 1.0);
    (times.len() as f64 >= 0.9 * held).then_some(before as i64)
}

/// Gives decoded frames their positions: ticks of a [`Timing`] from the beginning of the video, rising.
#[derive(Debug, Clone)]
pub struct Clock {
    timing: Timing,
    /// The time stamp of position 0; `None` before the first frame where that is the first's.
    origin: Option<i64>,
    base: f64,
    last: Option<i64>,
}

impl Clock {
    /// Goes on after a frame at this position.
    pub fn go_on(&mut self, last: i64) {
        self.last = Some(last);
    }

    /// Where the next frame is. Time stamps that stand still or step back are one tick later, which is as near as can be.
    pub fn position(&mut self, frame: &VideoFrame) -> i64 {
        let ticks = frame.pts - *self.origin.get_or_insert(frame.pts);
        let ticks = match self.timing.steady {
            true => (ticks as f64 * self.base * self.timing.rate.value()).round() as i64,
            false => ticks,
        };
        let position = ticks.max(self.last.map_or(0, |last| last + 1));
        self.last = Some(position);
        position
    }
}
