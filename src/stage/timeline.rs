//! Maps source times to output times: when each output frame is shown, and what it shows. No pixels are involved.
//!
//! - **A factor N** puts N − 1 frames evenly into every gap between two source frames, however long the gap. The last frame keeps
//!   its duration.
//! - **A rate** of r frames per second puts one frame every 1/r s, from the first source frame to the tick nearest to the end, but at
//!   least to the last source frame. An output time that equals the time of a source frame, up to the rounding of time stamps, shows
//!   that frame. Any other time is interpolated, also when r is below the source's rate. After the last source frame, it is repeated.
//! - **A cut** is not interpolated: the frame before it is repeated until the cut. The number of frames does not change.
//! - **A repeat** (with `--dedup`) is not a sample of the motion. It is interpolated over if the distinct frames around it are close
//!   enough; otherwise the video is taken to stand still, and the frame is shown as it is.
//! - A clip of one frame stays one frame.
//!
//! Positions are time stamps of the source in its ticks, strictly increasing. Output frames are emitted as soon as the next source
//! frame is known, so at most one gap is open. A timeline is plain data: it can be saved, and restored to resume.

use serde::{Deserialize, Serialize};

/// How output times follow from source times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRate {
    /// The same times as the source.
    Keep,
    /// N frames for each source frame, N ≥ 2: every gap gets N − 1 more, evenly. An output tick is a source tick divided by N.
    Times(u32),
    /// One frame per output tick. `num/den` output ticks are one source tick.
    Grid {
        /// Numerator, positive.
        num: i64,
        /// Denominator, positive.
        den: i64,
    },
}

/// How a source frame relates to the last distinct one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The same scene: frames between the two can be interpolated.
    Motion,
    /// Another scene: the frame before is shown until the cut.
    Cut,
    /// The same picture: not a sample of the motion.
    Repeat,
}

/// What an output frame shows. Source frames are numbered from 0, repeats included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content {
    /// A source frame.
    Source(u64),
    /// The interpolated frame at `time` in 0..1 from source frame `first` to `second`.
    #[allow(missing_docs)]
    Between { first: u64, second: u64, time: f64 },
}

/// One output frame. `pts` and `duration` are in output ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Slot {
    pub pts: i64,
    pub duration: i64,
    pub content: Content,
}

/// Maps the frames of one video, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    rate: OutputRate,
    /// Source ticks by which an output time may differ from a source frame that is shown there.
    near: f64,
    /// The longest gap between distinct frames, in source ticks, over which repeats are interpolated.
    hold: i64,
    state: TimelineState,
}

/// The state of a timeline between two frames. The field names are part of the journal format.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TimelineState {
    /// Number of the last distinct frame, and the last position at which it was seen.
    anchor: Option<(u64, i64)>,
    /// Positions of repeats since then.
    repeats: Vec<i64>,
    /// Whether the video stands still at the anchor.
    still: bool,
    /// Number of source frames so far.
    count: u64,
    /// The next output tick of a rate.
    next: Option<i64>,
    /// Whether any output frame has been emitted.
    begun: bool,
}

impl Timeline {
    /// A timeline before its first frame. `near`: source ticks by which an output time may differ from a source frame that is
    /// shown there, 0 for exact time stamps, ½ for rounded ones. `hold`: the longest gap between distinct frames, in source ticks,
    /// over which repeats are interpolated.
    pub fn new(rate: OutputRate, near: f64, hold: i64) -> Self {
        Self { rate, near, hold, state: TimelineState::default() }
    }

    /// The state to save for [`Timeline::resume`].
    pub fn state(&self) -> &TimelineState {
        &self.state
    }

