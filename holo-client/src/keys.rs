//! Keys for requests that must take effect once: the driver of [`Windows`].

use std::sync::{Mutex, MutexGuard, PoisonError};

use holo_core::wire::{Kind, OpenSession, RequestKeyBody, SessionReply};
use holo_core::{ErrorCode, Failure, Instant};
use tokio::sync::Notify;

use crate::call::Deadline;
use crate::retry::Effect;
use crate::session::Session;
use crate::windows::{Take, Windows};

/// The keys of one client.
#[derive(Debug)]
pub(crate) struct Keys {
    windows: Mutex<Windows>,
    changed: Notify,
    started: tokio::time::Instant,
}

/// The key of one request, taken until this is dropped. The same key goes with every attempt.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    keys: &'a Keys,
    body: RequestKeyBody,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            windows: Mutex::default(),
            changed: Notify::new(),
            started: tokio::time::Instant::now(),
        }
    }

    /// A key for a new request. Opens a session where none has room.
    ///
    /// # Errors
    ///
    /// Those of opening a session; [`ErrorCode::Overloaded`] when too many requests are unanswered until the deadline.
    pub(crate) async fn take(
        &self,
        session: &Session,
        deadline: Deadline,
    ) -> Result<Key<'_>, Failure> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let taken = self.lock().take(self.now());
            match taken {
                Take::Key(body) => return Ok(Key { keys: self, body }),
                Take::Open => self.open(session, deadline).await?,
                Take::Wait => deadline.limit(changed).await.ok_or_else(|| {
                    let message = "too many writes of this client have no answer yet";
                    Failure::new(ErrorCode::Overloaded, message)
                })?,
            }
        }
    }

    async fn open(&self, session: &Session, deadline: Deadline) -> Result<(), Failure> {
        let mut opening = Opening { keys: self, session: None };
        // An id that nobody uses costs nothing, so asking twice is as good as once.
        let opened: SessionReply = session
            .ask_any(Kind::OpenSession, Effect::Read, &OpenSession {}, deadline)
            .await
            .map_err(|failure| failure.context("a session for writes"))?;
        if opened.session == 0 {
            return Err(Failure::new(ErrorCode::Malformed, "a session without an id"));
        }
        opening.session = Some(opened.session);
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::default().after(self.started.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key<'_> {
    /// As it crosses the wire.
    pub(crate) fn body(&self) -> RequestKeyBody {
        self.body
    }

    /// Looks at how the request ended: a session that the nodes have forgotten gives no more keys.
    pub(crate) fn conclude<T>(&self, outcome: &Result<T, Failure>) {
        if matches!(outcome, Err(failure) if failure.code == ErrorCode::OutcomeUnknown) {
            self.keys.lock().retire(self.body.session);
        }
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        self.keys.lock().answered(&self.body, self.keys.now());
        self.keys.changed.notify_waiters();
    }
}

/// A session that is being opened; whatever comes of it, the others who wait go on when this is dropped.
struct Opening<'a> {
    keys: &'a Keys,
    session: Option<u64>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.keys.lock().opened(self.session, self.keys.now());
        self.keys.changed.notify_waiters();
    }
}
