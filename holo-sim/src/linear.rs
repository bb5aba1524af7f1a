//! Whether a history of calls on one element could have happened one call at a time.
//!
//! The search of Wing and Gong with Lowe's memo: a state is the set of calls that have taken effect and the value
//! after them. A call that was never answered may take effect at any time after it was made, or never.

use std::collections::BTreeSet;

use crate::queue::Time;

/// Calls of one history.
pub const CALLS_MAX: usize = 128;

/// States that a search looks at before it gives up.
const STATES_MAX: usize = 50_000;

/// One call of a client on one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// When the client made it.
    pub invoked: Time,
    /// When the answer reached the client; `None` when none did.
    pub returned: Option<Time>,
    /// What it does.
    pub action: Action,
    /// What the answer said the element held before; meaningless without an answer.
    pub seen: u64,
}

/// What a call does with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks at it.
    Read,
    /// Puts a value in its place; answers what was there.
    Write(u64),
    /// Adds, wrapping; answers what was there.
    Add(u64),
    /// Puts `new` there if it holds `expected`; answers what was there.
    CompareExchange {
        /// What it must hold.
        expected: u64,
        /// What it holds then.
        new: u64,
    },
}

impl Action {
    /// The element's value after the action on `value`.
    pub fn apply(self, value: u64) -> u64 {
        match self {
            Self::Read => value,
            Self::Write(new) => new,
            Self::Add(delta) => value.wrapping_add(delta),
            Self::CompareExchange { expected, new } if expected == value => new,
            Self::CompareExchange { .. } => value,
        }
    }
}

/// What is known about a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains it.
    Linearizable,
    /// There is none.
    Violated,
    /// The search was given up.
    Undecided,
}

/// Looks for an order of `calls` on an element that held 0 first.
///
/// # Panics
///
/// With more than [`CALLS_MAX`] calls.
pub fn check(calls: &[Call]) -> Verdict {
    let mut calls: Vec<Call> = calls
        .iter()
        .filter(|call| call.returned.is_some() || call.action != Action::Read)
        .copied()
        .collect();
    assert!(calls.len() <= CALLS_MAX, "the history has {} calls", calls.len());
    calls.sort_by_key(|call| call.invoked);
    Search { calls: &calls, seen: BTreeSet::new(), open: vec![State { done: 0, value: 0 }] }.run()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    done: u128,
    value: u64,
}

impl State {
    fn has(self, index: usize) -> bool {
        self.done >> index & 1 == 1
    }

    fn with(self, index: usize, call: &Call) -> Self {
        Self { done: self.done | 1 << index, value: call.action.apply(self.value) }
    }
}

struct Search<'a> {
    /// In the order of their invocation.
    calls: &'a [Call],
    seen: BTreeSet<State>,
    open: Vec<State>,
}

impl<'a> Search<'a> {
    fn run(mut self) -> Verdict {
        while let Some(state) = self.open.pop() {
            let state = self.take_what_changes_nothing(state);
            let Some(limit) = self.earliest_return(state) else { return Verdict::Linearizable };
            if self.seen.len() >= STATES_MAX {
                return Verdict::Undecided;
            }
            // What is put in last is looked at first: the earliest answered call. An unanswered one is the last resort.
            for is_answered in [false, true] {
                let from = self.open.len();
                for (index, call) in self.candidates(state, limit) {
                    let next = state.with(index, &call);
                    if call.returned.is_some() == is_answered && self.seen.insert(next) {
                        self.open.push(next);
                    }
                }
                self.open[from..].reverse();
            }
        }
        Verdict::Violated
    }

    /// An answered call that fits and leaves the value as it is can take effect at once: what it saw is fixed, so it would
    /// leave the value as it is wherever it fits, and no later order is lost.
    fn take_what_changes_nothing(&self, mut state: State) -> State {
        while let Some(limit) = self.earliest_return(state) {
            let quiet = |(_, call): &(usize, Call)| {
                call.returned.is_some() && call.action.apply(state.value) == state.value
            };
            let Some((index, call)) = self.candidates(state, limit).find(quiet) else { break };
            state = state.with(index, &call);
        }
        state
    }

    /// When the first of the answered calls that are not done was answered; `None` when all are done.
    fn earliest_return(&self, state: State) -> Option<Time> {
        let first = usize::try_from(state.done.trailing_ones()).unwrap_or(CALLS_MAX);
        let mut earliest = None;
        for (index, call) in self.calls.iter().enumerate().skip(first) {
            if earliest.is_some_and(|earliest| call.invoked > earliest) {
                break;
            }
            if let Some(returned) = call.returned
                && !state.has(index)
                && earliest.is_none_or(|earliest| returned < earliest)
            {
                earliest = Some(returned);
            }
        }
        earliest
    }

