//! Frame durations of animated PNG.

use std::path::Path;

use crate::media::video::rational::Rational;

/// The average rate of an animated PNG, from the delays in its `fcTL` chunks. FFmpeg does not estimate the rate of two frames.
/// `None`: the file is unreadable or has no such chunk.
pub(crate) fn average_rate(path: &Path) -> Option<Rational> {
    let bytes = std::fs::read(path).ok()?;
    let (mut at, mut frames, mut milliseconds) = (8, 0_u32, 0.0);
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        // After the sequence number, the rectangle: numerator and denominator of the delay. A denominator of 0 means 100.
        if &head[4..] == b"fcTL"
            && let Some(&[n0, n1, d0, d1]) = bytes.get(at + 28..at + 32)
        {
            let (delay, unit) = (u16::from_be_bytes([n0, n1]), u16::from_be_bytes([d0, d1]));
            milliseconds += 1e3 * f64::from(delay) / f64::from(if unit == 0 { 100 } else { unit });
            frames += 1;
        }
        at = at.checked_add(length)?.checked_add(12)?;
    }
    let total = milliseconds.round().max(1.0);
    (frames > 0).then(|| Rational::new(frames.saturating_mul(1000).min(i32::MAX as u32) as i32, total as i32))
}
