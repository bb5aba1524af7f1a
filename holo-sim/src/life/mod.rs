//! One life of a node: its machine, and the driver that carries out what the machine wants.

mod data;
mod keeper;
mod requests;
mod resume;

use std::collections::BTreeMap;
use std::sync::Arc;

use holo_core::group::Ticket;
use holo_core::replication::{GroupId, Host, Input, Message, Output, ReplicaId, Role};
use holo_core::{Epoch, Instant};

use crate::brief;
use crate::catalog::News;
use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::env::{Env, Overheard, node_index};
use crate::network::{End, MILLISECOND, NODES_MAX};
use crate::node::TIMER_SLACK;
use crate::packet::{Bulk, Event, Job, Packet, Request, ToCatalog};
use crate::queue::Time;
use crate::scenario::Flavor;
use crate::store::{Kept, Store, Waiting};
use crate::watch::Invariant;

/// Of so many times that a machine comes to rest, its assertions are looked at once.
const ASSERT_EVERY: u64 = 4;

/// The timer of a driver.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// When the machine is due, by its node's clock.
    due: Instant,
    /// When the driver looks.
    at: Time,
}

/// A replica with its driver.
#[derive(Debug)]
pub(crate) struct Life {
    index: usize,
    me: ReplicaId,
    clock: NodeClock,
    host: Host,
    stores: Vec<Store>,
    /// What earlier lives have kept.
    kept: Kept,
    /// Groups that may have operations to apply, as bits.
    fed: u32,
    /// Until when peers serve nobody else, as far as the machine has said.
    leases: BTreeMap<ReplicaId, Instant>,
    /// News of the catalog that are known here.
    known_news: usize,
    /// What the timer in the queue is for, and when it goes off; those that it replaced do nothing.
    armed: Option<Armed>,
    payloads: u64,
    tickets: u64,
    waiting: BTreeMap<Ticket, Request>,
    /// Whose message the machine has just been given.
    answering: Option<ReplicaId>,
    /// How often the machine came to rest.
    settled: u64,
    /// The catalog has given the node another life.
    is_superseded: bool,
    /// What it does when the cluster stops.
    keeper: keeper::Keeper,
    /// What it does about its earlier lives.
    heir: resume::Heir,
}

