//! Whether a peer hears us. A beat names the newest beat of its sender that was answered, so whoever answers sees whether
//! its answers arrive: a link may carry one direction only, and a primary that speaks and hears nothing serves nobody.

use std::time::Duration;

use crate::Instant;

/// Both sides of it, as one replica of the pair keeps them.
#[derive(Debug)]
pub(super) struct Echo {
    /// The send time of our newest beat that the peer has answered.
    answered: Instant,
    /// Of the beats that we answered: the newest whose answer the peer says to have.
    returned: Instant,
    /// When we first heard so, or began to wait for it.
    returned_at: Instant,
    /// When its last beat came.
    beaten_at: Instant,
}

impl Echo {
    /// Nothing was said yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { answered: Instant(0), returned: Instant(0), returned_at: now, beaten_at: Instant(0) }
    }

    /// What our beats say.
    pub(super) fn answered(&self) -> Instant {
        self.answered
    }

    /// The answer to a beat of ours has come.
    pub(super) fn on_ack(&mut self, sent_at: Instant) {
        self.answered = self.answered.max(sent_at);
    }

    /// A beat of the peer has come. An older version does not say what it hears, and is taken to hear everything.
    pub(super) fn on_beat(&mut self, now: Instant, answered: Option<Instant>) {
        if answered.is_none_or(|answered| answered > self.returned) {
            self.returned_at = now;
        }
        self.returned = self.returned.max(answered.unwrap_or_default());
        self.beaten_at = now;
    }

    /// After a pause of our own: we have answered nothing meanwhile.
    pub(super) fn forgive(&mut self, pause: Duration, now: Instant) {
        self.returned_at = self.returned_at.after(pause).min(now);
    }

    /// How much longer than `round`, which an answer and the next beat may take, the peer has gone on to beat as if we had
    /// said nothing; counted from `since` at the earliest, and nothing for one that does not beat.
    pub(super) fn deafness(&self, since: Instant, now: Instant, round: Duration) -> Duration {
        if now.since(self.beaten_at) > round {
            return Duration::ZERO;
        }
        now.since(self.returned_at.max(since)).saturating_sub(round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_nanos(200);

    fn deafness(echo: &Echo, now: u64) -> u64 {
        u64::try_from(echo.deafness(Instant(0), Instant(now), ROUND).as_nanos()).unwrap()
    }

    #[test]
    fn a_peer_that_has_our_answers_is_not_deaf_however_long_it_beats() {
        let mut echo = Echo::new(Instant(1000));
        for round in 0..100 {
            echo.on_beat(Instant(1000 + 100 * round), Some(Instant(50 * round)));
            assert_eq!(deafness(&echo, 1090 + 100 * round), 0);
        }
    }

    #[test]
    fn a_peer_that_beats_on_without_our_answers_is_deaf_from_the_last_that_it_had() {
        let mut echo = Echo::new(Instant(1000));
        for sent in 1..=9 {
            echo.on_beat(Instant(1000 + 100 * sent), Some(Instant(70)));
        }
        assert_eq!(deafness(&echo, 1900), 600, "800 without, 200 of them for the round");
        let since = Instant(1500);
        assert_eq!(echo.deafness(since, Instant(1900), ROUND), Duration::from_nanos(200));
        echo.on_beat(Instant(1950), Some(Instant(60)));
        assert_eq!(deafness(&echo, 1950), 650, "an old beat says nothing new");
        echo.on_beat(Instant(1960), Some(Instant(71)));
        assert_eq!(deafness(&echo, 1960), 0);
    }

    #[test]
    fn whoever_does_not_say_or_does_not_beat_is_not_deaf() {
        let mut echo = Echo::new(Instant(1000));
        for sent in 1..=9 {
            echo.on_beat(Instant(1000 + 100 * sent), None);
            assert_eq!(deafness(&echo, 1000 + 100 * sent), 0, "an older version");
        }
        echo.on_beat(Instant(5000), Some(Instant(0)));
        assert!(deafness(&echo, 5200) > 0);
        assert_eq!(deafness(&echo, 5201), 0, "it is silent, which is another matter");
    }

    #[test]
    fn a_pause_of_ours_makes_nobody_deaf() {
        let mut echo = Echo::new(Instant(1000));
        echo.on_beat(Instant(1100), Some(Instant(70)));
        echo.on_beat(Instant(9000), Some(Instant(70)));
        echo.forgive(Duration::from_nanos(7850), Instant(9010));
        assert_eq!(deafness(&echo, 9010), 0);
        assert_eq!(deafness(&echo, 9160), 10);
    }

    #[test]
    fn the_newest_answer_is_what_beats_name() {
        let mut echo = Echo::new(Instant(1000));
        assert_eq!(echo.answered(), Instant(0));
        echo.on_ack(Instant(30));
        echo.on_ack(Instant(20));
        assert_eq!(echo.answered(), Instant(30));
    }
}
