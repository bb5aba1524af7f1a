//! Which requests a group has executed, and what it answered: what makes an operation happen once.
//!
//! Every replica asks the same questions in the order of the log, so all come to the same answers. Nothing here
//! depends on time: sessions expire by a watermark that travels in the entries.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::messages::{RequestKey, SessionId};
use super::mutant::Mutant;
use crate::{ErrorCode, Failure, limits};

/// The answered requests of all sessions of one group, as of one place in its log.
///
/// # Invariants
///
/// 1. At most [`limits::GROUP_SESSIONS_MAX`] sessions, none of them expired.
/// 2. Numbers of a session lie between its floor and its highest, within [`limits::SESSION_WINDOW`].
/// 3. At most [`limits::GROUP_ANSWERS_MAX`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionWindows {
    expired_below: SessionId,
    sessions: BTreeMap<SessionId, SessionWindow>,
    answers: usize,
}

/// One session's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionWindow {
    /// Lower numbers have been answered and forgotten.
    pub floor: u64,
    /// The highest number seen.
    pub highest: u64,
    /// The numbers seen and their answers.
    pub answers: BTreeMap<u64, Answer>,
}

/// The remembered end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has its place in the order and no end yet; never in a snapshot.
    Running,
    /// It was done, with this result.
    Done(Outcome),
    /// It was refused with this code and changed nothing.
    Refused(ErrorCode),
}

/// Up to [`limits::OUTCOME_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    len: u8,
    bytes: [u8; limits::OUTCOME_BYTES_MAX],
}

/// What becomes of a request at its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is new.
    Execute,
    /// An earlier entry is the same request.
    Seen,
    /// It lies beyond the window or its session: nobody knows any more whether it was executed.
    Beyond,
    /// There is no room to remember it: it is not executed.
    NoRoom,
}

impl SessionWindows {
    /// Rebuilds windows that came from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when an invariant is broken.
    pub fn from_parts(
        expired_below: SessionId,
        sessions: BTreeMap<SessionId, SessionWindow>,
    ) -> Result<Self, Failure> {
        let answers = sessions.values().map(|window| window.answers.len()).sum();
        let windows = Self { expired_below, sessions, answers };
        if windows.is_sound() && !windows.is_running() {
            Ok(windows)
        } else {
            Err(Failure::new(ErrorCode::Malformed, "windows of answered requests"))
        }
    }

    /// Takes the request of the next entry, and notes it when it is new.
    pub(super) fn decide(
        &mut self,
        key: &RequestKey,
        expired_below: SessionId,
        mutant: Mutant,
    ) -> Decision {
        self.expire(expired_below);
        if key.session < self.expired_below && mutant != Mutant::ExecuteExpiredSession {
            return Decision::Beyond;
        }
        if !self.sessions.contains_key(&key.session)
            && self.sessions.len() >= limits::GROUP_SESSIONS_MAX
        {
            return Decision::NoRoom;
        }
        let window = self.sessions.entry(key.session).or_default();
        let before = window.answers.len();
        window.raise_floor(key.floor);
        self.answers -= before - window.answers.len();
        if window.is_beyond(key.number) {
            return match mutant {
                Mutant::ExecuteBeyondWindow => Decision::Execute,
                _ => Decision::Beyond,
            };
        }
        if window.answers.contains_key(&key.number) {
            return Decision::Seen;
        }
        if self.answers >= limits::GROUP_ANSWERS_MAX {
            return Decision::NoRoom;
        }
        let before = window.answers.len();
        window.note(key.number);
        self.answers = self.answers + window.answers.len() - before;
        Decision::Execute
    }

    /// Notes how a request that was decided to be executed has ended.
    pub(super) fn record(&mut self, key: &RequestKey, answer: Answer) {
        let window = self.sessions.get_mut(&key.session);
        if let Some(slot) = window.and_then(|window| window.answers.get_mut(&key.number)) {
            *slot = answer;
        }
    }

    /// Forgets the sessions below `below`.
    pub(super) fn expire(&mut self, below: SessionId) {
        if below <= self.expired_below {
            return;
        }
        self.expired_below = below;
        self.sessions = self.sessions.split_off(&below);
        self.answers = self.sessions.values().map(|window| window.answers.len()).sum();
    }

