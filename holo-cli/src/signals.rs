//! The ways in which somebody tells a command to stop.

use std::io::Read;

use holo_core::{ErrorCode, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that ask us to stop, caught from the moment this value exists.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl StopSignals {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Internal`] when the system refuses.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let caught = |kind| {
            signal(kind).map_err(|source| {
                Failure::new(ErrorCode::Internal, format!("cannot catch signals: {source}"))
            })
        };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// Ends when our standard input does: whoever holds its other end is gone or wants us to stop.
///
/// Reads on a thread of its own, since a read of a terminal or pipe cannot be taken back and must not hold up the end
/// of the runtime.
pub(crate) fn stdin_closed() -> impl Future<Output = ()> {
    let (closed, wait) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut ignored = [0u8; 256];
        while !matches!(std::io::stdin().lock().read(&mut ignored), Ok(0) | Err(_)) {}
        drop(closed);
    });
    async move {
        // The sender is dropped, never used: an error is the news.
        wait.await.ok();
    }
}
