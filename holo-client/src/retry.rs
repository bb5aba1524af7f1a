//! When a failed request is sent again, and when one that hangs is asked about. Pure: the caller keeps the clock and
//! waits.

use std::time::Duration;

use holo_core::{ErrorCode, Failure, Retry};

/// Attempts whose bytes failed their checksum.
const CORRUPT_MAX: u32 = 2;
/// Attempts that found no room, where the peer said that it may pass.
const CROWDED_MAX: u32 = 6;
/// Attempts at one certain node whose connection broke.
const LOST_MAX: u32 = 2;
/// Attempts that found the data lost, the first ones by views that may be old: when somebody has accepted the loss, not
/// every node has heard of it yet.
const DATA_LOST_MAX: u32 = 7;
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What sending a request again means when nobody knows if it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing, or twice is the same as once.
    Read,
    /// It has a key: the nodes see to it that it happens once.
    Keyed,
    /// One decision of one node: a refusal that asks to come later has done nothing.
    Whole,
    /// Twice differs from once, and also what was refused may be done in part.
    Parts,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Return the failure.
    GiveUp,
    /// Wait that long, fetch the view again when asked to, and send once more.
    Again { pause: Duration, refresh: bool },
}

/// The failures of one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    effect: Effect,
    one_node: bool,
    sent: bool,
    /// An attempt ended without an answer.
    unanswered: bool,
    /// The last failure that says more than that the time was over.
    telling: Option<Failure>,
    failures: u32,
    crowded: u32,
    corrupt: u32,
    lost: u32,
    lost_data: u32,
}

impl Attempts {
    pub(crate) fn new(effect: Effect) -> Self {
        Self {
            effect,
            one_node: false,
            sent: false,
            unanswered: false,
            telling: None,
            failures: 0,
            crowded: 0,
            corrupt: 0,
            lost: 0,
            lost_data: 0,
        }
    }

    /// Of a request that only one certain node can answer: when that is dead, waiting helps nobody.
    pub(crate) fn at_one_node(effect: Effect) -> Self {
        Self { one_node: true, ..Self::new(effect) }
    }

    /// Notes that the request is on its way. From here on nothing tells what a node had done when it failed.
    pub(crate) fn sending(&mut self) {
        self.sent = true;
    }

    /// Decides after `failure`, with `remaining` left until the deadline.
    pub(crate) fn after(&mut self, failure: &Failure, remaining: Duration) -> Next {
        self.failures += 1;
        self.unanswered |= self.sent && failure.code.retry() == Retry::Unknown;
        if failure.code != ErrorCode::DeadlineExceeded {
            self.telling = Some(failure.clone());
        }
        let final_once_sent = match self.effect {
            Effect::Read | Effect::Keyed => false,
            Effect::Whole => failure.code.retry() != Retry::Later,
            Effect::Parts => true,
        };
        if self.sent && final_once_sent {
            return Next::GiveUp;
        }
        let doubled = PAUSE_FIRST.saturating_mul(1 << (self.failures - 1).min(10));
        let backoff = doubled.min(PAUSE_MAX);
        let told = failure.retry_after_ms.map(|millis| Duration::from_millis(millis.into()));
        let (allowed, pause, refresh) = match failure.code {
            ErrorCode::Unreachable => (!self.one_node, backoff, true),
            ErrorCode::ConnectionLost => {
                self.lost += 1;
                (!self.one_node || self.lost < LOST_MAX, backoff, true)
            }
            // Groups move: who was asked knows that it has passed, and the next view says where to.
            ErrorCode::WrongNode if self.failures == 1 && told.is_none() => {
                (!self.one_node, Duration::ZERO, true)
            }
            ErrorCode::WrongNode
            | ErrorCode::ShuttingDown
            | ErrorCode::DeadlineExceeded
            | ErrorCode::NoQuorum
            | ErrorCode::NotReady => (!self.one_node, told.unwrap_or(backoff), true),
            // Somebody may have accepted the loss, or restored the data, since the view was fetched.
            ErrorCode::DataLost => {
                self.lost_data += 1;
                (self.lost_data < DATA_LOST_MAX, backoff, true)
            }
            ErrorCode::Corrupt => {
                self.corrupt += 1;
                (self.corrupt < CORRUPT_MAX, Duration::ZERO, false)
            }
            // Whatever became of it: it may be done once more. As a rule its group was about to move.
            ErrorCode::OutcomeUnknown => (self.effect == Effect::Read, backoff, true),
            // Without a time the peer does not expect it to pass.
            ErrorCode::Overloaded => (told.is_some(), told.unwrap_or_default(), false),
            ErrorCode::OutOfCapacity | ErrorCode::QuotaExceeded => {
                self.crowded += 1;
                let allowed = told.is_some() && self.crowded < CROWDED_MAX;
                (allowed, told.unwrap_or_default(), false)
            }
            _ => (false, Duration::ZERO, false),
        };
        if allowed && pause < remaining { Next::Again { pause, refresh } } else { Next::GiveUp }
    }

