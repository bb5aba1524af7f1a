//! The one place of this crate that reads the wall clock: certificates expire by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holo_core::UnixMillis;

/// Milliseconds since 1970, now; 0 on a machine whose clock is before 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver's clock: handshakes take the time as an argument"
)]
pub(crate) fn wall_clock_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis(whole_millis(since))
}

/// A duration in whole milliseconds, rounded up, at most `u64::MAX`.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Time from `now` until `end`; zero when it has passed.
pub(crate) fn time_until(end: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(end.0.saturating_sub(now.0))
}
