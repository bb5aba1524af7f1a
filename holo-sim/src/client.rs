//! Clients: they call, wait, ask again with the same request, and at times give up.

use holo_core::replication::{RequestKey, SessionId};

use crate::env::Env;
use crate::history::{CallId, Element};
use crate::linear::Action;
use crate::network::{End, MILLISECOND};
use crate::packet::{Event, Outcome, Packet, Request};
use crate::queue::Time;
use crate::rng::Rng;

/// A program that uses the cluster.
#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    rng: Rng,
    session: SessionId,
    /// The next number of a request in the session.
    next_number: u64,
    /// Calls so far.
    calls: u64,
    /// Calls that it still wants to make.
    left: usize,
    next_call_at: Time,
    pending: Vec<Pending>,
    /// By group: the node that it takes for the primary.
    guesses: Vec<usize>,
    /// When the earliest timer in the queue goes off.
    armed: Time,
    /// Elements that it will read at the very end.
    last_looks: Vec<Element>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: CallId,
    request: Request,
    since: Time,
    sent_at: Time,
    /// The last try was answered: where to go next is known.
    was_told: bool,
}

impl Client {
    /// A client with a fresh session.
    pub(crate) fn new(env: &mut Env, index: usize) -> Self {
        let left = env.scenario.workload.calls / env.scenario.workload.clients;
        let mut rng = env.rng.fork();
        Self {
            index,
            session: new_session(env),
            next_number: 1,
            calls: 0,
            left,
            next_call_at: rng.below(100 * MILLISECOND),
            pending: Vec::with_capacity(8),
            guesses: vec![0; env.groups.len()],
            armed: Time::MAX,
            last_looks: Vec::new(),
            rng,
        }
    }

