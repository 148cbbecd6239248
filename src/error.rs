//! One error type: a sentence that says where, what was wanted, what was found and what to do, and a kind that decides the exit code.

use std::{fmt, io, path::Path};

/// What went wrong, coarsely: it decides the exit code (CLI contract: 1 usage, 3 job failed, 130 interrupted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request itself cannot be done; nothing was started.
    Usage,
    /// A file, a model, the runtime or the machine failed a request that was well formed.
    Failed,
    /// A failure, of which is known that a network made values that are not finite.
    NonFinite,
    /// Stopped from outside; what is finished stays valid.
    Interrupted,
}

/// An error with one complete sentence for the person who typed the command.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A request that cannot be done, found before anything was started.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into() }
    }

    /// A failure of a file, a model, the runtime or the machine.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, message: message.into() }
    }

    /// A network made a NaN or an infinity.
    pub fn non_finite(message: impl Into<String>) -> Self {
        Self { kind: Kind::NonFinite, message: message.into() }
    }

    /// Stopped by a signal.
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, message: "interrupted".into() }
    }

    /// An operating-system error at a path, with what to do: `reading /a/b: No such file or directory; check the path`.
    pub fn io(doing: &str, path: &Path, cause: &std::io::Error) -> Self {
        let text = cause.to_string();
        let what = text.split(" (os error ").next().unwrap_or_default();
        Self::failed(format!("{doing} {}: {what}{}", path.display(), advice(cause.kind())))
    }

    /// The same error with the place it happened in front: `transformer: …`. Being interrupted has no place.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        if self.kind != Kind::Interrupted {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }

    /// The same error with what else is known of it: `…: tensor x holds a NaN`.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.message = format!("{}: {cause}", self.message);
        self
    }

    /// What decides the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process exit code of the CLI contract.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 1,
            Kind::Failed | Kind::NonFinite => 3,
            Kind::Interrupted => 130,
        }
    }
}

/// What a person can do about an operating-system error.
fn advice(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as E;
    match kind {
        E::StorageFull | E::FileTooLarge | E::QuotaExceeded => "; free some space or write somewhere else",
        E::AlreadyExists | E::NotADirectory => "; a file stands where a folder is wanted, choose another place",
        E::PermissionDenied | E::ReadOnlyFilesystem => "; choose another place or change its permissions",
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

/// Puts a place in front of an error.
pub trait At<T> {
    /// `Err(e)` becomes `Err(e.at(place))`.
    fn at(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.at(place))
    }
}
