//! The work of a batch, and the time that it still takes.
//!
//! The work of an item is the number of pixels of its output over all frames: the items of a folder may differ by a factor of
//! thousands, so the share of finished items says nothing about the time left.

use crate::{
    error::Result,
    pipeline::{self, SizeRow},
    plan::{EnhancePlan, Job, Rate, Trim},
};

/// The work of one item.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    /// Its header has not been read.
    Unknown,
    /// Pixels to make.
    Waiting(f64),
    /// Processed, skipped or failed.
    Ended,
}

/// The work of a batch.
#[derive(Debug)]
pub(super) struct Work {
    items: Vec<Item>,
    /// Items processed at the same time.
    threads: usize,
    /// Number and pixels of the items whose work is known or was.
    known: (usize, f64),
    /// Seconds and pixels of the items that this run has processed.
    spent: (f64, f64),
}

impl Work {
    /// `count` items, of which nothing is known, on `threads` threads.
    pub(super) fn new(count: usize, threads: usize) -> Self {
        Self { items: vec![Item::Unknown; count], threads, known: (0, 0.0), spent: (0.0, 0.0) }
    }

    /// Number of items.
    pub(super) fn count(&self) -> usize {
        self.items.len()
    }

    /// Whether the header of an item is still to be read.
    pub(super) fn is_unknown(&self, k: usize) -> bool {
        self.items.get(k) == Some(&Item::Unknown)
    }

    /// Sets the pixels of an item, unless it has ended.
    pub(super) fn set(&mut self, k: usize, pixels: f64) {
        if self.is_unknown(k) {
            self.items[k] = Item::Waiting(pixels);
            self.known = (self.known.0 + 1, self.known.1 + pixels);
        }
    }

    /// Marks an item as ended. `spent`: its seconds and pixels if this run has processed all of it. An item that failed, or that an
    /// earlier run has finished, says nothing about the speed.
    pub(super) fn end(&mut self, k: usize, spent: Option<(f64, f64)>) {
        if let Some((seconds, pixels)) = spent {
            self.set(k, pixels);
            self.spent = (self.spent.0 + seconds, self.spent.1 + pixels);
        }
        if let Some(item) = self.items.get_mut(k) {
            *item = Item::Ended;
        }
    }

    /// Seconds until all items have ended, at the speed of the processed ones. An item with an unknown header counts as the mean of
    /// the known ones. `None`: none was processed yet.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let (seconds, pixels) = self.spent;
        let (count, sum) = self.known;
        if pixels <= 0.0 {
            return None;
        }
        let mean = sum / count as f64;
        let left = |item: &Item| match item {
            Item::Unknown => Some(mean),
            Item::Waiting(pixels) => Some(*pixels),
            Item::Ended => None,
        };
        let waiting: Vec<f64> = self.items.iter().filter_map(left).collect();
        let parallel = self.threads.min(waiting.len()).max(1);
        Some(waiting.iter().sum::<f64>() * seconds / pixels / parallel as f64)
    }
}

/// The plan for [`pixels_of`]: without interpolation and time range, the header of a video is enough.
pub(super) fn without_time(plan: &EnhancePlan) -> EnhancePlan {
    EnhancePlan { jobs: Vec::new(), interpolation: None, trim: Trim::default(), ..plan.clone() }
}

/// The work of an item, from its header. `timeless`: [`without_time`] of the plan, because exact times need all packets of a video.
/// `None`: the header of the video has no number of frames.
///
/// # Errors
/// Those of reading the header.
pub(super) fn pixels_of(plan: &EnhancePlan, timeless: &EnhancePlan, job: &Job) -> Result<Option<f64>> {
    if job.refusal.is_some() {
        return Ok(Some(0.0));
    }
    let sizes = pipeline::sizes(timeless, &job.input)?;
    Ok(sizes.last().filter(|last| last.frames > 0).map(|last| {
        let rate = plan.interpolation.as_ref().map(|i| i.rate);
        area(last) * frames_made(last.frames, last.fps, &plan.trim, rate)
    }))
}

/// The work of sizes that are exact.
pub(super) fn pixels(sizes: &[SizeRow]) -> f64 {
    sizes.last().map_or(0.0, |last| area(last) * last.frames as f64)
}

fn area(row: &SizeRow) -> f64 {
    row.width as f64 * row.height as f64
}