    /// Whether this timeline can have been in a saved state after the source frames 0 to `count` − 1, with the last one at position
    /// `before` and the last distinct one with the number `anchor`.
    pub fn can_resume(&self, state: &TimelineState, count: u64, before: i64, anchor: u64) -> bool {
        let Some((number, from)) = state.anchor.filter(|(number, from)| *number == anchor && *from >= 0) else {
            return false;
        };
        let Some(since) = count.checked_sub(1).and_then(|newest| newest.checked_sub(number)) else { return false };
        let repeats = &state.repeats;
        let known = if state.still { repeats.is_empty() } else { repeats.len() as u64 == since };
        let ascending = [from].iter().chain(repeats).is_sorted_by(|a, b| a < b);
        let (num, den) = self.ratio();
        let next = match self.rate {
            OutputRate::Grid { .. } if state.begun || state.next.is_some() => Some(ceil(from, num, den)),
            _ => None,
        };
        let same = (state.count, state.next, repeats.last().unwrap_or(&from)) == (count, next, &before);
        known && ascending && same
    }

    /// The same timeline with a saved state.
    #[must_use]
    pub fn resume(self, state: TimelineState) -> Self {
        Self { state, ..self }
    }

    /// Takes the position of the next source frame and returns the output frames before it. The transition of the first frame is
    /// ignored.
    pub fn push(&mut self, position: i64, transition: Transition) -> Vec<Slot> {
        let number = self.state.count;
        self.state.count += 1;
        let Some((anchor, from)) = self.state.anchor else {
            self.state.anchor = Some((number, position));
            return Vec::new();
        };
        match transition {
            Transition::Motion => {
                self.state.anchor = Some((number, position));
                self.state.still = false;
                let show = |timeline: &Self, pts| timeline.between(pts, (anchor, from), (number, position));
                self.fill(from, position, show)
            }
            Transition::Cut => {
                self.state.anchor = Some((number, position));
                self.state.still = false;
                self.fill(from, position, |_, _| Content::Source(anchor))
            }
            Transition::Repeat if !self.state.still && position.saturating_sub(from) <= self.hold => {
                self.state.repeats.push(position);
                Vec::new()
            }
            Transition::Repeat => {
                self.state.anchor = Some((anchor, position));
                self.state.still = true;
                self.fill(from, position, |_, _| Content::Source(anchor))
            }
        }
    }

    /// Returns the output frames from the last source frame to the end. `duration`: source ticks that the last frame is shown. With
    /// a rate, the end is rounded to the nearest output tick.
    pub fn finish(&mut self, duration: i64) -> Vec<Slot> {
        let Some((anchor, from)) = self.state.anchor.take() else { return Vec::new() };
        let last = self.state.repeats.pop().unwrap_or(from);
        let mut slots = if last > from { self.fill(from, last, |_, _| Content::Source(anchor)) } else { Vec::new() };
        let (end, content) = (last.saturating_add(duration.max(1)), Content::Source(anchor));
        let (num, den) = self.ratio();
        match self.rate {
            // A clip of one frame stays one frame.
            OutputRate::Grid { .. } if self.state.count == 1 => {
                let pts = self.state.next.unwrap_or_else(|| ceil(from, num, den));
                slots.push(Slot { pts, duration: round(end.saturating_sub(from), num, den).max(1), content });
            }
            OutputRate::Grid { .. } => {
                let begin = self.state.next.unwrap_or_else(|| ceil(from, num, den));
                // Even the shortest clip has one frame.
                let end = round(end, num, den).max(begin + i64::from(!self.state.begun && slots.is_empty()));
                slots.extend((begin..end).map(|pts| Slot { pts, duration: 1, content }));
            }
            _ => {
                let (pts, end) = (last.saturating_mul(num), end.saturating_mul(num));
                slots.push(Slot { pts, duration: end.saturating_sub(pts), content });
            }
        }
        slots
    }

    /// Output ticks per source tick, as a fraction.
    fn ratio(&self) -> (i64, i64) {
        match self.rate {
            OutputRate::Keep => (1, 1),
            OutputRate::Times(n) => (i64::from(n), 1),
            OutputRate::Grid { num, den } => (num, den),
        }
    }

