//! What clients asked for and were told, by element.

use crate::linear::{self, Action, CALLS_MAX, Call, Verdict};
use crate::queue::Time;

/// Calls on one element that are given up.
const GIVEN_UP_MAX: u8 = 5;

/// An element of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Index of the group.
    pub(crate) group: usize,
    /// Index of the element in it.
    pub(crate) index: usize,
}

/// A call of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId {
    /// Where it acts.
    pub(crate) element: Element,
    at: usize,
}

/// The histories of a run.
#[derive(Debug)]
pub(crate) struct History {
    elements: usize,
    calls: Vec<Vec<Call>>,
    undecided: u64,
    /// By element: calls that were given up.
    given_up: Vec<u8>,
}

impl History {
    /// Empty histories.
    pub(crate) fn new(groups: usize, elements: usize) -> Self {
        let calls = vec![Vec::with_capacity(64); groups * elements];
        Self { elements, calls, undecided: 0, given_up: vec![0; groups * elements] }
    }

    /// Notes a call; `None` when the element's history is full.
    pub(crate) fn invoke(&mut self, at: Time, element: Element, action: Action) -> Option<CallId> {
        let calls = &mut self.calls[element.group * self.elements + element.index];
        if calls.len() >= CALLS_MAX {
            return None;
        }
        calls.push(Call { invoked: at, returned: None, action, seen: 0 });
        Some(CallId { element, at: calls.len() - 1 })
    }

    /// Notes the answer.
    pub(crate) fn answer(&mut self, at: Time, id: CallId, seen: u64) {
        let call = &mut self.calls[id.element.group * self.elements + id.element.index][id.at];
        call.returned = Some(at);
        call.seen = seen;
    }

    /// Whether a client may give a call on the element up. Each such call may have happened or not, at any time, so
    /// histories with many of them cannot be decided.
    pub(crate) fn may_give_up(&mut self, element: Element) -> bool {
        let given_up = &mut self.given_up[element.group * self.elements + element.index];
        let may = *given_up < GIVEN_UP_MAX;
        *given_up += u8::from(may);
        may
    }

    /// Notes that the call changed nothing and never will.
    pub(crate) fn refuse(&mut self, id: CallId) {
        // A read without an answer says nothing about any order.
        let call = &mut self.calls[id.element.group * self.elements + id.element.index][id.at];
        call.action = Action::Read;
    }

    /// The first element whose history has no explanation.
    pub(crate) fn check(&mut self) -> Option<Element> {
        for (at, calls) in self.calls.iter().enumerate() {
            match linear::check(calls) {
                Verdict::Linearizable => {}
                Verdict::Undecided => self.undecided += 1,
                Verdict::Violated => {
                    return Some(Element { group: at / self.elements, index: at % self.elements });
                }
            }
        }
        None
    }

    /// Elements that [`Self::check`] could not decide.
    pub(crate) fn undecided(&self) -> u64 {
        self.undecided
    }

    /// Calls that were answered.
    pub(crate) fn answered(&self) -> u64 {
        let answered = self.calls.iter().flatten().filter(|call| call.returned.is_some());
        answered.count() as u64
    }

    /// The calls on an element, for people.
    pub(crate) fn calls(&self, element: Element) -> &[Call] {
        &self.calls[element.group * self.elements + element.index]
    }
}
