//! Maps source times to output times for a video, and names the points where a run can resume.
//!
//! [`Timeline`] decides what each output frame shows; [`InterpolationStage`](super::interpolation::InterpolationStage) makes it. The rules are
//! those of [`stage::timeline`](crate::stage::timeline). 23.976, 29.97 and 59.94 mean NTSC's 24000/1001 and so on. 2x, 4x, 8x and
//! 16x are midpoints of midpoints, as published for `--frame-interpolation-exp`; any other factor, and gaps over repeats, request
//! the times from RIFE directly. With `--dedup`, repeats are interpolated over if the distinct frames around them are at most 0.25 s
//! apart. Streams keep their offsets, and audio is never changed.

use super::resume_point::ResumePoint;
use crate::{
    error::{Error, Result},
    media::video::{Rational, Timing},
    plan::{Interpolation, MAX_FACTOR, Rate},
    stage::{
        interpolate::Planes,
        timeline::{OutputRate, Timeline},
    },
    tensor::copied,
};

/// Seconds: the longest gap between distinct frames over which `--dedup` interpolates.
const MAX_GAP: f64 = 0.25;

/// The most frames of an output: 300 hours at 60 frames per second. The gap between two source frames is filled in memory.
const MAX_FRAMES: u64 = 1 << 26;

/// Seconds by which time stamps are rounded at most: those of Matroska are whole milliseconds.
const ROUNDING: f64 = 0.5e-3;

/// A decoded frame with its time.
pub(crate) struct SourceFrame {
    /// The pixels.
    pub frame: Planes,
    /// In ticks of [`Timing`].
    pub pts: i64,
    /// In ticks of [`Timing`]. Only that of the last frame is used.
    pub duration: i64,
    /// The time stamp in the stream.
    pub stamp: i64,
}

impl SourceFrame {
    /// A copy. Errors: the memory cannot be allocated.
    pub(super) fn copied(&self) -> Result<Self> {
        let Self { pts, duration, stamp, .. } = *self;
        Ok(Self { frame: copied(&self.frame)?, pts, duration, stamp })
    }
}

/// An output frame with its time, in output ticks.
pub(crate) struct OutputFrame<T> {
    pub frame: T,
    pub pts: i64,
    pub duration: i64,
    /// Set on the first frame of a chunk: the state to resume from here.
    pub resume_point: Option<Box<ResumePoint>>,
}

/// The times of an output, and how its frames are found.
#[derive(Debug, Clone)]
pub(crate) struct Retime {
    pub(super) timeline: Timeline,
    /// Frames per second: exact, or the average if frames have different durations.
    pub rate: Rational,
    /// Seconds per output tick.
    pub tick: Rational,
    /// Number of output frames.
    pub frames: u64,
    /// Duration of the shortest output frame, in output ticks. The last frame does not count.
    pub shortest: i64,
    /// Duration of the longest output frame, in output ticks.
    pub longest: i64,
    /// Scene-change threshold.
    pub(super) threshold: f32,
    pub(super) dedup: bool,
    /// log2 of the factor, if all frames of a gap are midpoints of midpoints.
    pub(super) halvings: Option<u32>,
    /// Output ticks per chunk; `None`: no chunks.
    pub(super) chunk: Option<f64>,
    /// Where to resume, and the pixels of the last distinct frame there; `None`: at the beginning.
    pub(super) resume: Option<(ResumePoint, Planes)>,
}

