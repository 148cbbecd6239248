//! Ctrl-C and panics.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{error::Error, progress};

/// Past a limit on file sizes (`ulimit -f`), writing becomes an error like a full disk's, not the end of the process.
pub fn on_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The first Ctrl-C (or SIGTERM, SIGHUP) asks the work to stop at a safe place, the second ends the program with 130.
pub fn on_interrupt() {
    let result = ctrlc::set_handler(|| {
        if progress::stop() {
            std::process::exit(130);
        }
        eprintln!("stopping at the next safe place; interrupt again to stop at once");
    });
    if let Err(e) = result {
        tracing::warn!("Ctrl-C ends the program at once: {e}");
    }
}

static TOLD: AtomicBool = AtomicBool::new(false);

/// A panic is a mistake of ours: one sentence, and a backtrace only where `RUST_BACKTRACE` asks for it.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|info| {
        // A panic of a worker thread comes a second time when the thread is joined.
        if TOLD.swap(true, Ordering::SeqCst) {
            return;
        }
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
        eprintln!("error: a fault in crescendo itself{place}: {what}; please report it");
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
    }));
}

/// What is answered with `--json` after a panic.
pub fn panicked() -> Error {
    Error::failed("a fault in crescendo itself; standard error says where")
}
