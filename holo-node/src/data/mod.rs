//! The data plane of a node: the shards that it holds, and the replication of their groups.
//!
//! Everything that decides is [`Host`], one sans-io machine for all groups of the node. This folder is its driver:
//!
//! - `arrays`: which arrays there are and which shards of them are here; reads, which pass a gate and no lock
//! - `digests`: what replicas contain, for an operator who compares them
//! - `holding`: pages on their way to disk and back, when the whole cluster or this node alone stops and starts again
//! - `gates`: the permission for reads, from the machine to the readers
//! - `apply`: what an operation does to pages
//! - `incoming`: bulk bytes on their way into pages
//! - `news`: what the control plane tells of arrays, configs and nodes
//! - `outbox`: messages to one peer, in batches
//! - `payloads`: bytes that are staged on every replica before the operation that publishes them
//! - `snapshots`: frozen states, given to learners and fetched by them
//!
//! The machine sits behind one lock. Under it nothing waits: inputs go in, outputs come out; operations are applied on
//! the spot, for they swap handles or change a few bytes, and what needs the network is handed to tasks afterwards.

mod apply;
mod arrays;
mod digests;
mod gates;
mod holding;
mod incoming;
mod news;
pub(crate) mod outbox;
mod payloads;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use holo_core::catalog::{CloseId, Intake};
use holo_core::group::{Op, Seq, Ticket};
use holo_core::replication::{
    ConfigVerifier, GroupId, GroupSummary, Host, Input, Message, Output, PayloadId, ReplicaId,
    RequestKey, Role, SnapshotId, Timers,
};
use holo_core::{ErrorCode, Failure, Instant, PublicKey, ShardIndex, action};
use holo_mem::Staged;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

pub(crate) use arrays::{Access, Arrays};
pub(crate) use holding::LeftBehind;
pub(crate) use incoming::stage;
pub(crate) use snapshots::Frozen;

use self::apply::{Done, apply};
use self::holding::Origin;
use self::outbox::Outboxes;
use self::payloads::Stored;
use self::snapshots::Fetch;
use crate::clock::Clock;
use crate::hold::Kept;
use crate::ports::ControlPort;

/// How long an operation that memory was too short for waits for its next try.
const STALL_RETRY: Duration = Duration::from_millis(20);

/// The driver of the replication machine.
#[derive(Debug)]
pub(crate) struct DataPlane {
    me: ReplicaId,
    pub(crate) arrays: Arc<Arrays>,
    control: Arc<dyn ControlPort>,
    clock: Clock,
    machine: Mutex<Machine>,
    outboxes: Outboxes,
    /// The machine wants to be woken at another time.
    rearm: Notify,
    /// Bytes of frozen states that learners have fetched here.
    copied: AtomicU64,
    /// Bytes of frozen states that this replica has fetched.
    fetched: AtomicU64,
    /// Held while all that is here is read for an operator.
    digesting: tokio::sync::Mutex<()>,
    runtime: Handle,
    /// For what may wait: copies.
    background: Handle,
    tasks: Mutex<JoinSet<()>>,
    kept: OnceLock<Kept>,
}

/// What lives under the lock.
#[derive(Debug)]
struct Machine {
    host: Host,
    /// When the machine will be woken.
    alarm: Option<Instant>,
    next_ticket: u64,
    next_payload: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Bytes, Failure>>>,
    payloads: BTreeMap<(GroupId, PayloadId), Stored>,
    /// Operations that wait for memory or for the catalog's news, in order; per group.
    stalled: BTreeMap<GroupId, VecDeque<Pending>>,
    frozen: BTreeMap<(GroupId, SnapshotId), Arc<Frozen>>,
    /// The copy that is being fetched, per group. Only the latest may touch pages: one that was overtaken, or whose
    /// group was reset, would bring old bytes back.
    fetching: BTreeMap<GroupId, FetchId>,
    next_fetch: u64,
    /// What may be written.
    intake: Intake,
    /// Groups that found no room here, with the close that could not write them down for it: each is said once.
    roomless: BTreeMap<GroupId, CloseId>,
    /// Groups whose pages came from disk, and which this node is no member of or nobody has settled yet.
    put_back: BTreeMap<GroupId, Origin>,
}

/// One try to fetch a frozen state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FetchId(u64);

#[derive(Debug)]
struct Pending {
    seq: Seq,
    op: Op,
    payload: Option<PayloadId>,
}

/// What is left to do once the lock is free.
#[derive(Debug, Default)]
struct Effects {
    sends: Vec<(ReplicaId, Message)>,
    fetch_payloads: Vec<(GroupId, ReplicaId, PayloadId)>,
    fetch_snapshots: Vec<Fetch>,
}

