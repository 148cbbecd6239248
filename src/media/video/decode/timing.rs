//! Frame times.
//!
//! Before a video is decoded, its packets are read once ([`Timing::read`]). If every frame has its own position at one
//! rate, and at most a tenth of the positions are empty, the video is steady: a tick is the duration of one frame.
//! Otherwise a tick is the container's, and time stamps pass through without rounding. [`Clock`] then converts the time
//! stamps of decoded frames to positions in these ticks.

use super::{frame::VideoFrame, info::VideoInfo};
use crate::media::video::rational::Rational;

/// Maximum deviation of a frame from its position at a steady rate, as a fraction of a frame, in addition to the
/// rounding of time stamps.
const JITTER: f64 = 0.02;

/// A time range of a file, in seconds from the start of its container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeRange {
    /// Start of the range.
    pub begin: f64,
    /// End of the range; very large if none was requested.
    pub end: f64,
    /// Time of the first frame in the range, in seconds after `begin`.
    pub start: f64,
}

/// The frames of a stream that are in a time range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Frames before the range.
    pub skip: u64,
    /// Time stamp of the first frame, in ticks of the stream.
    pub first: i64,
    /// Time stamp of the first frame after the range.
    pub after: i64,
}

/// Frame times, measured from packets rather than taken from headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Frames per second: exact if `steady`, else the average.
    pub rate: Rational,
    /// Whether every frame has its own position at this rate. Up to one in ten positions may be empty, as in recordings
    /// with gaps.
    pub steady: bool,
    /// Seconds per tick of positions: the duration of a frame if `steady`, else a tick of the stream's time stamps.
    pub tick: Rational,
    /// Number of displayed frames.
    pub frames: u64,
    /// Duration of the shortest frame, in ticks. The last frame does not count: streams may not store its duration.
    pub shortest: i64,
    /// Duration of the last frame, in ticks.
    pub last: i64,
    /// Position of the last frame, in ticks from the start of the video.
    pub end: i64,
    /// Whether packets have time stamps. Without them, decoders report times that are late by the frames they hold.
    pub stamped: bool,
    /// Frames of the file that are in the requested range; `None`: all.
    pub window: Option<Window>,
}

impl Timing {
    /// Frames that follow each other at a rate.
    pub fn at_rate(rate: Rational, frames: u64) -> Self {
        Self {
            rate,
            steady: true,
            tick: rate.inverse(),
            frames,
            shortest: 1,
            last: 1,
            end: frames as i64 - 1,
            stamped: true,
            window: None,
        }
    }

    /// The timing of frames with ascending time stamps. `origin`: the time stamp of position 0; `last`: duration of the
    /// last frame, in ticks of the stream; `rates`: candidates for a steady rate.
    pub(crate) fn of(info: &VideoInfo, rates: &[Rational], (stamps, origin): (&[i64], i64), last: i64) -> Self {
        let base = info.time_base.value();
        let times: Vec<f64> = stamps.iter().map(|t| t.saturating_sub(origin) as f64 * base).collect();
        let frames = times.len() as u64;
        let steady =
            rates.iter().filter(|r| r.is_known()).find_map(|rate| Some((*rate, steady_end(&times, *rate, base)?)));
        match steady {
            Some((rate, end)) => {
                let last = (last as f64 * base * rate.value()).round().max(1.0) as i64;
                Self { last, end, ..Self::at_rate(rate, frames) }
            }
            None => {
                let usual = (1.0 / (info.frame_rate.value() * base)).round() as i64;
                let last = if last > 0 { last } else { usual.max(1) };
                let end = stamps.last().map_or(0, |t| t.saturating_sub(origin));
                let tick = info.time_base;
                // Measured: the rate in the header may be that of the ticks.
                let ticks = end.saturating_add(last).max(1) as u64;
                let per_second = frames.saturating_mul(tick.den.max(1) as u64);
                let rate = Rational::ratio(per_second, ticks.saturating_mul(tick.num.max(1) as u64));
                // Equal time stamps are moved one tick apart.
                let shortest = stamps.windows(2).map(|t| t[1].saturating_sub(t[0]).max(1)).min().unwrap_or(last);
                Self { rate, steady: false, tick, frames, shortest, last, end, stamped: true, window: None }
            }
        }
    }

