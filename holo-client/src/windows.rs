//! Keys for requests that must take effect once. Pure: the driver opens sessions and waits.
//!
//! A node remembers the last 64 requests of a session, so none of ours may lie further behind the newest than that. A
//! request that hangs therefore stops its session, and the others go on in another one.

use std::collections::BTreeSet;
use std::time::Duration;

use holo_core::wire::RequestKeyBody;
use holo_core::{Instant, limits};

/// Sessions of one client: together as many requests as one connection takes, and a small part of those that a group
/// remembers.
pub(crate) const SESSIONS_MAX: usize = 16;
/// A session that was quiet for so long may have ended on the other side.
pub(crate) const SESSION_IDLE_MAX: Duration = Duration::from_secs(300);

/// The sessions of a client and what is unanswered in each.
///
/// # Invariants
///
/// 1. At most [`SESSIONS_MAX`] sessions, retired ones with unanswered requests not counted.
/// 2. The numbers given out in a session and not answered lie within [`limits::SESSION_WINDOW`] of each other.
/// 3. No key is given out twice.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    sessions: Vec<Window>,
    opening: bool,
}

#[derive(Debug)]
struct Window {
    session: u64,
    next: u64,
    unanswered: BTreeSet<u64>,
    used: Instant,
    retired: bool,
}

/// What a request that wants a key gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Its key.
    Key(RequestKeyBody),
    /// The asker has to open a session, then say [`Windows::opened`] and ask again.
    Open,
    /// Until a request is answered or a session opened.
    Wait,
}

impl Windows {
    /// A key for a new request; it counts as unanswered until [`Self::answered`].
    pub(crate) fn take(&mut self, now: Instant) -> Take {
        let is_over = |window: &Window| {
            window.unanswered.is_empty()
                && (window.retired || now.since(window.used) > SESSION_IDLE_MAX)
        };
        self.sessions.retain(|window| !is_over(window));
        let usable = |window: &&mut Window| {
            !window.retired && window.next - window.floor() < limits::SESSION_WINDOW
        };
        if let Some(window) = self.sessions.iter_mut().find(usable) {
            return Take::Key(window.take(now));
        }
        let open = self.sessions.iter().filter(|window| !window.retired).count();
        if self.opening || open >= SESSIONS_MAX {
            return Take::Wait;
        }
        self.opening = true;
        Take::Open
    }

    /// A session was opened, or could not be.
    pub(crate) fn opened(&mut self, session: Option<u64>, now: Instant) {
        self.opening = false;
        if let Some(session) = session {
            let unanswered = BTreeSet::new();
            self.sessions.push(Window { session, next: 1, unanswered, used: now, retired: false });
        }
    }

    /// A request ended: it was answered, or nobody waits for its answer any more.
    pub(crate) fn answered(&mut self, key: &RequestKeyBody, now: Instant) {
        if let Some(window) = self.window(key.session) {
            window.unanswered.remove(&key.number);
            window.used = now;
        }
    }

    /// Takes no more keys from a session that the other side may have forgotten.
    pub(crate) fn retire(&mut self, session: u64) {
        if let Some(window) = self.window(session) {
            window.retired = true;
        }
    }

    fn window(&mut self, session: u64) -> Option<&mut Window> {
        self.sessions.iter_mut().find(|window| window.session == session)
    }

    /// Panics unless the invariants hold.
    #[cfg(test)]
    fn assert_invariants(&self) {
        assert!(self.sessions.iter().filter(|window| !window.retired).count() <= SESSIONS_MAX);
        for window in &self.sessions {
            let span = window.unanswered.last().map_or(0, |last| last - window.floor());
            assert!(span < limits::SESSION_WINDOW, "{window:?}");
            assert!(window.unanswered.iter().all(|number| *number < window.next));
        }
    }
}

