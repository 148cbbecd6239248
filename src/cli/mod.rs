//! The command line: flags (`args`) → plan ([`crate::plan`]) → run (`run`) → report (`report`).
//!
//! With `--json` standard output is exactly one JSON document: the report, or `{"error": message, "exit_code": n}`.

pub(crate) mod args;
mod config;
mod config_file;
mod doctor;
mod enhance;
#[cfg(test)]
mod flags;
mod generate;
mod help;
pub(crate) mod models;
mod noise;
mod output;
mod parse;
mod postprocess;
mod progress;
mod report;
mod run;
mod sampling;
mod screen;
mod serving;
mod shared;
mod signal;
mod tools;
mod vae;
mod value;

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
};

use clap::error::ErrorKind;
use tracing_subscriber::{filter::LevelFilter, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    args::{Cli, Command, Planned},
    models::Models,
    report::Report,
    shared::{LogLevel, Shared},
};
use crate::{
    allocator,
    error::{Error, Result},
    hub::{Hub, Need},
    runtime, stdio,
};

/// Bytes of the stack, those of a main thread by default.
const STACK: usize = 8 << 20;

/// Runs the program with the arguments of the process. Returns its exit code.
pub fn main() -> ExitCode {
    runtime::share_heap();
    let failed = |error: Error| {
        stdio::line(format_args!("error: {error}"));
        error.exit_code().into()
    };
    // Rust's library panics where a thread has no room for more than its stack.
    if !allocator::has_room() {
        return failed(Error::failed("no memory is left for the program; raise the limit on addresses (ulimit -v)"));
    }
    // The stack of the main thread grows while it is used. Where no addresses are left for it, that is a signal.
    match thread::Builder::new().stack_size(STACK).spawn(run_here) {
        Ok(thread) => thread.join().unwrap_or_else(|_| failed(signal::panicked())),
        Err(e) => failed(Error::thread(&e)),
    }
}

/// As [`main`], on this thread.
fn run_here() -> ExitCode {
    allocator::keep_reserve();
    runtime::disable_telemetry();
    signal::on_panic();
    let argv: Vec<OsString> = std::env::args_os().collect();
    let json = argv.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    let (code, json) = match catch_unwind(AssertUnwindSafe(|| execute(argv))) {
        Ok(Ok(code)) => return code.into(),
        Ok(Err(Failure { error, json: asked })) => {
            let asked = asked.map(|asked| asked || json).unwrap_or_default();
            stdio::line(format_args!("error: {error}"));
            ((error.exit_code(), error), asked)
        }
        Err(_) => ((signal::panicked().exit_code(), signal::panicked()), json),
    };
    let (code, error) = code;
    if json {
        let document = serde_json::json!({ "error": error.to_string(), "exit_code": code });
        // The exit code already reports a failure.
        let _ = stdio::document(format!("{document}\n").as_bytes());
    }
    code.into()
}

/// An error, and whether `--json` is set, which the configuration file may do too. `None`: a document was already written.
struct Failure {
    error: Error,
    json: Option<bool>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, json: Some(false) }
    }
}

fn execute(argv: Vec<OsString>) -> Result<u8, Failure> {
    let argv = config::expand(argv)?;
    let cli = match parse::parse(&argv) {
        Ok(cli) => cli,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Nothing is lost if help cannot be written.
            let _ = stdio::document(e.render().to_string().as_bytes());
            return Ok(0);
        }
        Err(e) => return Err(Error::usage(parse::one_line(&e, &argv)).into()),
    };
    let json = cli.shared.json;
    start_log(&cli.shared);
    signal::on_interrupt();
    signal::on_file_size_limit();
    let failed = |error| Failure { error, json: Some(json) };
    runtime::start_workers(cli.shared.threads).map_err(failed)?;
    let report = command(cli).map_err(failed)?;
    let Some(report) = report else { return Ok(0) };
    let text = if json { format!("{}\n", report.json()) } else { report.text() };
    let written = stdio::document(text.as_bytes());
    report.errors().iter().for_each(|e| stdio::line(format_args!("error: {e}")));
    // A second document would follow the rest of the first.
    written.map_or_else(|error| Err(Failure { error, json: None }), |()| Ok(report.exit_code()))
}

fn command(cli: Cli) -> Result<Option<Box<dyn Report>>> {
    let shared = &cli.shared;
    let progress = progress::sink(shared.quiet);
    let progress = progress.as_ref();
    Ok(Some(match cli.command {
        Command::Generate(args) => {
            Box::new(run::generate(&args.resolve(shared, &Models::new(shared, progress, false))?, progress)?)
        }
        Command::Enhance(args) => {
            Box::new(run::enhance(&args.resolve(shared, &Models::new(shared, progress, false))?, progress)?)
        }
        Command::Plan { command: Planned::Generate(args) } => {
            let models = Models::new(shared, progress, true);
            Box::new(run::plan_generate(&args.resolve(shared, &models)?, models.downloads())?)
        }
        Command::Plan { command: Planned::Enhance(args) } => {
            let models = Models::new(shared, progress, true);
            Box::new(run::plan_enhance(&args.resolve(shared, &models)?, models.downloads())?)
        }
        Command::Export(args) => {
            let hub = Hub::from_env(shared.offline, progress);
            Box::new(run::export(&args.resolve(shared, &hub)?)?)
        }
        Command::Inspect(args) => {
            let path = Hub::from_env(shared.offline, progress).resolve(&args.path, Need::Any)?;
            Box::new(run::inspect(&path, &shared.runtime())?)
        }
        Command::Models { command } => command.run(shared, progress)?,
        Command::Doctor { codecs } => {
            let mut diagnosis = doctor::Diagnosis::new(codecs);
            run::diagnose(&mut diagnosis, &shared.runtime());
            Box::new(diagnosis)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut help::command(), "crescendo", &mut script);
            stdio::document(&script)?;
            return Ok(None);
        }
    }))
}

/// Starts the log: messages of this program at `--log-level`, of ONNX Runtime at most warnings, of other libraries from debug.
fn start_log(shared: &Shared) {
    let level = match shared.log_level {
        _ if shared.quiet => LevelFilter::ERROR,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_target("crescendo", level)
        .with_target("ort", level.min(LevelFilter::WARN))
        .with_default(others);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| screen::Log)
        .with_ansi(stdio::is_terminal())
        .with_target(false)
        .without_time();
    // Fails only in tests, if another test of the process has set a subscriber.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
