//! The times by which replicas judge each other.

use std::time::Duration;

use crate::{ErrorCode, Failure};

/// How often the machine looks around between two beats.
const TICKS_PER_HEARTBEAT: u32 = 4;
/// How many heartbeats [`Timers::calm_look`] is at most.
const CALM_HEARTBEATS: u32 = 8;

/// The times of one cluster; the same on all its nodes, but for the drift of their clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between two beats of one pair.
    pub heartbeat: Duration,
    /// How long a lease lives after the sending of its beat.
    pub lease: Duration,
    /// How much longer a promise lives than a lease, in thousandths: covers clocks that run at different rates. With
    /// rates within a share `r` of the truth it must be at least `2r / (1 - r)`.
    pub drift_margin_milli: u32,
    /// Silence of a primary after which a backup proposes to take over.
    pub take_over: Duration,
    /// Silence of a member after which its primary proposes to remove it.
    pub evict: Duration,
    /// How long a member that is heard may owe the same entries before it counts as slow and is removed.
    pub stall: Duration,
    /// Between two tries of one proposal to the catalog.
    pub propose_again: Duration,
    /// Without an answer for so long, entries are sent again.
    pub resend: Duration,
    /// Staged bytes that no entry names are given up after this long.
    pub payload_keep: Duration,
    /// After a target could not be brought up, how long it is left alone; doubles with each failure, up to 16 times.
    pub target_retry: Duration,
    /// Frozen states that one host keeps for learners at the same time: what is copied at once.
    pub copies_max: usize,
    /// Learners that one host brings up at the same time. Most of them wait, for the catalog, a lease, or their turn to
    /// copy, which costs nothing.
    pub learners_max: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            lease: Duration::from_millis(300),
            drift_margin_milli: 120,
            take_over: Duration::from_millis(540),
            evict: Duration::from_millis(400),
            stall: Duration::from_secs(3),
            propose_again: Duration::from_millis(150),
            resend: Duration::from_millis(100),
            payload_keep: Duration::from_secs(30),
            target_retry: Duration::from_secs(1),
            copies_max: 4,
            learners_max: 64,
        }
    }
}

impl Timers {
    /// How long a promise lives after the receipt of its beat.
    pub fn promise(&self) -> Duration {
        self.lease.saturating_add(self.lease.saturating_mul(self.drift_margin_milli) / 1000)
    }

    /// How often a quiet group is looked at while everybody is heard and nobody learns: often enough that what was seen
    /// then is no slowness when something begins.
    pub(super) fn calm_look(&self) -> Duration {
        let calm = self.heartbeat.saturating_mul(CALM_HEARTBEATS);
        calm.min(self.stall / 4).max(self.heartbeat)
    }

    /// A beat that left less than this ago is not sent again only because others leave.
    pub(super) fn lately(&self) -> Duration {
        self.heartbeat / 2
    }

    /// How long a host whose beats go along with those of a pacer waits for them.
    pub(super) fn patience(&self) -> Duration {
        self.heartbeat / 2 * 3
    }

    /// Whether the answer to a beat may wait for the next beat the other way: the lease that it renews has been renewed
    /// by the answer before, and has more than a heartbeat left when this one comes; half of one where the next beat
    /// waited in vain for a pacer.
    pub(super) fn may_owe(&self) -> bool {
        self.lease >= self.heartbeat.saturating_mul(3)
    }

    /// How long a peer may say nothing before it counts as silent.
    pub(super) fn silence(&self) -> Duration {
        self.heartbeat.saturating_mul(2)
    }

    /// How often the machine looks around while anything is under way.
    pub fn tick(&self) -> Duration {
        self.heartbeat / TICKS_PER_HEARTBEAT
    }

    /// Checks that the times fit together.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`], with the rule that is broken.
    pub fn check(&self) -> Result<(), Failure> {
        let refuse = |what: &str| Err(Failure::new(ErrorCode::ConfigInvalid, what.to_owned()));
        if self.tick().is_zero() || self.resend.is_zero() || self.propose_again.is_zero() {
            return refuse("a time between repetitions is zero");
        }
        if self.lease <= self.heartbeat {
            return refuse("a lease must outlive the time between two beats");
        }
        if !(1..=1000).contains(&self.drift_margin_milli) {
            return refuse("the drift margin must be 1 to 1000 thousandths");
        }
        if self.take_over < self.promise().saturating_add(self.heartbeat.saturating_mul(2)) {
            return refuse("a takeover must wait for the promise and two beats more");
        }
        if self.evict < self.lease || self.stall < self.evict {
            return refuse("an eviction must wait for the lease, and for a slow member longer");
        }
        if self.copies_max == 0 || self.learners_max == 0 {
            return refuse("a host that copies nothing never repairs anything");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_times_fit_together() {
        Timers::default().check().unwrap();
        assert_eq!(Timers::default().promise(), Duration::from_millis(336));
    }

    #[test]
    fn times_that_break_a_rule_are_refused() {
        let break_it: [fn(&mut Timers); 8] = [
            |t| t.heartbeat = Duration::from_nanos(3),
            |t| t.lease = t.heartbeat,
            |t| t.drift_margin_milli = 0,
            |t| t.take_over = Duration::from_millis(535),
            |t| t.evict = Duration::from_millis(299),
            |t| t.stall = Duration::from_millis(399),
            |t| t.copies_max = 0,
            |t| t.learners_max = 0,
        ];
        for (i, break_it) in break_it.iter().enumerate() {
            let mut timers = Timers::default();
            break_it(&mut timers);
            assert_eq!(timers.check().unwrap_err().code, ErrorCode::ConfigInvalid, "rule {i}");
        }
    }
}
