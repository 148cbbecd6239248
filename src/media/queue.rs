//! Runs named stages on separate threads, joined by bounded queues. Items keep their order.
//!
//! ```text
//! source ──queue──▶ stage ──queue──▶ … ──▶ sink (the calling thread)
//! ```
//!
//! Memory does not grow with the number of items: a queue holds at most its capacity, and each stage holds one item
//! plus its own state. A stage waits in two cases only: for the next item from its queue (**starved**), or in `emit`
//! for space in the next queue (**blocked**). When a stage stops, its queues close, so no wait is endless. The first
//! error stops the chain, and errors that follow from it are discarded.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    sync::lock,
};

/// Sends one item to the next stage. Waits while the queue is full. An error means that the chain is stopping: return
/// it.
pub type Emit<'a, U> = dyn FnMut(U) -> Result<()> + 'a;

/// Time that one stage spent. The wall-clock time of its thread is about `busy + starved + blocked`.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The stage's name.
    pub name: String,
    /// Items received (source: items produced).
    pub items: u64,
    /// Time spent working.
    pub busy: Duration,
    /// Time spent waiting for an item.
    pub starved: Duration,
    /// Time spent waiting for space in the next queue.
    pub blocked: Duration,
}

/// The work of one thread, from its first item to its last.
type Stage<'a> = Box<dyn FnOnce(&State) -> StageTime + Send + 'a>;

/// A chain under construction. Its last stage emits `T`. [`Chain::sink`] starts it.
pub struct Chain<'a, T> {
    cancel: &'a AtomicBool,
    stages: Vec<Stage<'a>>,
    items: Receiver<T>,
}

impl<'a, T: Send + 'a> Chain<'a, T> {
    /// Starts a chain with the items of an iterator. An `Err` item stops the chain with that error. `capacity`: items
    /// that may wait for the next stage, at least 1. When `cancel` becomes true, each stage stops after its current
    /// item and the chain returns [`Error::interrupted`].
    pub fn source<I>(cancel: &'a AtomicBool, name: &'a str, capacity: usize, items: I) -> Self
    where
        I: IntoIterator<Item = Result<T>, IntoIter: Send + 'a>,
    {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let mut items = items.into_iter();
        let job = move |state: &State| {
            let mut stage = Worker::new(state, name);
            let mut more = true;
            while more && !state.stopping() {
                let step = |emit: &mut Emit<'_, T>| match items.next().transpose()? {
                    Some(item) => emit(item).map(|()| true),
                    None => Ok(false),
                };
                more = stage.work(Some(&sender), step).unwrap_or(false);
                stage.time.items += u64::from(more);
            }
            stage.time
        };
        Self { cancel, stages: vec![Box::new(job)], items: receiver }
    }

    /// Adds a stage. `step` is called with `Some(item)` for each item in order, and emits any number of results. After
    /// the last item it is called once with `None`, to emit what it buffered, unless the chain failed or was cancelled.
    pub fn stage<U, F>(mut self, name: &'a str, capacity: usize, mut step: F) -> Chain<'a, U>
    where
        U: Send + 'a,
        F: FnMut(Option<T>, &mut Emit<'_, U>) -> Result<()> + Send + 'a,
    {
        let (sender, receiver) = sync_channel(capacity.max(1));
        let items = self.items;
        self.stages.push(Box::new(move |state| {
            let mut stage = Worker::new(state, name);
            while let Some(item) = stage.receive(&items) {
                let last = item.is_none();
                if stage.work(Some(&sender), |emit| step(item, emit)).is_none() || last {
                    break;
                }
            }
            stage.time
        }));
        Chain { cancel: self.cancel, stages: self.stages, items: receiver }
    }

    /// Runs the chain. Takes its results on the calling thread. Returns the time spent in each stage, in order.
    ///
    /// Errors: the first error, prefixed with the name of its stage; a panic in a stage, as an error that names the
    /// stage; [`Error::interrupted`] when cancelled.
    pub fn sink<F>(self, name: &str, mut take: F) -> Result<Vec<StageTime>>
    where
        F: FnMut(T) -> Result<()>,
    {
        let state = State { cancel: self.cancel, stop: AtomicBool::new(false), cause: Mutex::new(None) };
        let (items, stages) = (self.items, self.stages);
        let times = thread::scope(|scope| {
            let mut threads = Vec::new();
            for stage in stages {
                // A stage that does not run closes its queues, so the others end.
                match thread::Builder::new().spawn_scoped(scope, || stage(&state)) {
                    Ok(thread) => threads.push(thread),
                    Err(e) => state.fail(Error::thread(&e)),
                }
            }
            let mut stage = Worker::new(&state, name);
            while let Some(Some(item)) = stage.receive(&items) {
                if stage.work(None, |_: &mut Emit<'_, ()>| take(item)).is_none() {
                    break;
                }
            }
            // Closing this queue unblocks the stage before it. Joining that stage first would deadlock.
            drop(items);
            let mut times: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
            times.push(stage.time);
            times
        });
        match state.cause.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(cause) => Err(cause),
            None if self.cancel.load(Ordering::Relaxed) => Err(Error::interrupted()),
            None => Ok(times),
        }
    }
}

/// State that all stages of a running chain share.
struct State<'a> {
    cancel: &'a AtomicBool,
    stop: AtomicBool,
    cause: Mutex<Option<Error>>,
}

impl State<'_> {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.load(Ordering::Relaxed)
    }

    /// Keeps the first error and stops the chain. It must run before the queues of the failing stage close: other stages
    /// take a closed queue for the end of the items.
    fn fail(&self, error: Error) {
        lock(&self.cause).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One stage at work. Measures its time and turns errors and panics into the error of the chain.
struct Worker<'s> {
    state: &'s State<'s>,
    time: StageTime,
}

impl<'s> Worker<'s> {
    fn new(state: &'s State<'s>, name: &str) -> Self {
        let none = Duration::ZERO;
        Self { state, time: StageTime { name: name.into(), items: 0, busy: none, starved: none, blocked: none } }
    }

    /// The next item. `Some(None)`: there are no more items. `None`: the chain is stopping.
    fn receive<T>(&mut self, items: &Receiver<T>) -> Option<Option<T>> {
        let start = Instant::now();
        let item = items.recv().ok();
        self.time.starved += start.elapsed();
        self.time.items += u64::from(item.is_some());
        (!self.state.stopping()).then_some(item)
    }

    /// Runs one step. `None`: the chain is stopping, because of this step or another one.
    fn work<U, R>(
        &mut self,
        sender: Option<&SyncSender<U>>,
        step: impl FnOnce(&mut Emit<'_, U>) -> Result<R>,
    ) -> Option<R> {
        let (state, start, mut blocked) = (self.state, Instant::now(), Duration::ZERO);
        let closed = Cell::new(false);
        let mut emit = |item| {
            let start = Instant::now();
            let sent = sender.is_some_and(|s| s.send(item).is_ok()) && !state.stopping();
            blocked += start.elapsed();
            closed.set(closed.get() || !sent);
            if sent { Ok(()) } else { Err(Error::interrupted()) }
        };
        let result = catch_unwind(AssertUnwindSafe(|| step(&mut emit)));
        self.time.busy += start.elapsed().saturating_sub(blocked);
        self.time.blocked += blocked;
        match result {
            // The next queue is closed, so another stage has already reported the cause.
            _ if closed.get() => return None,
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => state.fail(error.at(&self.time.name)),
            Err(panic) => state.fail(Error::failed(format!(
                "{}: internal error: {}; please report it",
                self.time.name,
                message(&*panic)
            ))),
        }
        None
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
