//! When a failed request is sent again. Pure: the caller keeps the clock and waits.

use std::time::Duration;

use holo_core::{ErrorCode, Failure};

/// Requests of one call, the first one included.
const ATTEMPTS_MAX: u32 = 6;
/// Attempts whose connection was lost or could not be made.
const LINK_FAILURES_MAX: u32 = 2;
/// Attempts whose bytes failed their checksum.
const CORRUPT_MAX: u32 = 2;
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Whether a request may be sent again when nobody knows if it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Twice is the same as once.
    Idempotent,
    /// Twice may differ from once.
    Once,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Return the failure.
    GiveUp,
    /// Wait that long, fetch the placement again when asked to, and send once more.
    Again { pause: Duration, refresh: bool },
}

/// The failures of one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    effect: Effect,
    sent: bool,
    failures: u32,
    link_failures: u32,
    corrupt: u32,
}

impl Attempts {
    pub(crate) fn new(effect: Effect) -> Self {
        Self { effect, sent: false, failures: 0, link_failures: 0, corrupt: 0 }
    }

    /// Notes that the request is on its way. From here on nothing tells what a node had done when it failed: also a
    /// refusal may come from one part of a run while another has written already.
    pub(crate) fn sending(&mut self) {
        self.sent = true;
    }

    /// Decides after `failure`, with `remaining` left until the deadline.
    pub(crate) fn after(&mut self, failure: &Failure, remaining: Duration) -> Next {
        self.failures += 1;
        if self.effect == Effect::Once && self.sent {
            return Next::GiveUp;
        }
        let backoff = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        let (allowed, pause, refresh) = match failure.code {
            ErrorCode::WrongNode => (true, backoff, true),
            ErrorCode::Unreachable | ErrorCode::ConnectionLost => {
                self.link_failures += 1;
                (self.link_failures < LINK_FAILURES_MAX, backoff, false)
            }
            ErrorCode::Corrupt => {
                self.corrupt += 1;
                (self.corrupt < CORRUPT_MAX, Duration::ZERO, false)
            }
            // Without a time the peer does not expect it to pass.
            ErrorCode::Overloaded | ErrorCode::OutOfCapacity | ErrorCode::QuotaExceeded => {
                match failure.retry_after_ms {
                    Some(millis) => (true, Duration::from_millis(millis.into()), false),
                    None => (false, Duration::ZERO, false),
                }
            }
            _ => (false, Duration::ZERO, false),
        };
        if allowed && self.failures < ATTEMPTS_MAX && pause < remaining {
            Next::Again { pause, refresh }
        } else {
            Next::GiveUp
        }
    }
}

/// Whether a failure is about the node that was asked, so that another one that knows the same may answer.
pub(crate) fn another_may_answer(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unreachable
            | ErrorCode::ConnectionLost
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Overloaded
            | ErrorCode::ShuttingDown
            | ErrorCode::WrongNode
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn failure(code: ErrorCode) -> Failure {
        Failure::new(code, "x")
    }

    #[test]
    fn a_lost_connection_is_tried_once_more_only_when_twice_is_as_good_as_once() {
        let lost = failure(ErrorCode::ConnectionLost);
        let mut attempts = Attempts::new(Effect::Idempotent);
        assert!(matches!(attempts.after(&lost, LONG), Next::Again { refresh: false, .. }));
        assert_eq!(attempts.after(&lost, LONG), Next::GiveUp);
        let mut once = Attempts::new(Effect::Once);
        once.sending();
        assert_eq!(once.after(&lost, LONG), Next::GiveUp);
    }

    #[test]
    fn what_must_not_happen_twice_is_tried_again_only_before_it_was_sent() {
        // A run in place whose node refused one part of it had been sent again: x = x + 1 counted twice.
        for code in ErrorCode::ALL {
            let mut sent = Attempts::new(Effect::Once);
            sent.sending();
            let refused = failure(*code).retry_after_ms(1);
            assert_eq!(sent.after(&refused, LONG), Next::GiveUp, "{code}");
        }
        let mut attempts = Attempts::new(Effect::Once);
        let dead = failure(ErrorCode::Unreachable);
        assert!(matches!(attempts.after(&dead, LONG), Next::Again { refresh: false, .. }));
        attempts.sending();
        assert_eq!(attempts.after(&dead, LONG), Next::GiveUp);
    }

    #[test]
    fn a_wrong_node_makes_us_fetch_the_placement() {
        let mut attempts = Attempts::new(Effect::Idempotent);
        let next = attempts.after(&failure(ErrorCode::WrongNode), LONG);
        assert!(matches!(next, Next::Again { refresh: true, .. }));
    }

    #[test]
    fn the_peer_says_how_long_to_wait() {
        let mut attempts = Attempts::new(Effect::Idempotent);
        let busy = failure(ErrorCode::Overloaded).retry_after_ms(40);
        let pause = Duration::from_millis(40);
        assert_eq!(attempts.after(&busy, LONG), Next::Again { pause, refresh: false });
        assert_eq!(attempts.after(&busy, pause), Next::GiveUp, "the deadline comes first");
        assert_eq!(attempts.after(&failure(ErrorCode::OutOfCapacity), LONG), Next::GiveUp);
    }

    #[test]
    fn attempts_are_bounded() {
        let mut attempts = Attempts::new(Effect::Idempotent);
        let busy = failure(ErrorCode::Overloaded).retry_after_ms(1);
        let again = std::iter::from_fn(|| match attempts.after(&busy, LONG) {
            Next::Again { .. } => Some(()),
            Next::GiveUp => None,
        });
        assert_eq!(again.count(), 5);
    }

    #[test]
    fn what_fails_for_good_fails_at_once() {
        for code in [ErrorCode::NotFound, ErrorCode::Denied, ErrorCode::DeadlineExceeded] {
            let mut attempts = Attempts::new(Effect::Idempotent);
            assert_eq!(attempts.after(&failure(code), LONG), Next::GiveUp, "{code}");
        }
    }
}