/// About how many frames are made of `frames` at `fps` frames per second; a picture has no rate.
fn frames_made(frames: u64, fps: Option<f64>, trim: &Trim, rate: Option<Rate>) -> f64 {
    let Some(fps) = fps.filter(|fps| *fps > 0.0) else { return frames as f64 };
    let length = frames as f64 / fps;
    let (start, end) = (trim.start.unwrap_or(0.0), trim.end.unwrap_or(length).min(length));
    let frames = (end - start).max(0.0) * fps;
    match rate {
        None => frames,
        Some(Rate::Times(n)) => frames * f64::from(n),
        Some(Rate::Fps(wanted)) => frames * wanted / fps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: pixels of each item (`None`: unknown), threads, ended items (their number, and the seconds if they were processed), and
    /// the seconds left.
    #[test]
    fn time_left() {
        type Row = (&'static [Option<f64>], usize, &'static [(usize, Option<f64>)], Option<f64>);
        let rows: &[Row] = &[
            (&[Some(1.0), Some(1.0)], 1, &[], None),
            (&[Some(1.0), Some(3.0)], 1, &[(0, Some(2.0))], Some(6.0)),
            // One large item after small ones: item counts would give 1 s.
            (
                &[Some(1.0), Some(1.0), Some(1.0), Some(100.0)],
                1,
                &[(0, Some(1.0)), (1, Some(1.0)), (2, Some(1.0))],
                Some(100.0),
            ),
            // And before them: item counts would give 300 s.
            (&[Some(100.0), Some(1.0), Some(1.0), Some(1.0)], 1, &[(0, Some(100.0))], Some(3.0)),
            // Skipped and failed items count neither as work nor as speed.
            (&[Some(5.0), Some(1.0), Some(2.0)], 1, &[(0, None), (1, Some(1.0))], Some(2.0)),
            (&[Some(5.0), Some(1.0)], 1, &[(0, None)], None),
            // Unknown items count as the mean of the known ones.
            (&[Some(1.0), Some(3.0), None, None], 1, &[(0, Some(1.0))], Some(7.0)),
            // An item of which the header was not read before it ended.
            (&[None, Some(3.0)], 1, &[(0, Some(1.0))], Some(3.0)),
            // Two threads share the rest, but one item has one thread.
            (&[Some(1.0), Some(2.0), Some(2.0)], 2, &[(0, Some(1.0))], Some(2.0)),
            (&[Some(1.0), Some(4.0)], 2, &[(0, Some(1.0))], Some(4.0)),
            (&[Some(1.0), Some(4.0)], 1, &[(0, Some(1.0)), (1, Some(4.0))], Some(0.0)),
        ];
        let mut bad = Vec::new();
        for (items, threads, ended, want) in rows {
            let mut work = Work::new(items.len(), *threads);
            items.iter().enumerate().for_each(|(k, pixels)| pixels.iter().for_each(|pixels| work.set(k, *pixels)));
            for (k, seconds) in *ended {
                work.end(*k, seconds.map(|seconds| (seconds, items[*k].unwrap_or(1.0))));
            }
            let got = work.seconds_left();
            let near = got.zip(*want).is_some_and(|(got, want)| (got - want).abs() < 1e-9);
            if got.is_some() != want.is_some() || (want.is_some() && !near) {
                bad.push(format!("{items:?} {threads} {ended:?}: wanted {want:?}, got {got:?}"));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }

    #[test]
    fn frames_of_an_output() {
        let trim = |start, end| Trim { start, end, chunk: None };
        let whole = trim(None, None);
        let mut bad = Vec::new();
        for (frames, fps, trim, rate, want) in [
            (1, None, whole, None, 1.0),
            (100, Some(25.0), whole, None, 100.0),
            (100, Some(25.0), whole, Some(Rate::Times(4)), 400.0),
            (100, Some(25.0), whole, Some(Rate::Fps(60.0)), 240.0),
            (100, Some(25.0), trim(Some(1.0), None), None, 75.0),
            (100, Some(25.0), trim(Some(1.0), Some(2.0)), Some(Rate::Times(2)), 50.0),
            (100, Some(25.0), trim(None, Some(60.0)), None, 100.0),
            (100, Some(25.0), trim(Some(5.0), None), None, 0.0),
            (1, None, trim(Some(5.0), None), None, 1.0),
        ] {
            let got = frames_made(frames, fps, &trim, rate);
            if (got - want).abs() > 1e-9 {
                bad.push(format!("{frames} {fps:?} {trim:?} {rate:?}: wanted {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    }
}
