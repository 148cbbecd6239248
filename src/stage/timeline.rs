//! What is shown when: source frames at their times → output frames at theirs, without a pixel.
//!
//! Positions are time stamps of the source in its ticks, rising. Output frames are told as soon as the source frame after them is
//! known, so no more than one gap is ever open; a timeline is plain data and may be kept to go on from.

use serde::{Deserialize, Serialize};

/// What output times are made from those of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The source's times.
    Keep,
    /// So many frames for each of the source, from 2 on: every gap gets so many less one, evenly. The output's tick is the
    /// source's divided by it.
    Times(u32),
    /// One frame a tick of the output, `num/den` of which make one of the source.
    Grid {
        /// Above the line, positive.
        num: i64,
        /// Below the line, positive.
        den: i64,
    },
}

/// How a source frame follows the last distinct one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Things have moved: what lies between can be made.
    Motion,
    /// Another scene: until then, the frame before is shown.
    Cut,
    /// The same picture again: no sample of the motion.
    Repeat,
}

/// What an output frame shows; source frames are counted from 0, repeats too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// A frame of the source.
    Source(u64),
    /// What lies between two frames of the source, at a time in 0..1 from the first to the second.
    #[allow(missing_docs)]
    Between { first: u64, second: u64, time: f64 },
}

/// One output frame, `pts` and `duration` in ticks of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Slot {
    pub pts: i64,
    pub duration: i64,
    pub shown: Shown,
}

/// The frames of a video on their way from the source's times to the output's.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    pace: Pace,
    /// Ticks of the source within which a frame of it is taken for the time itself.
    near: f64,
    /// Longest gap, in ticks of the source, that repeats may leave; longer ones are a still picture.
    hold: i64,
    at: Standing,
}

/// How far a timeline has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Number of the last distinct frame and when it, or the still picture it is, was last seen.
    anchor: Option<(u64, i64)>,
    /// Repeats since then.
    repeats: Vec<i64>,
    still: bool,
    /// Source frames so far.
    count: u64,
    /// The grid's next tick.
    next: Option<i64>,
    /// Whether anything has been shown.
    begun: bool,
}

impl Timeline {
    /// A timeline from the first frame on. `near`: how many ticks of the source may lie between a time and a frame of the source
    /// that is shown there (time stamps are rounded: half a tick; exact ones: 0). `hold`: the longest gap between distinct frames,
    /// in ticks of the source, over which repeats are made anew; longer ones are shown as they are.
    pub fn new(pace: Pace, near: f64, hold: i64) -> Self {
        Self { pace, near, hold, at: Standing::default() }
    }

    /// How far it has come, to go on from.
    pub fn standing(&self) -> &Standing {
        &self.at
    }

    /// The same timeline where another of its kind stood.
    #[must_use]
    pub fn go_on(self, at: Standing) -> Self {
        Self { at, ..self }
    }

    /// Takes the next frame of the source and tells what is shown before it. What the first follows is of no matter.
    pub fn push(&mut self, position: i64, follows: Follows) -> Vec<Slot> {
        let number = self.at.count;
        self.at.count += 1;
        let Some((anchor, from)) = self.at.anchor else {
            self.at.anchor = Some((number, position));
            return Vec::new();
        };
        match follows {
            Follows::Motion => {
                self.at.anchor = Some((number, position));
                self.at.still = false;
                let show = |timeline: &Self, pts| timeline.between(pts, (anchor, from), (number, position));
                self.fill(from, position, show)
            }
            Follows::Cut => {
                self.at.anchor = Some((number, position));
                self.at.still = false;
                self.fill(from, position, |_, _| Shown::Source(anchor))
            }
            Follows::Repeat if !self.at.still && position - from <= self.hold => {
                self.at.repeats.push(position);
                Vec::new()
            }
            Follows::Repeat => {
                self.at.anchor = Some((anchor, position));
                self.at.still = true;
                self.fill(from, position, |_, _| Shown::Source(anchor))
            }
        }
    }

