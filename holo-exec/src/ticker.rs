//! Advances the engine's epoch while guests run, and sleeps while none does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// Time between two epochs: how late a guest may notice a limit or a cancellation.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The ticker thread; it ends when this is dropped.
///
/// # Invariants
///
/// `running` is raised before `parked` is read, and `parked` before `running` is read: one of the two sides sees the
/// other, so no guest runs while the thread is parked.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread, parked.
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("holo-epochs".into())
            .spawn(move || theirs.tick_while_guests_run(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Epochs advance at least until the guard is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.shared.wake();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the ticker has been printed already, and there is nobody here to tell.
            thread.join().ok();
        }
    }
}

/// A guest is running.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    parked: AtomicBool,
    stopping: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Shared {
    fn wake(&self) {
        let _held = self.lock.lock();
        self.parked.store(false, Ordering::SeqCst);
        self.changed.notify_one();
    }

    fn tick_while_guests_run(&self, engine: &wasmtime::Engine) {
        let mut held = self.lock.lock();
        while !self.stopping.load(Ordering::SeqCst) {
            self.parked.store(true, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) == 0 {
                while self.parked.load(Ordering::SeqCst) && !self.stopping.load(Ordering::SeqCst) {
                    self.changed.wait(&mut held);
                }
            }
            self.parked.store(false, Ordering::SeqCst);
            // Short calls in a row keep the thread ticking instead of waking it for each.
            self.changed.wait_for(&mut held, TICK);
            engine.increment_epoch();
        }
    }
}
