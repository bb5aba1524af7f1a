//! Waiting for the network while other Python threads run and Ctrl-C works.

use std::sync::OnceLock;
use std::time::Duration;

use holo_client::{Error, ErrorCode, Failure};
use pyo3::prelude::*;
use tokio::runtime::Runtime;

use crate::error::to_python;

/// How often a waiting call looks for signals.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The runtime that all calls of this process share.
pub(crate) fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("holocompute")
            .enable_all()
            .build()
            .map_err(|source| source.to_string())
    });
    runtime.as_ref().map_err(|why| {
        let failure = Failure::new(ErrorCode::Internal, format!("cannot start threads: {why}"));
        to_python(&Error::from(failure))
    })
}

/// Runs a call to its end, without the interpreter's lock. A signal whose handler raises (Ctrl-C) cancels the call
/// and comes back as its exception.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    call: impl Future<Output = Result<T, Error>> + Send,
) -> PyResult<T> {
    let runtime = runtime()?;
    py.detach(|| {
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(SIGNAL_INTERVAL);
            let mut call = std::pin::pin!(call);
            loop {
                tokio::select! {
                    biased;
                    done = &mut call => return done.map_err(|error| to_python(&error)),
                    _ = ticks.tick() => Python::attach(|py| py.check_signals())?,
                }
            }
        })
    })
}
