//! Signals and panics.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
};

use super::screen;
use crate::{error::Error, progress, stdio};

/// Ignores SIGXFSZ, so that exceeding the file size limit (`ulimit -f`) is a write error and does not end the process.
pub(super) fn on_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The first Ctrl-C, SIGTERM or SIGHUP requests a stop at the next safe point. The second ends the process with exit code 130.
/// A SIGHUP that the parent ignores (`nohup`) stays ignored.
pub(super) fn on_interrupt() {
    let hangup = Hangup::block();
    let result = ctrlc::set_handler(|| {
        if progress::stop() {
            std::process::exit(130);
        }
        screen::line("stopping at the next safe point; interrupt again to stop immediately");
    });
    hangup.restore();
    if let Err(e) = result {
        tracing::warn!("installing the Ctrl-C handler: {e}; Ctrl-C ends the program immediately");
    }
}

/// The inherited treatment of SIGHUP. The signal is blocked until it is restored, so that none arrives at a handler meanwhile.
struct Hangup {
    ignored: bool,
    mask: libc::sigset_t,
}

impl Hangup {
    fn block() -> Self {
        // SAFETY: both structures are plain C data. The calls fill them before they are read, and install no handler.
        unsafe {
            let (mut action, mut hangup, mut mask) =
                (mem::zeroed::<libc::sigaction>(), mem::zeroed::<libc::sigset_t>(), mem::zeroed::<libc::sigset_t>());
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut action);
            libc::sigemptyset(&mut hangup);
            libc::sigaddset(&mut hangup, libc::SIGHUP);
            libc::pthread_sigmask(libc::SIG_BLOCK, &hangup, &mut mask);
            Self { ignored: action.sa_sigaction == libc::SIG_IGN, mask }
        }
    }

    fn restore(self) {
        // SAFETY: ignoring a signal installs no handler; `block` filled the mask.
        unsafe {
            if self.ignored {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask, std::ptr::null_mut());
        }
    }
}

static REPORTED: AtomicBool = AtomicBool::new(false);

/// Reports a panic, which is a bug, in one line; with a backtrace if `RUST_BACKTRACE` is set.
pub(super) fn on_panic() {
    std::panic::set_hook(Box::new(|info| {
        // Joining a thread that panicked panics again.
        if REPORTED.swap(true, Ordering::SeqCst) {
            return;
        }
        let location = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
        stdio::line(format_args!("error: internal error{location}: {what}; please report it"));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            stdio::line(std::backtrace::Backtrace::force_capture());
        }
    }));
}

/// The error of the JSON document after a panic.
pub(super) fn panicked() -> Error {
    Error::failed("internal error; standard error has the location")
}
