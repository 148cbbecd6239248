//! The interpolation stage: emits the output frames of a [`Retime`].
//!
//! It holds one source frame, the last distinct one. When a run resumes, that frame is decoded again. Output frames of the same gap
//! that an earlier run has written are computed again and dropped, so the network gets the same calls as in an uninterrupted run.

use super::{
    postprocess::{Interpolator, Times},
    retime::{OutputFrame, ResumePoint, Retime, SourceFrame},
};
use crate::{
    error::{Error, Result},
    media::{self, queue::Emit},
    stage::{
        interpolate::Planes,
        scene_change::ChangeDetector,
        timeline::{Content, Slot, TimelineState, Transition},
    },
};

/// Maximum number of frames per call of the network.
const BATCH: usize = 4;

/// Emits output frames, without those that an earlier run has written, and sets resume points where chunks begin.
struct Gate {
    /// Time stamp of the first frame to emit.
    from: i64,
    /// Output ticks per chunk.
    chunk: Option<f64>,
    /// The chunk of the last frame.
    current: Option<i64>,
    /// The state before the frames that are emitted now, if a chunk begins among them.
    resume_point: Option<Box<ResumePoint>>,
}

impl Gate {
    /// The chunk of a time stamp.
    fn chunk_of(&self, pts: i64) -> Option<i64> {
        self.chunk.map(|ticks| (pts as f64 / ticks + 1e-9).floor() as i64)
    }

    /// Whether a chunk begins among these frames.
    fn chunk_begins(&self, slots: &[Slot]) -> bool {
        let first = self.current.or_else(|| self.chunk_of(slots.first()?.pts));
        self.chunk.is_some() && slots.iter().any(|s| self.chunk_of(s.pts) != first)
    }

    /// Emits one frame.
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
        let point = self.resume_point.as_ref().filter(|_| begins);
        let resume_point = point.map(|point| Box::new(ResumePoint { from: pts, ..(**point).clone() }));
        emit(OutputFrame { frame, pts, duration, resume_point })
    }
}

/// The interpolation stage. It keeps the last distinct source frame.
pub(crate) struct InterpolationStage<'a> {
    retime: Retime,
    network: Option<&'a mut Interpolator>,
    changes: ChangeDetector,
    /// Number of the next source frame.
    number: u64,
    /// The last distinct source frame and its number.
    anchor: Option<(u64, Planes)>,
    /// The anchor's time stamp in the stream.
    stamp: i64,
    /// Position of the last source frame.
    before: i64,
    /// Duration of the last source frame.
    last: i64,
    gate: Gate,
}

impl<'a> InterpolationStage<'a> {
    /// The stage for `retime`, from its beginning or its resume point. `network` is `None` if nothing is interpolated.
    pub(super) fn new(mut retime: Retime, network: Option<&'a mut Interpolator>) -> Self {
        let gate = Gate { from: i64::MIN, chunk: retime.chunk, current: None, resume_point: None };
        let resume = retime.resume.take();
        let mut stage = Self {
            retime,
            network,
            changes: ChangeDetector::default(),
            number: 0,
            anchor: None,
            stamp: 0,
            before: 0,
            last: 1,
            gate,
        };
        if let Some((point, anchor)) = resume {
            stage.retime.timeline = stage.retime.timeline.resume(point.timeline);
            if stage.compares() {
                stage.changes = ChangeDetector::after(&anchor, f32::from_bits(point.usual));
            }
            (stage.number, stage.before, stage.last) = (point.number, point.before, point.last);
            (stage.anchor, stage.stamp) = (Some((point.anchor, anchor)), point.stamp);
            stage.gate.from = point.from;
            stage.gate.current = stage.gate.chunk_of(point.from);
        }
        stage
    }

    /// Takes the next source frame, or `None` at the end, and emits the output frames before it.
    pub(super) fn step(&mut self, item: Option<SourceFrame>, emit: &mut Emit<'_, OutputFrame<Planes>>) -> Result<()> {
        let state = self.gate.chunk.map(|_| (self.retime.timeline.state().clone(), self.changes.usual()));
        let Some(SourceFrame { frame, pts, duration, stamp }) = item else {
            let slots = self.retime.timeline.finish(self.last);
            self.set_resume_point(state, &slots);
            return if self.emit_anchor(&slots, emit)? { Ok(()) } else { self.show(&slots, None, emit) };
        };
        let transition = self.transition(&frame);
        let newest = (self.number, frame);
        let slots = self.retime.timeline.push(pts, transition);
        self.set_resume_point(state, &slots);
        (self.number, self.last, self.before) = (self.number + 1, duration, pts);
        if transition == Transition::Repeat || !self.emit_anchor(&slots, emit)? {
            self.show(&slots, Some(&newest), emit)?;
        }
        if transition != Transition::Repeat || self.anchor.is_none() {
            (self.anchor, self.stamp) = (Some(newest), stamp);
        }
        Ok(())
    }

