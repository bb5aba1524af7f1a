//! One life of a node: its machine, and the driver that carries out what the machine wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holo_core::group::{Seq, Ticket};
use holo_core::replication::{
    GroupId, Host, Input, LogPosition, Message, Output, Payload, PayloadId, ReadGate, ReplicaId,
    Role, SnapshotId,
};
use holo_core::{Epoch, ErrorCode, Failure, Instant};

use crate::catalog::News;
use crate::clock::NodeClock;
use crate::env::{Acknowledged, Env, Overheard, node_index};
use crate::linear::Action;
use crate::network::{End, MICROSECOND, MILLISECOND, NODES_MAX};
use crate::node::TIMER_SLACK;
use crate::operation;
use crate::packet::{Bulk, Event, Frozen, Job, Outcome, Packet, ReadUnderWay, Request, ToCatalog};
use crate::queue::Time;
use crate::scenario::Flavor;
use crate::store::{FETCH_TRIES, Fetch, Staged, Store, Waiting};
use crate::watch::{Applied, Invariant};

/// Bytes that a payload weighs; the machine only counts them.
const PAYLOAD_BYTES: u64 = 64 << 10;

/// A replica with its driver.
#[derive(Debug)]
pub(crate) struct Life {
    index: usize,
    me: ReplicaId,
    clock: NodeClock,
    host: Host,
    stores: Vec<Store>,
    /// News of the catalog that are known here.
    known_news: usize,
    /// When the earliest timer in the queue goes off.
    armed: Time,
    payloads: u64,
    tickets: u64,
    waiting: BTreeMap<Ticket, Request>,
}

