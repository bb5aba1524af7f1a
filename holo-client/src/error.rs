//! The error of this crate.

use std::fmt;

use holo_core::{ErrorCode, Failure, Retry};

/// Result of every call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed: a stable code, what happened, what to do.
///
/// Shown as people read it: `error[HC1101]: array demo/x: not found`, with a `help:` line where there is advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    failure: Failure,
}

impl Error {
    /// An error of this side.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(code, message) }
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { failure: self.failure.help(help) }
    }

    /// Puts the place where it happened before the message.
    #[must_use]
    pub(crate) fn context(self, place: impl fmt::Display) -> Self {
        Self { failure: self.failure.context(place) }
    }

    /// The stable code, the same in every interface.
    pub fn code(&self) -> ErrorCode {
        self.failure.code
    }

    /// What happened, without code and advice.
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    /// What to do about it, when there is something to do.
    pub fn advice(&self) -> Option<&str> {
        self.failure.help.as_deref()
    }

    /// Whether the same call may succeed later and has done nothing so far.
    pub fn is_retryable(&self) -> bool {
        self.code().retry() == Retry::Later
    }

    /// Whether nobody knows if the call took effect: read before you try again.
    pub fn is_outcome_unknown(&self) -> bool {
        self.code().retry() == Retry::Unknown
    }

    /// The failure as it crosses the wire.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self { failure }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.failure
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

impl std::error::Error for Error {}