impl DataPlane {
    /// A replica that holds nothing yet. Tasks run on the current tokio runtime until
    /// [`Self::stop`], and what may wait on that of `background`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] for timers that contradict each other.
    pub(crate) fn start(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
        arrays: Arc<Arrays>,
        control: Arc<dyn ControlPort>,
        clock: Clock,
        background: Handle,
    ) -> Result<Arc<Self>, Failure> {
        let machine = Machine {
            host: Host::new(me, timers, verifier)?,
            alarm: None,
            next_ticket: 0,
            next_payload: 0,
            waiting: BTreeMap::new(),
            payloads: BTreeMap::new(),
            stalled: BTreeMap::new(),
            frozen: BTreeMap::new(),
            fetching: BTreeMap::new(),
            next_fetch: 0,
            intake: Intake::Open,
            roomless: BTreeMap::new(),
            put_back: BTreeMap::new(),
        };
        let plane = Arc::new(Self {
            me,
            arrays,
            control,
            clock,
            machine: Mutex::new(machine),
            outboxes: Outboxes::default(),
            rearm: Notify::new(),
            copied: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            digesting: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
            background,
            tasks: Mutex::new(JoinSet::new()),
            kept: OnceLock::new(),
        });
        plane.spawn(Arc::clone(&plane).keep_time());
        Ok(plane)
    }

    /// This process, as a replica.
    pub(crate) fn me(&self) -> ReplicaId {
        self.me
    }

    /// Ends all tasks.
    pub(crate) fn stop(&self) {
        self.tasks.lock().abort_all();
    }

    /// Takes a batch of messages that a peer sent, and gives those for it that can go back as the answer.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] when `key` is no member's, [`ErrorCode::Conflict`] when it is for an earlier life of this
    /// node, [`ErrorCode::Malformed`].
    pub(crate) fn take_batch(
        self: &Arc<Self>,
        key: PublicKey,
        body: &[u8],
    ) -> Result<Bytes, Failure> {
        let node = self.member(key)?;
        let batch = outbox::decode(body)?;
        if batch.to != self.me.incarnation {
            let message = format!("messages for life {}, this is {}", batch.to.0, self.me);
            return Err(Failure::new(ErrorCode::Conflict, message));
        }
        let from = ReplicaId { node, incarnation: batch.from };
        let kind = outbox::kind_of(&batch.messages);
        self.feed(from, batch.messages);
        let replies = self.outboxes.take_replies(from, kind);
        Ok(outbox::encode(self.me.incarnation, from.incarnation, &replies))
    }

    fn feed(self: &Arc<Self>, from: ReplicaId, messages: Vec<Message>) {
        // A beat brings what is due forward: the timer for it can rest.
        let is_beat = |message: &Message| matches!(message, Message::Beat(_));
        self.with_alarm(messages.iter().any(is_beat), |machine, now| {
            for message in messages {
                if let Err(failure) = machine.host.handle_input(now, Input::Message { from, message }) {
                    tracing::debug!(%from, code = %failure.code, message = %failure.message, "message refused");
                }
            }
        });
    }

    /// Proposes an operation that travels inside its log entry, and waits until it is applied.
    ///
    /// # Errors
    ///
    /// Those of the machine ([`ErrorCode::WrongNode`], [`ErrorCode::NotReady`], [`ErrorCode::NoQuorum`],
    /// [`ErrorCode::Overloaded`], [`ErrorCode::OutcomeUnknown`]) and of the operation.
    pub(crate) fn propose(
        self: &Arc<Self>,
        group: GroupId,
        request: Option<RequestKey>,
        op: Op,
    ) -> Result<Outcome, Failure> {
        self.propose_with(group, request, op, None)
    }

    /// [`Self::publish`] for a worker's thread, which may block.
    ///
    /// # Errors
    ///
    /// Those of [`Self::propose`].
    pub(crate) fn publish_blocking(
        self: &Arc<Self>,
        access: &Access<action::Write>,
        index: ShardIndex,
        staged: Staged,
    ) -> Result<(), Failure> {
        let (group, _) = self.arrays.writable(access, index)?;
        let place = (access.descriptor().id, index);
        self.runtime.block_on(self.publish(group, place, None, staged))?;
        Ok(())
    }

