//! The crate's error type: one complete sentence (where, expected, found, what to do) and a kind that selects the exit code.

use std::{fmt, io, path::Path};

/// Category of an error. It selects the exit code (CLI contract: 1 usage, 3 job failed, 130 interrupted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is invalid; no work was started.
    Usage,
    /// A valid request failed because of a file, a model, the runtime or the machine.
    Failed,
    /// A network produced NaN or infinity. Same exit code as [`ErrorKind::Failed`].
    NonFinite,
    /// Stopped by a signal. Finished outputs stay valid.
    Interrupted,
}

/// An error with one complete sentence for the user.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An invalid request, found before any work was started.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Usage, message: message.into() }
    }

    /// A failure of a file, a model, the runtime or the machine.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failed, message: message.into() }
    }

    /// A network produced NaN or infinity.
    pub fn non_finite(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::NonFinite, message: message.into() }
    }

    /// Stopped by a signal.
    pub fn interrupted() -> Self {
        Self { kind: ErrorKind::Interrupted, message: "interrupted".into() }
    }

    /// An operating-system error at a path, with advice: `reading /a/b: No such file or directory; check the path`.
    pub fn io(doing: &str, path: &Path, cause: &std::io::Error) -> Self {
        let text = cause.to_string();
        let what = text.split(" (os error ").next().unwrap_or_default();
        Self::failed(format!("{doing} {}: {what}{}", path.display(), advice(cause.kind())))
    }

    /// A thread that the system does not start.
    pub fn thread(cause: &std::io::Error) -> Self {
        let text = cause.to_string();
        let what = text.split(" (os error ").next().unwrap_or_default();
        Self::failed(format!("cannot start a thread: {what}; free some memory, or raise the limit on threads"))
    }

    /// Prefixes the message with a location: `transformer: …`. An interruption keeps its message.
    #[must_use]
    pub fn at(mut self, location: impl fmt::Display) -> Self {
        if self.kind != ErrorKind::Interrupted {
            self.message = format!("{location}: {}", self.message);
        }
        self
    }

    /// Appends a cause to the message: `…: tensor x contains NaN`.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.message = format!("{}: {cause}", self.message);
        self
    }

    /// Appends what the user can do: `…; give --filter`. An interruption keeps its message.
    #[must_use]
    pub fn advise(mut self, advice: impl fmt::Display) -> Self {
        if self.kind != ErrorKind::Interrupted {
            self.message = format!("{}; {advice}", self.message);
        }
        self
    }

    /// The category.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The process exit code of the CLI contract.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage => 1,
            ErrorKind::Failed | ErrorKind::NonFinite => 3,
            ErrorKind::Interrupted => 130,
        }
    }
}

/// What the user can do about an operating-system error.
fn advice(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as E;
    match kind {
        E::StorageFull | E::FileTooLarge | E::QuotaExceeded => "; free some space or choose another location",
        E::AlreadyExists | E::NotADirectory => "; a file has the name of the folder; choose another location",
        E::PermissionDenied | E::ReadOnlyFilesystem => "; choose another location or change its permissions",
        E::NotFound => "; check the path",
        _ => "",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Prefixes the error of a [`Result`] with a location.
pub trait At<T> {
    /// Maps `Err(e)` to `Err(e.at(location))`.
    fn at(self, location: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, location: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.at(location))
    }
}
