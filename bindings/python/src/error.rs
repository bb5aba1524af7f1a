//! Errors of the client as `holocompute.HoloError`.

use holo_client::{Error, ErrorCode, Failure};
use pyo3::prelude::*;

/// The exception that stands for an error: code, message, advice, whether a retry may help, and whether it may
/// have been done.
pub(crate) fn to_python(error: &Error) -> PyErr {
    Python::attach(|py| {
        let made = py.import("holocompute._errors").and_then(|errors| {
            let arguments = (
                error.code().to_string(),
                error.message(),
                error.advice(),
                error.is_retryable(),
                error.is_outcome_unknown(),
            );
            errors.getattr("make_error")?.call1(arguments)
        });
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(broken) => broken,
        }
    })
}

/// A call on a cluster that was closed.
pub(crate) fn closed() -> PyErr {
    let failure = Failure::new(ErrorCode::InvalidArgument, "the cluster is closed")
        .help("connect again with holocompute.connect() or holocompute.local()");
    to_python(&Error::from(failure))
}

/// A failure of a checked value.
pub(crate) fn refused(failure: Failure) -> PyErr {
    to_python(&Error::from(failure))
}