    /// Stores the state before these frames if a chunk begins among them.
    fn set_resume_point(&mut self, state: Option<(TimelineState, f32)>, slots: &[Slot]) {
        let state = state.filter(|_| self.gate.chunk_begins(slots));
        self.gate.resume_point = state.zip(self.anchor.as_ref()).map(|((timeline, usual), (anchor, frame))| {
            Box::new(ResumePoint {
                from: 0,
                number: self.number,
                before: self.before,
                anchor: *anchor,
                stamp: self.stamp,
                hash: media::hash(frame),
                last: self.last,
                usual: usual.to_bits(),
                timeline,
            })
        });
    }

    /// Emits the anchor without a copy, if it is the only frame shown and is not needed afterwards.
    fn emit_anchor(&mut self, slots: &[Slot], emit: &mut Emit<'_, OutputFrame<Planes>>) -> Result<bool> {
        let [slot @ Slot { content: Content::Source(number), .. }] = slots else { return Ok(false) };
        match self.anchor.take_if(|(n, _)| n == number) {
            Some((_, frame)) => self.gate.pass(frame, slot, emit).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether frames are compared to detect cuts or repeats.
    fn compares(&self) -> bool {
        self.network.is_some() && (self.retime.threshold < 1.0 || self.retime.dedup)
    }

    fn transition(&mut self, frame: &Planes) -> Transition {
        let (threshold, dedup) = (self.retime.threshold, self.retime.dedup);
        if !self.compares() {
            return Transition::Motion;
        }
        match self.changes.compare(frame, threshold, dedup) {
            Some(change) if dedup && change.is_repeat() => Transition::Repeat,
            Some(change) if change.score > threshold => Transition::Cut,
            _ => Transition::Motion,
        }
    }

    /// Emits frames. Interpolated frames of one gap are batched.
    fn show(
        &mut self,
        slots: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, OutputFrame<Planes>>,
    ) -> Result<()> {
        let between = |s: &Slot| matches!(s.content, Content::Between { .. });
        for group in slots.chunk_by(|a, b| between(a) && between(b)) {
            let Content::Source(number) = group[0].content else {
                self.interpolate(group, newest, emit)?;
                continue;
            };
            let found = self.anchor.iter().chain(newest).find(|(n, _)| *n == number);
            let Some((_, frame)) = found else { return Err(Error::failed("interpolation: a source frame is missing")) };
            for slot in group {
                self.gate.pass(frame.clone(), slot, emit)?;
            }
        }
        Ok(())
    }

    fn interpolate(
        &mut self,
        group: &[Slot],
        newest: Option<&(u64, Planes)>,
        emit: &mut Emit<'_, OutputFrame<Planes>>,
    ) -> Result<()> {
        let gate = &mut self.gate;
        let (Some(network), Some((_, first)), Some((_, second))) = (self.network.as_mut(), &self.anchor, newest) else {
            return Err(Error::failed("interpolation: a source frame is missing"));
        };
        let times: Vec<f32> = group
            .iter()
            .map(|s| if let Content::Between { time, .. } = s.content { time as f32 } else { 0.0 })
            .collect();
        let mut send = |slots: &[Slot], frames: Vec<Planes>| {
            let mut pairs = slots.iter().zip(frames);
            pairs.try_for_each(|(slot, frame)| gate.pass(frame, slot, emit))
        };
        // A gap over repeats has more frames than the factor.
        let halvings = self.retime.halvings.filter(|exp| times.len() == (1 << exp) - 1);
        if let Some(exp) = halvings {
            return send(group, network.between(first, second, Times::Halved(exp))?);
        }
        for (slots, times) in group.chunks(BATCH).zip(times.chunks(BATCH)) {
            send(slots, network.between(first, second, Times::At(times))?)?;
        }
        Ok(())
    }
}
