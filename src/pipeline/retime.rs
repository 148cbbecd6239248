//! Frames at the source's times → frames at the output's: what [`Timeline`] wants, made by the network.

use serde::{Deserialize, Serialize};

use super::postprocess::{Interpolator, Times};
use crate::{
    error::{Error, Result},
    media::{
        self,
        queue::Emit,
        video::{Rational, Timing},
    },
    plan::{Interpolation, Rate},
    stage::{
        interpolate::Planes,
        scene_change::ChangeDetector,
        timeline::{Content, OutputRate, Slot, Timeline, TimelineState, Transition},
    },
};

/// Seconds: the longest gap between distinct frames over which `--dedup` makes repeats anew.
const HOLD: f64 = 0.25;

/// Seconds by which time stamps are rounded at most: those of Matroska are whole milliseconds.
const ROUNDING: f64 = 0.5e-3;

/// Pictures that are asked for at once.
const TOGETHER: usize = 4;

/// A frame of the source at its place in time.
pub struct SourceFrame {
    /// The picture.
    pub frame: Planes,
    /// In ticks of [`Timing`].
    pub pts: i64,
    /// In ticks; it matters for the last frame alone.
    pub duration: i64,
    /// The stream's own time stamp.
    pub stamp: i64,
}

/// A frame of the output at its place in time, in ticks of it.
#[allow(missing_docs)]
pub struct OutputFrame<T> {
    pub frame: T,
    pub pts: i64,
    pub duration: i64,
    /// Of a chunk's first frame: how the line is taken up here.
    pub mark: Option<Box<ResumePoint>>,
}

/// All that the line has to know of what came before an output frame to go on from there. The pictures it needs are decoded again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The output frame's time stamp.
    from: i64,
    /// Number of the source frame that is taken next.
    pub number: u64,
    /// Position of the one before.
    pub before: i64,
    /// Number of the last distinct frame.
    pub anchor: u64,
    /// Its time stamp in the stream.
    pub stamp: i64,
    /// [`media::hash`] of its planes.
    pub hash: String,
    /// Ticks that the frame before is shown, if it is the last.
    last: i64,
    /// Bits of [`ChangeDetector::usual`].
    usual: u32,
    standing: TimelineState,
}

/// The times of an output, and how its frames are found.
#[derive(Debug, Clone)]
pub struct Retime {
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
    /// Ticks of the output in a chunk; `None`: it is one piece.
    chunk: Option<f64>,
    /// Where the line begins, and the picture that is held there; `None`: at its begin.
    from: Option<(ResumePoint, Planes)>,
}

