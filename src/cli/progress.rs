//! Display of progress on standard error: bars on a terminal, else plain lines, nothing with `--quiet`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use super::screen;
use crate::{
    progress::{Progress, Silent, Unit},
    stdio,
    sync::lock,
};

/// Shortest time between two lines of one task.
const INTERVAL: Duration = Duration::from_secs(10);

/// The display for this terminal and `--quiet`.
pub(super) fn sink(quiet: bool) -> Box<dyn Progress> {
    match (quiet, stdio::is_terminal()) {
        (true, _) => Box::new(Silent),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines::default()),
    }
}

/// How the time left of a task is known.
#[derive(Debug, Clone, Copy, Default)]
enum Left {
    /// From the units done, which differ little in their work.
    #[default]
    ByUnits,
    /// It is unknown.
    Unknown,
    /// An estimate, and when it was made.
    Estimated(Duration, Instant),
}

impl Left {
    fn estimated(seconds: Option<f64>) -> Self {
        let left = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        left.map_or(Self::Unknown, |left| Self::Estimated(left, Instant::now()))
    }

    /// The time left now. `by_units`: from the units done.
    fn now(self, by_units: Option<Duration>) -> Option<Duration> {
        match self {
            Self::ByUnits => by_units,
            Self::Unknown => None,
            Self::Estimated(left, since) => Some(left.saturating_sub(since.elapsed())),
        }
    }
}

/// One bar per running task: name, done/total, seconds per step, time left.
#[derive(Default)]
struct Bars(Mutex<HashMap<String, Bar>>);

struct Bar {
    bar: ProgressBar,
    unit: Unit,
    /// The bar's style has the other reference.
    left: Arc<Mutex<Left>>,
}

fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let _ = match state.per_sec() {
        rate if !rate.is_finite() || rate <= 0.0 => Ok(()),
        rate if rate >= 2.0 => write!(out, "{rate:.1}/s"),
        rate => write!(out, "{:.2} s/step", 1.0 / rate),
    };
}

fn time_left(state: &ProgressState, left: Left, out: &mut dyn fmt::Write) {
    let _ = match left.now(Some(state.eta())) {
        Some(left) => write!(out, "{:#} left", HumanDuration(left)),
        None => Ok(()),
    };
}