    /// Tells what is shown from the last frame of the source on, which lasts so many of its ticks. On a grid the end is the
    /// nearest tick.
    pub fn finish(&mut self, duration: i64) -> Vec<Slot> {
        let Some((anchor, from)) = self.at.anchor.take() else { return Vec::new() };
        let last = self.at.repeats.pop().unwrap_or(from);
        let mut slots = if last > from { self.fill(from, last, |_, _| Shown::Source(anchor)) } else { Vec::new() };
        let (end, shown) = (last + duration.max(1), Shown::Source(anchor));
        let (num, den) = self.ratio();
        match self.pace {
            // A clip of one frame stays one.
            Pace::Grid { .. } if self.at.count == 1 => {
                let pts = self.at.next.unwrap_or_else(|| ceil(from, num, den));
                slots.push(Slot { pts, duration: round(end - from, num, den).max(1), shown });
            }
            Pace::Grid { .. } => {
                let begin = self.at.next.unwrap_or_else(|| ceil(from, num, den));
                // However short, a clip has a frame.
                let end = round(end, num, den).max(begin + i64::from(!self.at.begun && slots.is_empty()));
                slots.extend((begin..end).map(|pts| Slot { pts, duration: 1, shown }));
            }
            _ => slots.push(Slot { pts: last * num, duration: (end - last) * num, shown }),
        }
        slots
    }

    /// Ticks of the output that make one of the source.
    fn ratio(&self) -> (i64, i64) {
        match self.pace {
            Pace::Keep => (1, 1),
            Pace::Times(n) => (i64::from(n), 1),
            Pace::Grid { num, den } => (num, den),
        }
    }

    /// The output's frames from one position to another, over the repeats between them.
    fn fill(&mut self, from: i64, to: i64, show: impl Fn(&Self, i64) -> Shown) -> Vec<Slot> {
        let (num, den) = self.ratio();
        let stops: Vec<i64> = [from].into_iter().chain(self.at.repeats.drain(..)).chain([to]).collect();
        let mut times = Vec::new();
        match self.pace {
            Pace::Grid { .. } => {
                let begin = self.at.next.unwrap_or_else(|| ceil(from, num, den));
                let end = ceil(to, num, den).max(begin);
                times.extend(begin..end);
                self.at.next = Some(end);
                times.push(end);
            }
            _ => {
                for gap in stops.windows(2) {
                    times.extend((0..num).map(|k| gap[0] * num + k * (gap[1] - gap[0])));
                }
                times.push(to * num);
            }
        }
        self.at.begun |= times.len() > 1;
        times.windows(2).map(|t| Slot { pts: t[0], duration: t[1] - t[0], shown: show(self, t[0]) }).collect()
    }

    /// What is shown at an output time between two frames of the source.
    fn between(&self, pts: i64, (first, from): (u64, i64), (second, to): (u64, i64)) -> Shown {
        let (num, den) = self.ratio();
        let (passed, whole) = (pts * den - from * num, (to - from) * num);
        let near = self.near * num as f64;
        match () {
            () if passed as f64 <= near => Shown::Source(first),
            () if (whole - passed) as f64 <= near => Shown::Source(second),
            () => Shown::Between { first, second, time: passed as f64 / whole as f64 },
        }
    }
}

/// The first tick of the output that is not before a position.
fn ceil(position: i64, num: i64, den: i64) -> i64 {
    (position * num).div_euclid(den) + i64::from((position * num).rem_euclid(den) > 0)
}