    /// What is remembered of a request; `None` for nothing.
    pub(super) fn answer(&self, key: &RequestKey) -> Option<Answer> {
        self.sessions.get(&key.session)?.answers.get(&key.number).copied()
    }

    /// Whether nobody can know any more if the request was executed.
    pub(super) fn is_beyond(&self, key: &RequestKey) -> bool {
        key.session < self.expired_below
            || self.sessions.get(&key.session).is_some_and(|window| window.is_beyond(key.number))
    }

    /// Whether a new request of this session would find no room.
    pub(super) fn is_full_for(&self, session: SessionId) -> bool {
        self.answers >= limits::GROUP_ANSWERS_MAX
            || (self.sessions.len() >= limits::GROUP_SESSIONS_MAX
                && !self.sessions.contains_key(&session))
    }

    /// Sessions below this one have expired.
    pub fn expired_below(&self) -> SessionId {
        self.expired_below
    }

    /// The windows of the sessions that live.
    pub fn sessions(&self) -> &BTreeMap<SessionId, SessionWindow> {
        &self.sessions
    }

    /// Whether the invariants hold.
    pub(super) fn is_sound(&self) -> bool {
        let counted: usize = self.sessions.values().map(|window| window.answers.len()).sum();
        self.sessions.len() <= limits::GROUP_SESSIONS_MAX
            && counted == self.answers
            && self.answers <= limits::GROUP_ANSWERS_MAX
            && self.sessions.iter().all(|(id, window)| {
                let within = |number: &u64| *number <= window.highest && !window.is_beyond(*number);
                *id >= self.expired_below && window.answers.keys().all(within)
            })
    }

    fn is_running(&self) -> bool {
        let mut answers = self.sessions.values().flat_map(|window| window.answers.values());
        answers.any(|answer| *answer == Answer::Running)
    }
}

impl SessionWindow {
    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            while self.answers.first_key_value().is_some_and(|(number, _)| *number < floor) {
                self.answers.pop_first();
            }
        }
    }

    fn is_beyond(&self, number: u64) -> bool {
        number < self.floor || self.highest.saturating_sub(number) >= limits::SESSION_WINDOW
    }

    fn note(&mut self, number: u64) {
        self.highest = self.highest.max(number);
        self.answers.insert(number, Answer::Running);
        let lowest = self.highest.saturating_sub(limits::SESSION_WINDOW - 1);
        if self.answers.first_key_value().is_some_and(|(first, _)| *first < lowest) {
            self.answers = self.answers.split_off(&lowest);
        }
    }
}

