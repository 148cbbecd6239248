//! Frame times.
//!
//! Before a video is decoded, its packets are read once ([`Timing::read`]). If every frame has its own position at one
//! rate, and at most a tenth of the positions are empty, the video is steady: a tick is the duration of one frame.
//! Otherwise a tick is the container's, and time stamps pass through without rounding. [`Clock`] then converts the time
//! stamps of decoded frames to positions in these ticks.

use crate::media::video::rational::Rational;

/// Maximum deviation of a frame from its position at a steady rate, as a fraction of a frame, in addition to the
/// rounding of time stamps.
const JITTER: f64 = 0.02;

/// What the header of a stream and its container says about time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StreamTime {
    /// Seconds per tick.
    pub time_base: Rational,
    /// Frames per second.
    pub frame_rate: Rational,
    /// Start of the video, in seconds from the start of the container.
    pub start: f64,
    /// First time stamp of the container, in microseconds.
    pub origin: i64,
    /// Number of frames.
    pub frames: Option<u64>,
}

impl StreamTime {
    /// The time stamp of the start of the video.
    fn first(&self) -> i64 {
        ((self.start + self.origin as f64 * 1e-6) / self.time_base.value()).round() as i64
    }
}

/// The time stamps of a video's packets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PacketTimes {
    /// Those of displayed packets, ascending.
    pub stamps: Vec<i64>,
    /// Packets without a time stamp.
    pub bare: u64,
    /// Duration of the last packet, in ticks; 0: unknown.
    pub last: i64,
}

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
    /// Duration of the longest frame, in ticks, with the last one.
    pub longest: i64,
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
            longest: 1,
            last: 1,
            end: i64::try_from(frames).unwrap_or(i64::MAX) - 1,
            stamped: true,
            window: None,
        }
    }

    /// The timing of a whole video. `rates`: candidates for a steady rate. If packets have no time stamps, frames follow
    /// each other at the rate in the header.
    pub(crate) fn of(stream: &StreamTime, rates: &[Rational], packets: &PacketTimes) -> Self {
        let PacketTimes { stamps, bare, last } = packets;
        if *bare > 0 || stamps.is_empty() {
            let frames = if *bare > 0 { bare + stamps.len() as u64 } else { stream.frames.unwrap_or(1) };
            return Self { stamped: false, ..Self::at_rate(stream.frame_rate, frames) };
        }
        Self::of_stamps(stream, rates, (stamps, stream.first()), *last)
    }

    /// The timing of frames with ascending time stamps. `origin`: the time stamp of position 0; `last`: duration of the
    /// last frame, in ticks of the stream.
    fn of_stamps(stream: &StreamTime, rates: &[Rational], (stamps, origin): (&[i64], i64), last: i64) -> Self {
        let base = stream.time_base.value();
        let times: Vec<f64> = stamps.iter().map(|t| t.saturating_sub(origin) as f64 * base).collect();
        let frames = times.len() as u64;
        let steady =
            rates.iter().filter(|r| r.is_known()).find_map(|rate| Some((*rate, steady_end(&times, *rate, base)?)));
        match steady {
            Some((rate, end)) => {
                let last = (last as f64 * base * rate.value()).round().max(1.0) as i64;
                let gap = times.windows(2).map(|t| t[1] - t[0]).fold(0.0, f64::max);
                let longest = ((gap * rate.value()).round() as i64).max(last);
                Self { last, longest, end, ..Self::at_rate(rate, frames) }
            }
            None => {
                let usual = (1.0 / (stream.frame_rate.value() * base)).round() as i64;
                let last = if last > 0 { last } else { usual.max(1) };
                let end = stamps.last().map_or(0, |t| t.saturating_sub(origin));
                let tick = stream.time_base;
                // Measured: the rate in the header may be that of the ticks.
                let ticks = end.saturating_add(last).max(1) as u64;
                let per_second = frames.saturating_mul(tick.den.max(1) as u64);
                let rate = Rational::ratio(per_second, ticks.saturating_mul(tick.num.max(1) as u64));
                // Equal time stamps are moved one tick apart.
                let shortest = stamps.windows(2).map(|t| t[1].saturating_sub(t[0]).max(1)).min().unwrap_or(last);
                let longest = stamps.windows(2).map(|t| t[1].saturating_sub(t[0])).max().unwrap_or(last).max(last);
                let stamped = true;
                Self { rate, steady: false, tick, frames, shortest, longest, last, end, stamped, window: None }
            }
        }
    }

    /// Like [`Timing::of`], for the frames whose display begins from `begin` until `end`, in seconds from the start of the
    /// container. The first of them has position 0.
    ///
    /// Errors: a phrase that follows the file's name: a time after the end, a range without frames.
    pub(crate) fn in_range(
        stream: &StreamTime,
        rates: &[Rational],
        packets: &PacketTimes,
        (begin, end): (Option<f64>, Option<f64>),
    ) -> Result<(Self, TimeRange), String> {
        let PacketTimes { stamps, bare, last } = packets;
        let (base, rate) = (stream.time_base.value(), stream.frame_rate.value());
        let stamped = *bare == 0 && !stamps.is_empty();
        // A header may claim any number of frames.
        let count = match (stamped, bare) {
            (true, _) => stamps.len() as u64,
            (false, 0) => stream.frames.unwrap_or(1),
            (false, _) => bare + stamps.len() as u64,
        };
        let time = |k: u64| match stamped {
            true => stamps[k as usize] as f64 * base - stream.origin as f64 * 1e-6,
            false => stream.start + k as f64 / rate,
        };
        let (near, usual) = (if stamped { 0.5 * base } else { 1e-6 }, 1.0 / rate);
        let length = if stamped && *last > 0 { *last as f64 * base } else { usual };
        let over = count.checked_sub(1).map_or(0.0, |last| time(last) + length);
        for (flag, at, most) in [("--start", begin, over - near), ("--end", end, over + usual + near)] {
            if let Some(at) = at.filter(|at| *at > most) {
                return Err(format!("ends at {over:.3} s, before {flag} {at}; give a time within it"));
            }
        }
        let index = |at: f64| first_not(count, |k| time(k) < at - near);
        let (from, to) = (begin.map_or(0, index), end.map_or(count, index));
        if from >= to {
            let (begin, end) = (begin.unwrap_or(0.0), end.unwrap_or(over));
            return Err(format!("has no frame from {begin} s to {end} s; give a longer range"));
        }
        let begin = begin.unwrap_or(0.0);
        let part = TimeRange { begin, end: end.unwrap_or(1e9), start: time(from) - begin };
        let mut window = Window { skip: from, first: 0, after: i64::MAX };
        if !stamped {
            let timing = Self::at_rate(stream.frame_rate, to - from);
            return Ok((Self { stamped: false, window: Some(window), ..timing }, part));
        }
        let left = end.map_or(i64::MAX, |end| ((end - time(to - 1)) / base).round().max(1.0) as i64);
        let (from, to) = (from as usize, to as usize);
        (window.first, window.after) = (stamps[from], stamps.get(to).copied().unwrap_or(i64::MAX));
        let next = stamps.get(to).map_or(*last, |next| next.saturating_sub(stamps[to - 1]));
        let timing = Self::of_stamps(stream, rates, (&stamps[from..to], stamps[from]), next.min(left));
        Ok((Self { window: Some(window), ..timing }, part))
    }
}