fn style(total: Option<u64>, unit: Unit, left: Arc<Mutex<Left>>) -> ProgressStyle {
    let template = match (total, unit) {
        (Some(_), Unit::Bytes) => "{prefix:.bold} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {left}",
        (None, Unit::Bytes) => "{prefix:.bold} {spinner} {bytes} {bytes_per_sec}",
        (Some(_), _) => "{prefix:.bold} {wide_bar} {pos}/{len} {rate} {left}",
        (None, _) => "{prefix:.bold} {spinner} {pos} {rate}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| rate(state, out));
    style.with_key("left", move |state: &ProgressState, out: &mut dyn fmt::Write| time_left(state, *lock(&left), out))
}

impl Progress for Bars {
    fn started(&self, task: &str, total: Option<u64>, unit: Unit) {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let left = Arc::default();
        let style = style(total, unit, Arc::clone(&left));
        let bar = screen::bars().add(bar.with_style(style).with_prefix(task.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(200));
        lock(&self.0).insert(task.into(), Bar { bar, unit, left });
    }

    fn advanced(&self, task: &str, done: u64) {
        if let Some(Bar { bar, .. }) = lock(&self.0).get(task) {
            bar.set_position(done);
        }
    }

    fn estimated(&self, task: &str, seconds: Option<f64>) {
        if let Some(Bar { left, .. }) = lock(&self.0).get(task) {
            *lock(left) = Left::estimated(seconds);
        }
    }

    fn finished(&self, task: &str) {
        if let Some(Bar { bar, unit, left }) = lock(&self.0).remove(task) {
            bar.finish_and_clear();
            screen::bars().remove(&bar);
            let left = *lock(&left);
            screen::line(line(task, (bar.position(), bar.length(), unit), bar.elapsed(), left));
        }
    }
}

/// One line at the end of a task, and one every [`INTERVAL`] before.
#[derive(Default)]
struct Lines(Mutex<HashMap<String, Running>>);

struct Running {
    total: Option<u64>,
    unit: Unit,
    done: u64,
    since: Instant,
    printed: Instant,
    left: Left,
}

impl Running {
    fn line(&self, task: &str) -> String {
        line(task, (self.done, self.total, self.unit), self.since.elapsed(), self.left)
    }
}

/// `denoise 14/28, 6.2 s, 0.44 s/step, 6 seconds left`.
fn line(task: &str, (done, total, unit): (u64, Option<u64>, Unit), elapsed: Duration, left: Left) -> String {
    let shown = |n: u64| if unit == Unit::Bytes { HumanBytes(n).to_string() } else { n.to_string() };
    let of = total.map(|t| format!("/{}", shown(t))).unwrap_or_default();
    let seconds = elapsed.as_secs_f64();
    if done == 0 && total.is_none() {
        return format!("{task}, {seconds:.1} s");
    }
    let mut text = format!("{task} {}{of}, {seconds:.1} s", shown(done));
    if done > 0 && unit != Unit::Bytes {
        text += &format!(", {:.2} s/step", seconds / done as f64);
    }
    let units = total.and_then(|t| t.checked_sub(done)).filter(|units| *units > 0 && done > 0);
    if let Some(left) = units.and_then(|units| left.now(Some(elapsed.mul_f64(units as f64 / done as f64)))) {
        text += &format!(", {} left", HumanDuration(left));
    }
    text
}

impl Progress for Lines {
    fn started(&self, task: &str, total: Option<u64>, unit: Unit) {
        let now = Instant::now();
        let left = Left::default();
        lock(&self.0).insert(task.into(), Running { total, unit, done: 0, since: now, printed: now, left });
    }

    fn advanced(&self, task: &str, done: u64) {
        let mut stages = lock(&self.0);
        let Some(running) = stages.get_mut(task) else { return };
        running.done = done;
        // The line at the end of the task shows the last unit.
        if running.printed.elapsed() >= INTERVAL && running.total != Some(done) {
            running.printed = Instant::now();
            screen::line(running.line(task));
        }
    }

    fn estimated(&self, task: &str, seconds: Option<f64>) {
        if let Some(running) = lock(&self.0).get_mut(task) {
            running.left = Left::estimated(seconds);
        }
    }

    fn finished(&self, task: &str) {
        if let Some(running) = lock(&self.0).remove(task) {
            screen::line(running.line(task));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let two = Duration::from_secs(2);
        let mut bad = Vec::new();
        let estimated = |seconds: f64| Left::Estimated(Duration::from_secs_f64(seconds), Instant::now());
        let (steps, bytes) = (Unit::Steps, Unit::Bytes);
        for (task, units, left, want) in [
            ("denoise", (4, Some(8), steps), Left::ByUnits, "denoise 4/8, 2.0 s, 0.50 s/step, 2 seconds left"),
            ("denoise", (8, Some(8), steps), Left::ByUnits, "denoise 8/8, 2.0 s, 0.25 s/step"),
            ("decode", (0, None, Unit::Frames), Left::ByUnits, "decode, 2.0 s"),
            ("a.bin", (1024, Some(2048), bytes), Left::ByUnits, "a.bin 1.00 KiB/2.00 KiB, 2.0 s, 2 seconds left"),
            ("items", (4, Some(5), steps), estimated(40.4), "items 4/5, 2.0 s, 0.50 s/step, 40 seconds left"),
            ("items", (4, Some(5), steps), Left::Unknown, "items 4/5, 2.0 s, 0.50 s/step"),
            ("items", (5, Some(5), steps), estimated(0.0), "items 5/5, 2.0 s, 0.40 s/step"),
        ] {
            let got = line(task, units, two, left);
            if got != want {
                bad.push(format!("wanted {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