    fn propose_with(
        self: &Arc<Self>,
        group: GroupId,
        request: Option<RequestKey>,
        op: Op,
        payload: Option<(PayloadId, Stored)>,
    ) -> Result<Outcome, Failure> {
        let (reply, outcome) = oneshot::channel();
        self.with_machine(|machine, now| {
            machine.intake.check(group)?;
            let ticket = Ticket(machine.next_ticket);
            machine.next_ticket += 1;
            let named = payload.as_ref().map(|(id, stored)| holo_core::replication::Payload {
                id: *id,
                len: stored.bytes.len(),
            });
            if let Some((id, stored)) = payload {
                machine.payloads.insert((group, id), stored);
                let ready = Input::PayloadReady { group, id };
                machine.host.handle_input(now, ready).inspect_err(|_refused| {
                    machine.payloads.remove(&(group, id));
                })?;
            }
            machine.waiting.insert(ticket, reply);
            let input = Input::Propose { ticket, group, request, op, payload: named };
            machine.host.handle_input(now, input).inspect_err(|_refused| {
                machine.waiting.remove(&ticket);
                if let Some(payload) = named {
                    machine.payloads.remove(&(group, payload.id));
                }
            })
        })?;
        Ok(Outcome(outcome))
    }

    /// State of every group that this node is a member of.
    pub(crate) fn summary(&self) -> Vec<GroupSummary> {
        self.machine.lock().host.summary()
    }

    /// What this node does for its groups, in numbers.
    pub(crate) fn load(&self) -> DataLoad {
        let mut load = DataLoad {
            copied_bytes: self.copied.load(Ordering::Relaxed),
            fetched_bytes: self.fetched.load(Ordering::Relaxed),
            ..DataLoad::default()
        };
        for (role, learners) in self.machine.lock().host.loads() {
            match role {
                Role::Primary | Role::PrimaryPending => load.groups_primary += 1,
                Role::Backup => load.groups_backup += 1,
                Role::Learner | Role::Empty => {}
            }
            load.copies_out += u32::try_from(learners).unwrap_or(u32::MAX);
        }
        load
    }

    /// Gives the machine something to do, then carries out what it wants.
    fn with_machine<T>(self: &Arc<Self>, act: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        self.with_alarm(false, act)
    }

    /// [`Self::with_machine`]; with `put_off` nobody wakes the machine at the time that it asked for before, when it asks
    /// for a later one now. Where much goes on, that would cost more than it saves.
    fn with_alarm<T>(
        self: &Arc<Self>,
        put_off: bool,
        act: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> T {
        let mut effects = Effects::default();
        let now = self.clock.now();
        let (value, moved) = {
            let mut machine = self.machine.lock();
            let value = act(&mut machine, now);
            machine.drain(&self.arrays, self.control.as_ref(), now, &mut effects);
            let due = machine.host.poll_timeout();
            let alarm = machine.alarm;
            let moved = due.is_some_and(|due| {
                alarm.is_none_or(|alarm| due < alarm || (put_off && due > alarm))
            });
            (value, moved)
        };
        if moved {
            self.rearm.notify_one();
        }
        if effects.sends.iter().any(|(_, message)| matches!(message, Message::Beat(_))) {
            self.control.go_along();
        }
        self.carry_out(effects);
        value
    }

    fn carry_out(self: &Arc<Self>, effects: Effects) {
        for (to, message) in effects.sends {
            self.outboxes.push(self, to, message);
        }
        for (group, from, id) in effects.fetch_payloads {
            self.spawn(Arc::clone(self).fetch_payload(group, from, id));
        }
        for fetch in effects.fetch_snapshots {
            self.spawn(Arc::clone(self).fetch_snapshot(fetch));
        }
    }

    /// Wakes the machine when it is due.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let (due, stalled) = {
                let mut machine = self.machine.lock();
                machine.alarm = machine.host.poll_timeout();
                (machine.alarm, !machine.stalled.is_empty())
            };
            let now = self.clock.now();
            let mut pause = due.map_or(Duration::from_secs(60), |due| due.since(now));
            if stalled {
                pause = pause.min(STALL_RETRY);
            }
            if !pause.is_zero() && tokio::time::timeout(pause, self.rearm.notified()).await.is_ok()
            {
                continue;
            }
            self.with_machine(|machine, now| {
                machine.retry_stalled(&self.arrays, now);
                machine.host.handle_timeout(now);
            });
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }
}

/// What a node does for its groups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DataLoad {
    /// Groups that it is the primary of.
    pub(crate) groups_primary: u32,
    /// Groups of which it is another in-sync replica.
    pub(crate) groups_backup: u32,
    /// Replicas that it is bringing up as their primary.
    pub(crate) copies_out: u32,
    /// Bytes that other replicas have copied from it since it started.
    pub(crate) copied_bytes: u64,
    /// Bytes that it has copied from other replicas since it started.
    pub(crate) fetched_bytes: u64,
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct Outcome(oneshot::Receiver<Result<Bytes, Failure>>);

impl Outcome {
    /// The end, when it has come already.
    pub(crate) fn now(&mut self) -> Option<Result<Bytes, Failure>> {
        self.0.try_recv().ok()
    }

