//! Frames at the source's times → frames at the output's: what [`Timeline`] wants, made by the network.

use super::post::{Interpolator, Times};
use crate::{
    error::{Error, Result},
    media::{
        queue::Emit,
        video::{Rational, Timing},
    },
    plan::{Interpolation, Rate},
    stage::{
        interpolate::Planes,
        motion::Motion,
        timeline::{Follows, Pace, Shown, Slot, Timeline},
    },
};

/// Seconds: the longest gap between distinct frames over which `--dedup` makes repeats anew.
const HOLD: f64 = 0.25;

/// Seconds by which time stamps are rounded at most: those of Matroska are whole milliseconds.
const ROUNDING: f64 = 0.5e-3;

/// Pictures that are asked for at once.
const TOGETHER: usize = 4;

/// A frame at its place in time.
pub struct Timed<T> {
    /// The picture.
    pub frame: T,
    /// In ticks: of the source before interpolation, of the output after it.
    pub pts: i64,
    /// In ticks; of the source, it matters for the last frame alone.
    pub duration: i64,
}

/// The times of an output, and how its frames are found.
#[derive(Debug, Clone)]
pub struct Pacing {
    timeline: Timeline,
    /// Frames a second: exact or, where frames have lengths of their own, on average.
    pub rate: Rational,
    /// Seconds a tick of the output.
    pub tick: Rational,
    /// Frames of the output.
    pub frames: u64,
    threshold: f32,
    dedup: bool,
    /// How often a gap is halved, where all frames between are made as midpoints of midpoints.
    halvings: Option<u32>,
}

impl Pacing {
    /// The times of what interpolation makes of a video.
    ///
    /// Errors: more frames a second than a time stamp can count.
    pub fn new(interpolation: Option<&Interpolation>, timing: &Timing) -> Result<Self> {
        let near = if timing.steady { 0.0 } else { (ROUNDING / timing.tick.value()).min(0.5) };
        let hold = (HOLD / timing.tick.value() + 1e-6) as i64;
        let line = |pace| Timeline::new(pace, near, hold);
        let keep = Self {
            timeline: line(Pace::Keep),
            rate: timing.rate,
            tick: timing.tick,
            frames: timing.frames,
            threshold: 1.0,
            dedup: false,
            halvings: None,
        };
        let Some(interpolation) = interpolation else { return Ok(keep) };
        let paced = Self {
            threshold: interpolation.scene_threshold as f32,
            dedup: interpolation.dedup,
            halvings: interpolation.rate.exp(),
            ..keep
        };
        match interpolation.rate {
            Rate::Times(n) => {
                let fits = |r: Rational| i64::from(r.num) * i64::from(n) <= i64::from(i32::MAX);
                let (rate, per_second) = (timing.rate, timing.tick.inverse());
                if !fits(rate) || !fits(per_second) {
                    let most = i32::MAX / rate.num.max(per_second.num);
                    return Err(Error::usage(format!(
                        "--interpolate {n}x: time stamps of this video count up to {most}x"
                    )));
                }
                let frames = timing.frames.saturating_sub(1) * u64::from(n) + 1;
                let (rate, tick) = (rate.times(n as i32), per_second.times(n as i32).inverse());
                Ok(Self { timeline: line(Pace::Times(n)), rate, tick, frames, ..paced })
            }
            Rate::Fps(fps) => {
                let rate = Rational::of_rate(fps);
                let num = i64::from(timing.tick.num) * i64::from(rate.num);
                let den = i64::from(timing.tick.den) * i64::from(rate.den);
                let common = gcd(num, den).max(1);
                let (num, den) = (num / common, den / common);
                let length = (timing.end + timing.last) as f64 * num as f64 / den as f64;
                let frames = if timing.frames == 1 { 1 } else { length.round().max(1.0) as u64 };
                let timeline = line(Pace::Grid { num, den });
                Ok(Self { timeline, rate, tick: rate.inverse(), frames, ..paced })
            }
        }
    }

