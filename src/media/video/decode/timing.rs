//! When the frames of a video are shown.

use super::{frame::VideoFrame, info::VideoInfo};
use crate::media::video::rational::Rational;

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

    /// The timing of frames with these rising time stamps, the last of which is shown for so many ticks; and the stamp of position
    /// 0. `rates`: which may be steady.
    pub(crate) fn of(info: &VideoInfo, rates: &[Rational], (stamps, origin): (&[i64], i64), last: i64) -> Self {
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

/// The time stamp at which the video begins.
pub(crate) fn origin(info: &VideoInfo) -> i64 {
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
