//! Threads for what may wait: copies of groups, with all that reading, sealing, sending and checking them takes. The
//! system lets the threads that serve go first, so that people hardly feel it when a node is emptied or has died.

use holo_core::{ErrorCode, Failure};
use tokio::runtime::{Builder, Handle, Runtime};

/// How far they stand back: a thread of priority 0 gets nine times the time of one of 10 while both want to run, so that
/// copies go on, slowly, on a machine that is never idle.
const NICE: i32 = 10;

/// Threads at most that drive connections.
const DRIVERS_MAX: usize = 4;
/// Threads at most that copy bytes and check them.
const COPIERS_MAX: usize = 4;

/// A runtime whose threads have a low priority.
#[derive(Debug)]
pub(crate) struct Background {
    /// `None` only while it ends.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Background {
    /// Starts the threads that drive connections, one for every four cores and at least one; those that copy come with the
    /// work and go with it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Internal`] when the system gives no thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / 4).clamp(1, DRIVERS_MAX))
            .max_blocking_threads((cores / 2).clamp(1, COPIERS_MAX))
            .thread_name("background")
            .on_thread_start(stand_back)
            .enable_all()
            .build()
            .map_err(|source| {
                Failure::new(ErrorCode::Internal, format!("cannot start a thread: {source}"))
            })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to start tasks.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A node may be dropped where nothing may block; what still runs here is wanted by nobody.
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of this thread, and on Linux of no other.
fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "background threads run with the priority of all others");
    }
}