/// The first of `0..count` for which `before` is false; it is true for all smaller ones.
fn first_not(count: u64, before: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        (low, high) = if before(middle) { (middle + 1, high) } else { (low, middle) };
    }
    low
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
    /// A clock for the decoded frames of a stream.
    pub(crate) fn new(timing: Timing, stream: &StreamTime) -> Self {
        let first = || timing.window.map_or_else(|| stream.first(), |window| window.first);
        Self { timing, origin: timing.stamped.then(first), base: stream.time_base.value(), last: None }
    }

    /// Continues after a frame at position `last`.
    pub fn resume_after(&mut self, last: i64) {
        self.last = Some(last);
    }

    /// The position of the next frame, from its time stamp. A time stamp that does not increase is moved to one tick after the
    /// previous one.
    pub fn position(&mut self, stamp: i64) -> i64 {
        let ticks = stamp.saturating_sub(*self.origin.get_or_insert(stamp));
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

    /// A stream with a time base and a frame rate in its header.
    fn stream(time_base: (i32, i32), frame_rate: (i32, i32)) -> StreamTime {
        let ratio = |(num, den)| Rational::new(num, den);
        StreamTime { time_base: ratio(time_base), frame_rate: ratio(frame_rate), start: 0.0, origin: 0, frames: None }
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
            let stream = stream(base, rate);
            let timing = Timing::of_stamps(&stream, &[stream.frame_rate], (stamps, origin), last);
            assert_eq!((timing.steady, timing.end, timing.last), want, "{name}: {timing:?}");
            assert_eq!((timing.frames, timing.shortest), (stamps.len() as u64, shortest), "{name}: {timing:?}");
            assert!((timing.rate.value() - per_second).abs() < 1e-6, "{name}: {timing:?}");
            let window = Window { skip: 0, first: origin, after: i64::MAX };
            let mut clock = Clock::new(Timing { window: Some(window), ..timing }, &stream);
            let found: Vec<i64> = stamps.iter().map(|stamp| clock.position(*stamp)).collect();
            assert_eq!(found, positions, "{name}");
        }
    }

    /// Positions of decoded frames: of streams without time stamps, and after a resume point.
    #[test]
    fn clocks() {
        let stream = stream(MS, (25, 1));
        let timing = Timing { stamped: false, ..Timing::at_rate(Rational::new(25, 1), 3) };
        let mut clock = Clock::new(timing, &stream);
        let late = [80, 120, 160].map(|stamp| clock.position(stamp));
        assert_eq!(late, [0, 1, 2], "the first decoded frame is position 0");
        let mut clock = Clock::new(Timing::at_rate(Rational::new(25, 1), 9), &stream);
        clock.resume_after(4);
        let resumed = [160, 200, 280].map(|stamp| clock.position(stamp));
        assert_eq!(resumed, [5, 6, 7], "positions increase after the resume point");
    }

    /// No memory is taken for the frames that a header only claims.
    #[test]
    fn claimed_frames() {
        let stream = StreamTime { frames: Some(u64::MAX), ..stream(MS, (25, 1)) };
        let none = PacketTimes::default();
        let (timing, part) = Timing::in_range(&stream, &[], &none, (Some(1.0), Some(2.0))).unwrap();
        assert_eq!((timing.frames, timing.window.unwrap().skip, part.start), (25, 25, 0.0));
        assert_eq!(Timing::of(&stream, &[], &none).end, i64::MAX - 1);
    }
}