    /// The output frames from one position to another, over the repeats between them.
    fn fill(&mut self, from: i64, to: i64, show: impl Fn(&Self, i64) -> Content) -> Vec<Slot> {
        let (num, den) = self.ratio();
        let stops: Vec<i64> = [from].into_iter().chain(self.state.repeats.drain(..)).chain([to]).collect();
        let mut times = Vec::new();
        match self.rate {
            OutputRate::Grid { .. } => {
                let begin = self.state.next.unwrap_or_else(|| ceil(from, num, den));
                let end = ceil(to, num, den).max(begin);
                times.extend(begin..end);
                self.state.next = Some(end);
                times.push(end);
            }
            _ => {
                for gap in stops.windows(2) {
                    let [begin, end, num] = [gap[0], gap[1], num].map(i128::from);
                    times.extend((0..num).map(|k| saturated(begin * num + k * (end - begin))));
                }
                times.push(to.saturating_mul(num));
            }
        }
        self.state.begun |= times.len() > 1;
        let slot = |t: &[i64]| Slot { pts: t[0], duration: t[1].saturating_sub(t[0]), content: show(self, t[0]) };
        times.windows(2).map(slot).collect()
    }

    /// What an output time between two source frames shows.
    fn between(&self, pts: i64, (first, from): (u64, i64), (second, to): (u64, i64)) -> Content {
        let (num, den) = self.ratio();
        let [pts, from, to, num, den] = [pts, from, to, num, den].map(i128::from);
        let (passed, whole) = (pts * den - from * num, (to - from) * num);
        let near = self.near * num as f64;
        match () {
            () if passed as f64 <= near => Content::Source(first),
            () if (whole - passed) as f64 <= near => Content::Source(second),
            () => Content::Between { first, second, time: passed as f64 / whole as f64 },
        }
    }
}

/// The first output tick at or after a source position.
fn ceil(position: i64, num: i64, den: i64) -> i64 {
    let [position, num, den] = [position, num, den].map(i128::from);
    saturated((position * num).div_euclid(den) + i128::from((position * num).rem_euclid(den) > 0))
}

/// The output tick nearest to a source position.
fn round(position: i64, num: i64, den: i64) -> i64 {
    let [position, num, den] = [position, num, den].map(i128::from);
    saturated((2 * position * num + den).div_euclid(2 * den))
}