    /// Waits for the end. Whoever waits no longer drops this; the operation goes on.
    pub(crate) async fn wait(self) -> Result<Bytes, Failure> {
        self.0.await.unwrap_or_else(|_gone| {
            Err(Failure::new(ErrorCode::ShuttingDown, "this node stops; the outcome is not known"))
        })
    }
}

impl Machine {
    fn drain(
        &mut self,
        arrays: &Arrays,
        control: &dyn ControlPort,
        now: Instant,
        effects: &mut Effects,
    ) {
        while let Some(output) = self.host.poll_output() {
            match output {
                Output::Send { to, message } => effects.sends.push((to, message)),
                Output::Apply { group, seq, op, payload } => {
                    let pending = Pending { seq, op, payload };
                    if let Some(queue) = self.stalled.get_mut(&group) {
                        queue.push_back(pending);
                    } else if let Some(pending) = self.apply(arrays, group, pending, now) {
                        self.stalled.entry(group).or_default().push_back(pending);
                    }
                }
                Output::Reply { ticket, outcome } => {
                    if let Some(reply) = self.waiting.remove(&ticket) {
                        // Whoever asked may have gone away.
                        let _unwanted = reply.send(outcome);
                    }
                }
                Output::FetchPayload { group, from, payload } => {
                    effects.fetch_payloads.push((group, from, payload.id));
                }
                Output::ReleasePayload { group, id } => {
                    self.payloads.remove(&(group, id));
                }
                Output::FetchSnapshot { group, from, snapshot, at } => {
                    self.next_fetch += 1;
                    let id = FetchId(self.next_fetch);
                    self.fetching.insert(group, id);
                    effects.fetch_snapshots.push(Fetch { id, group, from, snapshot, at });
                }
                Output::TakeSnapshot { group, snapshot, .. } => {
                    let frozen = Frozen::of(&arrays.shards_of_group(group));
                    self.frozen.insert((group, snapshot), Arc::new(frozen));
                }
                Output::DropSnapshot { group, snapshot } => {
                    self.frozen.remove(&(group, snapshot));
                }
                Output::Propose(proposal) => control.propose(proposal),
                Output::AskCatalog { group, above } => control.ask_config(group, above),
                Output::Reads { group, gate } => arrays.gates.set(group, &gate),
                Output::Lease { peer, until } => arrays.gates.renew(peer, until),
                Output::Reset { group } => {
                    self.stalled.remove(&group);
                    self.fetching.remove(&group);
                    self.payloads.retain(|(of, _), _| *of != group);
                    self.frozen.retain(|(of, _), _| *of != group);
                    // Who is no member holds nothing of it but what came from disk. What a close had left there counts
                    // only if a primary says the same of every page.
                    if arrays.gates.of(group).is_member() {
                        self.put_back.remove(&group);
                        arrays.clear_group(group);
                    } else if matches!(self.put_back.get(&group), Some(Origin::Life(..))) {
                        self.put_back.remove(&group);
                        arrays.leave_group(group);
                    }
                }
                Output::Role { group, role, epoch } => {
                    self.check_put_back_role(arrays, group, role, epoch);
                    if set_role(arrays, group, role) {
                        self.put_back.remove(&group);
                    }
                }
            }
        }
    }

    /// Applies an operation and reports its end; gives it back when it has to wait.
    fn apply(
        &mut self,
        arrays: &Arrays,
        group: GroupId,
        pending: Pending,
        now: Instant,
    ) -> Option<Pending> {
        let payload = pending.payload.and_then(|id| self.payloads.get(&(group, id)));
        let payload = payload.map(|stored| &stored.bytes);
        match apply(arrays, &pending.op, payload) {
            Done::Later => Some(pending),
            Done::Outcome(outcome) => {
                let applied = Input::Applied { group, seq: pending.seq, outcome };
                if let Err(failure) = self.host.handle_input(now, applied) {
                    tracing::error!(%group, code = %failure.code, message = %failure.message, "an applied operation was refused");
                }
                None
            }
        }
    }

    fn retry_stalled(&mut self, arrays: &Arrays, now: Instant) {
        for (group, mut queue) in std::mem::take(&mut self.stalled) {
            while let Some(pending) = queue.pop_front() {
                if let Some(pending) = self.apply(arrays, group, pending, now) {
                    queue.push_front(pending);
                    self.stalled.insert(group, queue);
                    break;
                }
            }
        }
    }
}

/// Says whether the group's shards have left with the role.
fn set_role(arrays: &Arrays, group: GroupId, role: Role) -> bool {
    let gate = arrays.gates.of(group);
    let was_member = gate.is_member();
    gate.set_role(role);
    match (was_member, gate.is_member()) {
        (false, true) => arrays.enter_group(group),
        (true, false) => arrays.leave_group(group),
        _ => {}
    }
    was_member && !gate.is_member()
}

#[cfg(test)]
mod tests;