impl Retime {
    /// The output times of a video. Without `interpolation` they are the source's.
    ///
    /// # Errors
    /// A factor that time stamps cannot represent, or that is not confirmed; time stamps that are too far apart.
    pub(super) fn new(interpolation: Option<&Interpolation>, timing: &Timing) -> Result<Self> {
        let near = if timing.steady { 0.0 } else { (ROUNDING / timing.tick.value()).min(0.5) };
        let hold = (MAX_GAP / timing.tick.value() + 1e-6) as i64;
        let timeline = |rate| Timeline::new(rate, near, hold);
        let unchanged = Self {
            timeline: timeline(OutputRate::Keep),
            rate: timing.rate,
            tick: timing.tick,
            frames: timing.frames,
            shortest: timing.shortest,
            longest: timing.longest,
            threshold: 1.0,
            dedup: false,
            halvings: None,
            chunk: None,
            resume: None,
        };
        let Some(interpolation) = interpolation else { return Ok(unchanged) };
        check_factor(interpolation, timing.rate)?;
        let retimed = Self {
            threshold: interpolation.scene_threshold as f32,
            dedup: interpolation.dedup,
            halvings: interpolation.rate.exp(),
            ..unchanged
        };
        match interpolation.rate {
            Rate::Times(n) => {
                let per_second = timing.tick.inverse();
                if i64::from(per_second.num) * i64::from(n) > i64::from(i32::MAX) {
                    let most = i32::MAX / per_second.num;
                    return Err(Error::usage(format!(
                        "--interpolate {n}x: the time stamps of this video allow at most {most}x"
                    )));
                }
                let rate = match timing.steady {
                    true => timing.rate.times(n as i32),
                    // The average, which need not be exact.
                    false => Rational::ratio(timing.rate.num as u64 * u64::from(n), timing.rate.den as u64),
                };
                let frames = timing.frames.saturating_sub(1).saturating_mul(n.into()).saturating_add(1);
                check_span(timing, n.into(), frames)?;
                let tick = per_second.times(n as i32).inverse();
                Ok(Self { timeline: timeline(OutputRate::Times(n)), rate, tick, frames, ..retimed })
            }
            Rate::Fps(fps) => {
                let rate = Rational::of_rate(fps);
                let num = i64::from(timing.tick.num) * i64::from(rate.num);
                let den = i64::from(timing.tick.den) * i64::from(rate.den);
                let common = gcd(num, den).max(1);
                let (num, den) = (num / common, den / common);
                let length = (timing.end as f64 + timing.last as f64) * num as f64 / den as f64;
                // A frame that begins before the last source frame is shown, also if it ends after the end.
                let before_last = (timing.end as f64 * num as f64 / den as f64 - 1e-9).ceil();
                let frames = if timing.frames == 1 { 1 } else { length.round().max(before_last).max(1.0) as u64 };
                check_span(timing, num, frames)?;
                let timeline = timeline(OutputRate::Grid { num, den });
                Ok(Self { timeline, rate, tick: rate.inverse(), frames, shortest: 1, longest: 1, ..retimed })
            }
        }
    }

    /// The same, in chunks of `seconds`.
    #[must_use]
    pub(super) fn in_chunks(self, seconds: f64) -> Self {
        Self { chunk: Some(seconds / self.tick.value()), ..self }
    }

    /// Whether an earlier run of this video can have left the resume point.
    pub(super) fn can_resume_at(&self, point: &ResumePoint, timing: &Timing) -> bool {
        point.fits(&self.timeline, timing)
    }

    /// The same, resumed at `point`. `anchor`: the pixels of the last distinct frame.
    #[must_use]
    pub(super) fn resume_at(self, point: ResumePoint, anchor: Planes) -> Self {
        Self { resume: Some((point, anchor)), ..self }
    }
}

/// Refuses a factor above [`MAX_FACTOR`] without `--force`.
fn check_factor(interpolation: &Interpolation, source: Rational) -> Result<()> {
    let (typed, factor) = match interpolation.rate {
        Rate::Times(n) => (format!("{n}x"), f64::from(n)),
        Rate::Fps(fps) => (format!("{fps}fps"), fps / source.value()),
    };
    if factor <= MAX_FACTOR + 1e-9 || interpolation.force {
        return Ok(());
    }
    // Rounded up, so that it is above the limit in the message too.
    let factor = (factor * 100.0 - 1e-6).ceil() / 100.0;
    Err(Error::usage(format!(
        "--interpolate {typed} makes {factor} frames of each frame; give a factor of at most {MAX_FACTOR}, or --force"
    )))
}