/// The tick of the output that is nearest to a position.
fn round(position: i64, num: i64, den: i64) -> i64 {
    (2 * position * num + den).div_euclid(2 * den)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Name, pace, `near`, `hold`, frames, ticks of the last one, what is shown.
    type Row<'a> = (&'a str, Pace, f64, i64, &'a [(i64, Follows)], i64, &'a str);

    const M: Follows = Follows::Motion;
    const C: Follows = Follows::Cut;
    const R: Follows = Follows::Repeat;

    fn run(timeline: &mut Timeline, frames: &[(i64, Follows)], last: i64) -> Vec<Slot> {
        let mut slots: Vec<Slot> = frames.iter().flat_map(|(p, f)| timeline.push(*p, *f)).collect();
        slots.extend(timeline.finish(last));
        slots
    }

    /// `pts:what`, a frame's number or `first>second@time`, and the end of the last.
    fn text(slots: &[Slot]) -> String {
        let mut words: Vec<String> = slots
            .iter()
            .map(|s| match s.shown {
                Shown::Source(i) => format!("{}:{i}", s.pts),
                Shown::Between { first, second, time } => format!("{}:{first}>{second}@{:.3}", s.pts, time),
            })
            .collect();
        words.extend(slots.last().map(|s| format!("|{}", s.pts + s.duration)));
        words.join(" ")
    }

    #[test]
    fn frames_are_shown_when_they_are_due() {
        let regular = [(0, M), (1, M), (2, M)];
        let third = Pace::Times(3);
        let double = Pace::Times(2);
        let up = Pace::Grid { num: 5, den: 2 };
        let down = Pace::Grid { num: 2, den: 5 };
        let rows: &[Row<'_>] = &[
            ("nothing", double, 0.0, 0, &[], 1, ""),
            ("one, twice", double, 0.0, 0, &[(4, M)], 3, "8:0 |14"),
            ("one, on a grid", up, 0.0, 0, &[(0, M)], 1, "0:0 |3"),
            ("kept", Pace::Keep, 0.0, 0, &[(0, M), (7, C), (9, M)], 4, "0:0 7:1 9:2 |13"),
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
                Pace::Grid { num: 3, den: 125 },
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
        for (name, pace, near, hold, frames, last, want) in rows {
            let got = text(&run(&mut Timeline::new(*pace, *near, *hold), frames, *last));
            if got != *want {
                bad.push(format!("{name}:\n  wanted {want}\n  got    {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    /// Whatever comes: times rise without gaps from the first frame to the end, nothing is shown that is not between its two
    /// frames, and a timeline that was set aside goes on as if it had not been.
    #[test]
    fn times_are_whole() {
        let mut state = 1u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..2000 {
            let pace = match random(3) {
                0 => Pace::Keep,
                1 => Pace::Times(2 + random(6) as u32),
                _ => Pace::Grid { num: 1 + random(9) as i64, den: 1 + random(9) as i64 },
            };
            let mut position = random(20) as i64;
            let mut frames = vec![(position, M)];
            for _ in 0..random(30) {
                position += 1 + random(9) as i64;
                frames.push((position, [M, M, C, R][random(4) as usize]));
            }
            let (whole, last) = (Timeline::new(pace, 0.0, random(12) as i64), 1 + random(5) as i64);
            let slots = run(&mut whole.clone(), &frames, last);
            let (num, den) = whole.ratio();
            for pair in slots.windows(2) {
                assert_eq!(pair[0].pts + pair[0].duration, pair[1].pts, "{pace:?} {frames:?}");
            }
            let (begin, end) = (slots[0].pts, slots.last().map(|s| s.pts + s.duration).unwrap());
            let single = frames.len() == 1;
            assert_eq!(begin, ceil(frames[0].0, num, den), "{pace:?} {frames:?}");
            let wanted = round(position + last, num, den).max(ceil(position, num, den)).max(begin + 1);
            assert!(single || end == wanted, "{pace:?} {frames:?} {slots:?}");
            if let Pace::Times(n) = pace {
                assert_eq!(slots.len(), (frames.len() - 1) * n as usize + 1, "{frames:?}");
            }
            for slot in &slots {
                if let Shown::Between { first, second, time } = slot.shown {
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
            let mut later = early.clone();
            parts.extend(frames[cut..].iter().flat_map(|(p, f)| later.push(*p, *f)));
            parts.extend(later.finish(last));
            assert_eq!(parts, slots);
        }
    }
}