impl Retime {
    /// The times of what interpolation makes of a video.
    ///
    /// Errors: more frames a second than a time stamp can count.
    pub fn new(interpolation: Option<&Interpolation>, timing: &Timing) -> Result<Self> {
        let near = if timing.steady { 0.0 } else { (ROUNDING / timing.tick.value()).min(0.5) };
        let hold = (HOLD / timing.tick.value() + 1e-6) as i64;
        let line = |pace| Timeline::new(pace, near, hold);
        let keep = Self {
            timeline: line(OutputRate::Keep),
            rate: timing.rate,
            tick: timing.tick,
            frames: timing.frames,
            threshold: 1.0,
            dedup: false,
            halvings: None,
            chunk: None,
            from: None,
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
                Ok(Self { timeline: line(OutputRate::Times(n)), rate, tick, frames, ..paced })
            }
            Rate::Fps(fps) => {
                let rate = Rational::of_rate(fps);
                let num = i64::from(timing.tick.num) * i64::from(rate.num);
                let den = i64::from(timing.tick.den) * i64::from(rate.den);
                let common = gcd(num, den).max(1);
                let (num, den) = (num / common, den / common);
                let length = (timing.end + timing.last) as f64 * num as f64 / den as f64;
                let frames = if timing.frames == 1 { 1 } else { length.round().max(1.0) as u64 };
                let timeline = line(OutputRate::Grid { num, den });
                Ok(Self { timeline, rate, tick: rate.inverse(), frames, ..paced })
            }
        }
    }

    /// The same in chunks of so many seconds.
    #[must_use]
    pub fn in_chunks(self, seconds: f64) -> Self {
        Self { chunk: Some(seconds / self.tick.value()), ..self }
    }

    /// The same from a mark on. `anchor`: the picture of the last distinct frame.
    #[must_use]
    pub fn go_on(self, mark: ResumePoint, anchor: Planes) -> Self {
        Self { from: Some((mark, anchor)), ..self }
    }

    /// The stage that interpolates. `network`: `None` where nothing is.
    pub fn stage(mut self, network: Option<&mut Interpolator>) -> Interpolating<'_> {
        let gate = Gate { from: i64::MIN, chunk: self.chunk, current: None, mark: None };
        let from = self.from.take();
        let mut stage = Interpolating {
            pacing: self,
            network,
            motion: ChangeDetector::default(),
            number: 0,
            anchor: None,
            stamp: 0,
            before: 0,
            last: 1,
            gate,
        };
        if let Some((mark, anchor)) = from {
            stage.pacing.timeline = stage.pacing.timeline.resume(mark.standing);
            if stage.judges() {
                stage.motion = ChangeDetector::after(&anchor, f32::from_bits(mark.usual));
            }
            (stage.number, stage.before, stage.last) = (mark.number, mark.before, mark.last);
            (stage.anchor, stage.stamp) = (Some((mark.anchor, anchor)), mark.stamp);
            stage.gate.from = mark.from;
            stage.gate.current = stage.gate.chunk_of(mark.from);
        }
        stage
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// Lets out what is wanted, and marks where chunks begin.
struct Gate {
    /// Earlier frames are there already.
    from: i64,
    /// Ticks in a chunk.
    chunk: Option<f64>,
    /// The chunk of the last frame.
    current: Option<i64>,
    /// Where the line stood before what is let out now.
    mark: Option<Box<ResumePoint>>,
}

impl Gate {
    /// The chunk that a time stamp lies in.
    fn chunk_of(&self, pts: i64) -> Option<i64> {
        self.chunk.map(|ticks| (pts as f64 / ticks + 1e-9).floor() as i64)
    }

    /// Whether a chunk begins among these.
    fn is_crossed(&self, slots: &[Slot]) -> bool {
        let first = self.current.or_else(|| self.chunk_of(slots.first()?.pts));
        self.chunk.is_some() && slots.iter().any(|s| self.chunk_of(s.pts) != first)
    }

    fn pass(
        &mut self,
        frame: Planes,
        &Slot { pts, duration, .. }: &Slot,
        emit: &mut Emit<'_, OutputFrame<Planes>>,
    ) -> Result<()> {
        if pts < self.from {
            return Ok(());
        }
        let chunk = self.chunk_of(pts);
        let begins = self.current.is_some() && chunk != self.current;
        self.current = chunk;
        let mark =
            self.mark.as_ref().filter(|_| begins).map(|mark| Box::new(ResumePoint { from: pts, ..(**mark).clone() }));
        emit(OutputFrame { frame, pts, duration, mark })
    }
}

/// The stage between decoding and upscaling: holds the last distinct frame.
pub struct Interpolating<'a> {
    pacing: Retime,
    network: Option<&'a mut Interpolator>,
    motion: ChangeDetector,
    number: u64,
    anchor: Option<(u64, Planes)>,
    /// The anchor's time stamp in the stream.
    stamp: i64,
    /// Position of the last frame.
    before: i64,
    last: i64,
    gate: Gate,
}

