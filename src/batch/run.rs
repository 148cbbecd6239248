//! Runs the items on threads: claim, process, record, rename.

use std::{
    cell::OnceCell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    identity::{self, Recipe},
    journal::{Journal, check_written},
    record::Record,
    report::ReportLine,
    throughput::{Keys, Tally},
    work::{self, Work},
};
use crate::{
    allocator::keep_reserve,
    error::{Error, ErrorKind, Result},
    files::{self, PendingFile},
    json_lines::JsonLines,
    pipeline::{
        self, Context, Enhanced, Enhancer, Identity, ItemRow, PendingOutput, Status, Timings, chunk_folder,
        remove_chunks,
    },
    plan::{EnhancePlan, Job},
    progress::{self, Task, Unit},
    runtime::peak_memory,
    sync::lock,
};

/// Runs a plan. A failed item does not stop the others; its row contains the cause.
///
/// Errors that end the run: unsupported options, a network that cannot be loaded, a report or journal that cannot be written,
/// an interruption. Finished outputs stay valid.
pub fn enhance(plan: &EnhancePlan, cx: &Context<'_>) -> Result<Enhanced> {
    check_written(plan)?;
    pipeline::check_enhance(plan)?;
    if let Some(path) = &plan.perf_dump {
        drop(PendingFile::create(path, true)?);
    }
    let count = plan.jobs.len();
    let threads = plan.concurrent_jobs() as usize;
    let mut task = (count > 1).then(|| Task::new(cx.progress, "items", Some(count as u64), Unit::Steps));
    task.iter_mut().for_each(|task| task.estimate(None));
    let run = Run {
        plan,
        cx,
        recipe: Recipe::of(plan)?,
        journal: plan.record.as_deref().map(Journal::open).transpose()?,
        report: plan.batch.report.as_deref().map(JsonLines::create).transpose()?,
        enhancer: Mutex::new(None),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        state: Mutex::new(State::new(task, Work::new(count, threads))),
    };
    thread::scope(|scope| {
        let start = || thread::Builder::new();
        let more = (1..threads).try_for_each(|_| start().spawn_scoped(scope, || run.work()).map(drop));
        // Without the headers, progress counts items.
        let headers = if count > 1 { start().spawn_scoped(scope, || run.read_headers()).map(drop) } else { Ok(()) };
        if let Err(e) = more.and(headers) {
            tracing::warn!("{}; fewer files are processed at the same time", Error::thread(&e));
        }
        // This thread works too.
        run.work();
    });
    run.retry_busy();
    let State { rows, perf, tally, failure, .. } = run.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error);
    }
    let device = cx.device().to_string();
    let keys = Keys { plan, recipe: &run.recipe, device: &device };
    if let Err(e) = tally.save(threads, keys, &[&device, &plan.runtime.engine.device.to_string()]) {
        tracing::debug!("measurements cannot be stored: {e}");
    }
    if let Some(path) = &plan.perf_dump {
        perf.write(path)?;
    }
    let items: Vec<ItemRow> = rows.into_iter().flatten().collect();
    let of = |status| items.iter().filter(|i| i.status == status).count();
    let (done, skipped, failed) = (of(Status::Done), of(Status::Skipped), of(Status::Failed));
    let peak = peak_memory();
    tracing::info!("{done} done, {skipped} skipped, {failed} failed; peak memory {:.0} MB", peak as f64 / 1e6);
    Ok(Enhanced { items, asked: count, peak_memory_bytes: peak })
}

/// State that the threads share.
struct Run<'a> {
    plan: &'a EnhancePlan,
    cx: &'a Context<'a>,
    recipe: Recipe,
    journal: Option<Journal>,
    report: Option<JsonLines>,
    /// Loaded by the first item that needs it.
    enhancer: Mutex<Option<Enhancer<'a>>>,
    next: AtomicUsize,
    stop: AtomicBool,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    rows: Vec<Option<ItemRow>>,
    perf: Timings,
    tally: Tally,
    work: Work,
    task: Option<Task<'a>>,
    /// The error that ends the run.
    failure: Option<Error>,
}