    /// What to tell the caller when there is no other attempt: the last failure, how often it was tried, and that
    /// nobody knows the outcome when an earlier attempt may have been carried out.
    pub(crate) fn conclude(&self, failure: Failure) -> Failure {
        let mut failure = failure;
        // The time ran out in the middle of an attempt: why there had to be several is what people need to know.
        if let Some(telling) = &self.telling
            && failure.code == ErrorCode::DeadlineExceeded
        {
            match self.effect {
                Effect::Read => failure = telling.clone(),
                _ => {
                    failure.message = format!("{}; before: {}", failure.message, telling.message);
                    failure.help = failure.help.or_else(|| telling.help.clone());
                }
            }
        }
        let may_be_done = self.unanswered && self.effect != Effect::Read;
        if may_be_done && failure.code.retry() == Retry::Later {
            failure.message =
                format!("an earlier try was not answered; the last one: {}", failure.message);
            failure.code = ErrorCode::DeadlineExceeded;
        }
        if self.failures > 1 {
            failure.message = format!("{} (tried {} times)", failure.message, self.failures);
        }
        failure
    }
}

/// Whether a failure is that a node said nothing.
pub(crate) fn is_silence(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unreachable | ErrorCode::ConnectionLost | ErrorCode::DeadlineExceeded)
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
            | ErrorCode::NoQuorum
            | ErrorCode::NotReady
    )
}

/// When the silence of a node makes us ask others whether it is still the one to ask: soon at first, for those who
/// wait for a dead one, and seldom later, for those whose work takes long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    asked: u32,
}

impl Patience {
    /// Silence that means nothing yet.
    pub(crate) const FIRST: Duration = Duration::from_millis(400);
    const SOON: Duration = Duration::from_millis(50);
    const SOON_COUNT: u32 = 40;
    const SELDOM: Duration = Duration::from_secs(1);

    /// How long to wait until the next question.
    pub(crate) fn next(&mut self) -> Duration {
        self.asked = self.asked.saturating_add(1);
        match self.asked {
            1 => Self::FIRST,
            asked if asked <= Self::SOON_COUNT => Self::SOON,
            _ => Self::SELDOM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn failure(code: ErrorCode) -> Failure {
        Failure::new(code, "x")
    }

    #[test]
    fn what_happens_once_anyway_is_tried_until_the_deadline() {
        for effect in [Effect::Read, Effect::Keyed] {
            for code in [
                ErrorCode::WrongNode,
                ErrorCode::Unreachable,
                ErrorCode::ConnectionLost,
                ErrorCode::NoQuorum,
                ErrorCode::NotReady,
                ErrorCode::ShuttingDown,
            ] {
                let mut attempts = Attempts::new(effect);
                attempts.sending();
                for _ in 0..1000 {
                    let next = attempts.after(&failure(code), LONG);
                    assert!(matches!(next, Next::Again { refresh: true, .. }), "{code}");
                }
                assert_eq!(attempts.after(&failure(code), PAUSE_MAX), Next::GiveUp, "{code}");
            }
        }
    }

    #[test]
    fn pauses_grow_from_5_to_200_milliseconds() {
        let mut attempts = Attempts::new(Effect::Read);
        let pauses: Vec<u128> =
            std::iter::from_fn(|| match attempts.after(&failure(ErrorCode::NotReady), LONG) {
                Next::Again { pause, .. } => Some(pause.as_millis()),
                Next::GiveUp => None,
            })
            .take(8)
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 200, 200]);
    }

    #[test]
    fn lost_data_is_believed_when_every_node_had_a_third_of_a_second_to_hear_that_it_is_not() {
        let mut attempts = Attempts::new(Effect::Read);
        let mut waited = Duration::ZERO;
        while let Next::Again { pause, refresh } =
            attempts.after(&failure(ErrorCode::DataLost), LONG)
        {
            assert!(refresh);
            waited += pause;
        }
        assert_eq!(waited, Duration::from_millis(315));
    }

    #[test]
    fn a_certain_node_that_is_dead_is_given_up_at_once() {
        let mut attempts = Attempts::at_one_node(Effect::Read);
        assert_eq!(attempts.after(&failure(ErrorCode::Unreachable), LONG), Next::GiveUp);
        let mut attempts = Attempts::at_one_node(Effect::Read);
        let lost = failure(ErrorCode::ConnectionLost);
        assert!(matches!(attempts.after(&lost, LONG), Next::Again { .. }));
        assert_eq!(attempts.after(&lost, LONG), Next::GiveUp);
    }