impl Outcome {
    /// The bytes, when there are not too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok()?;
        let mut outcome = Self { len, bytes: [0; limits::OUTCOME_BYTES_MAX] };
        outcome.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(outcome)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Answer {
    /// What to remember of an outcome.
    pub(super) fn of(outcome: &Result<Bytes, Failure>) -> Self {
        match outcome {
            Ok(bytes) => Outcome::new(bytes).map_or(Self::Refused(ErrorCode::Internal), Self::Done),
            Err(failure) => Self::Refused(failure.code),
        }
    }

    /// What a client that asks again hears; `None` while it runs.
    pub(super) fn outcome(self) -> Option<Result<Bytes, Failure>> {
        match self {
            Self::Running => None,
            Self::Done(outcome) => Some(Ok(Bytes::copy_from_slice(outcome.as_slice()))),
            Self::Refused(code) => {
                let message = format!("the request was refused before: {}", code.title());
                Some(Err(Failure::new(code, message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: u64, number: u64, floor: u64) -> RequestKey {
        RequestKey { session: SessionId(session), number, floor }
    }

    fn decide(windows: &mut SessionWindows, key: RequestKey) -> Decision {
        let decision = windows.decide(&key, SessionId(0), Mutant::None);
        assert!(windows.is_sound(), "{windows:?}");
        decision
    }

    #[test]
    fn a_request_is_executed_once_and_its_answer_is_kept() {
        let mut windows = SessionWindows::default();
        assert_eq!(decide(&mut windows, key(1, 1, 1)), Decision::Execute);
        windows.record(&key(1, 1, 1), Answer::of(&Ok(Bytes::from_static(b"old"))));
        assert_eq!(decide(&mut windows, key(1, 1, 1)), Decision::Seen);
        let answer = windows.answer(&key(1, 1, 1)).and_then(Answer::outcome);
        assert_eq!(answer, Some(Ok(Bytes::from_static(b"old"))));
        assert_eq!(decide(&mut windows, key(2, 1, 1)), Decision::Execute, "another session");
    }

    #[test]
    fn below_the_floor_and_beyond_the_window_nothing_is_executed_again() {
        let mut windows = SessionWindows::default();
        for number in 1..=3 {
            assert_eq!(decide(&mut windows, key(1, number, 1)), Decision::Execute);
        }
        assert_eq!(decide(&mut windows, key(1, 4, 3)), Decision::Execute);
        assert_eq!(decide(&mut windows, key(1, 2, 1)), Decision::Beyond, "its floor was raised");
        assert_eq!(decide(&mut windows, key(1, 3, 1)), Decision::Seen);
        assert_eq!(decide(&mut windows, key(1, 67, 3)), Decision::Execute);
        assert_eq!(decide(&mut windows, key(1, 3, 3)), Decision::Beyond, "64 behind the newest");
        assert_eq!(decide(&mut windows, key(1, 4, 3)), Decision::Seen);
        assert_eq!(decide(&mut windows, key(1, u64::MAX, 3)), Decision::Execute);
        assert_eq!(decide(&mut windows, key(1, 68, 3)), Decision::Beyond);
    }

    #[test]
    fn an_expired_session_is_never_executed_again() {
        let mut windows = SessionWindows::default();
        assert_eq!(decide(&mut windows, key(4, 1, 1)), Decision::Execute);
        assert_eq!(decide(&mut windows, key(5, 1, 1)), Decision::Execute);
        let late = windows.decide(&key(4, 1, 1), SessionId(5), Mutant::None);
        assert_eq!(late, Decision::Beyond);
        assert_eq!(decide(&mut windows, key(4, 2, 1)), Decision::Beyond, "the watermark stays");
        assert_eq!(decide(&mut windows, key(5, 1, 1)), Decision::Seen);
    }

    #[test]
    fn sessions_and_answers_are_bounded_and_nothing_is_forgotten_for_want_of_room() {
        let mut windows = SessionWindows::default();
        for session in 0..limits::GROUP_SESSIONS_MAX as u64 {
            assert_eq!(decide(&mut windows, key(session, 1, 1)), Decision::Execute);
        }
        assert!(windows.is_full_for(SessionId(u64::MAX)));
        assert_eq!(decide(&mut windows, key(u64::MAX, 1, 1)), Decision::NoRoom);
        assert_eq!(decide(&mut windows, key(0, 1, 1)), Decision::Seen);
        let mut windows = SessionWindows::default();
        for n in 0..limits::GROUP_ANSWERS_MAX as u64 {
            let one = key(n / limits::SESSION_WINDOW, n % limits::SESSION_WINDOW, 0);
            assert_eq!(windows.decide(&one, SessionId(0), Mutant::None), Decision::Execute);
        }
        assert_eq!(decide(&mut windows, key(900, 1, 1)), Decision::NoRoom);
        assert_eq!(decide(&mut windows, key(0, 64, 64)), Decision::Execute, "its floor made room");
    }

    #[test]
    fn windows_from_outside_are_checked() {
        let window = |floor, highest, numbers: &[u64]| SessionWindow {
            floor,
            highest,
            answers: numbers.iter().map(|n| (*n, Answer::Done(Outcome::default()))).collect(),
        };
        let build = |window| {
            SessionWindows::from_parts(SessionId(2), BTreeMap::from([(SessionId(3), window)]))
        };
        assert!(build(window(1, 70, &[7, 70])).is_ok());
        for bad in [window(8, 70, &[7]), window(0, 70, &[6]), window(0, 70, &[71])] {
            assert_eq!(build(bad).unwrap_err().code, ErrorCode::Malformed);
        }
        let mut running = window(0, 1, &[]);
        running.answers.insert(1, Answer::Running);
        assert_eq!(build(running).unwrap_err().code, ErrorCode::Malformed);
        let expired = BTreeMap::from([(SessionId(1), window(0, 0, &[]))]);
        assert!(SessionWindows::from_parts(SessionId(2), expired).is_err());
    }
}