impl Life {
    /// A driver around a machine that holds nothing.
    pub(crate) fn new(env: &Env, index: usize, clock: NodeClock, host: Host, kept: &Kept) -> Self {
        let elements = env.scenario.elements;
        Self {
            index,
            me: host.me(),
            clock,
            host,
            stores: env.groups.iter().map(|_| Store::new(elements)).collect(),
            fed: 0,
            kept: Arc::clone(kept),
            leases: BTreeMap::new(),
            known_news: 0,
            armed: None,
            payloads: 0,
            tickets: 0,
            waiting: BTreeMap::new(),
            answering: None,
            settled: 0,
            is_superseded: false,
            keeper: keeper::Keeper::default(),
            heir: resume::Heir::default(),
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

    /// Whether the group has started again from disk since, and this replica has not heard of it.
    pub(crate) fn is_past(&self, env: &Env, group: usize) -> bool {
        let since = env.watch.since(group);
        since > Epoch(0)
            && self.host.config(env.groups[group]).is_none_or(|config| config.epoch < since)
    }

    /// Whether the catalog has given the node another life: then this process has to end.
    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// News of the catalog that it knows.
    pub(crate) fn known_news(&self) -> usize {
        self.known_news
    }

    /// A call on a group that the machine took and has not answered.
    pub(crate) fn unanswered(&self, group: usize) -> Option<u64> {
        let mut waiting = self.waiting.values();
        waiting.find(|request| request.element.group == group).map(|request| request.call)
    }

    /// Hands an input to the machine and carries out what follows; says whether the machine took it.
    pub(crate) fn input(&mut self, env: &mut Env, input: Input) -> bool {
        if let Input::Message { from, message } = &input {
            self.touch_groups(env, message);
            self.answering = Some(*from);
        }
        // What a machine refuses has changed nothing; the sender tries again or is no friend.
        let taken = self.host.handle_input(self.clock.at(env.now), input);
        if let Err(failure) = &taken {
            let me = self.me;
            env.say(|| format!("{me} refuses: {failure}"));
        }
        self.settle(env);
        self.answering = None;
        taken.is_ok()
    }

    /// The machine's timer may be due.
    pub(crate) fn timer(&mut self, env: &mut Env) {
        if self.armed.is_none_or(|armed| env.now < armed.at) {
            return;
        }
        self.armed = None;
        let now = self.clock.at(env.now);
        if self.host.poll_timeout().is_some_and(|due| due <= now) {
            // What is held or committed changes by messages and by what comes of them, never by time alone.
            self.host.handle_timeout(now);
        }
        self.settle(env);
    }

    /// News from the catalog, up to the one before `known`: only the present content of what changed, as followers of
    /// the real one get it.
    pub(crate) fn on_news(&mut self, env: &mut Env, feed: &[News], known: usize) {
        let known = known.min(feed.len());
        if let Some(fresh) = feed.get(self.known_news..known) {
            self.take_copy(fresh);
        }
        for at in self.known_news..known {
            let (news, later) = (&feed[at], &feed[at + 1..known]);
            self.known_news = at + 1;
            if later.iter().any(|later| later.replaces(news)) {
                continue;
            }
            let input = match news {
                News::Config { group, claim } => {
                    self.note_past(*group, &claim.config);
                    let is_mine = claim.config.names(self.me.node);
                    if !is_mine && self.host.config(env.groups[*group]).is_none() {
                        continue;
                    }
                    env.touch(*group);
                    Input::Config(claim.clone())
                }
                News::Living(living) => {
                    let me = self.me;
                    self.is_superseded |=
                        living.iter().any(|other| other.node == me.node && *other > me);
                    Input::Living(living.clone())
                }
                News::Targets(targets) => Input::Targets(targets.clone()),
                News::Expired(below) => Input::ExpireSessions { below: *below },
                News::Copy(_) => continue,
            };
            self.input(env, input);
        }
    }

    /// Work that was put off.
    pub(crate) fn job(&mut self, env: &mut Env, disk: &mut Disk, job: Job) {
        match job {
            Job::Keep => self.keep_again(env, disk),
            Job::Synced(name) => self.on_synced(env, disk, name),
            Job::Read { name, at } => self.on_read(env, disk, name, at),
            Job::Restore(past) => self.on_restored(env, past),
            Job::Resume => {
                self.heir.is_armed = false;
                self.resume(env);
            }
            Job::End => self.end(),
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

    /// Carries out what the machine wants until it wants nothing, and arms its timer.
    fn settle(&mut self, env: &mut Env) {
        loop {
            while let Some(output) = self.host.poll_output() {
                self.carry_out(env, output);
            }
            let Some(group) = self.next_to_apply() else { break };
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
        self.settled += 1;
        if cfg!(debug_assertions) && self.settled.is_multiple_of(ASSERT_EVERY) {
            self.host.assert_invariants();
        }
        self.arm(env);
    }

    /// The first group with an operation to apply whose page is there.
    fn next_to_apply(&mut self) -> Option<usize> {
        let mut left = self.fed;
        while left != 0 {
            let group = usize::try_from(left.trailing_zeros()).ok()?;
            left &= left - 1;
            let store = &self.stores[group];
            if store.queue.is_empty() {
                self.fed &= !(1 << group);
            } else if !store.is_blocked {
                return Some(group);
            }
        }
        None
    }

    fn arm(&mut self, env: &mut Env) {
        let Some(due) = self.host.poll_timeout() else { return };
        if self.armed.is_some_and(|armed| armed.due <= due) {
            return;
        }
        let Some(when) = self.clock.when(due) else { return };
        let at = when.max(env.now) + env.rng.below(TIMER_SLACK);
        self.armed = Some(Armed { due, at });
        env.queue.push(at, Event::NodeTimer { node: self.index });
    }

    fn carry_out(&mut self, env: &mut Env, output: Output) {
        match output {
            Output::Send { to, message } => self.send(env, to, message),
            Output::Apply { group, seq, op, payload } => {
                let Some(group) = self.touch(env, group) else { return };
                self.stores[group].queue.push_back(Waiting { seq, op, payload });
                self.fed |= 1 << group;
            }
            Output::Reply { ticket, outcome } => self.reply(env, ticket, outcome),
            Output::FetchPayload { group, from, payload } => {
                let Some(group) = self.touch(env, group) else { return };
                self.fetch_payload(env, group, from, payload.id);
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
                env.say(|| {
                    let (group, epoch) = (proposal.group, proposal.epoch.0);
                    format!("{me} proposes {:?} for {group} e{epoch}", proposal.change)
                });
                if env.is_unanswered(self.index) {
                    return;
                }
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
            Output::Lease { peer, until } => self.lease(env, peer, until),
            Output::Reset { group } => {
                let Some(group) = self.touch(env, group) else { return };
                let me = self.me;
                env.say(|| format!("{me} drops group {group}"));
                let inherited = self.heir.restored.remove(&group).is_some();
                // Who is no member holds nothing of it but what a close had left on disk.
                if self.stores[group].role != Role::Empty || inherited {
                    self.stores[group].reset();
                    self.forget_put_back(group);
                }
            }
            Output::Role { group, role, epoch } => {
                let Some(group) = self.touch(env, group) else { return };
                self.role(env, group, role, epoch);
            }
        }
    }

    fn send(&self, env: &mut Env, to: ReplicaId, message: Message) {
        let node = node_index(to);
        if node >= NODES_MAX {
            return;
        }
        if env.scenario.flavor == Flavor::Hostile {
            let (from, overheard) = (self.me, &message);
            env.overhear(|| Overheard { from, to, message: overheard.clone() });
        }
        let me = self.me;
        env.say(|| brief::Said(me, to, &message).to_string());
        if self.answering != Some(to) && env.is_lame(self.index, node) {
            return;
        }
        let is_release = matches!(message, Message::Release(_));
        let (from, end) = (End::Node(self.index), End::Node(node));
        let packet = Packet::Peer { from: self.me, to, message };
        if is_release && env.rng.chance(env.scenario.faults.late_release_per_mille) {
            let at = env.now + env.rng.between(50, 1_500) * MILLISECOND;
            let packet = env.envelope(packet);
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
        env.queue.push(at, Event::Job { node: self.index, life: self.me, job: Box::new(job) });
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
        let Some(group) = brief::group_of(message) else { return };
        if let Some(index) = env.group_index(group) {
            env.touch(index);
        }
    }
}
