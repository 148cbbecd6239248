//! Signals and panics.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{error::Error, progress};

/// Ignores SIGXFSZ, so that exceeding the file size limit (`ulimit -f`) is a write error and does not end the process.
pub fn on_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The first Ctrl-C, SIGTERM or SIGHUP requests a stop at the next safe point. The second ends the process with exit code 130.
pub fn on_interrupt() {
    let result = ctrlc::set_handler(|| {
        if progress::stop() {
            std::process::exit(130);
        }
        eprintln!("stopping at the next safe point; interrupt again to stop immediately");
    });
    if let Err(e) = result {
        tracing::warn!("installing the Ctrl-C handler: {e}; Ctrl-C ends the program immediately");
    }
}

static REPORTED: AtomicBool = AtomicBool::new(false);

/// Reports a panic, which is a bug, in one line; with a backtrace if `RUST_BACKTRACE` is set.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|info| {
        // Joining a thread that panicked panics again.
        if REPORTED.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
        eprintln!("error: internal error{place}: {what}; please report it");
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
    }));
}

/// The error of the JSON document after a panic.
pub fn panicked() -> Error {
    Error::failed("internal error; standard error has the location")
}
