//! `--conceal-errors`: processes what decodes of a damaged video, and repeats the frame before what does not.

use std::path::{Path, PathBuf};

use crate::{error::Result, media::video::Timing, pipeline::retime::SourceFrame};

/// Frames without errors. At the end, one warning says what was lost.
pub(super) struct Concealed<I> {
    frames: I,
    path: PathBuf,
    steady: bool,
    /// Position of the last frame that the file should have.
    end: i64,
    /// The last frame returned.
    last: Option<SourceFrame>,
    /// A decoded frame that follows repeats.
    waiting: Option<SourceFrame>,
    /// Whether damage came after `last`.
    damaged: bool,
    /// The first error.
    first: Option<crate::error::Error>,
    errors: u64,
    repeats: u64,
    ended: bool,
}

impl<I: Iterator<Item = Result<SourceFrame>>> Concealed<I> {
    /// Conceals the errors of `frames`. `path`: for the warning.
    pub(super) fn new(frames: I, path: &Path, timing: &Timing) -> Self {
        Self {
            frames,
            path: path.into(),
            steady: timing.steady,
            end: timing.end,
            last: None,
            waiting: None,
            damaged: false,
            first: None,
            errors: 0,
            repeats: 0,
            ended: false,
        }
    }

    /// The next repeat of the last frame before position `until`. `None`: no frame is missing there.
    fn repeat(&mut self, until: i64) -> Option<Result<SourceFrame>> {
        let last = self.last.as_mut().filter(|last| self.damaged && last.pts + 1 < until)?;
        // Without a steady rate, positions between frames are unknown; the last frame stays longer.
        if !self.steady && !self.ended {
            return None;
        }
        last.pts = if self.steady { last.pts + 1 } else { until - 1 };
        self.repeats += 1;
        Some(last.copied())
    }

    fn report(&self) {
        let (Some(first), path) = (&self.first, self.path.display()) else { return };
        let (errors, repeats) = (self.errors, self.repeats);
        let times = if errors == 1 { "once".into() } else { format!("{errors} times") };
        tracing::warn!(
            "{path}: is damaged: decoding failed {times}, {repeats} frames repeat the one before; first: {first}"
        );
    }
}

impl<I: Iterator<Item = Result<SourceFrame>>> Iterator for Concealed<I> {
    type Item = Result<SourceFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let until = if self.ended { Some(self.end + 1) } else { self.waiting.as_ref().map(|frame| frame.pts) };
            if let Some(repeat) = until.and_then(|until| self.repeat(until)) {
                return Some(repeat);
            }
            if let Some(frame) = self.waiting.take() {
                self.damaged = false;
                let copy = frame.copied();
                self.last = Some(frame);
                return Some(copy);
            }
            if self.ended {
                self.report();
                self.first = None;
                return None;
            }
            match self.frames.next() {
                Some(Ok(frame)) => self.waiting = Some(frame),
                Some(Err(error)) => {
                    (self.damaged, self.errors) = (true, self.errors + 1);
                    self.first.get_or_insert(error);
                }
                None => {
                    self.ended = true;
                    if self.last.is_none() {
                        return self.first.take().map(Err);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{error::Error, media::video::Rational, stage::interpolate::Planes};

    /// `x`: an error; a digit: a frame at this position with this value. Wanted: position and value of each frame.
    #[test]
    fn what_does_not_decode_repeats_the_frame_before() {
        let rows: &[(&str, bool, i64, &str)] = &[
            ("0123", true, 3, "00 11 22 33"),
            ("01x34", true, 4, "00 11 21 33 44"),
            ("01xx5", true, 5, "00 11 21 31 41 55"),
            // The decoder concealed the frame.
            ("01x2", true, 2, "00 11 22"),
            ("01x", true, 4, "00 11 21 31 41"),
            // A gap of the recording is kept.
            ("0145", true, 5, "00 11 44 55"),
            ("x123", true, 3, "11 22 33"),
            ("01x7", false, 9, "00 11 77"),
            ("01x", false, 9, "00 11 91"),
            ("x", true, 3, "error"),
        ];
        for (decoded, steady, end, wanted) in rows {
            let frames = decoded.chars().map(|c| match c.to_digit(10) {
                Some(n) => Ok(SourceFrame {
                    frame: Planes::from_elem((3, 1, 1), n as f32),
                    pts: n.into(),
                    duration: 1,
                    stamp: n.into(),
                }),
                None => Err(Error::failed("damaged")),
            });
            let timing =
                Timing { steady: *steady, end: *end, ..Timing::at_rate(Rational::new(25, 1), *end as u64 + 1) };
            let concealed = Concealed::new(frames, Path::new("a.ts"), &timing);
            let found: Vec<String> = concealed
                .map(|frame| frame.map_or("error".into(), |f| format!("{}{}", f.pts, f.frame[[0, 0, 0]])))
                .collect();
            assert_eq!(found.join(" "), *wanted, "{decoded}");
        }
    }
}
