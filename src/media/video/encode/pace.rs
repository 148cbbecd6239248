//! Times of animated pictures whose players slow down short frames.

use std::path::Path;

use crate::media::{format::FileFormat, video::rational::Rational};

/// Lengthens frames that are shorter than the format's shortest, and shortens those that follow, so that times recover.
pub(super) struct Pace {
    /// In ticks, at least 1.
    shortest: i64,
    /// End of the last frame.
    end: Option<i64>,
}

impl Pace {
    /// For a file of this name and its ticks; `None`: the format has no shortest frame.
    pub(super) fn of(target: &Path, tick: Rational) -> Option<Self> {
        let shortest = FileFormat::of_path(target)?.shortest_frame?;
        let ticks = f64::from(shortest) * 1e-3 / tick.value();
        tick.is_known().then(|| Self { shortest: (ticks - 1e-6).ceil().max(1.0) as i64, end: None })
    }

    /// When a frame is shown that is to be shown from `pts` for `duration` ticks: its time stamp and duration.
    pub(super) fn place(&mut self, pts: i64, duration: i64) -> (i64, i64) {
        let begin = self.end.map_or(pts, |end| pts.max(end));
        let end = pts.saturating_add(duration).max(begin.saturating_add(self.shortest));
        self.end = Some(end);
        (begin, end - begin)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// File, ticks per second, time stamps with the end, and the time stamps that are shown with the end.
    #[test]
    fn short_frames_are_lengthened() {
        type Row<'a> = (&'a str, i32, &'a [i64], &'a [i64]);
        let rows: &[Row<'_>] = &[
            ("a.webp", 1000, &[0, 40, 80, 120], &[0, 40, 80, 120]),
            ("a.webp", 1000, &[0, 11, 22, 33], &[0, 11, 22, 33]),
            ("a.webp", 1000, &[0, 4, 40, 80], &[0, 11, 40, 80]),
            ("a.webp", 1000, &[0, 1, 2, 3, 40], &[0, 11, 22, 33, 44]),
            ("a.webp", 1000, &[100, 105, 110, 200, 205], &[100, 111, 122, 200, 211]),
            ("a.webp", 90_000, &[0, 990, 1000], &[0, 990, 1980]),
            ("a.WEBP", 600, &[0, 1, 60], &[0, 7, 60]),
            ("a.webp", 30, &[0, 1, 2], &[0, 1, 2]),
            ("a.gif", 1000, &[0, 4, 40], &[0, 20, 40]),
        ];
        let mut wrong = Vec::new();
        for (name, ticks, times, want) in rows {
            let mut pace = Pace::of(Path::new(name), Rational::new(1, *ticks)).unwrap();
            let placed: Vec<(i64, i64)> = times.windows(2).map(|t| pace.place(t[0], t[1] - t[0])).collect();
            let found: Vec<i64> =
                placed.iter().map(|(pts, _)| *pts).chain(placed.last().map(|(pts, d)| pts + d)).collect();
            let gapless = placed.windows(2).all(|p| p[0].0 + p[0].1 <= p[1].0);
            if found != *want || !gapless {
                wrong.push(format!("{name} {ticks} {times:?}: wanted {want:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for name in ["a.png", "a.apng", "a.mp4", "a", "a.xyz"] {
            assert!(Pace::of(Path::new(name), Rational::new(1, 1000)).is_none(), "{name}");
        }
    }
}
