//! The interpolation stage: emits the output frames of a [`Retime`].
//!
//! It holds one source frame, the last distinct one. When a run resumes, that frame is decoded again. Output frames of the same gap
//! that an earlier run has written are computed again and dropped, so the network gets the same calls as in an uninterrupted run.

use super::{
    postprocess::{Interpolator, Times},
    resume_point::ResumePoint,
    retime::{OutputFrame, Retime, SourceFrame},
};
use crate::{
    error::{Error, Result},
    media::{self, queue::Emit},
    stage::{
        interpolate::Planes,
        scene_change::ChangeDetector,
        timeline::{Content, Slot, TimelineState, Transition},
    },
    tensor::{check_room, copied},
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
        let transition = self.transition(&frame)?;
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

    fn transition(&mut self, frame: &Planes) -> Result<Transition> {
        let (threshold, dedup) = (self.retime.threshold, self.retime.dedup);
        if !self.compares() {
            return Ok(Transition::Motion);
        }
        // The luma, whose allocation cannot fail without ending the process.
        check_room::<f32>(frame.len() / frame.dim().0.max(1))?;
        Ok(match self.changes.compare(frame, threshold, dedup) {
            Some(change) if dedup && change.is_repeat() => Transition::Repeat,
            Some(change) if change.score > threshold => Transition::Cut,
            _ => Transition::Motion,
        })
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
                self.gate.pass(copied(frame)?, slot, emit)?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        media::video::{Rational, Timing},
        pipeline::context::Context,
        plan::{Interpolation, Model, Rate, RuntimeOptions},
        progress::Silent,
        runtime::{DeviceChoice, Options},
    };

    /// A picture for each letter. Lower-case letters are one scene, in which it moves; capitals are another.
    fn picture(letter: char) -> Planes {
        let step = f32::from(letter.to_ascii_lowercase() as u8 - b'a');
        Planes::from_shape_fn((3, 32, 48), |(c, y, x)| {
            let (c, y, x) = (c as f32, y as f32, x as f32);
            let wave =
                if letter.is_ascii_lowercase() { (x + 2.0 * step) / 7.0 + c } else { (y + 2.0 * step) / 3.0 - c };
            0.5 + 0.4 * wave.sin()
        })
    }

    /// Frames of these letters at positions.
    fn source(letters: &str, positions: &[i64], last: i64) -> Vec<SourceFrame> {
        let frame = |(letter, pts): (char, &i64)| SourceFrame {
            frame: picture(letter),
            pts: *pts,
            duration: last,
            stamp: 1000 + 10 * pts,
        };
        letters.chars().zip(positions).map(frame).collect()
    }

    /// Everything that the stage emits.
    fn run(
        retime: Retime,
        network: Option<&mut Interpolator>,
        frames: impl IntoIterator<Item = SourceFrame>,
    ) -> Vec<OutputFrame<Planes>> {
        let (mut stage, mut shown) = (InterpolationStage::new(retime, network), Vec::new());
        for item in frames.into_iter().map(Some).chain([None]) {
            let mut emit = |frame| {
                shown.push(frame);
                Ok(())
            };
            stage.step(item, &mut emit).unwrap();
        }
        shown
    }

    fn steady(rate: i32, frames: u64) -> Timing {
        Timing::at_rate(Rational::new(rate, 1), frames)
    }

    fn uneven(positions: &[i64], last: i64) -> Timing {
        let end = positions.last().copied().unwrap();
        let (tick, shortest) = (Rational::new(1, 1000), 1);
        Timing { steady: false, tick, shortest, last, end, ..steady(25, positions.len() as u64) }
    }

    /// Positions, timing, seconds per chunk; the time stamps at which chunks begin. Each resume point names the frame itself and the
    /// one after it.
    #[test]
    fn chunks_begin_at_their_times() {
        let ten: Vec<i64> = (0..10).collect();
        let jitter = [0, 40, 93, 120, 300, 310];
        let rows: &[(&[i64], Timing, f64, &[i64])] = &[
            (&ten, steady(25, 10), 0.12, &[3, 6, 9]),
            (&ten, steady(25, 10), 0.1, &[3, 5, 8]),
            (&ten, steady(25, 10), 0.04, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (&ten, steady(25, 10), 0.4, &[]),
            (&ten, steady(1, 10), 0.001, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (&jitter, uneven(&jitter, 40), 0.1, &[120, 300]),
            (&jitter, uneven(&jitter, 40), 0.3, &[300]),
            (&jitter, uneven(&jitter, 40), 0.31, &[310]),
            (&[0], steady(25, 1), 0.01, &[]),
        ];
        let mut wrong = Vec::new();
        for (positions, timing, seconds, want) in rows {
            let retime = Retime::new(None, timing).unwrap();
            let letters: String = ('a'..).take(positions.len()).collect();
            let frames = || source(&letters, positions, timing.last);
            let plain = run(retime.clone(), None, frames());
            let shown = run(retime.in_chunks(*seconds), None, frames());
            let begins: Vec<i64> = shown.iter().filter(|f| f.resume_point.is_some()).map(|f| f.pts).collect();
            let points = shown.iter().filter_map(|f| f.resume_point.as_ref());
            let states: Vec<_> = points.map(|p| (p.from, p.anchor, p.number, p.before, p.stamp)).collect();
            let of = |pts: &i64| {
                let k = positions.iter().position(|p| p == pts).unwrap() as u64;
                (*pts, k, k + 1, *pts, 1000 + 10 * pts)
            };
            let same =
                plain.iter().zip(&shown).all(|(a, b)| (a.pts, a.duration, &a.frame) == (b.pts, b.duration, &b.frame));
            if begins != *want
                || states != want.iter().map(of).collect::<Vec<_>>()
                || !same
                || plain.len() != shown.len()
            {
                wrong
                    .push(format!("{positions:?} {seconds}: wanted {want:?}, got {begins:?}, {states:?}, same {same}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Frames, positions (none: 0, 1, …), timing, request, threshold, `--dedup`; time stamp and content of each output frame. `ab@x`: the
    /// network's frame at x between a and b. Then the run is resumed at each of its chunks and shows the same frames.
    #[test]
    #[allow(clippy::too_many_lines)]
    fn each_output_frame_has_its_pair_and_time() {
        use Rate::{Fps, Times};
        let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
        let cx = Context::start(&RuntimeOptions { engine: options, dtype: None }, &Silent).unwrap();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/rife/4.22.lite/flownet.pkl");
        let plan = Interpolation { model: Model { path, ..Model::default() }, ..Interpolation::default() };
        let mut network = Interpolator::load(&plan, &cx).unwrap();
        let times: &[i64] = &[0, 50, 80];
        type Row<'a> = (&'a str, &'a [i64], Timing, Rate, f64, bool, &'a str);
        let rows: &[Row<'_>] = &[
            ("abc", &[], steady(24, 3), Times(2), 0.1, false, "0:a 1:ab@0.5 2:b 3:bc@0.5 4:c"),
            ("ab", &[], steady(24, 2), Times(3), 0.1, false, "0:a 1:ab@1/3 2:ab@2/3 3:b"),
            ("ab", &[], steady(24, 2), Times(6), 0.1, false, "0:a 1:ab@1/6 2:ab@1/3 3:ab@0.5 4:ab@2/3 5:ab@5/6 6:b"),
            ("a", &[], steady(24, 1), Times(2), 0.1, false, "0:a"),
            ("abAB", &[], steady(24, 4), Times(2), 0.1, false, "0:a 1:ab@0.5 2:b 3:b 4:A 5:AB@0.5 6:B"),
            ("aAbB", &[], steady(24, 4), Times(2), 0.1, false, "0:a 1:a 2:A 3:A 4:b 5:b 6:B"),
            ("bA", &[], steady(24, 2), Times(2), 1.0, false, "0:b 1:bA@0.5 2:A"),
            ("aab", &[], steady(24, 3), Times(2), 0.1, false, "0:a 1:aa@0.5 2:a 3:ab@0.5 4:b"),
            ("aab", &[], steady(24, 3), Times(2), 0.1, true, "0:a 1:ab@0.25 2:ab@0.5 3:ab@0.75 4:b"),
            ("abb", &[], steady(24, 3), Times(2), 0.1, true, "0:a 1:ab@0.5 2:b 3:b 4:b"),
            ("aaA", &[], steady(24, 3), Times(2), 0.1, true, "0:a 1:a 2:a 3:a 4:A"),
            ("aab", &[], steady(3, 3), Times(2), 0.1, true, "0:a 1:a 2:a 3:ab@0.5 4:b"),
            ("abc", &[], steady(24, 3), Fps(60.0), 0.1, false, "0:a 1:ab@0.4 2:ab@0.8 3:bc@0.2 4:bc@0.6 5:c 6:c 7:c"),
            ("aAc", &[], steady(24, 3), Fps(60.0), 0.1, false, "0:a 1:a 2:a 3:A 4:A 5:c 6:c 7:c"),
            ("abcd", &[], steady(24, 4), Fps(16.0), 0.1, false, "0:a 1:bc@0.5 2:d"),
            ("abc", times, uneven(times, 40), Times(2), 0.1, false, "0:a 50:ab@0.5 100:b 130:bc@0.5 160:c"),
            ("abc", times, uneven(times, 40), Fps(50.0), 0.1, false, "0:a 1:ab@0.4 2:ab@0.8 3:bc@1/3 4:c 5:c"),
            (
                "aab",
                times,
                uneven(times, 40),
                Times(2),
                0.1,
                true,
                "0:a 50:ab@50/160 100:ab@100/160 130:ab@130/160 160:b",
            ),
        ];
        let mut wrong = Vec::new();
        for (letters, positions, timing, rate, scene_threshold, dedup, want) in rows {
            let steps: Vec<i64> = (0..letters.len() as i64).collect();
            let positions = if positions.is_empty() { &steps[..] } else { positions };
            let request =
                Interpolation { rate: *rate, scene_threshold: *scene_threshold, dedup: *dedup, ..plan.clone() };
            let retime = Retime::new(Some(&request), timing).unwrap();
            let frames = || source(letters, positions, timing.last);
            let shown = run(retime.clone(), Some(&mut network), frames());
            let wanted: Vec<(i64, Planes)> = want.split(' ').map(|word| content(word, &mut network)).collect();
            let faults: Vec<usize> = (0..shown.len().max(wanted.len()))
                .filter(|k| match (shown.get(*k), wanted.get(*k)) {
                    (Some(shown), Some((pts, frame))) => shown.pts != *pts || apart(&shown.frame, frame) > 1e-5,
                    _ => true,
                })
                .collect();
            let gaps = shown.windows(2).any(|pair| pair[0].pts + pair[0].duration != pair[1].pts);
            if !faults.is_empty() || gaps {
                let found: Vec<_> = shown.iter().map(|f| (f.pts, f.duration)).collect();
                wrong.push(format!("{letters} {rate:?} {dedup}: {want}: frames {faults:?} differ: {found:?}"));
            }
            let chunked = run(retime.clone().in_chunks(retime.tick.value()), Some(&mut network), frames());
            for (k, begin) in chunked.iter().enumerate() {
                let Some(point) = begin.resume_point.as_deref() else { continue };
                let mut rest = frames();
                let after = rest.split_off(point.number as usize);
                let anchor = rest.remove(point.anchor as usize).frame;
                let resumed = retime.clone().in_chunks(retime.tick.value()).resume_at(point.clone(), anchor);
                let resumed = run(resumed, Some(&mut network), after);
                let same = resumed.len() == shown.len() - k
                    && resumed
                        .iter()
                        .zip(&shown[k..])
                        .all(|(a, b)| (a.pts, a.duration, &a.frame) == (b.pts, b.duration, &b.frame));
                if !same || point.from != begin.pts {
                    wrong.push(format!("{letters} {rate:?} {dedup}: resumed at {}: {point:?}", begin.pts));
                }
            }
            if chunked.iter().skip(1).any(|frame| frame.resume_point.is_none()) {
                wrong.push(format!("{letters} {rate:?} {dedup}: a chunk without a resume point"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The time stamp and the frame of a word such as `3:ab@1/3`.
    fn content(word: &str, network: &mut Interpolator) -> (i64, Planes) {
        let (pts, what) = word.split_once(':').unwrap();
        let letters: Vec<char> = what.chars().collect();
        let number = |text: &str| match text.split_once('/') {
            Some((a, b)) => a.parse::<f32>().unwrap() / b.parse::<f32>().unwrap(),
            None => text.parse().unwrap(),
        };
        let frame = match what.split_once('@') {
            None => picture(letters[0]),
            Some((_, time)) => {
                let (first, second) = (picture(letters[0]), picture(letters[1]));
                network.between(&first, &second, Times::At(&[number(time)])).unwrap().remove(0)
            }
        };
        (pts.parse().unwrap(), frame)
    }

    fn apart(a: &Planes, b: &Planes) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}
