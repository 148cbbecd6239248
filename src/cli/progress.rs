//! Display of progress on standard error: bars on a terminal, else plain lines, nothing with `--quiet`.

use std::{
    collections::HashMap,
    sync::Mutex,
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

/// One bar per running task: name, done/total, seconds per step, time left.
#[derive(Default)]
struct Bars(Mutex<HashMap<String, (ProgressBar, Unit)>>);

fn rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let _ = match state.per_sec() {
        rate if !rate.is_finite() || rate <= 0.0 => Ok(()),
        rate if rate >= 2.0 => write!(out, "{rate:.1}/s"),
        rate => write!(out, "{:.2} s/step", 1.0 / rate),
    };
}

fn style(total: Option<u64>, unit: Unit) -> ProgressStyle {
    let template = match (total, unit) {
        (Some(_), Unit::Bytes) => "{prefix:.bold} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        (None, Unit::Bytes) => "{prefix:.bold} {spinner} {bytes} {bytes_per_sec}",
        (Some(_), _) => "{prefix:.bold} {wide_bar} {pos}/{len} {rate} {eta} left",
        (None, _) => "{prefix:.bold} {spinner} {pos} {rate}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| rate(state, out))
}

impl Progress for Bars {
    fn started(&self, task: &str, total: Option<u64>, unit: Unit) {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let bar = screen::bars().add(bar.with_style(style(total, unit)).with_prefix(task.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(200));
        lock(&self.0).insert(task.into(), (bar, unit));
    }

    fn advanced(&self, task: &str, done: u64) {
        if let Some((bar, _)) = lock(&self.0).get(task) {
            bar.set_position(done);
        }
    }

    fn finished(&self, task: &str) {
        if let Some((bar, unit)) = lock(&self.0).remove(task) {
            bar.finish_and_clear();
            screen::bars().remove(&bar);
            screen::line(line(task, bar.position(), bar.length(), unit, bar.elapsed()));
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
}

/// `denoise 14/28, 6.2 s, 0.44 s/step, 6 seconds left`.
fn line(task: &str, done: u64, total: Option<u64>, unit: Unit, elapsed: Duration) -> String {
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
    if let Some(left) = total.and_then(|t| t.checked_sub(done)).filter(|left| *left > 0 && done > 0) {
        text += &format!(", {} left", HumanDuration(elapsed.mul_f64(left as f64 / done as f64)));
    }
    text
}

impl Progress for Lines {
    fn started(&self, task: &str, total: Option<u64>, unit: Unit) {
        let now = Instant::now();
        lock(&self.0).insert(task.into(), Running { total, unit, done: 0, since: now, printed: now });
    }

    fn advanced(&self, task: &str, done: u64) {
        let mut stages = lock(&self.0);
        let Some(running) = stages.get_mut(task) else { return };
        running.done = done;
        // The line at the end of the task shows the last unit.
        if running.printed.elapsed() >= INTERVAL && running.total != Some(done) {
            running.printed = Instant::now();
            screen::line(line(task, done, running.total, running.unit, running.since.elapsed()));
        }
    }

    fn finished(&self, task: &str) {
        if let Some(r) = lock(&self.0).remove(task) {
            screen::line(line(task, r.done, r.total, r.unit, r.since.elapsed()));
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
        for (got, want) in [
            (line("denoise", 4, Some(8), Unit::Steps, two), "denoise 4/8, 2.0 s, 0.50 s/step, 2 seconds left"),
            (line("denoise", 8, Some(8), Unit::Steps, two), "denoise 8/8, 2.0 s, 0.25 s/step"),
            (line("decode", 0, None, Unit::Frames, two), "decode, 2.0 s"),
            (line("a.bin", 1024, Some(2048), Unit::Bytes, two), "a.bin 1.00 KiB/2.00 KiB, 2.0 s, 2 seconds left"),
        ] {
            if got != want {
                bad.push(format!("wanted {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
