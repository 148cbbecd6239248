//! What the chunks of an animated WebP say (RFC 9649).

use crate::media::{riff::chunks, video::rational::Rational};

/// Duration in ms that browsers use for frames with a duration of 10 ms or less.
pub(crate) const DEFAULT_DELAY: u32 = 100;

/// The duration of a frame in ms, from the header of its ANMF chunk (RFC 9649 §2.7.1.1).
pub(crate) fn delay(frame: &[u8]) -> u32 {
    let stored = frame.get(12..15).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], 0]));
    if stored <= 10 { DEFAULT_DELAY } else { stored }
}

/// (width, height) of the canvas, from the VP8X chunk (RFC 9649 §2.7).
fn canvas(data: &[u8]) -> Option<(usize, usize)> {
    let side = |at: usize| {
        let bytes = data.get(at..at + 3)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize + 1)
    };
    Some((side(4)?, side(7)?))
}

/// What the chunks of an animated WebP say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Durations of the frames in ms.
    pub delays: Vec<u32>,
    /// Loop count, 0: endless.
    pub plays: u32,
    /// Whether there is an ICC profile.
    pub profile: bool,
    /// Whether there is transparency.
    pub alpha: bool,
    /// Width and height.
    pub canvas: Option<(usize, usize)>,
}

impl Header {
    /// Reads the chunks of a file. `None`: not animated.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let named = |name: [u8; 4]| chunks(bytes).filter(move |c| c.name == name);
        let anim = named(*b"ANIM").find(|c| c.data.len() >= 6)?;
        Some(Self {
            delays: named(*b"ANMF").map(|c| delay(c.data)).collect(),
            plays: u32::from(u16::from_le_bytes([anim.data[4], anim.data[5]])),
            profile: named(*b"ICCP").next().is_some(),
            alpha: named(*b"VP8X").any(|c| c.data.first().is_some_and(|flags| flags & 0x10 != 0)),
            canvas: named(*b"VP8X").next().and_then(|c| canvas(c.data)),
        })
    }

    /// Duration in ms, at least 1.
    pub(crate) fn total(&self) -> u64 {
        self.delays.iter().map(|d| u64::from(*d)).sum::<u64>().max(1)
    }

    /// Frames per second: exact, or the average; whether durations vary.
    pub(crate) fn rate(&self) -> (Rational, bool) {
        let first = self.delays.first().copied().unwrap_or(DEFAULT_DELAY);
        if self.delays.iter().all(|d| *d == first) {
            return (Rational::new(1000, first as i32), false);
        }
        (Rational::ratio(1000 * self.delays.len() as u64, self.total()), true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An animated file of frames with these durations in ms, without pixels.
    fn file(delays: &[u32]) -> Vec<u8> {
        let chunk = |name: &[u8], data: &[u8]| [name, &(data.len() as u32).to_le_bytes(), data].concat();
        let frame = |delay: &u32| chunk(b"ANMF", &[&[0; 12], &delay.to_le_bytes()[..]].concat());
        let frames: Vec<u8> = delays.iter().flat_map(frame).collect();
        [b"RIFF\0\0\0\0WEBP", &chunk(b"ANIM", &[0, 0, 0, 0, 3, 0])[..], &frames].concat()
    }

    #[test]
    fn rates_follow_from_durations() {
        let longest = [0xff_ffff; 1000];
        let mut uneven = longest;
        uneven[0] = 11;
        type Row<'a> = (&'a [u32], (i32, i32), bool, u64);
        let rows: [Row<'_>; 6] = [
            (&[40, 40], (1000, 40), false, 80),
            (&[5, 100], (1000, 100), false, 200),
            (&[40, 80], (50, 3), true, 120),
            (&[], (1000, 100), false, 1),
            (&longest, (1000, 0xff_ffff), false, 16_777_215_000),
            (&uneven, (125_000, 2_095_054_725), true, 16_760_437_796),
        ];
        for (delays, rate, variable, total) in rows {
            let header = Header::of(&file(delays)).unwrap();
            assert_eq!(header.rate(), (Rational::new(rate.0, rate.1), variable), "{} frames", delays.len());
            assert_eq!((header.total(), header.plays), (total, 3), "{} frames", delays.len());
        }
        assert_eq!(Header::of(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0"), None);
    }
}