    /// A clock that gives decoded frames their positions.
    pub fn clock(&self, info: &VideoInfo) -> Clock {
        let first = || self.window.map_or_else(|| origin(info), |window| window.first);
        Clock { timing: *self, origin: self.stamped.then(first), base: info.time_base.value(), last: None }
    }
}

/// The time stamp of the start of the video.
pub(crate) fn origin(info: &VideoInfo) -> i64 {
    ((info.start + info.origin as f64 * 1e-6) / info.time_base.value()).round() as i64
}

/// The position of the last frame, if every frame has its own position at the rate and at most a tenth of them are
/// empty.
fn steady_end(times: &[f64], rate: Rational, tick: f64) -> Option<i64> {
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

/// Converts time stamps of decoded frames to positions: ascending ticks of a [`Timing`] from the start of the video.
#[derive(Debug, Clone)]
pub struct Clock {
    timing: Timing,
    /// Time stamp of position 0; `None`: that of the first frame, which has not come yet.
    origin: Option<i64>,
    base: f64,
    last: Option<i64>,
}

impl Clock {
    /// Continues after a frame at position `last`.
    pub fn resume_after(&mut self, last: i64) {
        self.last = Some(last);
    }

    /// The position of the next frame. A time stamp that does not increase is moved to one tick after the previous one.
    pub fn position(&mut self, frame: &VideoFrame) -> i64 {
        let ticks = frame.pts.saturating_sub(*self.origin.get_or_insert(frame.pts));
        let ticks = match self.timing.steady {
            true => (ticks as f64 * self.base * self.timing.rate.value()).round() as i64,
            false => ticks,
        };
        let position = ticks.max(self.last.map_or(0, |last| last.saturating_add(1)));
        self.last = Some(position);
        position
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::media::video::{
        decode::info::{FieldOrder, StreamInfo, StreamKind},
        pixel::{color::Color, format::Subsampling},
    };

    /// A stream with a time base and a frame rate in its header.
    fn info(time_base: (i32, i32), frame_rate: (i32, i32)) -> VideoInfo {
        let stream = StreamInfo { index: 0, kind: StreamKind::Video, codec: "h264".into(), language: None };
        VideoInfo {
            container: "matroska,webm".into(),
            codec: "h264".into(),
            pixel_format: "yuv420p".into(),
            bit_depth: 8,
            alpha: false,
            sampling: Subsampling::S420,
            plays: None,
            width: 64,
            height: 64,
            frame_rate: Rational::new(frame_rate.0, frame_rate.1),
            variable_rate: false,
            frames: None,
            duration: None,
            start: 0.0,
            time_base: Rational::new(time_base.0, time_base.1),
            rotation: 0,
            sample_aspect_ratio: Rational::new(0, 1),
            color: Color::default(),
            field_order: None::<FieldOrder>,
            side_data: Vec::new(),
            left_out: Vec::new(),
            streams: vec![stream],
            metadata: Vec::new(),
            index: 0,
            origin: 0,
        }
    }

    struct Row<'a> {
        name: &'a str,
        base: (i32, i32),
        rate: (i32, i32),
        stamps: &'a [i64],
        /// Time stamp of position 0.
        origin: i64,
        /// Duration of the last frame in ticks.
        last: i64,
        /// Steady, position of the last frame, its duration; all positions.
        want: (bool, i64, i64),
        /// Duration of the shortest frame but the last, in ticks.
        shortest: i64,
        /// Frames per second, measured.
        per_second: f64,
        positions: &'a [i64],
    }

    const MS: (i32, i32) = (1, 1000);

    #[test]
    #[allow(clippy::too_many_lines)]
    fn stamps_become_positions() {
        let row = Row {
            name: "",
            base: MS,
            rate: (25, 1),
            stamps: &[],
            origin: 0,
            last: 40,
            want: (true, 0, 1),
            shortest: 1,
            per_second: 25.0,
            positions: &[],
        };
        let rows = [
            Row { name: "even", stamps: &[0, 40, 80, 120], want: (true, 3, 1), positions: &[0, 1, 2, 3], ..row },
            Row {
                name: "NTSC in milliseconds",
                rate: (30000, 1001),
                stamps: &[0, 33, 67, 100, 133],
                last: 33,
                want: (true, 4, 1),
                per_second: 30000.0 / 1001.0,
                positions: &[0, 1, 2, 3, 4],
                ..row
            },
            Row {
                name: "a late start",
                stamps: &[5000, 5040, 5080],
                origin: 5000,
                want: (true, 2, 1),
                positions: &[0, 1, 2],
                ..row
            },
            Row {
                name: "one missing of eleven",
                stamps: &[0, 40, 80, 120, 160, 240, 280, 320, 360, 400],
                want: (true, 10, 1),
                positions: &[0, 1, 2, 3, 4, 6, 7, 8, 9, 10],
                ..row
            },
            Row {
                name: "too many missing",
                stamps: &[0, 40, 200, 240],
                want: (false, 240, 40),
                shortest: 40,
                per_second: 4.0 / 0.28,
                positions: &[0, 40, 200, 240],
                ..row
            },
            Row {
                name: "jitter",
                stamps: &[0, 40, 93, 120],
                want: (false, 120, 40),
                shortest: 27,
                positions: &[0, 40, 93, 120],
                ..row
            },
            Row {
                name: "no duration of the last frame",
                stamps: &[0, 50, 93, 120],
                last: 0,
                want: (false, 120, 40),
                shortest: 27,
                positions: &[0, 50, 93, 120],
                ..row
            },
            Row {
                name: "a long last frame",
                stamps: &[0, 40, 80],
                last: 120,
                want: (true, 2, 3),
                positions: &[0, 1, 2],
                ..row
            },
            Row {
                name: "two frames at one time",
                stamps: &[0, 40, 40, 80],
                want: (false, 80, 40),
                per_second: 4.0 / 0.12,
                positions: &[0, 40, 41, 80],
                ..row
            },
            Row {
                name: "a header with the rate of the ticks",
                base: (1, 100),
                rate: (100, 1),
                stamps: &[0, 10],
                last: 10,
                want: (false, 10, 10),
                shortest: 10,
                per_second: 10.0,
                positions: &[0, 10],
                ..row
            },
            Row {
                name: "the whole range of time stamps",
                stamps: &[-(1 << 62), 0, 1 << 62],
                origin: -(1 << 62),
                want: (false, i64::MAX, 40),
                shortest: 1 << 62,
                per_second: 0.0,
                positions: &[0, 1 << 62, i64::MAX],
                ..row
            },
            Row { name: "one frame", stamps: &[0], want: (true, 0, 1), positions: &[0], ..row },
        ];
        for Row { name, base, rate, stamps, origin, last, want, shortest, per_second, positions } in rows {
            let info = info(base, rate);
            let timing = Timing::of(&info, &[info.frame_rate], (stamps, origin), last);
            assert_eq!((timing.steady, timing.end, timing.last), want, "{name}: {timing:?}");
            assert_eq!((timing.frames, timing.shortest), (stamps.len() as u64, shortest), "{name}: {timing:?}");
            assert!((timing.rate.value() - per_second).abs() < 1e-6, "{name}: {timing:?}");
            let window = Window { skip: 0, first: origin, after: i64::MAX };
            let mut clock = Timing { window: Some(window), ..timing }.clock(&info);
            let found: Vec<i64> = stamps.iter().map(|pts| clock.position(&shown_at(*pts))).collect();
            assert_eq!(found, positions, "{name}");
        }
    }

    fn shown_at(pts: i64) -> VideoFrame {
        use crate::tensor::{Frame, Samples};
        let frame = Frame { width: 1, height: 1, channels: 3, samples: Samples::U8(vec![0; 3]) };
        VideoFrame { frame, pts, time: 0.0 }
    }

    /// Positions of decoded frames: of streams without time stamps, and after a resume point.
    #[test]
    fn clocks() {
        let info = info(MS, (25, 1));
        let timing = Timing { stamped: false, ..Timing::at_rate(Rational::new(25, 1), 3) };
        let mut clock = timing.clock(&info);
        let late: Vec<i64> = [80, 120, 160].map(|pts| clock.position(&shown_at(pts))).to_vec();
        assert_eq!(late, [0, 1, 2], "the first decoded frame is position 0");
        let mut clock = Timing::at_rate(Rational::new(25, 1), 9).clock(&info);
        clock.resume_after(4);
        let resumed: Vec<i64> = [160, 200, 280].map(|pts| clock.position(&shown_at(pts))).to_vec();
        assert_eq!(resumed, [5, 6, 7], "positions increase after the resume point");
    }
}
