//! The tasks of one endpoint: every one is owned, so that closing can wait for them and dropping can end them.

use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::drivers::{Runtimes, Urgency};

/// A set of tasks on the endpoint's runtimes.
#[derive(Debug)]
pub(crate) struct Tasks {
    runtimes: Runtimes,
    /// `None` once closing has begun.
    running: Mutex<Option<JoinSet<()>>>,
}

impl Tasks {
    pub(crate) fn new(runtimes: Runtimes) -> Self {
        Self { runtimes, running: Mutex::new(Some(JoinSet::new())) }
    }

    /// Starts a task; after closing has begun, drops it.
    pub(crate) fn start(&self, urgency: Urgency, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = self.running.lock().as_mut() {
            running.spawn_on(task, self.runtimes.of(urgency));
            // Finished tasks stay in the set until somebody takes them out.
            while running.try_join_next().is_some() {}
        }
    }

    /// Waits until every task has ended, at most for `grace`, and then ends the rest.
    pub(crate) async fn close(&self, grace: Duration) {
        let Some(mut running) = self.running.lock().take() else { return };
        let all = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::debug!(tasks = running.len(), "tasks ended by force");
        }
        running.shutdown().await;
    }

    /// Ends every task at its next await.
    pub(crate) fn abort(&self) {
        drop(self.running.lock().take());
    }
}