/// Refuses time stamps that are too far apart: their products with `num` overflow, or the output has too many frames.
fn check_span(timing: &Timing, num: i64, frames: u64) -> Result<()> {
    let end = timing.end.checked_add(timing.last);
    let fits = end.and_then(|end| end.checked_mul(num.checked_mul(2)?)).is_some();
    if fits && frames <= MAX_FRAMES {
        return Ok(());
    }
    let seconds = (timing.end as f64 + timing.last as f64) * timing.tick.value();
    Err(Error::failed(format!(
        "the time stamps span {seconds:.0} s, which gives {frames} frames of the at most {MAX_FRAMES}; use --start and --end"
    )))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::stage::timeline::{Content, Slot, Transition};

    /// Frames at a steady rate. `positions`: which of its ticks have a frame.
    fn steady((num, den): (i32, i32), positions: &[i64]) -> (Timing, Vec<i64>) {
        let timing = Timing::at_rate(Rational::new(num, den), positions.len() as u64);
        (Timing { end: positions.last().copied().unwrap_or(0), ..timing }, positions.into())
    }

    /// Frames at time stamps in ticks of 1/`per_second` s, and the end of the last one.
    fn uneven(per_second: i32, stamps: &[i64]) -> (Timing, Vec<i64>) {
        let (stamps, last) = (&stamps[..stamps.len() - 1], stamps[stamps.len() - 1] - stamps[stamps.len() - 2]);
        let tick = Rational::new(1, per_second);
        let shortest = stamps.windows(2).map(|t| t[1] - t[0]).min().unwrap_or(last);
        let (frames, end) = (stamps.len() as u64, stamps.last().copied().unwrap_or(0));
        let rate = Rational::new(frames as i32 * per_second, (end + last) as i32);
        let longest = stamps.windows(2).map(|t| t[1] - t[0]).max().unwrap_or(last).max(last);
        let timing =
            Timing { rate, tick, steady: false, shortest, longest, last, end, ..Timing::at_rate(rate, frames) };
        (timing, stamps.into())
    }

    fn at(rate: Rate) -> Interpolation {
        Interpolation { rate, ..Interpolation::default() }
    }

    fn every(count: i64) -> Vec<i64> {
        (0..count).collect()
    }

    /// Source, request; rate, ticks per second, frames, shortest frame in ticks, exponent of midpoints.
    #[test]
    fn rates_and_counts() {
        use Rate::{Fps, Times};
        type Row = ((Timing, Vec<i64>), Option<Rate>, (f64, f64, u64, i64, Option<u32>));
        let (pal, film, two) =
            (steady((25, 1), &every(50)), steady((24000, 1001), &every(48)), uneven(1000, &[0, 40, 93, 2000]));
        let slow = uneven(1000, &[0, 1000, 1500, 2000]);
        let ntsc = |rate: f64| rate / 1001.0;
        let rows: &[Row] = &[
            (pal.clone(), None, (25.0, 25.0, 50, 1, None)),
            (pal.clone(), Some(Times(2)), (50.0, 50.0, 99, 1, Some(1))),
            (pal.clone(), Some(Times(3)), (75.0, 75.0, 148, 1, None)),
            (pal.clone(), Some(Times(16)), (400.0, 400.0, 785, 1, Some(4))),
            (pal.clone(), Some(Fps(60.0)), (60.0, 60.0, 120, 1, None)),
            (pal.clone(), Some(Fps(12.5)), (12.5, 12.5, 25, 1, None)),
            (pal, Some(Fps(0.4)), (0.4, 0.4, 1, 1, None)),
            (film.clone(), Some(Times(5)), (ntsc(120_000.0), ntsc(120_000.0), 236, 1, None)),
            (film.clone(), Some(Fps(59.94)), (ntsc(60_000.0), ntsc(60_000.0), 120, 1, None)),
            (film, Some(Fps(60.0)), (60.0, 60.0, 120, 1, None)),
            (two.clone(), None, (1.5, 1000.0, 3, 40, None)),
            (two.clone(), Some(Times(4)), (6.0, 4000.0, 9, 40, Some(2))),
            (two, Some(Fps(10.0)), (10.0, 10.0, 20, 1, None)),
            (slow, Some(Fps(24.0)), (24.0, 24.0, 48, 1, None)),
            (steady((25, 1), &[0]), Some(Times(8)), (200.0, 200.0, 1, 1, Some(3))),
            (steady((25, 1), &[0]), Some(Fps(60.0)), (60.0, 60.0, 1, 1, None)),
            (steady((10, 1), &[0, 1, 2, 5]), Some(Times(2)), (20.0, 20.0, 7, 1, Some(1))),
            (steady((10, 1), &[0, 1, 2, 5]), Some(Fps(20.0)), (20.0, 20.0, 12, 1, None)),
        ];
        let mut wrong = Vec::new();
        for ((timing, _), rate, (rate_wanted, ticks, frames, shortest, exp)) in rows {
            let retime = Retime::new(rate.map(at).as_ref(), timing).unwrap();
            let near = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 1e-9;
            let right = near(retime.rate.value(), *rate_wanted) && near(1.0 / retime.tick.value(), *ticks);
            if !right || (retime.frames, retime.shortest, retime.halvings) != (*frames, *shortest, *exp) {
                wrong.push(format!("{timing:?} {rate:?}: {retime:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Source, request, `--force`, and a part of the message; empty: accepted.
    #[test]
    fn impossible_requests_are_refused() {
        use Rate::{Fps, Times};
        let pal = || steady((25, 1), &every(50)).0;
        let slides = uneven(1000, &[0, 10_000, 20_000, 30_000]).0;
        let long_rate = Timing { rate: Rational::new(i32::MAX - 1, 71_582_788), ..uneven(1000, &[0, 33, 70, 99]).0 };
        let far = Timing { end: i64::MAX - 1, frames: 2, ..uneven(1000, &[0, 40]).0 };
        let distant =
            Timing { end: 1 << 40, frames: 2, rate: Rational::new(1, 500_000_000), ..uneven(1000, &[0, 40]).0 };
        let rows: &[(Timing, Rate, bool, &str)] = &[
            (pal(), Times(16), false, ""),
            (pal(), Times(17), false, "--interpolate 17x makes 17 frames of each frame; give a factor of at most 16"),
            (pal(), Times(17), true, ""),
            (pal(), Fps(400.0), false, ""),
            (pal(), Fps(401.0), false, "--interpolate 401fps makes 16.04 frames of each frame"),
            (pal(), Fps(1000.0), true, ""),
            (slides, Fps(60.0), false, "--interpolate 60fps makes 600 frames of each frame"),
            (slides, Fps(60.0), true, ""),
            (slides, Fps(1.6), false, ""),
            (uneven(1_000_000_000, &[0, 40, 90]).0, Times(2), false, ""),
            (uneven(1_000_000_000, &[0, 40, 90]).0, Times(3), false, "the time stamps of this video allow at most 2x"),
            // An average rate of 30 with large parts.
            (long_rate, Times(8), false, ""),
            (far, Times(2), false, "the time stamps span 9223372036854776 s"),
            (distant, Times(2), false, ""),
            (distant, Fps(30.0), false, "--interpolate 30fps makes"),
            (distant, Fps(30.0), true, "of the at most 67108864; use --start and --end"),
        ];
        let mut wrong = Vec::new();
        for (timing, rate, force, want) in rows {
            let found = Retime::new(Some(&Interpolation { force: *force, ..at(*rate) }), timing);
            let message = found.err().map_or_else(String::new, |e| e.to_string());
            if message.is_empty() != want.is_empty() || !message.contains(want) {
                wrong.push(format!("{rate:?} {force}: wanted {want:?}, got {message:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// An output frame in seconds: time, duration, first and second source frame, time between them.
    type Shown = (f64, f64, u64, u64, f64);

    /// What is shown, from times in seconds alone. `near`: seconds within which a source frame is shown as it is.
    fn by_definition(times: &[f64], end: f64, rate: Rate, near: f64) -> Vec<Shown> {
        let source = |k: usize, at: f64, duration: f64| (at, duration, k as u64, k as u64, 0.0);
        let last = times.len() - 1;
        match rate {
            Rate::Times(n) => {
                let gap = |k: usize| {
                    let part = (times[k + 1] - times[k]) / f64::from(n);
                    let show = move |i: u32| match i {
                        0 => source(k, times[k], part),
                        _ => {
                            (times[k] + f64::from(i) * part, part, k as u64, k as u64 + 1, f64::from(i) / f64::from(n))
                        }
                    };
                    (0..n).map(show).collect::<Vec<_>>()
                };
                (0..last).flat_map(gap).chain([source(last, times[last], end - times[last])]).collect()
            }
            Rate::Fps(fps) => {
                let count = (end * fps + 1e-9).round().max((times[last] * fps - 1e-9).ceil()) as u64;
                let show = |j: u64| {
                    let (at, part) = (j as f64 / fps, 1.0 / fps);
                    let k = times.iter().rposition(|t| *t <= at + 1e-9).unwrap();
                    let next = times.get(k + 1).copied();
                    match next {
                        _ if at - times[k] <= near + 1e-9 => source(k, at, part),
                        Some(next) if next - at <= near + 1e-9 => source(k + 1, at, part),
                        Some(next) => (at, part, k as u64, k as u64 + 1, (at - times[k]) / (next - times[k])),
                        None => source(k, at, part),
                    }
                };
                (0..count).map(show).collect()
            }
        }
    }

    #[test]
    fn output_frames_follow_from_times_in_seconds() {
        let jitter: Vec<i64> = (0..40).map(|k| 40 * k + 9 * (k * 7 % 5)).collect();
        let fine: Vec<i64> = (0..40).map(|k| 3003 * k + 700 * (k * 3 % 4)).collect();
        let sources = [
            steady((25, 1), &every(30)),
            steady((24000, 1001), &every(30)),
            steady((60, 1), &every(30)),
            steady((25, 1), &[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]),
            uneven(1000, &jitter),
            uneven(90_000, &fine),
            uneven(1000, &[0, 16, 33, 1000, 1010, 2500]),
        ];
        use Rate::{Fps, Times};
        let rates = [Times(2), Times(3), Times(8), Fps(60.0), Fps(50.0), Fps(25.0), Fps(24.0), Fps(10.0), Fps(7.5)];
        let mut wrong = Vec::new();
        for (timing, positions) in &sources {
            for rate in rates {
                let request = Interpolation { force: true, ..at(rate) };
                let retime = Retime::new(Some(&request), timing).unwrap();
                let (tick, source_tick) = (retime.tick.value(), timing.tick.value());
                let mut timeline = retime.timeline.clone();
                let slots: Vec<Slot> =
                    positions.iter().flat_map(|p| timeline.push(*p, Transition::Motion)).collect::<Vec<_>>();
                let slots: Vec<Slot> = slots.into_iter().chain(timeline.finish(timing.last)).collect();
                let found: Vec<Shown> = slots
                    .iter()
                    .map(|slot| {
                        let (first, second, time) = match slot.content {
                            Content::Source(k) => (k, k, 0.0),
                            Content::Between { first, second, time } => (first, second, time),
                        };
                        (slot.pts as f64 * tick, slot.duration as f64 * tick, first, second, time)
                    })
                    .collect();
                let times: Vec<f64> = positions.iter().map(|p| *p as f64 * source_tick).collect();
                let end = (timing.end + timing.last) as f64 * source_tick;
                // Half a millisecond, but never more than half a tick.
                let near = if timing.steady { 0.0 } else { 0.5e-3_f64.min(0.5 * source_tick) };
                let wanted = by_definition(&times, end, rate, near);
                let same = |(a, b): (&Shown, &Shown)| {
                    (a.2, a.3) == (b.2, b.3) && [a.0 - b.0, a.1 - b.1, a.4 - b.4].iter().all(|d| d.abs() < 1e-6)
                };
                let differ = found.iter().zip(&wanted).position(|pair| !same(pair));
                if found.len() != wanted.len() || differ.is_some() || retime.frames != slots.len() as u64 {
                    let show = |all: &[Shown]| differ.and_then(|k| all.get(k).copied());
                    wrong.push(format!(
                        "{:?} {rate:?}: {} frames, {} announced, wanted {}; frame {differ:?} is {:?}, wanted {:?}",
                        timing.rate,
                        found.len(),
                        retime.frames,
                        wanted.len(),
                        show(&found),
                        show(&wanted)
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Source, positions of repeats, position of the next distinct frame, and what 2x shows from the first frame to it. Distinct frames
    /// more than 0.25 s apart stand still.
    #[test]
    fn repeats_are_interpolated_over_for_a_quarter_of_a_second() {
        let rows: &[(Timing, &[i64], i64, &str)] = &[
            (steady((25, 1), &every(3)).0, &[1], 2, "0 0>2@1/4 0>2@2/4 0>2@3/4"),
            (steady((10, 1), &every(4)).0, &[1, 2], 3, "0 0>3@1/6 0>3@2/6 0>3@3/6 0>3@4/6 0>3@5/6"),
            (steady((10, 1), &every(5)).0, &[1, 2, 3], 4, "0 0 0 0 0 0 0 0>4@1/2"),
            (steady((4, 1), &every(3)).0, &[1], 2, "0 0>2@1/4 0>2@2/4 0>2@3/4"),
            (steady((3, 1), &every(3)).0, &[1], 2, "0 0 0 0>2@1/2"),
            (uneven(1000, &[0, 250, 300, 400]).0, &[250], 300, "0 0>2@125/300 0>2@250/300 0>2@275/300"),
            (uneven(1000, &[0, 251, 301, 400]).0, &[251], 301, "0 0 0 0>2@1/2"),
        ];
        let mut wrong = Vec::new();
        for (timing, repeats, next, want) in rows {
            let mut timeline = Retime::new(Some(&at(Rate::Times(2))), timing).unwrap().timeline;
            let mut slots = timeline.push(0, Transition::Motion);
            repeats.iter().for_each(|p| slots.extend(timeline.push(*p, Transition::Repeat)));
            slots.extend(timeline.push(*next, Transition::Motion));
            let value = |part: &str| {
                part.split_once('/').map_or(0.0, |(a, b)| a.parse::<f64>().unwrap() / b.parse::<f64>().unwrap())
            };
            let wanted: Vec<Content> = want
                .split(' ')
                .map(|word| match word.split_once('>') {
                    None => Content::Source(word.parse().unwrap()),
                    Some((first, rest)) => {
                        let (second, time) = rest.split_once('@').unwrap();
                        Content::Between {
                            first: first.parse().unwrap(),
                            second: second.parse().unwrap(),
                            time: value(time),
                        }
                    }
                })
                .collect();
            let found: Vec<Content> = slots.iter().map(|slot| slot.content).collect();
            let same = found.iter().zip(&wanted).all(|pair| match pair {
                (
                    Content::Between { first: a, second: b, time: t },
                    Content::Between { first: c, second: d, time: u },
                ) => (a, b) == (c, d) && (t - u).abs() < 1e-9,
                (found, wanted) => found == wanted,
            });
            if !same || found.len() != wanted.len() {
                wrong.push(format!("{repeats:?} to {next}: wanted {want}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