    /// Its session.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Whether it has had all its answers and wants nothing more.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.pending.is_empty() && self.last_looks.is_empty()
    }

    /// What it still waits for, for people.
    pub(crate) fn pending_groups(&self) -> impl Iterator<Item = usize> {
        self.pending.iter().map(|pending| pending.request.element.group)
    }

    /// Faults are over: only a few calls more.
    pub(crate) fn come_to_an_end(&mut self, env: &mut Env) {
        self.left = self.left.min(4);
        self.next_call_at = self.next_call_at.min(env.now + 50 * MILLISECOND);
        self.arm(env, env.now);
    }

    /// All is quiet: read every element once more.
    pub(crate) fn take_last_looks(&mut self, env: &mut Env, elements: Vec<Element>) {
        self.last_looks = elements;
        self.arm(env, env.now);
    }

    /// Forgets calls on groups that are lost.
    pub(crate) fn forget_lost(&mut self, is_lost: impl Fn(usize) -> bool) {
        self.pending.retain(|pending| !is_lost(pending.request.element.group));
        self.last_looks.retain(|element| !is_lost(element.group));
    }

    /// Looks at its calls.
    pub(crate) fn timer(&mut self, env: &mut Env) {
        if env.now >= self.armed {
            self.armed = Time::MAX;
        }
        self.give_up(env);
        self.ask_again(env);
        let depth = env.scenario.workload.depth;
        while self.pending.len() < depth && env.now >= self.next_call_at && self.left > 0 {
            self.left -= 1;
            self.next_call_at = env.now + self.rng.below(env.scenario.workload.think + 1);
            let element = Element {
                group: self.rng.index(env.groups.len()),
                index: self.rng.index(env.scenario.elements),
            };
            let action = self.draw_action(env);
            self.call(env, element, action);
        }
        while let Some(element) = self.last_looks.pop() {
            self.call(env, element, Action::Read);
        }
        self.arm_next(env);
    }

    /// Takes an answer.
    pub(crate) fn deliver(&mut self, env: &mut Env, request: &Request, outcome: Outcome) {
        let Some(at) = self.pending.iter().position(|it| it.request.call == request.call) else {
            return;
        };
        let (id, group) = (self.pending[at].id, request.element.group);
        let index = self.index;
        env.say(|| {
            format!("client {index}: call {} {:?}: {outcome:?}", request.call, request.action)
        });
        self.pending[at].was_told = true;
        match outcome {
            Outcome::Done(seen) => {
                env.history.answer(env.now, id, seen);
                self.pending.swap_remove(at);
            }
            Outcome::Refused => {
                env.history.refuse(id);
                self.pending.swap_remove(at);
            }
            Outcome::Unknown => {
                self.pending.swap_remove(at);
                // Its session may be over; a new one is never wrong.
                self.session = new_session(env);
                self.next_number = 1;
            }
            Outcome::Lost => {
                self.pending.swap_remove(at);
            }
            Outcome::Elsewhere(hint) => {
                let guess = hint.unwrap_or_else(|| self.guess(env, group));
                self.guesses[group] = guess;
                // At once, unless it was sent about in a circle.
                let soon = if self.rng.chance(800) { MILLISECOND } else { 30 * MILLISECOND };
                self.pending[at].sent_at =
                    (env.now + soon).saturating_sub(env.scenario.workload.retry);
            }
            Outcome::Later => {
                let pause = 20 * MILLISECOND + self.rng.below(20 * MILLISECOND);
                self.pending[at].sent_at =
                    (env.now + pause).saturating_sub(env.scenario.workload.retry);
            }
        }
        self.arm_next(env);
    }

    /// A node to try: by the newest table, or any.
    fn guess(&mut self, env: &Env, group: usize) -> usize {
        let nodes = env.scenario.members + env.scenario.spares;
        if self.rng.chance(600) { env.leaders[group] } else { self.rng.index(nodes) }
    }

    fn call(&mut self, env: &mut Env, element: Element, action: Action) {
        let Some(id) = env.history.invoke(env.now, element, action) else { return };
        self.calls += 1;
        let mut number = 0;
        if action != Action::Read {
            let step = self.rng.between(1, env.scenario.workload.number_step);
            number = self.next_number;
            self.next_number += step;
        }
        let bulk = matches!(action, Action::Write(_))
            && self.rng.chance(env.scenario.workload.bulk_per_mille);
        let key = RequestKey { session: self.session, number, floor: number };
        let request = Request {
            client: self.index,
            call: self.calls,
            key,
            element,
            action,
            is_bulk: bulk,
            payload: None,
        };
        let since = env.now;
        self.pending.push(Pending { id, request, since, sent_at: 0, was_told: false });
        self.send(env, self.pending.len() - 1);
    }

    fn send(&mut self, env: &mut Env, at: usize) {
        let mut request = self.pending[at].request;
        self.pending[at].sent_at = env.now;
        self.pending[at].was_told = false;
        let same_session = self
            .pending
            .iter()
            .filter(|it| it.request.key.session == request.key.session)
            .filter(|it| it.request.action != Action::Read);
        let lowest = same_session.map(|it| it.request.key.number).min();
        request.key.floor = lowest.unwrap_or(0).min(request.key.number);
        let node = self.guesses[request.element.group];
        let (index, call) = (self.index, request.call);
        env.say(|| {
            format!(
                "client {index}: call {call} {:?} on {:?} by {:?} to node {}",
                request.action,
                request.element,
                request.key,
                node + 1
            )
        });
        env.send(End::Client(self.index), End::Node(node), Packet::Request(request));
    }

    fn ask_again(&mut self, env: &mut Env) {
        for at in 0..self.pending.len() {
            let pending = &self.pending[at];
            if env.now >= pending.sent_at + env.scenario.workload.retry {
                let group = pending.request.element.group;
                if !pending.was_told && self.rng.chance(400) {
                    self.guesses[group] = self.guess(env, group);
                }
                self.send(env, at);
            }
        }
    }

    fn give_up(&mut self, env: &mut Env) {
        let patience = env.scenario.workload.patience;
        let (now, index) = (env.now, self.index);
        if env.healed {
            return;
        }
        self.pending.retain(|pending| {
            let stays = now < pending.since + patience
                || !(pending.request.action == Action::Read
                    || env.history.may_give_up(pending.id.element));
            if !stays {
                env.say(|| format!("client {index}: gives call {} up", pending.request.call));
            }
            stays
        });
    }

    fn draw_action(&mut self, env: &Env) -> Action {
        if self.rng.chance(env.scenario.workload.read_per_mille) {
            return Action::Read;
        }
        match self.rng.below(10) {
            0..=3 => Action::Write(self.rng.between(1, 1 << 40)),
            4..=8 => Action::Add(self.rng.between(1, 1_000)),
            _ => Action::CompareExchange {
                expected: if self.rng.chance(500) { 0 } else { self.rng.below(1_000) },
                new: self.rng.between(1, 1 << 30),
            },
        }
    }

    fn arm_next(&mut self, env: &mut Env) {
        let workload = &env.scenario.workload;
        let mut next = Time::MAX;
        for pending in &self.pending {
            next = next.min(pending.sent_at + workload.retry);
            let patience_ends = pending.since + workload.patience;
            if !env.healed && patience_ends > env.now {
                next = next.min(patience_ends);
            }
        }
        if self.left > 0 && self.pending.len() < workload.depth {
            next = next.min(self.next_call_at);
        }
        if next < Time::MAX {
            self.arm(env, next);
        }
    }

    fn arm(&mut self, env: &mut Env, at: Time) {
        let at = at.max(env.now + 1);
        if at < self.armed {
            self.armed = at;
            env.queue.push(at, Event::ClientTimer { client: self.index });
        }
    }
}

fn new_session(env: &mut Env) -> SessionId {
    let session = SessionId(env.next_session);
    env.next_session += 1;
    session
}