impl Interpolating<'_> {
    /// Takes the next frame, or the end, and emits what is shown before it.
    pub fn step(&mut self, item: Option<SourceFrame>, emit: &mut Emit<'_, OutputFrame<Planes>>) -> Result<()> {
        let standing = self.gate.chunk.map(|_| (self.pacing.timeline.state().clone(), self.motion.usual()));
        let Some(SourceFrame { frame, pts, duration, stamp }) = item else {
            let slots = self.pacing.timeline.finish(self.last);
            self.mark(standing, &slots);
            return if self.hand_on(&slots, emit)? { Ok(()) } else { self.show(&slots, None, emit) };
        };
        let follows = self.judge(&frame);
        let newest = (self.number, frame);
        let slots = self.pacing.timeline.push(pts, follows);
        self.mark(standing, &slots);
        (self.number, self.last, self.before) = (self.number + 1, duration, pts);
        if follows == Transition::Repeat || !self.hand_on(&slots, emit)? {
            self.show(&slots, Some(&newest), emit)?;
        }
        if follows != Transition::Repeat || self.anchor.is_none() {
            (self.anchor, self.stamp) = (Some(newest), stamp);
        }
        Ok(())
    }

    /// Keeps where the line stood before these frames, if a chunk begins among them.
    fn mark(&mut self, standing: Option<(TimelineState, f32)>, slots: &[Slot]) {
        self.gate.mark = standing.filter(|_| self.gate.is_crossed(slots)).zip(self.anchor.as_ref()).map(
            |((standing, usual), (anchor, picture))| {
                Box::new(ResumePoint {
                    from: 0,
                    number: self.number,
                    before: self.before,
                    anchor: *anchor,
                    stamp: self.stamp,
                    hash: media::hash(picture),
                    last: self.last,
                    usual: usual.to_bits(),
                    standing,
                })
            },
        );
    }

    /// Emits the frame that is held where it alone is shown and no longer needed, which saves a copy.
    fn hand_on(&mut self, slots: &[Slot], emit: &mut Emit<'_, OutputFrame<Planes>>) -> Result<bool> {
        let [slot @ Slot { content: Content::Source(number), .. }] = slots else { return Ok(false) };
        match self.anchor.take_if(|(n, _)| n == number) {
            Some((_, frame)) => self.gate.pass(frame, slot, emit).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether cuts or repeats matter.
    fn judges(&self) -> bool {
        self.network.is_some() && (self.pacing.threshold < 1.0 || self.pacing.dedup)
    }

    fn judge(&mut self, frame: &Planes) -> Transition {
        let (threshold, dedup) = (self.pacing.threshold, self.pacing.dedup);
        if !self.judges() {
            return Transition::Motion;
        }
        match self.motion.compare(frame, threshold, dedup) {
            Some(change) if dedup && change.is_repeat() => Transition::Repeat,
            Some(change) if change.score > threshold => Transition::Cut,
            _ => Transition::Motion,
        }
    }

    /// Makes and emits frames; those between the same two are asked for together.
    fn show(
        &mut self,
        slots: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, OutputFrame<Planes>>,
    ) -> Result<()> {
        let between = |s: &Slot| matches!(s.content, Content::Between { .. });
        for group in slots.chunk_by(|a, b| between(a) && between(b)) {
            let Content::Source(number) = group[0].content else {
                self.make(group, newest, emit)?;
                continue;
            };
            let found = self.anchor.iter().chain(newest).find(|(n, _)| *n == number);
            let Some((_, frame)) = found else { return Err(Error::failed("interpolation: a frame is gone")) };
            for slot in group {
                self.gate.pass(frame.clone(), slot, emit)?;
            }
        }
        Ok(())
    }

    fn make(
        &mut self,
        group: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, OutputFrame<Planes>>,
    ) -> Result<()> {
        let gate = &mut self.gate;
        let (Some(network), Some((_, first)), Some((_, second))) = (self.network.as_mut(), &self.anchor, newest) else {
            return Err(Error::failed("interpolation: a frame is gone"));
        };
        let times: Vec<f32> = group
            .iter()
            .map(|s| if let Content::Between { time, .. } = s.content { time as f32 } else { 0.0 })
            .collect();
        let mut send = |slots: &[Slot], frames: Vec<Planes>| {
            let mut pairs = slots.iter().zip(frames);
            pairs.try_for_each(|(slot, frame)| gate.pass(frame, slot, emit))
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
