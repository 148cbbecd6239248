//! Joins time stamps across jumps of MPEG-TS and MPEG-PS.
//!
//! Spliced recordings restart their clock, or it leaps. Both containers allow that: a decoder continues. Packets are
//! therefore shifted so that the first one after a jump follows the last one before it. All streams are shifted by the
//! same time, which the first stream that jumps decides, so sound stays in sync.

use ffmpeg_next::{Packet, ffi, format::context::Input, packet::Mut};

use super::info;

/// Seconds between two packets of a stream above which the clock has jumped, as in ffmpeg's `-dts_delta_threshold`.
const FORWARD: f64 = 10.0;
/// Seconds by which a packet may be earlier than the previous one.
const BACKWARD: f64 = 0.1;

/// The clock of one stream.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Seconds per tick.
    base: f64,
    /// Number of jumps so far.
    jumps: usize,
    /// Expected decoding time of the next packet, in seconds after correction; `None`: no packet yet.
    next: Option<f64>,
}

/// Reads packets with joined time stamps.
pub(crate) struct TimeJumps {
    /// Per stream; `None`: the container's clock cannot jump, or the stream is neither video nor sound.
    clocks: Vec<Option<Clock>>,
    /// Seconds that are added after each jump; the first entry is 0.
    shifts: Vec<f64>,
    /// Times of the jumps in seconds, as stored, and their lengths.
    pub found: Vec<(f64, f64)>,
}

impl TimeJumps {
    /// For an open container.
    pub(crate) fn new(input: &Input) -> Self {
        // SAFETY: the demuxer is static.
        let flags = unsafe { (*(*input.as_ptr()).iformat).flags };
        let may_jump = flags & ffi::AVFMT_TS_DISCONT != 0;
        let clock = |stream: &&ffi::AVStream| {
            use ffi::AVMediaType::{AVMEDIA_TYPE_AUDIO, AVMEDIA_TYPE_VIDEO};
            // SAFETY: every stream has parameters.
            let kind = unsafe { (*stream.codecpar).codec_type };
            let base = f64::from(stream.time_base.num) / f64::from(stream.time_base.den);
            (kind == AVMEDIA_TYPE_VIDEO || kind == AVMEDIA_TYPE_AUDIO).then_some(Clock { base, jumps: 0, next: None })
        };
        let clocks = if may_jump { info::streams(input).iter().map(clock).collect() } else { Vec::new() };
        Self { clocks, shifts: vec![0.0], found: Vec::new() }
    }

    /// Makes the demuxer skip all streams but the `kept` ones, unless their packets are needed to find jumps.
    pub(crate) fn keep_only(&self, input: &mut Input, kept: impl Fn(usize) -> bool) {
        for index in 0..info::streams(input).len() {
            let needed = kept(index) || self.clocks.get(index).is_some_and(Option::is_some);
            // SAFETY: a stream of the container.
            unsafe {
                let stream = *(*input.as_mut_ptr()).streams.add(index);
                (*stream).discard =
                    if needed { ffi::AVDiscard::AVDISCARD_DEFAULT } else { ffi::AVDiscard::AVDISCARD_ALL };
            }
        }
    }

    /// Reads the next packet of any stream. Returns FFmpeg's code.
    pub(crate) fn read(&mut self, input: &mut Input, packet: &mut Packet) -> i32 {
        // SAFETY: both structures are owned.
        let code = unsafe { ffi::av_read_frame(input.as_mut_ptr(), packet.as_mut_ptr()) };
        if code >= 0 && !self.clocks.is_empty() {
            self.correct(packet);
        }
        code
    }

    fn correct(&mut self, packet: &mut Packet) {
        let Some(clock) = self.clocks.get_mut(packet.stream()).and_then(Option::as_mut) else { return };
        let Some(dts) = packet.dts().or(packet.pts()) else { return };
        let stored = dts as f64 * clock.base;
        let jumped =
            |shift: f64| clock.next.is_some_and(|next| !(-BACKWARD..=FORWARD).contains(&(stored + shift - next)));
        if jumped(self.shifts[clock.jumps]) {
            // Another stream may have jumped there already.
            let known = self.shifts.iter().skip(clock.jumps + 1).position(|shift| !jumped(*shift));
            clock.jumps = match known {
                Some(further) => clock.jumps + 1 + further,
                None => {
                    let (before, next) = (self.shifts[clock.jumps], clock.next.unwrap_or(stored));
                    self.found.push((stored, stored + before - next));
                    self.shifts.push(next - stored);
                    self.shifts.len() - 1
                }
            };
        }
        let shift = self.shifts[clock.jumps];
        let ticks = (shift / clock.base).round() as i64;
        packet.set_pts(packet.pts().map(|t| t + ticks));
        packet.set_dts(packet.dts().map(|t| t + ticks));
        let last = clock.next.unwrap_or(f64::MIN);
        clock.next = Some((stored + shift + packet.duration().max(0) as f64 * clock.base).max(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored decoding times of the packets of two streams of 90 kHz, and the corrected ones, in seconds.
    #[test]
    fn clocks_are_joined() {
        type Row<'a> = (&'a str, &'a [(usize, f64)], &'a [f64], usize);
        let rows: &[Row<'_>] = &[
            ("steady", &[(0, 1.0), (0, 1.5), (0, 2.0)], &[1.0, 1.5, 2.0], 0),
            ("a pause is kept", &[(0, 1.0), (0, 9.0)], &[1.0, 9.0], 0),
            ("forward", &[(0, 1.0), (0, 1.5), (0, 900.0), (0, 900.5)], &[1.0, 1.5, 2.0, 2.5], 1),
            ("backward", &[(0, 50.0), (0, 50.5), (0, 0.0), (0, 0.5)], &[50.0, 50.5, 51.0, 51.5], 1),
            (
                "both streams, one of them late",
                &[(0, 5.0), (1, 5.1), (0, 5.5), (0, 0.0), (1, 5.6), (1, 0.1), (0, 0.5)],
                &[5.0, 5.1, 5.5, 6.0, 5.6, 6.1, 6.5],
                1,
            ),
            ("twice", &[(0, 5.0), (1, 5.0), (0, 0.0), (0, 99.0), (1, 99.0)], &[5.0, 5.0, 5.5, 6.0, 6.0], 2),
        ];
        for (name, stored, wanted, jumps) in rows {
            let clock = Clock { base: 1.0 / 90_000.0, jumps: 0, next: None };
            let mut joined = TimeJumps { clocks: vec![Some(clock); 2], shifts: vec![0.0], found: Vec::new() };
            let found: Vec<f64> = stored
                .iter()
                .map(|(stream, time)| {
                    let mut packet = Packet::empty();
                    packet.set_stream(*stream);
                    packet.set_dts(Some((time * 90_000.0) as i64));
                    packet.set_duration(45_000);
                    joined.correct(&mut packet);
                    packet.dts().unwrap_or(0) as f64 / 90_000.0
                })
                .collect();
            let near = found.iter().zip(*wanted).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(near && joined.found.len() == *jumps, "{name}: {found:?}, {:?}", joined.found);
        }
    }
}
