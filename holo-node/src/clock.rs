//! The one place of this crate that reads clocks.

use std::time::Duration;

use holo_core::{Instant, UnixMillis};

/// A monotonic clock that starts at zero when the node does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a driver's clock: machines get its readings as arguments"
    )]
    pub(crate) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant `delay` from now, for engines that check deadlines themselves.
    pub(crate) fn deadline(&self, delay: Duration) -> Option<std::time::Instant> {
        self.start.checked_add(self.start.elapsed())?.checked_add(delay)
    }

    /// Whether an instant of [`Self::deadline`] has passed.
    pub(crate) fn is_past(&self, deadline: std::time::Instant) -> bool {
        self.start.checked_add(self.start.elapsed()).is_none_or(|now| now >= deadline)
    }

    /// The wall clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "a driver's clock: machines get its readings as arguments"
    )]
    pub(crate) fn wall(&self) -> UnixMillis {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }
}