impl<'a> State<'a> {
    fn new(task: Option<Task<'a>>, work: Work) -> Self {
        let (perf, tally) = (Timings::default(), Tally::default());
        Self { rows: vec![None; work.count()], perf, tally, work, task, failure: None }
    }
}

/// What an attempt at an item measures.
#[derive(Default)]
struct Measured {
    perf: Timings,
    /// Hash of the input.
    hash: Option<String>,
    /// Seconds in which the networks were loaded, by this thread or by another one.
    loading: f64,
}

/// How an item ended without an error.
enum Outcome {
    /// Processed: its frames.
    Done(u64),
    /// Resumed: its frames, some of which an earlier run processed.
    Resumed(u64),
    /// Finished by an earlier run: its frames.
    Finished(u64),
    /// In progress in another run.
    Busy,
}

/// Result of the attempt to claim an item.
enum Claim {
    /// This run processes it.
    Mine(PendingFile),
    /// An earlier run was killed after the record and before the rename: the frames of the complete file.
    Complete(PendingFile, u64),
    /// Finished by an earlier run: its frames.
    Finished(u64),
    /// In progress in another run.
    Busy,
}

/// An error of one item, or one that ends the run.
enum Failure {
    Item(Error),
    Run(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Interrupted { Self::Run(error) } else { Self::Item(error) }
    }
}

