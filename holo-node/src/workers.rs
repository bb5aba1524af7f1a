//! Threads for what takes long, apart from the threads that serve the network.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use holo_core::{ErrorCode, Failure, limits};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of threads behind a bounded queue.
#[derive(Debug)]
pub(crate) struct Workers {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads; they sleep until there is work.
    pub(crate) fn start(count: usize) -> Result<Self, Failure> {
        let (queue, jobs) = crossbeam_channel::bounded::<Job>(limits::RUNS_QUEUED_MAX);
        let threads =
            (0..count).map(|index| spawn(index, jobs.clone())).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Runs `job` on the next free thread.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Overloaded`] when the queue is full, with a time to try again.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let queue = self.queue.as_ref().ok_or_else(stopping)?;
        queue.try_send(Box::new(job)).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                let message = format!("{} runs wait for a worker already", limits::RUNS_QUEUED_MAX);
                Failure::new(ErrorCode::Overloaded, message).retry_after_ms(100)
            }
            TrySendError::Disconnected(_) => stopping(),
        })
    }

    /// Runs `job` on a worker and waits for its value without blocking the caller's thread.
    ///
    /// # Errors
    ///
    /// Those of the job and of [`Self::submit`]; [`ErrorCode::Internal`] when the job panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self: Arc<Self>,
        job: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, outcome) = tokio::sync::oneshot::channel();
        self.submit(move || {
            // The requester may have gone away; then nobody wants the value.
            let _unwanted = reply.send(job());
        })?;
        outcome.await.unwrap_or_else(|_gone| {
            Err(Failure::new(ErrorCode::Internal, "a worker's job panicked"))
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A worker may hold the last reference to its own pool; it cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

/// Runs what takes long, a disk or hashes, on a thread that serves nobody meanwhile.
///
/// # Errors
///
/// Those of the work; [`ErrorCode::Internal`] when it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| {
        Err(Failure::new(
            ErrorCode::Internal,
            format!("work on a thread of its own ended: {ended}"),
        ))
    })
}

fn spawn(index: usize, jobs: Receiver<Job>) -> Result<JoinHandle<()>, Failure> {
    let body = move || {
        for job in jobs {
            // One bad job must not take a worker away from everybody else.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job panicked; its worker goes on");
            }
        }
    };
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(body).map_err(|source| {
        Failure::new(ErrorCode::Internal, format!("cannot start a worker thread: {source}"))
    })
}

fn stopping() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "the node is stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_job_is_reported_and_the_worker_goes_on() {
        let workers = Arc::new(Workers::start(1).unwrap());
        let refused = Arc::clone(&workers)
            .run(|| -> Result<(), Failure> { panic!("on purpose") })
            .await
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::Internal);
        assert_eq!(Arc::clone(&workers).run(|| Ok(7)).await, Ok(7));
    }

    #[test]
    fn a_full_queue_refuses_with_a_time_to_try_again() {
        let workers = Workers::start(1).unwrap();
        let (release, gate) = crossbeam_channel::bounded::<()>(0);
        workers.submit(move || gate.recv().unwrap_or_default()).unwrap();
        let refused =
            (0..=limits::RUNS_QUEUED_MAX + 1).find_map(|_| workers.submit(|| {}).err()).unwrap();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert_eq!(refused.retry_after_ms, Some(100));
        drop(release);
    }
}
