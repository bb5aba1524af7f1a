//! The command's clocks: how long steps take, what time of day it is, and when it is too late.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A running stopwatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts to count.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of the command that reads the clock"
    )]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.started.elapsed()
    }
}

/// A moment to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    watch: Stopwatch,
    within: Duration,
    unix_ms: u64,
}

impl Deadline {
    /// The moment so long from now.
    pub(crate) fn after(within: Duration) -> Self {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Self { watch: Stopwatch::start(), within, unix_ms: unix_ms().saturating_add(millis) }
    }

    /// Whether it is over.
    pub(crate) fn is_past(self) -> bool {
        self.watch.elapsed() >= self.within
    }

    /// Time until then.
    pub(crate) fn remaining(self) -> Duration {
        self.within.saturating_sub(self.watch.elapsed())
    }

    /// Waits until then.
    pub(crate) async fn passed(self) {
        pause(self.remaining()).await;
    }

    /// By the clock on the wall: Unix milliseconds.
    pub(crate) fn unix_ms(self) -> u64 {
        self.unix_ms
    }
}

/// The time of day: Unix milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command that reads the time of day"
)]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Waits.
#[expect(
    clippy::disallowed_methods,
    reason = "the command's own pauses, between two looks at something"
)]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
