//! Time stamps of packets → frame times → output times.

use crate::{
    media::{
        rational::Rational,
        timing::{Clock, PacketTimes, StreamTime, Timing},
    },
    stage::timeline::{OutputRate, Timeline, Transition},
};

/// Takes numbers from a file; zeros after its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number of 1 to 8 bytes, whose count is the byte before them.
    fn number(&mut self) -> i64 {
        let mut bytes = [0; 8];
        let count = usize::from(self.byte() % 9);
        bytes.iter_mut().take(count).for_each(|byte| *byte = self.byte());
        let unused = 64 - 8 * count as u32;
        if count == 0 { 0 } else { i64::from_le_bytes(bytes) << unused >> unused }
    }

    /// A positive ratio, as FFmpeg's are.
    fn ratio(&mut self) -> Rational {
        let mut part = || (self.number() as i32).saturating_abs().max(1);
        Rational::new(part(), part())
    }

    /// Seconds as `--start` and `--end` take them, in thousandths.
    fn seconds(&mut self) -> Option<f64> {
        let thousandths = self.number();
        (thousandths >= 0).then_some(thousandths as f64 / 1000.0)
    }
}

/// A stream header, a range, and the time stamps of packets. Positions ascend, frames are not more than packets, and output frames
/// follow each other without gaps.
pub fn timing(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let (time_base, frame_rate, other) = (numbers.ratio(), numbers.ratio(), numbers.ratio());
    let stream = StreamTime {
        time_base,
        frame_rate,
        start: numbers.number() as f64 / 1000.0,
        origin: numbers.number(),
        frames: Some(numbers.number().unsigned_abs()),
    };
    let (range, bare, last) = ((numbers.seconds(), numbers.seconds()), u64::from(numbers.byte()), numbers.number());
    let rate = match numbers.byte() % 3 {
        0 => OutputRate::Keep,
        1 => OutputRate::Times(2 + u32::from(numbers.byte())),
        _ => OutputRate::Grid { num: numbers.number().saturating_abs().max(1), den: numbers.number().saturating_abs().max(1) },
    };
    let mut stamps = Vec::new();
    let mut stamp = numbers.number();
    while !numbers.0.is_empty() {
        stamps.push(stamp);
        stamp = stamp.saturating_add(numbers.number());
    }
    stamps.sort_unstable();
    let packets = PacketTimes { stamps, bare: if bare > 200 { bare } else { 0 }, last };
    let rates = [frame_rate, other];
    check(Timing::of(&stream, &rates, &packets), &stream, &packets, rate);
    if let Ok((timing, _)) = Timing::in_range(&stream, &rates, &packets, range) {
        assert!(timing.frames > 0);
        check(timing, &stream, &packets, rate);
    }
}

fn check(timing: Timing, stream: &StreamTime, packets: &PacketTimes, rate: OutputRate) {
    let PacketTimes { stamps, .. } = packets;
    assert!(timing.last > 0 && timing.tick.is_known() && timing.rate.is_known(), "{timing:?}");
    let stamps = match timing.window {
        Some(window) if timing.stamped => {
            assert!(window.skip + timing.frames <= stamps.len() as u64, "{timing:?}");
            &stamps[window.skip as usize..][..timing.frames as usize]
        }
        _ => stamps.as_slice(),
    };
    if timing.stamped {
        assert_eq!(timing.frames, stamps.len() as u64);
        assert!(!timing.steady || timing.end >= timing.frames as i64 - 1, "{timing:?}");
    }
    let mut clock = Clock::new(timing, stream);
    let positions: Vec<i64> = stamps.iter().map(|stamp| clock.position(*stamp)).collect();
    // The largest position is that of all later frames.
    let ascending = positions.is_sorted_by(|a, b| a < b || *b == i64::MAX);
    assert!(ascending && positions.first().is_none_or(|first| *first >= 0), "{positions:?}");
    if timing.steady && timing.stamped && timing.window.is_some() {
        assert_eq!(positions.last(), Some(&timing.end));
    }
    if positions.last().is_some_and(|last| *last < i64::MAX) {
        retime(&positions, timing.last, rate);
    }
}

/// Maps positions to output times, unless there are very many.
fn retime(positions: &[i64], last: i64, rate: OutputRate) {
    let each = match rate {
        OutputRate::Keep => 1.0,
        OutputRate::Times(n) => f64::from(n) * positions.len() as f64,
        OutputRate::Grid { num, den } => {
            let end = positions.last().map_or(0, |end| end.saturating_add(last));
            end as f64 * num as f64 / den as f64
        }
    };
    if each > 1e5 {
        return;
    }
    let mut timeline = Timeline::new(rate, 0.25, 1000);
    let kinds = [Transition::Motion, Transition::Cut, Transition::Repeat];
    let (mut slots, mut anchor) = (Vec::new(), 0);
    for (k, position) in positions.iter().enumerate() {
        if k > 0 {
            let state = timeline.state();
            assert!(timeline.can_resume(state, k as u64, positions[k - 1], anchor), "{state:?}");
        }
        let kind = kinds[(*position % 3) as usize];
        slots.extend(timeline.push(*position, kind));
        anchor = if k > 0 && kind == Transition::Repeat { anchor } else { k as u64 };
    }
    slots.extend(timeline.finish(last));
    for pair in slots.windows(2).filter(|pair| pair[1].pts < i64::MAX / 2) {
        assert!(pair[0].pts + pair[0].duration == pair[1].pts && pair[0].duration > 0, "{pair:?}");
    }
}
