//! The decoded frames of a video within its time range, with their positions.

use crate::{
    error::Result,
    media::video::{Clock, Reader, Timing, VideoFrame},
    pipeline::{orientation::Orientation, retime::SourceFrame},
    stage::interpolate::Planes,
    tensor::check_room,
};

/// Decodes the frames of a time range.
pub(super) struct Decoding {
    reader: Reader,
    pub clock: Clock,
    timing: Timing,
    turn: Orientation,
    /// Frames decoded so far, and frames returned.
    passed: u64,
    given: u64,
}

impl Decoding {
    /// `turn`: how frames are turned.
    pub(super) fn new(reader: Reader, clock: Clock, timing: Timing, turn: Orientation) -> Self {
        Self { reader, clock, timing, turn, passed: 0, given: 0 }
    }

    /// The upright planes of a frame. Errors: the memory cannot be allocated.
    fn planes(&self, decoded: VideoFrame) -> Result<Planes> {
        let planes = decoded.frame.planes()?;
        if self.turn != Orientation(1) {
            // The copy in which rows are columns.
            check_room::<f32>(planes.len())?;
        }
        Ok(self.turn.upright(planes))
    }
}

impl Iterator for Decoding {
    type Item = Result<SourceFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // What follows the range may be damaged, so it is not decoded.
            if self.timing.window.is_some() && self.given >= self.timing.frames {
                return None;
            }
            let frame = match self.reader.next()? {
                Ok(frame) => frame,
                Err(e) => return Some(Err(e)),
            };
            if let Some(window) = self.timing.window {
                let (early, late) = match self.timing.stamped {
                    true => (frame.pts < window.first, frame.pts >= window.after),
                    false => (self.passed < window.skip, false),
                };
                self.passed += 1;
                if late {
                    return None;
                }
                if early {
                    continue;
                }
            }
            self.given += 1;
            let (pts, stamp, duration) = (self.clock.position(frame.pts), frame.pts, self.timing.last);
            let planes = self.planes(frame);
            return Some(planes.map(|frame| SourceFrame { frame, pts, duration, stamp }));
        }
    }
}