    #[test]
    fn what_may_be_done_in_part_is_tried_again_only_before_it_was_sent() {
        // A run in place whose node refused one part of it had been sent again: x = x + 1 counted twice.
        for code in ErrorCode::ALL {
            let mut sent = Attempts::new(Effect::Parts);
            sent.sending();
            let refused = failure(*code).retry_after_ms(1);
            assert_eq!(sent.after(&refused, LONG), Next::GiveUp, "{code}");
        }
        let mut attempts = Attempts::new(Effect::Parts);
        let dead = failure(ErrorCode::Unreachable);
        assert!(matches!(attempts.after(&dead, LONG), Next::Again { .. }));
        attempts.sending();
        assert_eq!(attempts.after(&dead, LONG), Next::GiveUp);
    }

    #[test]
    fn a_whole_that_was_refused_is_tried_again_and_one_without_an_answer_is_not() {
        let mut attempts = Attempts::new(Effect::Whole);
        attempts.sending();
        assert!(matches!(attempts.after(&failure(ErrorCode::NoQuorum), LONG), Next::Again { .. }));
        assert_eq!(attempts.after(&failure(ErrorCode::ConnectionLost), LONG), Next::GiveUp);
    }

    #[test]
    fn the_peer_says_how_long_to_wait() {
        let mut attempts = Attempts::new(Effect::Read);
        let busy = failure(ErrorCode::Overloaded).retry_after_ms(40);
        let pause = Duration::from_millis(40);
        assert_eq!(attempts.after(&busy, LONG), Next::Again { pause, refresh: false });
        assert_eq!(attempts.after(&busy, pause), Next::GiveUp, "the deadline comes first");
        assert_eq!(attempts.after(&failure(ErrorCode::OutOfCapacity), LONG), Next::GiveUp);
        let mut attempts = Attempts::new(Effect::Keyed);
        let full = failure(ErrorCode::OutOfCapacity).retry_after_ms(1);
        let again = std::iter::from_fn(|| match attempts.after(&full, LONG) {
            Next::Again { .. } => Some(()),
            Next::GiveUp => None,
        });
        assert_eq!(again.count(), 5, "memory does not appear by asking");
    }

    #[test]
    fn what_fails_for_good_fails_at_once() {
        for code in [ErrorCode::NotFound, ErrorCode::Denied, ErrorCode::OutcomeUnknown] {
            let mut attempts = Attempts::new(Effect::Keyed);
            assert_eq!(attempts.after(&failure(code), LONG), Next::GiveUp, "{code}");
        }
    }

    /// A run that filled an array while its groups moved failed, and would have given the same another time.
    #[test]
    fn what_may_happen_twice_is_sent_again_when_nobody_knows_whether_it_happened() {
        let mut attempts = Attempts::new(Effect::Read);
        attempts.sending();
        let unknown = failure(ErrorCode::OutcomeUnknown);
        let next = attempts.after(&unknown, LONG);
        assert!(matches!(next, Next::Again { refresh: true, .. }), "{next:?}");
        let mut attempts = Attempts::new(Effect::Parts);
        attempts.sending();
        assert_eq!(attempts.after(&unknown, LONG), Next::GiveUp);
    }

    #[test]
    fn a_write_that_may_have_been_done_is_never_told_as_one_that_was_not() {
        let concluded = |effect: Effect, first: ErrorCode| {
            let mut attempts = Attempts::new(effect);
            attempts.sending();
            let refused = failure(ErrorCode::NoQuorum);
            attempts.after(&failure(first), LONG);
            attempts.after(&refused, Duration::ZERO);
            attempts.conclude(refused)
        };
        let unknown = concluded(Effect::Keyed, ErrorCode::ConnectionLost);
        assert_eq!(unknown.code.retry(), Retry::Unknown);
        assert!(unknown.message.contains("tried 2 times"), "{unknown}");
        assert_eq!(concluded(Effect::Keyed, ErrorCode::NotReady).code, ErrorCode::NoQuorum);
        assert_eq!(concluded(Effect::Read, ErrorCode::ConnectionLost).code, ErrorCode::NoQuorum);
    }

    #[test]
    fn who_runs_out_of_time_says_what_was_wrong_before() {
        let concluded = |effect: Effect| {
            let mut attempts = Attempts::new(effect);
            attempts.sending();
            attempts.after(&Failure::new(ErrorCode::NoQuorum, "too few copies"), LONG);
            let late = Failure::new(ErrorCode::DeadlineExceeded, "no answer");
            attempts.after(&late, Duration::ZERO);
            attempts.conclude(late)
        };
        assert_eq!(concluded(Effect::Read).code, ErrorCode::NoQuorum);
        let write = concluded(Effect::Keyed);
        assert_eq!(write.code, ErrorCode::DeadlineExceeded, "the last attempt may be carried out");
        assert!(write.message.contains("too few copies"), "{write}");
    }

    #[test]
    fn the_silent_are_asked_about_soon_and_the_slow_seldom() {
        let mut patience = Patience::default();
        assert_eq!(patience.next(), Patience::FIRST);
        let soon: Duration = (1..Patience::SOON_COUNT).map(|_| patience.next()).sum();
        assert_eq!(soon, Patience::SOON * (Patience::SOON_COUNT - 1));
        assert_eq!(patience.next(), Patience::SELDOM);
    }
}