    /// The stage that interpolates. `network`: `None` where nothing is.
    pub fn stage(self, network: Option<&mut Interpolator>) -> Interpolating<'_> {
        Interpolating { pacing: self, network, motion: Motion::default(), number: 0, anchor: None, last: 1 }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// The stage between decoding and upscaling: holds the last distinct frame.
pub struct Interpolating<'a> {
    pacing: Pacing,
    network: Option<&'a mut Interpolator>,
    motion: Motion,
    number: u64,
    anchor: Option<(u64, Planes)>,
    last: i64,
}

impl Interpolating<'_> {
    /// Takes the next frame, or the end, and emits what is shown before it.
    pub fn step(&mut self, item: Option<Timed<Planes>>, emit: &mut Emit<'_, Timed<Planes>>) -> Result<()> {
        let Some(Timed { frame, pts, duration }) = item else {
            let slots = self.pacing.timeline.finish(self.last);
            return if self.hand_on(&slots, emit)? { Ok(()) } else { self.show(&slots, None, emit) };
        };
        let follows = self.judge(&frame);
        let newest = (self.number, frame);
        let slots = self.pacing.timeline.push(pts, follows);
        (self.number, self.last) = (self.number + 1, duration);
        if follows == Follows::Repeat || !self.hand_on(&slots, emit)? {
            self.show(&slots, Some(&newest), emit)?;
        }
        if follows != Follows::Repeat || self.anchor.is_none() {
            self.anchor = Some(newest);
        }
        Ok(())
    }

    /// Emits the frame that is held where it alone is shown and no longer needed, which saves a copy.
    fn hand_on(&mut self, slots: &[Slot], emit: &mut Emit<'_, Timed<Planes>>) -> Result<bool> {
        let &[Slot { pts, duration, shown: Shown::Source(number) }] = slots else { return Ok(false) };
        match self.anchor.take_if(|(n, _)| *n == number) {
            Some((_, frame)) => emit(Timed { frame, pts, duration }).map(|()| true),
            None => Ok(false),
        }
    }

    fn judge(&mut self, frame: &Planes) -> Follows {
        let (threshold, dedup) = (self.pacing.threshold, self.pacing.dedup);
        if self.network.is_none() || threshold >= 1.0 && !dedup {
            return Follows::Motion;
        }
        match self.motion.see(frame, threshold, dedup) {
            Some(change) if dedup && change.is_repeat() => Follows::Repeat,
            Some(change) if change.score > threshold => Follows::Cut,
            _ => Follows::Motion,
        }
    }

    /// Makes and emits frames; those between the same two are asked for together.
    fn show(
        &mut self,
        slots: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, Timed<Planes>>,
    ) -> Result<()> {
        let between = |s: &Slot| matches!(s.shown, Shown::Between { .. });
        for group in slots.chunk_by(|a, b| between(a) && between(b)) {
            let Shown::Source(number) = group[0].shown else {
                self.make(group, newest, emit)?;
                continue;
            };
            let found = self.anchor.iter().chain(newest).find(|(n, _)| *n == number);
            let Some((_, frame)) = found else { return Err(Error::failed("interpolation: a frame is gone")) };
            for Slot { pts, duration, .. } in group {
                emit(Timed { frame: frame.clone(), pts: *pts, duration: *duration })?;
            }
        }
        Ok(())
    }

    fn make(
        &mut self,
        group: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, Timed<Planes>>,
    ) -> Result<()> {
        let (Some(network), Some((_, first)), Some((_, second))) = (self.network.as_mut(), &self.anchor, newest) else {
            return Err(Error::failed("interpolation: a frame is gone"));
        };
        let times: Vec<f32> =
            group.iter().map(|s| if let Shown::Between { time, .. } = s.shown { time as f32 } else { 0.0 }).collect();
        let mut send = |slots: &[Slot], frames: Vec<Planes>| {
            let mut pairs = slots.iter().zip(frames);
            pairs.try_for_each(|(s, frame)| emit(Timed { frame, pts: s.pts, duration: s.duration }))
        };
        // With repeats left out there are more.
        let halvings = self.pacing.halvings.filter(|exp| times.len() == (1 << exp) - 1);
        if let Some(exp) = halvings {
            return send(group, network.between(first, second, Times::Halved(exp))?);
        }
        for (slots, times) in group.chunks(TOGETHER).zip(times.chunks(TOGETHER)) {
            send(slots, network.between(first, second, Times::At(times))?)?;
        }
        Ok(())
    }
}