    /// The calls that may be next: made before any other of the missing ones was answered, and their answer fits.
    fn candidates(
        &self,
        state: State,
        limit: Time,
    ) -> impl Iterator<Item = (usize, Call)> + use<'a> {
        let calls = self.calls;
        let first = usize::try_from(state.done.trailing_ones()).unwrap_or(CALLS_MAX);
        let made = move |(_, call): &(usize, &Call)| call.invoked <= limit;
        calls.iter().enumerate().skip(first).take_while(made).filter_map(move |(index, call)| {
            let fits = call.returned.is_none() || call.seen == state.value;
            (!state.has(index) && fits).then_some((index, *call))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(invoked: Time, returned: Time, action: Action, seen: u64) -> Call {
        Call { invoked, returned: (returned > 0).then_some(returned), action, seen }
    }

    fn read(invoked: Time, returned: Time, seen: u64) -> Call {
        call(invoked, returned, Action::Read, seen)
    }

    fn write(invoked: Time, returned: Time, value: u64, seen: u64) -> Call {
        call(invoked, returned, Action::Write(value), seen)
    }

    #[test]
    fn calls_one_after_the_other_must_see_each_other() {
        assert_eq!(check(&[write(1, 2, 7, 0), read(3, 4, 7)]), Verdict::Linearizable);
        assert_eq!(check(&[write(1, 2, 7, 0), read(3, 4, 0)]), Verdict::Violated);
        assert_eq!(check(&[]), Verdict::Linearizable);
    }

    #[test]
    fn a_read_beside_a_write_may_see_either_but_not_go_back() {
        let beside =
            |first, second| check(&[write(1, 9, 7, 0), read(2, 3, first), read(4, 5, second)]);
        assert_eq!(beside(0, 7), Verdict::Linearizable);
        assert_eq!(beside(7, 7), Verdict::Linearizable);
        assert_eq!(beside(7, 0), Verdict::Violated);
    }

    #[test]
    fn an_unanswered_write_may_have_happened_at_any_time_or_never() {
        let late = |seen| check(&[write(1, 0, 7, 0), read(2, 3, 0), read(8, 9, seen)]);
        assert_eq!(late(0), Verdict::Linearizable);
        assert_eq!(late(7), Verdict::Linearizable);
        assert_eq!(late(8), Verdict::Violated);
    }

    #[test]
    fn a_write_shows_what_it_replaced() {
        let both = |first, second| check(&[write(1, 9, 7, first), write(1, 9, 8, second)]);
        assert_eq!(both(0, 7), Verdict::Linearizable);
        assert_eq!(both(8, 0), Verdict::Linearizable);
        assert_eq!(both(0, 0), Verdict::Violated);
    }

    #[test]
    fn an_addition_that_happened_twice_is_found() {
        let add = |at, seen| call(at, at + 1, Action::Add(5), seen);
        assert_eq!(check(&[add(1, 0), add(3, 5), read(5, 6, 10)]), Verdict::Linearizable);
        assert_eq!(check(&[add(1, 0), add(3, 5), read(5, 6, 15)]), Verdict::Violated);
        assert_eq!(check(&[add(1, 0), add(1, 0)]), Verdict::Violated);
    }

    #[test]
    fn an_exchange_needs_its_expectation() {
        let exchange =
            |at, seen| call(at, at + 1, Action::CompareExchange { expected: 0, new: 4 }, seen);
        assert_eq!(check(&[exchange(1, 0), exchange(3, 4), read(5, 6, 4)]), Verdict::Linearizable);
        assert_eq!(check(&[exchange(1, 0), exchange(3, 0)]), Verdict::Violated);
    }

    #[test]
    fn many_calls_at_once_are_decided() {
        let adds: Vec<Call> = (0..10).map(|i| call(1, 99, Action::Add(1), i)).collect();
        assert_eq!(check(&adds), Verdict::Linearizable);
        let mut lost = adds;
        lost[9].seen = 8;
        assert_eq!(check(&lost), Verdict::Violated);
    }

    #[test]
    fn unanswered_calls_explain_values_only_once() {
        let open = call(1, 0, Action::Add(5), 0);
        assert_eq!(check(&[open, read(2, 3, 5)]), Verdict::Linearizable);
        assert_eq!(check(&[open, read(2, 3, 10)]), Verdict::Violated);
        assert_eq!(check(&[open, open, read(2, 3, 10)]), Verdict::Linearizable);
    }
}
