//! Converts frames to 8-bit samples, for formats with no more, and to the channels that a format stores.

use std::borrow::Cow;

use crate::tensor::{Frame, Samples};

/// Sampling factor of the NeuQuant colour quantizer, 1 (every pixel) to 30.
pub(crate) const PALETTE_SPEED: i32 = 10;

/// What a GIF does not store of alpha.
pub(crate) const PARTIAL: &str = "partial transparency (a GIF does not store it)";

/// Whether some pixels are neither opaque nor clear.
pub(crate) fn has_soft_alpha(frame: &Frame) -> bool {
    frame.channels == 4
        && match &frame.samples {
            Samples::U8(samples) => samples.iter().skip(3).step_by(4).any(|a| !matches!(*a, 0 | u8::MAX)),
            Samples::U16(samples) => samples.iter().skip(3).step_by(4).any(|a| !matches!(*a, 0 | u16::MAX)),
        }
}

/// 8-bit RGBA with alpha 0 or 255.
pub(crate) fn palette_pixels(frame: &Frame) -> Vec<u8> {
    let bytes = eight_bits(&frame.samples);
    if frame.channels == 3 {
        return bytes.as_chunks::<3>().0.iter().flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    }
    let over = |p: &[u8; 4]| if p[3] < 128 { [0; 4] } else { [p[0], p[1], p[2], 255] };
    bytes.as_chunks::<4>().0.iter().flat_map(over).collect()
}

/// 8-bit RGB of a frame without transparency; `None`: the frame has transparency.
pub(super) fn opaque(frame: &Frame) -> Option<Cow<'_, [u8]>> {
    let bytes = eight_bits(&frame.samples);
    if frame.channels == 3 {
        return Some(bytes);
    }
    let (pixels, _) = bytes.as_chunks::<4>();
    let opaque = pixels.iter().all(|p| p[3] == u8::MAX);
    opaque.then(|| pixels.iter().flat_map(|p| [p[0], p[1], p[2]]).collect())
}

pub(super) fn eight_bits(samples: &Samples) -> Cow<'_, [u8]> {
    match samples {
        Samples::U8(s) => Cow::Borrowed(s),
        Samples::U16(s) => Cow::Owned(s.iter().map(|&v| ((u32::from(v) * 255 + 32767) / 65535) as u8).collect()),
    }
}

/// The samples that a format with grey stores: one channel, or two with alpha, of a grey picture.
pub(super) fn without_repetition(frame: &Frame, grey: bool) -> (Cow<'_, Samples>, usize) {
    fn firsts<T: Copy>(samples: &[T], channels: usize) -> Vec<T> {
        samples.chunks_exact(channels).flat_map(|p| [p[0]].into_iter().chain(p.get(3).copied())).collect()
    }
    let Frame { channels, samples, .. } = frame;
    if !grey {
        return (Cow::Borrowed(samples), *channels);
    }
    let grey = match samples {
        Samples::U8(s) => Samples::U8(firsts(s, *channels)),
        Samples::U16(s) => Samples::U16(firsts(s, *channels)),
    };
    (Cow::Owned(grey), channels - 2)
}
