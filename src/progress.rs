//! How long work tells where it stands, and how it hears that it shall stop. Below everything, so that every stage may use it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// What a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Denoising steps, tiles, files, or anything else that is just counted.
    Steps,
    /// Video frames.
    Frames,
    /// Bytes of a download.
    Bytes,
}

/// Receives where each stage stands. Stages that run at the same time are told apart by their names.
///
/// Calls come from any thread and must not block.
pub trait Progress: Send + Sync {
    /// A stage begins. `total` is in `unit`s, `None` when not known beforehand.
    fn started(&self, stage: &str, total: Option<u64>, unit: Unit);
    /// `done` of the stage's units are done by now.
    fn advanced(&self, stage: &str, done: u64);
    /// The stage has ended, well or badly.
    fn finished(&self, stage: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str, _: Option<u64>, _: Unit) {}
    fn advanced(&self, _: &str, _: u64) {}
    fn finished(&self, _: &str) {}
}

/// One running stage: begins when made, ends when dropped.
pub struct Stage<'a> {
    sink: &'a dyn Progress,
    name: String,
    done: u64,
}

impl<'a> Stage<'a> {
    /// Begins stage `name` of `total` units.
    pub fn new(sink: &'a dyn Progress, name: impl Into<String>, total: Option<u64>, unit: Unit) -> Self {
        let name = name.into();
        sink.started(&name, total, unit);
        Self { sink, name, done: 0 }
    }

    /// `units` more are done. Fails when the person has asked to stop, so that a loop ends with `stage.step(1)?`.
    pub fn step(&mut self, units: u64) -> Result<()> {
        self.done += units;
        self.sink.advanced(&self.name, self.done);
        check()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.sink.finished(&self.name);
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Asks everything to stop at the next safe place. Returns whether it had been asked before.
pub fn stop() -> bool {
    STOP.swap(true, Ordering::SeqCst)
}

/// The flag that [`stop`] sets, for threads that watch it themselves.
pub fn stop_flag() -> &'static AtomicBool {
    &STOP
}

/// Whether [`stop`] was called.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// [`Error::interrupted`] once [`stop`] was called.
pub fn check() -> Result<()> {
    if stopped() { Err(Error::interrupted()) } else { Ok(()) }
}