impl Life {
    /// A driver around a machine that holds nothing.
    pub(crate) fn new(env: &Env, index: usize, clock: NodeClock, host: Host) -> Self {
        let elements = env.scenario.elements;
        Self {
            index,
            me: host.me(),
            clock,
            host,
            stores: env.groups.iter().map(|_| Store::new(elements)).collect(),
            known_news: 0,
            armed: Time::MAX,
            payloads: 0,
            tickets: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// The replica.
    pub(crate) fn me(&self) -> ReplicaId {
        self.me
    }

    /// Its machine.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Its data of a group.
    pub(crate) fn store(&self, group: usize) -> &Store {
        &self.stores[group]
    }

    /// News of the catalog that it knows.
    pub(crate) fn known_news(&self) -> usize {
        self.known_news
    }

    /// Hands an input to the machine and carries out what follows.
    pub(crate) fn input(&mut self, env: &mut Env, input: Input) {
        if let Input::Message { message, .. } = &input {
            self.touch_groups(env, message);
        }
        // What a machine refuses has changed nothing; the sender tries again or is no friend.
        if let Err(failure) = self.host.handle_input(self.clock.at(env.now), input) {
            let me = self.me;
            env.say(|| format!("{me} refuses: {failure}"));
        }
        self.settle(env);
    }

    /// The machine's timer may be due.
    pub(crate) fn timer(&mut self, env: &mut Env) {
        if env.now >= self.armed {
            self.armed = Time::MAX;
        }
        let now = self.clock.at(env.now);
        if self.host.poll_timeout().is_some_and(|due| due <= now) {
            self.host.handle_timeout(now);
            env.touched = u32::MAX;
        }
        self.settle(env);
    }

    /// News from the catalog, up to the one before `known`.
    pub(crate) fn on_news(&mut self, env: &mut Env, feed: &[News], known: usize) {
        while self.known_news < known.min(feed.len()) {
            let news = &feed[self.known_news];
            self.known_news += 1;
            let input = match news {
                News::Config { group, claim } => {
                    let is_mine = claim.config.names(self.me.node);
                    if !is_mine && self.host.config(env.groups[*group]).is_none() {
                        continue;
                    }
                    env.touch(*group);
                    Input::Config(claim.clone())
                }
                News::Living(living) => Input::Living(living.clone()),
                News::Targets(targets) => Input::Targets(targets.clone()),
                News::Expired(below) => Input::ExpireSessions { below: *below },
            };
            self.input(env, input);
        }
    }

    /// A client's request.
    pub(crate) fn on_request(&mut self, env: &mut Env, mut request: Request, has_room: bool) {
        let group = request.element.group;
        if request.action == Action::Read {
            self.begin_read(env, request);
            return;
        }
        if let Some(outcome) = self.turn_away(env, group) {
            self.respond(env, request, outcome);
            return;
        }
        if request.is_bulk {
            if !has_room {
                self.respond(env, request, Outcome::Later);
                return;
            }
            request.payload = Some(self.stage(env, &request));
            if env.rng.chance(300) {
                let later = env.now + env.rng.below(20 * MILLISECOND);
                self.put_off(env, later, Job::Propose(request));
                return;
            }
        }
        self.propose(env, request);
    }

    /// Data beside the log.
    pub(crate) fn on_bulk(
        &mut self,
        env: &mut Env,
        from: ReplicaId,
        group: usize,
        bulk: Bulk,
        has_room: bool,
    ) {
        match bulk {
            Bulk::Stage { id, value } => {
                let staged = Staged { value, is_ready: has_room };
                let known = self.stores[group].staged.entry(id).or_insert(staged);
                if has_room {
                    known.is_ready = true;
                    self.input(env, Input::PayloadReady { group: env.groups[group], id });
                }
            }
            Bulk::WantPayload(id) => {
                if let Some(Staged { value, .. }) = self.stores[group].staged.get(&id).copied() {
                    self.send_bulk(env, from, group, Bulk::Stage { id, value });
                }
            }
            Bulk::WantSnapshot(snapshot) => self.serve_snapshot(env, from, group, snapshot),
            Bulk::Piece { snapshot, state, index, torn } => {
                self.on_piece(env, from, group, (snapshot, &state, index, torn));
            }
            Bulk::NoSnapshot(snapshot) => {
                if self.fetches(group, from, snapshot) {
                    self.fail_fetch(env, group);
                }
            }
        }
    }

    /// Work that was put off.
    pub(crate) fn job(&mut self, env: &mut Env, job: Job) {
        match job {
            Job::Apply { group, filling } => {
                if self.stores[group].filling == filling && self.stores[group].is_blocked {
                    self.stores[group].is_blocked = false;
                    self.apply_next(env, group);
                    self.settle(env);
                }
            }
            Job::FinishRead(read) => self.finish_read(env, read),
            Job::Propose(request) => match self.turn_away(env, request.element.group) {
                Some(outcome) => self.respond(env, request, outcome),
                None => self.propose(env, request),
            },
            Job::FetchAgain { group, snapshot } => self.fetch_again(env, group, snapshot),
        }
    }

    /// There is room for what was staged without.
    pub(crate) fn on_room(&mut self, env: &mut Env) {
        for group in 0..self.stores.len() {
            let staged = &mut self.stores[group].staged;
            let unready = staged.iter_mut().filter(|(_, staged)| !staged.is_ready);
            let ids: Vec<PayloadId> = unready
                .map(|(id, staged)| {
                    staged.is_ready = true;
                    *id
                })
                .collect();
            for id in ids {
                self.input(env, Input::PayloadReady { group: env.groups[group], id });
            }
        }
    }

    /// Carries out what the machine wants until it wants nothing, and arms its timer.
    fn settle(&mut self, env: &mut Env) {
        loop {
            while let Some(output) = self.host.poll_output() {
                self.carry_out(env, output);
            }
            let next = self.stores.iter().position(|it| !it.is_blocked && !it.queue.is_empty());
            let Some(group) = next else { break };
            if env.rng.chance(env.scenario.faults.spilled_per_mille) && !env.healed {
                let store = &mut self.stores[group];
                store.is_blocked = true;
                let filling = store.filling;
                let later = env.now + MILLISECOND + env.rng.below(120 * MILLISECOND);
                self.put_off(env, later, Job::Apply { group, filling });
            } else {
                self.apply_next(env, group);
            }
        }
        if cfg!(debug_assertions) {
            self.host.assert_invariants();
        }
        self.arm(env);
    }

    fn arm(&mut self, env: &mut Env) {
        let Some(due) = self.host.poll_timeout().and_then(|due| self.clock.when(due)) else {
            return;
        };
        if due < self.armed {
            let at = due.max(env.now) + env.rng.below(TIMER_SLACK);
            self.armed = at;
            env.queue.push(at, Event::NodeTimer { node: self.index });
        }
    }

    fn carry_out(&mut self, env: &mut Env, output: Output) {
        match output {
            Output::Send { to, message } => self.send(env, to, message),
            Output::Apply { group, seq, op, payload } => {
                let Some(group) = self.touch(env, group) else { return };
                self.stores[group].queue.push_back(Waiting { seq, op, payload });
            }
            Output::Reply { ticket, outcome } => self.reply(env, ticket, outcome),
            Output::FetchPayload { group, from, payload } => {
                let Some(group) = self.touch(env, group) else { return };
                if !self.stores[group].staged.contains_key(&payload.id) {
                    self.send_bulk(env, from, group, Bulk::WantPayload(payload.id));
                }
            }
            Output::ReleasePayload { group, id } => {
                let Some(group) = self.touch(env, group) else { return };
                self.stores[group].staged.remove(&id);
            }
            Output::FetchSnapshot { group, from, snapshot, at } => {
                let Some(group) = self.touch(env, group) else { return };
                self.begin_fetch(env, group, from, (snapshot, at));
            }
            Output::TakeSnapshot { group, snapshot, at } => {
                let Some(group) = self.touch(env, group) else { return };
                self.freeze(env, group, snapshot, at);
            }
            Output::DropSnapshot { group, snapshot } => {
                let Some(group) = self.touch(env, group) else { return };
                self.stores[group].snapshots.remove(&snapshot);
            }
            Output::Propose(proposal) => {
                let me = self.me;
                env.say(|| format!("{me} proposes {proposal:?}"));
                let packet = Packet::ToCatalog(ToCatalog::Propose(proposal));
                env.send(End::Node(self.index), End::Catalog, packet);
            }
            Output::AskCatalog { .. } => {
                let poll = ToCatalog::Poll { replica: self.me, known: self.known_news };
                env.send(End::Node(self.index), End::Catalog, Packet::ToCatalog(poll));
            }
            Output::Reads { group, gate } => {
                let Some(group) = self.touch(env, group) else { return };
                self.gate(env, group, gate);
            }
            Output::Reset { group } => {
                let Some(group) = self.touch(env, group) else { return };
                let me = self.me;
                env.say(|| format!("{me} drops group {group}"));
                self.stores[group].reset();
            }
            Output::Role { group, role, epoch } => {
                let Some(group) = self.touch(env, group) else { return };
                self.role(env, group, role, epoch);
            }
        }
    }

    fn send(&mut self, env: &mut Env, to: ReplicaId, message: Message) {
        let node = node_index(to);
        if node >= NODES_MAX {
            return;
        }
        if env.scenario.flavor == Flavor::Hostile {
            let (from, overheard) = (self.me, &message);
            env.overhear(|| Overheard { from, to, message: overheard.clone() });
        }
        let me = self.me;
        env.say(|| format!("{me} -> {to} {message:?}"));
        let is_release = matches!(message, Message::Release(_));
        let (from, end) = (End::Node(self.index), End::Node(node));
        let packet = Packet::Peer { from: self.me, to, message };
        if is_release && env.rng.chance(env.scenario.faults.late_release_per_mille) {
            let at = env.now + env.rng.between(50, 1_500) * MILLISECOND;
            env.queue.push(at, Event::Deliver { from, to: end, packet });
        } else {
            env.send(from, end, packet);
        }
    }

    fn send_bulk(&self, env: &mut Env, to: ReplicaId, group: usize, bulk: Bulk) {
        let node = node_index(to);
        if node >= NODES_MAX || node == self.index {
            return;
        }
        let lost = !env.healed
            && matches!(bulk, Bulk::Stage { .. })
            && env.rng.chance(env.scenario.faults.stage_loss_per_mille);
        if !lost {
            let packet = Packet::Bulk { from: self.me, to, group, bulk };
            env.send(End::Node(self.index), End::Node(node), packet);
        }
    }

    fn put_off(&self, env: &mut Env, at: Time, job: Job) {
        env.queue.push(at, Event::Job { node: self.index, life: self.me, job });
    }

    fn touch(&self, env: &mut Env, group: GroupId) -> Option<usize> {
        let index = env.group_index(group);
        match index {
            Some(index) => env.touch(index),
            None => env.watch.broken(env.now, Invariant::Contract, || {
                format!("{} speaks of group {group}, which is not", self.me)
            }),
        }
        index
    }

    fn touch_groups(&self, env: &mut Env, message: &Message) {
        let group = match message {
            Message::Append(append) => append.group,
            Message::AppendAck(ack) => ack.group,
            Message::AppendNack(nack) => nack.group,
            Message::SnapshotOffer(offer) => offer.group,
            Message::Release(release) => release.group,
            Message::Beat(_) | Message::BeatAck(_) => return,
        };
        if let Some(index) = env.group_index(group) {
            env.touch(index);
        }
    }
}

// Requests of clients.
impl Life {
    /// Why a write cannot be taken here; `None` when it can.
    fn turn_away(&self, env: &Env, group: usize) -> Option<Outcome> {
        let Some(config) = self.host.config(env.groups[group]) else {
            return Some(Outcome::Elsewhere(None));
        };
        (config.primary != self.me).then(|| Outcome::Elsewhere(Some(node_index(config.primary))))
    }

    fn begin_read(&mut self, env: &mut Env, request: Request) {
        let group = request.element.group;
        let gate = self.stores[group].gate;
        if !gate.is_open(self.clock.at(env.now)) {
            let outcome = self.turn_away(env, group).unwrap_or(Outcome::Later);
            self.respond(env, request, outcome);
            return;
        }
        let read = ReadUnderWay { request, epoch: gate.epoch };
        if env.rng.chance(300) {
            let later = env.now + env.rng.below(500 * MICROSECOND);
            self.put_off(env, later, Job::FinishRead(read));
        } else {
            self.finish_read(env, read);
        }
    }

    fn finish_read(&mut self, env: &mut Env, read: ReadUnderWay) {
        let store = &self.stores[read.request.element.group];
        let value = store.values[read.request.element.index];
        let may = store.gate.epoch == read.epoch && store.gate.is_open(self.clock.at(env.now));
        let outcome = if may || env.plant.reads_without_second_look() {
            Outcome::Done(value)
        } else {
            Outcome::Later
        };
        self.respond(env, read.request, outcome);
    }

    fn stage(&mut self, env: &mut Env, request: &Request) -> PayloadId {
        self.payloads += 1;
        let id = PayloadId { origin: self.me, number: self.payloads };
        let group = request.element.group;
        let Action::Write(value) = request.action else { return id };
        self.stores[group].staged.insert(id, Staged { value, is_ready: true });
        let config = self.host.config(env.groups[group]).cloned();
        for member in config.iter().flat_map(|config| config.members()) {
            if member != self.me {
                self.send_bulk(env, member, group, Bulk::Stage { id, value });
            }
        }
        self.input(env, Input::PayloadReady { group: env.groups[group], id });
        id
    }

    fn propose(&mut self, env: &mut Env, request: Request) {
        let group = request.element.group;
        env.touch(group);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let input = Input::Propose {
            ticket,
            group: env.groups[group],
            request: Some(request.key),
            op: operation::of_request(&request),
            payload: request.payload.map(|id| Payload { id, len: PAYLOAD_BYTES }),
        };
        self.waiting.insert(ticket, request);
        if let Err(failure) = self.host.handle_input(self.clock.at(env.now), input) {
            self.waiting.remove(&ticket);
            let outcome = self.outcome_of(env, group, &failure);
            self.respond(env, request, outcome);
        }
        self.settle(env);
    }

    fn reply(&mut self, env: &mut Env, ticket: Ticket, outcome: Result<Bytes, Failure>) {
        let Some(request) = self.waiting.remove(&ticket) else {
            let me = self.me;
            env.watch.broken(env.now, Invariant::Contract, || format!("{me} replies twice"));
            return;
        };
        let group = request.element.group;
        let outcome = match outcome {
            Ok(bytes) => {
                let before = bytes.as_ref().try_into().map_or(0, u64::from_le_bytes);
                let place = env.watch.place_of(group, (request.key.session, request.key.number));
                match place {
                    Some(seq) => env.acknowledged.push(Acknowledged { group, seq }),
                    None => env.watch.broken(env.now, Invariant::I8Copies, || {
                        format!("group {group}: a write was acknowledged and never applied")
                    }),
                }
                Outcome::Done(before)
            }
            Err(failure) => self.outcome_of(env, group, &failure),
        };
        self.respond(env, request, outcome);
    }

    fn outcome_of(&self, env: &mut Env, group: usize, failure: &Failure) -> Outcome {
        match failure.code {
            ErrorCode::WrongNode => self.turn_away(env, group).unwrap_or(Outcome::Later),
            ErrorCode::NotReady | ErrorCode::NoQuorum | ErrorCode::Overloaded => Outcome::Later,
            ErrorCode::OutcomeUnknown => Outcome::Unknown,
            ErrorCode::DataLost => Outcome::Lost,
            ErrorCode::InvalidArgument => Outcome::Refused,
            _ => {
                let me = self.me;
                env.watch.broken(env.now, Invariant::Contract, || {
                    format!("{me} answers a client with {failure}")
                });
                Outcome::Unknown
            }
        }
    }

    fn respond(&self, env: &mut Env, request: Request, outcome: Outcome) {
        let (from, to) = (End::Node(self.index), End::Client(request.client));
        env.send(from, to, Packet::Response { request, outcome });
    }
}

// The group's data.
impl Life {
    fn apply_next(&mut self, env: &mut Env, group: usize) {
        let store = &mut self.stores[group];
        let Some(waiting) = store.queue.pop_front() else { return };
        let (me, seq) = (self.me, waiting.seq);
        let outcome = match store.apply(&waiting) {
            Ok(effect) => {
                let operation = effect.operation;
                let seen = Applied {
                    operation: effect.fingerprint,
                    state: store.digest(),
                    request: (operation.session, operation.number),
                };
                env.watch.applied(env.now, group, me, seq, seen);
                env.say(|| format!("{me} applies {} of group {group}: {operation:?}", seq.0));
                let refused = || Failure::new(ErrorCode::InvalidArgument, "not this value");
                effect
                    .before
                    .map(|before| Bytes::copy_from_slice(&before.to_le_bytes()))
                    .ok_or_else(refused)
            }
            Err(why) => {
                env.watch.broken(env.now, Invariant::Contract, || {
                    format!("{me}, group {group}, number {}: {why}", seq.0)
                });
                return;
            }
        };
        let input = Input::Applied { group: env.groups[group], seq, outcome };
        if let Err(failure) = self.host.handle_input(self.clock.at(env.now), input) {
            env.watch.broken(env.now, Invariant::Contract, || {
                format!("{me} does not take that {} is applied: {failure}", seq.0)
            });
        }
    }

    fn freeze(&mut self, env: &mut Env, group: usize, snapshot: SnapshotId, at: LogPosition) {
        let (me, store) = (self.me, &mut self.stores[group]);
        let next = store.queue.front().map(|waiting| waiting.seq);
        if store.applied > at.seq || next.is_some_and(|next| next <= at.seq) {
            let applied = store.applied;
            env.watch.broken(env.now, Invariant::Contract, || {
                format!("{me} wants group {group} frozen at {at:?} and has applied {applied:?}")
            });
        }
        let frozen = Frozen { values: store.values.clone() };
        store.snapshots.insert(snapshot, Arc::new(frozen));
    }

    fn begin_fetch(
        &mut self,
        env: &mut Env,
        group: usize,
        from: ReplicaId,
        (snapshot, at): (SnapshotId, LogPosition),
    ) {
        let pieces = vec![None; env.scenario.elements];
        self.stores[group].fetch = Some(Fetch { from, snapshot, at, pieces, tries: 0 });
        self.fetch_again(env, group, snapshot);
    }

    fn fetch_again(&mut self, env: &mut Env, group: usize, snapshot: SnapshotId) {
        let Some(fetch) = &mut self.stores[group].fetch else { return };
        if fetch.snapshot != snapshot {
            return;
        }
        fetch.tries += 1;
        let (from, tries) = (fetch.from, fetch.tries);
        if tries > FETCH_TRIES {
            self.fail_fetch(env, group);
            return;
        }
        self.send_bulk(env, from, group, Bulk::WantSnapshot(snapshot));
        let later = env.now + env.rng.between(40, 120) * MILLISECOND;
        self.put_off(env, later, Job::FetchAgain { group, snapshot });
    }

    fn fail_fetch(&mut self, env: &mut Env, group: usize) {
        self.stores[group].fetch = None;
        self.input(env, Input::SnapshotFailed { group: env.groups[group] });
    }

    fn fetches(&self, group: usize, from: ReplicaId, snapshot: SnapshotId) -> bool {
        let fetch = &self.stores[group].fetch;
        fetch.as_ref().is_some_and(|fetch| fetch.from == from && fetch.snapshot == snapshot)
    }

    fn serve_snapshot(&self, env: &mut Env, to: ReplicaId, group: usize, snapshot: SnapshotId) {
        let Some(state) = self.stores[group].snapshots.get(&snapshot) else {
            self.send_bulk(env, to, group, Bulk::NoSnapshot(snapshot));
            return;
        };
        for index in 0..state.values.len() {
            let torn = !env.healed && env.rng.chance(env.scenario.faults.torn_per_mille);
            let piece = Bulk::Piece { snapshot, state: Arc::clone(state), index, torn };
            self.send_bulk(env, to, group, piece);
        }
    }

    fn on_piece(
        &mut self,
        env: &mut Env,
        from: ReplicaId,
        group: usize,
        (snapshot, state, index, torn): (SnapshotId, &Frozen, usize, bool),
    ) {
        if !self.fetches(group, from, snapshot) {
            return;
        }
        if torn {
            self.fail_fetch(env, group);
            return;
        }
        let store = &mut self.stores[group];
        let Some(fetch) = &mut store.fetch else { return };
        fetch.pieces[index] = Some(state.values[index]);
        if fetch.pieces.iter().any(Option::is_none) {
            return;
        }
        let Some(fetch) = store.fetch.take() else { return };
        store.install(&fetch);
        let (me, at, digest) = (self.me, fetch.at, store.digest());
        env.say(|| format!("{me} has the snapshot of group {group} at {at:?}"));
        if env.watch.state_at(group, at.seq).is_some_and(|state| state != digest) {
            env.watch.broken(env.now, Invariant::I3SamePrefix, || {
                format!("group {group}: the snapshot that {me} fetched at {at:?} has other values")
            });
        }
        self.input(env, Input::SnapshotFetched { group: env.groups[group], at });
    }

    fn gate(&mut self, env: &mut Env, group: usize, gate: ReadGate) {
        self.stores[group].gate = gate;
        let until = gate.until.map(|until| self.true_time(until));
        env.watch.may_read(env.now, group, self.index, self.me, until);
    }

    fn true_time(&self, instant: Instant) -> Time {
        self.clock.when(instant).unwrap_or(Time::MAX)
    }

    fn role(&mut self, env: &mut Env, group: usize, role: Role, epoch: Epoch) {
        self.stores[group].role = role;
        let me = self.me;
        env.say(|| format!("{me} is {role:?} of group {group} in epoch {}", epoch.0));
        if role == Role::Primary {
            env.watch.active(env.now, group, me, epoch);
        }
    }

    /// How far the group is committed here, as the machine says; notes it, and that it never shrinks.
    pub(crate) fn look_at_commit(&mut self, env: &mut Env, group: usize, commit: Seq) {
        let (me, store) = (self.me, &mut self.stores[group]);
        if commit < store.commit_seen {
            let seen = store.commit_seen;
            env.watch.broken(env.now, Invariant::I7CommitGrows, || {
                format!("group {group}: {me} had committed {} and now {}", seen.0, commit.0)
            });
        }
        store.commit_seen = commit;
        env.watch.committed(group, commit);
    }
}