impl<'a> Run<'a> {
    /// The loop of one thread: processes items until none is left.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let k = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.plan.jobs.get(k) else { return };
            self.item(k, job, true);
        }
    }

    /// Retries items that were in progress in another run, which may have finished or abandoned them.
    fn retry_busy(&self) {
        let busy = |(k, row): (usize, &Option<ItemRow>)| {
            row.as_ref().is_some_and(|r| r.status == Status::Skipped && r.cause.is_some()).then_some(k)
        };
        let busy: Vec<usize> = lock(&self.state).rows.iter().enumerate().filter_map(busy).collect();
        for k in busy {
            if !self.stop.load(Ordering::Relaxed) {
                self.item(k, &self.plan.jobs[k], false);
            }
        }
    }

    /// Processes one item and stores its row. `first`: a busy item is retried later.
    fn item(&self, k: usize, job: &Job, first: bool) {
        let (begin, mut measured) = (Instant::now(), Measured::default());
        let done = progress::check().map_err(Failure::Run).and_then(|()| self.attempt(job, &mut measured));
        let Measured { perf, hash, loading } = measured;
        // Only a fully processed item measures the throughput.
        let complete = matches!(done, Ok(Outcome::Done(_)));
        let (status, cause, frames) = match done {
            Ok(Outcome::Done(frames) | Outcome::Resumed(frames)) => (Status::Done, None, frames),
            Ok(Outcome::Finished(frames)) => (Status::Skipped, None, frames),
            Ok(Outcome::Busy) => (Status::Skipped, Some("another run is processing it".to_owned()), 0),
            Err(Failure::Item(e)) => (Status::Failed, Some(e.to_string()), 0),
            Err(Failure::Run(e)) => return self.end(e),
        };
        let output = (status != Status::Failed).then(|| job.output.clone());
        let seconds = begin.elapsed().as_secs_f64();
        let busy = status == Status::Skipped && cause.is_some();
        let row = ItemRow { input: job.input.name().into(), output, status, cause, frames, seconds };
        if !(busy && first)
            && let Err(e) = self.write_report(&row, hash)
        {
            return self.end(e);
        }
        if status == Status::Failed && self.plan.batch.fail_fast {
            self.stop.store(true, Ordering::Relaxed);
        }
        let sizes = if complete { pipeline::sizes(self.plan, &job.input).ok() } else { None };
        let mut state = lock(&self.state);
        state.work.end(k, sizes.as_deref().map(|sizes| (seconds - loading, work::pixels(sizes))));
        state.tally.add(&sizes.unwrap_or_default(), |stage| perf.of(stage));
        perf.stages.iter().for_each(|s| state.perf.add(&s.name, s.seconds));
        state.rows[k] = Some(row);
        let left = state.work.seconds_left();
        if first && let Some(task) = &mut state.task {
            task.estimate(left);
            // An interruption is detected before the next item.
            let _ = task.step(1);
        }
    }

    /// Reads the headers of the items while the first ones are processed, for the time left.
    fn read_headers(&self) {
        let timeless = work::without_time(self.plan);
        for (k, job) in self.plan.jobs.iter().enumerate() {
            if self.stop.load(Ordering::Relaxed) || progress::stopped() {
                return;
            }
            if !lock(&self.state).work.is_unknown(k) {
                continue;
            }
            let read = catch_unwind(AssertUnwindSafe(|| work::pixels_of(self.plan, &timeless, job)));
            // An item that cannot be read fails at once.
            if let Some(pixels) = read.ok().and_then(Result::ok).unwrap_or(Some(0.0)) {
                lock(&self.state).work.set(k, pixels);
            }
        }
    }

    fn write_report(&self, row: &ItemRow, input_hash: Option<String>) -> Result<()> {
        let Some(report) = &self.report else { return Ok(()) };
        let Recipe { models, settings, .. } = &self.recipe;
        let peak_memory_bytes = peak_memory();
        report.append(&ReportLine { row, input_hash, model_hash: models, settings_hash: settings, peak_memory_bytes })
    }

    /// Ends the run with its first error.
    fn end(&self, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        lock(&self.state).failure.get_or_insert(error);
    }

    fn attempt(&self, job: &Job, measured: &mut Measured) -> Result<Outcome, Failure> {
        // The item before may have needed it.
        keep_reserve();
        let Measured { perf, hash, loading } = measured;
        if let Some(why) = &job.refusal {
            return Err(Failure::Item(Error::usage(why.clone())));
        }
        let (stamp, before) = (identity::stamp(&job.input), identity::state(&job.input));
        let (input, own) = (OnceCell::new(), self.chunk_journal(job)?);
        let hashed = || match input.get() {
            Some(known) => Ok(String::clone(known)),
            None => self.hash(job, stamp.as_deref()).map(|new| input.get_or_init(|| new).clone()),
        };
        let journal = self.journal.as_ref().or(own.as_ref());
        if journal.is_some() || self.report.is_some() {
            *hash = Some(hashed()?);
        }
        let pending = match self.claim(job, journal, hash.as_deref())? {
            Claim::Mine(pending) => pending,
            Claim::Complete(pending, frames) => {
                pending.commit()?;
                clear(job);
                return Ok(Outcome::Resumed(frames));
            }
            Claim::Finished(frames) => return Ok(Outcome::Finished(frames)),
            Claim::Busy => return Ok(Outcome::Busy),
        };
        let unchanged = || {
            if identity::state(&job.input) == before {
                return Ok(());
            }
            let name = job.input.name().display();
            Err(Error::failed(format!("{name}: changed while it was read; enhance it again")))
        };
        let Recipe { models, settings, .. } = self.recipe.clone();
        let overwrite = self.plan.encoding.overwrite;
        let identity =
            Identity { input: &hashed, models: &models, settings: &settings, unchanged: &unchanged, overwrite };
        let begin = Instant::now();
        let mut enhancer = self.enhancer().map_err(Failure::Run)?;
        *loading = begin.elapsed().as_secs_f64();
        let made = catch_unwind(AssertUnwindSafe(|| enhancer.enhance(&job.input, pending, &identity, perf)));
        let fault = |_| Error::failed("internal error, see standard error; please report it");
        let PendingOutput { file: pending, frames, resumed } = made.map_err(fault)??;
        unchanged()?;
        perf.time("encode", || {
            let own = self.chunk_journal(job)?;
            if let Some(journal) = self.journal.as_ref().or(own.as_ref()) {
                let path = pending.temporary();
                let data = fs::metadata(path).map_err(|e| Error::io("reading", path, &e))?;
                let (output, input, hash) = (journal.key(&job.output), hashed()?, identity::file(path)?);
                let (bytes, modified) = (data.len(), identity::modified(&data));
                let (models, settings, stamp) = (models.clone(), settings.clone(), stamp.clone());
                journal.append(&Record { output, input, stamp, models, settings, hash, bytes, modified, frames })?;
            }
            pending.commit()
        })?;
        clear(job);
        Ok(if resumed { Outcome::Resumed(frames) } else { Outcome::Done(frames) })
    }

    /// The journal in the folder of a video's chunks, for a single file without a journal in the output folder.
    fn chunk_journal(&self, job: &Job) -> Result<Option<Journal>> {
        let (chunks, folder) = (chunk_folder(&job.output), job.output.parent().unwrap_or(Path::new("")));
        let wanted = self.journal.is_none() && chunks.is_dir();
        wanted.then(|| Journal::open_in(&chunks, folder)).transpose()
    }

    /// Hash of an input. Taken from the journal if the input's stamp is unchanged.
    fn hash(&self, job: &Job, stamp: Option<&str>) -> Result<String> {
        let known = self.journal.as_ref().and_then(|journal| journal.find(&job.output));
        match known {
            Some(record) if stamp.is_some() && record.stamp.as_deref() == stamp => Ok(record.input),
            _ => identity::input_hash(&job.input),
        }
    }

    /// Claims an item, unless it is finished or in progress in another run.
    fn claim(&self, job: &Job, journal: Option<&Journal>, input: Option<&str>) -> Result<Claim> {
        let left = chunk_folder(&job.output).is_dir();
        let finished = self.finished(&job.output, journal, input);
        // With a record, the temporary file may be the complete output of a run that was killed before the rename.
        let recorded = || journal.is_some_and(|journal| journal.find(&job.output).is_some());
        if !left && (matches!(finished, Ok(Some(_))) || finished.is_err() && !recorded()) {
            files::remove_leftover(&job.output);
        }
        let finished = finished?;
        if let Some(frames) = finished.filter(|_| !left) {
            return Ok(Claim::Finished(frames));
        }
        pipeline::create_folder_of(&job.output)?;
        let overwrite = self.plan.encoding.overwrite;
        let Some(pending) = PendingFile::try_open(&job.output, overwrite)? else {
            return Ok(finished.map_or(Claim::Busy, Claim::Finished));
        };
        // Another run may have finished it since the check above; the lock now excludes that.
        if let Some(frames) = self.finished(&job.output, journal, input)? {
            clear(job);
            return Ok(Claim::Finished(frames));
        }
        let entry = journal.zip(input).and_then(|(journal, input)| {
            let is_complete = |r: &Record| r.is_of(input, &self.recipe) && r.has_bytes_of(pending.temporary());
            journal.find(&job.output).filter(is_complete)
        });
        match entry {
            Some(record) => Ok(Claim::Complete(pending, record.frames)),
            None => pending.clear().map(|()| Claim::Mine(pending)),
        }
    }

    /// Frames of the output if it is already what this run would produce. Error: another file exists and must not be replaced.
    fn finished(&self, output: &Path, journal: Option<&Journal>, input: Option<&str>) -> Result<Option<u64>> {
        let (overwrite, keep) = (self.plan.encoding.overwrite, self.plan.batch.skip_existing);
        if (overwrite && !keep && !chunk_folder(output).is_dir()) || !files::is_taken(output) {
            return Ok(None);
        }
        let Some(journal) = journal else { return self.plan.encoding.may_write(output).map(|()| None) };
        // The record is written before the file is renamed.
        journal.refresh()?;
        let record = journal.find(output);
        let why = match (&record, input) {
            (None, _) | (_, None) => "the journal has no record of it",
            (Some(record), _) if !record.is_unchanged(output) => "it has changed since it was written",
            (Some(record), Some(input)) if record.is_of(input, &self.recipe) => return Ok(Some(record.frames)),
            (Some(record), _) if record.models != self.recipe.models => "it was written with other models",
            (Some(record), _) if record.settings != self.recipe.settings => "it was written with other settings",
            _ => "its input has changed",
        };
        if overwrite {
            return Ok(None);
        }
        Err(Error::usage(format!("{} already exists and {why}; --overwrite replaces it", output.display())))
    }

    /// The networks. The first call loads them.
    fn enhancer(&self) -> Result<Enhancer<'a>> {
        let mut enhancer = lock(&self.enhancer);
        if let Some(loaded) = &*enhancer {
            return Ok(loaded.clone());
        }
        let loaded = Enhancer::load(self.plan, self.cx)?;
        Ok(enhancer.insert(loaded).clone())
    }
}

/// Removes the chunks of a finished item.
fn clear(job: &Job) {
    let _ = remove_chunks(&chunk_folder(&job.output));
}