/// Time stamps of damaged files have any value.
fn saturated(tick: i128) -> i64 {
    tick.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Name, rate, `near`, `hold`, frames, duration of the last one, expected output.
    type Row<'a> = (&'a str, OutputRate, f64, i64, &'a [(i64, Transition)], i64, &'a str);

    const M: Transition = Transition::Motion;
    const C: Transition = Transition::Cut;
    const R: Transition = Transition::Repeat;

    fn run(timeline: &mut Timeline, frames: &[(i64, Transition)], last: i64) -> Vec<Slot> {
        let mut slots: Vec<Slot> = frames.iter().flat_map(|(p, f)| timeline.push(*p, *f)).collect();
        slots.extend(timeline.finish(last));
        slots
    }

    /// `pts:content` for each slot, where content is a frame number or `first>second@time`, and the end of the last.
    fn text(slots: &[Slot]) -> String {
        let mut words: Vec<String> = slots
            .iter()
            .map(|s| match s.content {
                Content::Source(i) => format!("{}:{i}", s.pts),
                Content::Between { first, second, time } => format!("{}:{first}>{second}@{:.3}", s.pts, time),
            })
            .collect();
        words.extend(slots.last().map(|s| format!("|{}", s.pts + s.duration)));
        words.join(" ")
    }

    #[test]
    #[allow(clippy::too_many_lines)]
    fn output_times_follow_from_source_times() {
        let regular = [(0, M), (1, M), (2, M)];
        let third = OutputRate::Times(3);
        let double = OutputRate::Times(2);
        let up = OutputRate::Grid { num: 5, den: 2 };
        let down = OutputRate::Grid { num: 2, den: 5 };
        let rows: &[Row<'_>] = &[
            ("nothing", double, 0.0, 0, &[], 1, ""),
            ("one, twice", double, 0.0, 0, &[(4, M)], 3, "8:0 |14"),
            ("one, on a grid", up, 0.0, 0, &[(0, M)], 1, "0:0 |3"),
            ("kept", OutputRate::Keep, 0.0, 0, &[(0, M), (7, C), (9, M)], 4, "0:0 7:1 9:2 |13"),
            ("two, thrice", third, 0.0, 0, &[(0, M), (1, M)], 1, "0:0 1:0>1@0.333 2:0>1@0.667 3:1 |6"),
            ("uneven, twice", double, 0.0, 0, &[(0, M), (3, M), (4, M)], 5, "0:0 3:0>1@0.500 6:1 7:1>2@0.500 8:2 |18"),
            ("a cut", double, 0.0, 0, &[(0, M), (1, M), (2, C)], 1, "0:0 1:0>1@0.500 2:1 3:1 4:2 |6"),
            ("24 to 60", up, 0.0, 0, &regular, 1, "0:0 1:0>1@0.400 2:0>1@0.800 3:1>2@0.200 4:1>2@0.600 5:2 6:2 7:2 |8"),
            ("60 to 24", down, 0.0, 0, &[(0, M), (1, M), (2, M), (3, M), (4, M)], 1, "0:0 1:2>3@0.500 |2"),
            (
                "a cut on a grid",
                up,
                0.0,
                0,
                &[(0, M), (1, C), (2, M)],
                1,
                "0:0 1:0 2:0 3:1>2@0.200 4:1>2@0.600 5:2 6:2 7:2 |8",
            ),
            ("begins later", up, 0.0, 0, &[(3, M), (4, M)], 1, "8:0>1@0.200 9:0>1@0.600 10:1 11:1 12:1 |13"),
            (
                "rounded stamps",
                OutputRate::Grid { num: 3, den: 125 },
                0.5,
                0,
                &[(0, M), (42, M), (83, M), (125, M)],
                42,
                "0:0 1:1 2:2 3:3 |4",
            ),
            (
                "a repeat, twice",
                double,
                0.0,
                9,
                &[(0, M), (1, R), (2, M)],
                1,
                "0:0 1:0>2@0.250 2:0>2@0.500 3:0>2@0.750 4:2 |6",
            ),
            ("a repeat before a cut", double, 0.0, 9, &[(0, M), (1, R), (2, C)], 1, "0:0 1:0 2:0 3:0 4:2 |6"),
            ("repeats at the end", double, 0.0, 9, &[(0, M), (1, R), (2, R)], 1, "0:0 1:0 2:0 3:0 4:0 |6"),
            (
                "a still picture",
                double,
                0.0,
                2,
                &[(0, M), (1, R), (2, R), (3, R), (4, R), (5, M)],
                1,
                "0:0 1:0 2:0 3:0 4:0 5:0 6:0 7:0 8:0 9:0>5@0.500 10:5 |12",
            ),
            (
                "a repeat on a grid",
                up,
                0.0,
                9,
                &[(0, M), (1, R), (2, M)],
                2,
                "0:0 1:0>2@0.200 2:0>2@0.400 3:0>2@0.600 4:0>2@0.800 5:2 6:2 7:2 8:2 9:2 |10",
            ),
        ];
        let mut bad = Vec::new();
        for (name, rate, near, hold, frames, last, want) in rows {
            let got = text(&run(&mut Timeline::new(*rate, *near, *hold), frames, *last));
            if got != *want {
                bad.push(format!("{name}:\n  wanted {want}\n  got    {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    /// For random input: output times have no gaps from the first frame to the end, interpolated times lie between their two
    /// frames, and a resumed timeline emits the same frames.
    #[test]
    fn times_have_no_gaps_and_resume() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let rate = match random(3) {
                0 => OutputRate::Keep,
                1 => OutputRate::Times(2 + random(6) as u32),
                _ => OutputRate::Grid { num: 1 + random(9) as i64, den: 1 + random(9) as i64 },
            };
            let mut position = random(20) as i64;
            let mut frames = vec![(position, M)];
            for _ in 0..random(30) {
                position += 1 + random(9) as i64;
                frames.push((position, [M, M, C, R][random(4) as usize]));
            }
            let (whole, last) = (Timeline::new(rate, 0.0, random(12) as i64), 1 + random(5) as i64);
            let slots = run(&mut whole.clone(), &frames, last);
            let (num, den) = whole.ratio();
            for pair in slots.windows(2) {
                assert_eq!(pair[0].pts + pair[0].duration, pair[1].pts, "{rate:?} {frames:?}");
            }
            let (begin, end) = (slots[0].pts, slots.last().map(|s| s.pts + s.duration).unwrap());
            let single = frames.len() == 1;
            assert_eq!(begin, ceil(frames[0].0, num, den), "{rate:?} {frames:?}");
            let wanted = round(position + last, num, den).max(ceil(position, num, den)).max(begin + 1);
            assert!(single || end == wanted, "{rate:?} {frames:?} {slots:?}");
            if let OutputRate::Times(n) = rate {
                assert_eq!(slots.len(), (frames.len() - 1) * n as usize + 1, "{frames:?}");
            }
            for slot in &slots {
                if let Content::Between { first, second, time } = slot.content {
                    let (a, b) = (frames[first as usize].0, frames[second as usize].0);
                    let at = slot.pts as f64 * den as f64 / num as f64;
                    let repeats = (first + 1..second).all(|i| frames[i as usize].1 == R);
                    let still = frames[..=first as usize + 1].last().is_some_and(|f| f.1 == R);
                    assert!((a as f64) < at && at < b as f64 && repeats, "{slot:?}");
                    let line = (at - a as f64) / (b - a) as f64;
                    assert!((line - time).abs() < 1e-9 || still, "{slot:?}");
                }
            }
            let cut = random(frames.len() as u64 + 1) as usize;
            let mut early = whole.clone();
            let mut parts: Vec<Slot> = frames[..cut].iter().flat_map(|(p, f)| early.push(*p, *f)).collect();
            let mut later = whole.clone().resume(early.state().clone());
            parts.extend(frames[cut..].iter().flat_map(|(p, f)| later.push(*p, *f)));
            parts.extend(later.finish(last));
            assert_eq!(parts, slots);
        }
    }

    /// States of a timeline, and changes that no run makes.
    #[test]
    fn states_that_no_run_leaves() {
        let frames = [(0, M), (40, M), (80, R), (120, R)];
        for rate in [OutputRate::Keep, OutputRate::Times(2), OutputRate::Grid { num: 60, den: 1000 }] {
            let mut timeline = Timeline::new(rate, 0.0, 1000);
            frames.iter().for_each(|(position, transition)| drop(timeline.push(*position, *transition)));
            let state = timeline.state().clone();
            assert!(timeline.can_resume(&state, 4, 120, 1), "{rate:?}: {state:?}");
            let changes: [fn(&mut TimelineState); 9] = [
                |s| s.anchor = None,
                |s| s.anchor = Some((0, 40)),
                |s| s.anchor = Some((1, -40)),
                |s| s.anchor = Some((1, 90)),
                |s| s.repeats = vec![80, 100, 120],
                |s| s.repeats = vec![120, 80],
                |s| s.still = true,
                |s| s.count = u64::MAX,
                |s| s.next = Some(i64::MIN),
            ];
            for (k, change) in changes.iter().enumerate() {
                let mut changed = state.clone();
                change(&mut changed);
                assert!(!timeline.can_resume(&changed, 4, 120, 1), "{rate:?}, change {k}: {changed:?}");
            }
            assert!(!timeline.can_resume(&state, 0, 120, 1) && !timeline.can_resume(&state, 4, 120, u64::MAX));
        }
    }

    /// Time stamps of damaged files.
    #[test]
    fn the_largest_times_do_not_overflow() {
        for rate in
            [OutputRate::Keep, OutputRate::Times(u32::MAX), OutputRate::Grid { num: i64::MAX, den: i64::MAX - 1 }]
        {
            let far = 1 << 60;
            let mut timeline = Timeline::new(rate, 0.5, far);
            // As many frames as a factor makes of one gap would not fit into memory.
            if rate != OutputRate::Times(u32::MAX) {
                timeline.push(far - 2, M);
                assert!(timeline.push(far, M).len() <= 3, "{rate:?}");
            } else {
                timeline.push(far, M);
            }
            assert!(timeline.finish(1).len() <= 1, "{rate:?}");
        }
    }
}
