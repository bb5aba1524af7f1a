//! The one place where this crate reads a clock: an engine that limits wall-clock time is a driver.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "time limits of guests are wall-clock limits")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
