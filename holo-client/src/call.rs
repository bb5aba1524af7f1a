//! One call of the user: how long it may take, and that it is under way.

use std::time::Duration;

use crate::flights::Flight;
use crate::session::Session;

/// When a request or a call has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(tokio::time::Instant);

impl Deadline {
    pub(crate) fn after(delay: Duration) -> Self {
        let now = tokio::time::Instant::now();
        // A time that the clock cannot hold stands for one that nobody lives to see.
        Self(now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(1 << 30)))
    }

    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(tokio::time::Instant::now())
    }

    /// The earlier of this and `delay` from now.
    pub(crate) fn within(self, delay: Duration) -> Self {
        Self(self.0.min(Self::after(delay).0))
    }

    /// What `work` gives, or nothing when it is not done by then.
    pub(crate) async fn limit<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }
}

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// So long each.
    Each(Duration),
    /// All until then: they are parts of one.
    Until(Deadline),
}

impl Limit {
    /// When a call that begins now has to be over.
    pub(crate) fn begin(self) -> Deadline {
        match self {
            Self::Each(time) => Deadline::after(time),
            Self::Until(deadline) => deadline,
        }
    }
}

/// A call from its begin to its end.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    session: &'a Session,
    until: Option<Deadline>,
    _flight: Option<Flight<'a>>,
}

impl<'a> Call<'a> {
    /// A call that changes nothing; all of it has to be done within `limit`, where there is one.
    pub(crate) fn reading(session: &'a Session, limit: Option<Limit>) -> Self {
        Self { session, until: limit.map(Limit::begin), _flight: None }
    }

    /// A call that changes something.
    pub(crate) fn changing(session: &'a Session, limit: Option<Limit>) -> Self {
        Self { _flight: Some(session.flights().begin()), ..Self::reading(session, limit) }
    }

    pub(crate) fn session(&self) -> &'a Session {
        self.session
    }

    /// The deadline of a request of this call that starts now.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline_within(self.session.options().request_within())
    }

    /// The deadline of a request that may take `time`.
    pub(crate) fn deadline_within(&self, time: Duration) -> Deadline {
        let own = Deadline::after(time);
        self.until.map_or(own, |until| until.within(time))
    }
}
