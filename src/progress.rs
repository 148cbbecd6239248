//! Progress reports and cooperative cancellation.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Denoising steps, tiles, files or other items.
    Steps,
    /// Video frames.
    Frames,
    /// Bytes of a download.
    Bytes,
}

/// Receives the progress of all tasks. Concurrent tasks have different names.
///
/// Any thread may call these methods; they must not block.
pub trait Progress: Send + Sync {
    /// A task starts. `total` is in `unit`s; `None`: unknown.
    fn started(&self, task: &str, total: Option<u64>, unit: Unit);
    /// `done` units of the task are complete.
    fn advanced(&self, task: &str, done: u64);
    /// Seconds that the task still takes, where its units differ in their work; `None`: unknown. Without a call, the time left follows
    /// from the units done.
    fn estimated(&self, _task: &str, _seconds: Option<f64>) {}
    /// The task ended, with or without success.
    fn finished(&self, task: &str);
}

/// Discards progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advanced(&self, _: &str, _: u64) {}
    fn finished(&self, _: &str) {}
}

/// A running task. [`Task::new`] starts it; dropping it ends it.
pub struct Task<'a> {
    sink: &'a dyn Progress,
    name: String,
    done: u64,
}

impl<'a> Task<'a> {
    /// Starts task `name` with `total` units.
    pub fn new(sink: &'a dyn Progress, name: impl Into<String>, total: Option<u64>, unit: Unit) -> Self {
        let name = name.into();
        sink.started(&name, total, unit);
        Self { sink, name, done: 0 }
    }

    /// Reports how many seconds the task still takes, if its units differ in their work; `None`: unknown.
    pub fn estimate(&mut self, seconds: Option<f64>) {
        self.sink.estimated(&self.name, seconds);
    }

    /// Adds `units` to the units done. Fails after [`stop`], so that `task.step(1)?` ends a loop.
    pub fn step(&mut self, units: u64) -> Result<()> {
        self.done += units;
        self.sink.advanced(&self.name, self.done);
        check()
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.sink.finished(&self.name);
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Requests that all work stops at its next cancellation point. Returns whether a stop was already requested.
pub fn stop() -> bool {
    STOP.swap(true, Ordering::SeqCst)
}

/// The flag that [`stop`] sets, for threads that poll it directly.
pub fn stop_flag() -> &'static AtomicBool {
    &STOP
}

/// Whether [`stop`] was called.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Returns [`Error::interrupted`] after [`stop`], else `Ok`.
pub fn check() -> Result<()> {
    if stopped() { Err(Error::interrupted()) } else { Ok(()) }
}
