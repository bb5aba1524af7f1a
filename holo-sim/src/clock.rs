//! A node's own clock: it starts anywhere and runs too fast or too slow, within bounds that the protocol allows.

use holo_core::Instant;

use crate::queue::Time;

/// Millionths in one: the rate of a perfect clock.
const PERFECT_PPM: u64 = 1_000_000;

/// How true time becomes a node's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    offset: u64,
    rate_ppm: u64,
}

impl NodeClock {
    /// A clock that shows `offset` nanoseconds at the start and runs at `rate_ppm` millionths of the true rate.
    pub(crate) fn new(offset: u64, rate_ppm: u64) -> Self {
        Self { offset, rate_ppm }
    }

    /// What it shows at `time`.
    pub(crate) fn at(&self, time: Time) -> Instant {
        Instant(self.offset + time * self.rate_ppm / PERFECT_PPM)
    }

    /// The first true time at which it shows `instant` or more; `None` for one beyond any run.
    pub(crate) fn when(&self, instant: Instant) -> Option<Time> {
        let elapsed = instant.0.saturating_sub(self.offset);
        elapsed.checked_mul(PERFECT_PPM).map(|scaled| scaled.div_ceil(self.rate_ppm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_at_its_time_and_not_before() {
        for rate in [950_000, 1_000_000, 1_050_000] {
            let clock = NodeClock::new(77_000, rate);
            for time in [0, 1, 999, 12_000_000_000] {
                let due = clock.at(time).after(std::time::Duration::from_micros(300));
                let when = clock.when(due).unwrap();
                assert!(clock.at(when) >= due && clock.at(when - 1) < due, "{rate} {time}");
            }
        }
        assert_eq!(NodeClock::new(0, 1_000_000).when(Instant(u64::MAX)), None);
    }
}