impl Window {
    /// The lowest unanswered number; the next one when all are answered.
    fn floor(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next)
    }

    fn take(&mut self, now: Instant) -> RequestKeyBody {
        let number = self.next;
        self.next += 1;
        self.used = now;
        self.unanswered.insert(number);
        RequestKeyBody { session: self.session, number, floor: self.floor() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1);

    fn with_session(session: u64) -> Windows {
        let mut windows = Windows::default();
        assert_eq!(windows.take(NOW), Take::Open);
        windows.opened(Some(session), NOW);
        windows
    }

    fn key(windows: &mut Windows) -> RequestKeyBody {
        let taken = windows.take(NOW);
        windows.assert_invariants();
        match taken {
            Take::Key(key) => key,
            other => panic!("{other:?} instead of a key"),
        }
    }

    #[test]
    fn numbers_count_from_one_and_the_floor_is_the_lowest_that_is_unanswered() {
        let mut windows = with_session(7);
        let (first, second, third) = (key(&mut windows), key(&mut windows), key(&mut windows));
        assert_eq!(first, RequestKeyBody { session: 7, number: 1, floor: 1 });
        assert_eq!((second.number, second.floor, third.number, third.floor), (2, 1, 3, 1));
        windows.answered(&second, NOW);
        assert_eq!(key(&mut windows).floor, 1, "the first still hangs");
        windows.answered(&first, NOW);
        assert_eq!(key(&mut windows), RequestKeyBody { session: 7, number: 5, floor: 3 });
    }

    #[test]
    fn one_opens_a_session_and_the_others_wait() {
        let mut windows = Windows::default();
        assert_eq!(windows.take(NOW), Take::Open);
        assert_eq!(windows.take(NOW), Take::Wait);
        windows.opened(None, NOW);
        assert_eq!(windows.take(NOW), Take::Open, "it failed: the next one tries");
        windows.opened(Some(1), NOW);
        assert_eq!(key(&mut windows).number, 1);
    }

    #[test]
    fn a_request_that_hangs_stops_its_session_and_another_is_opened() {
        let mut windows = with_session(1);
        let hangs = key(&mut windows);
        for _ in 1..limits::SESSION_WINDOW {
            let answered = key(&mut windows);
            windows.answered(&answered, NOW);
        }
        assert_eq!(windows.take(NOW), Take::Open, "64 behind the newest it would be forgotten");
        windows.opened(Some(2), NOW);
        assert_eq!(key(&mut windows).session, 2);
        windows.answered(&hangs, NOW);
        assert_eq!(key(&mut windows).session, 1);
    }

    #[test]
    fn sessions_are_bounded_and_room_appears_when_one_is_answered() {
        let mut windows = Windows::default();
        let mut keys = Vec::new();
        for session in 1..=SESSIONS_MAX as u64 {
            assert_eq!(windows.take(NOW), Take::Open);
            windows.opened(Some(session), NOW);
            keys.extend((0..limits::SESSION_WINDOW).map(|_| key(&mut windows)));
        }
        assert_eq!(windows.take(NOW), Take::Wait);
        windows.answered(&keys[5], NOW);
        assert_eq!(windows.take(NOW), Take::Wait, "the lowest is what counts");
        windows.answered(&keys[0], NOW);
        assert_eq!(key(&mut windows).session, 1);
    }

    #[test]
    fn a_quiet_or_forgotten_session_gives_no_more_keys() {
        let mut windows = with_session(1);
        let unanswered = key(&mut windows);
        let later = NOW.after(SESSION_IDLE_MAX * 2);
        windows.answered(&unanswered, later);
        assert!(matches!(windows.take(later), Take::Key(key) if key.session == 1));
        let mut windows = with_session(1);
        let answered = key(&mut windows);
        windows.answered(&answered, NOW);
        assert_eq!(windows.take(later), Take::Open, "nobody knows whether it still lives");
        let mut windows = with_session(1);
        let unanswered = key(&mut windows);
        windows.retire(1);
        assert_eq!(windows.take(NOW), Take::Open);
        windows.opened(Some(2), NOW);
        windows.answered(&unanswered, NOW);
        assert_eq!(key(&mut windows).session, 2);
    }
}
