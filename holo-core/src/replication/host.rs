//! The machine of one node: all its replicas, and what it knows of its peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::config::{ConfigVerifier, GroupConfig, GroupId, ReplicaId};
use super::io::{Input, Output, Role};
use super::messages::{Beat, BeatAck, CommitNews, ConfigClaim, Entry, Message, Release, SessionId};
use super::mutant::Mutant;
use super::peers::Peers;
use super::replica::{Context, Replica, Wanted};
use super::summary::GroupSummary;
use super::timers::{TICKS_PER_HEARTBEAT, Timers};
use crate::group::Seq;
use crate::{Epoch, ErrorCode, Failure, Instant, limits};

/// Everything that is replicated on one node. See the module docs for its contract.
///
/// # Invariants
///
/// Those of each replica and each pair, and: this host keeps exactly as many snapshots as its learners have copies.
#[derive(Debug)]
pub struct Host {
    me: ReplicaId,
    timers: Timers,
    verifier: Arc<dyn ConfigVerifier>,
    mutant: Mutant,
    groups: BTreeMap<GroupId, Replica>,
    /// The wanted holders of every group, should we come to lead it.
    targets: BTreeMap<GroupId, Vec<ReplicaId>>,
    peers: Peers,
    outputs: VecDeque<Output>,
    dirty: BTreeSet<GroupId>,
    /// Groups that wait to serve, and so for promises to pass.
    pending: BTreeSet<GroupId>,
    expired_below: SessionId,
    snapshots: u64,
    copies: usize,
    learning: usize,
    now: Instant,
    ticked_at: Option<Instant>,
    /// Ticks so far.
    ticks: u32,
}

impl Host {
    /// A host that holds nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] from [`Timers::check`].
    pub fn new(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
    ) -> Result<Self, Failure> {
        timers.check()?;
        Ok(Self::danger_with_mutant_for_testing_only(me, timers, verifier, Mutant::None))
    }

    /// Plants a bug, and takes times that [`Timers::check`] would refuse.
    #[doc(hidden)]
    pub fn danger_with_mutant_for_testing_only(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
        mutant: Mutant,
    ) -> Self {
        Self {
            me,
            timers,
            verifier,
            mutant,
            groups: BTreeMap::new(),
            targets: BTreeMap::new(),
            peers: Peers::default(),
            outputs: VecDeque::new(),
            dirty: BTreeSet::new(),
            pending: BTreeSet::new(),
            expired_below: SessionId(0),
            snapshots: 0,
            copies: 0,
            learning: 0,
            now: Instant(0),
            ticked_at: None,
            ticks: 0,
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// Nothing has changed then. [`Input::Propose`]: [`ErrorCode::WrongNode`] when another replica is the primary,
    /// [`ErrorCode::NotReady`] while a takeover is not finished or when the bytes are not staged here, [`ErrorCode::NoQuorum`] when fewer replicas are in
    /// sync than the class wants, [`ErrorCode::DataLost`] when the last copy is gone, [`ErrorCode::Overloaded`] when
    /// the log is full, [`ErrorCode::OutcomeUnknown`] for a request beyond its window or session,
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::TooLarge`] or [`ErrorCode::Malformed`] for an operation that
    /// cannot be. [`Input::Message`]: [`ErrorCode::Denied`] when the sender has no such role, and
    /// [`ErrorCode::Malformed`] for what no correct peer says. [`Input::Config`]: [`ErrorCode::Denied`] without the
    /// catalog's proof. [`Input::PayloadReady`]: [`ErrorCode::WrongNode`] when this host is no member of the group,
    /// [`ErrorCode::Overloaded`] when too many payloads wait; drop the bytes then.
    ///
    /// # Panics
    ///
    /// When the driver reports operations out of order: that is its bug, and going on would answer the wrong caller.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Result<(), Failure> {
        self.now = self.now.max(now);
        match input {
            Input::Config(claim) => self.believe(claim, None),
            Input::Living(living) => {
                self.peers.set_living(&living);
                self.tick_groups(true);
                Ok(())
            }
            Input::Targets(targets) => {
                for (group, targets) in targets {
                    if let Some(replica) = self.groups.get_mut(&group) {
                        replica.set_targets(targets.clone());
                    }
                    let known = self.targets.contains_key(&group);
                    if known || self.targets.len() < limits::HOST_TARGETS_MAX {
                        self.targets.insert(group, targets);
                    }
                }
                Ok(())
            }
            Input::Message { from, message } => self.on_message(from, message),
            Input::Propose { ticket, group, request, op, payload } => {
                let unknown = |failure: Failure| failure.help("fetch the placement table again");
                self.with(group, |replica, ctx| {
                    replica.propose(ctx, Wanted { ticket, request, op, payload })
                })
                .unwrap_or_else(|| Err(unknown(no_member(self.me, group))))
            }
            Input::PayloadReady { group, id } => self
                .with(group, |replica, ctx| replica.on_payload_ready(ctx, id))
                .unwrap_or_else(|| Err(no_member(self.me, group))),
            Input::Applied { group, seq, outcome } => {
                self.with(group, |replica, ctx| replica.on_applied(ctx, seq, outcome));
                Ok(())
            }
            Input::SnapshotFetched { group, at } => {
                self.with(group, |replica, ctx| replica.on_snapshot_fetched(ctx, at));
                Ok(())
            }
            Input::SnapshotFailed { group } => {
                self.with(group, |replica, ctx| replica.on_snapshot_failed(ctx));
                Ok(())
            }
            Input::ProposalRefused { group, epoch } => {
                self.with(group, |replica, ctx| replica.on_refused(ctx, epoch));
                Ok(())
            }
            Input::ExpireSessions { below } => {
                self.expired_below = self.expired_below.max(below);
                Ok(())
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.next_tick().is_some_and(|at| at <= self.now) {
            self.tick();
        } else {
            for group in self.pending.clone() {
                self.with(group, |replica, ctx| replica.activate(ctx));
            }
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        while self.outputs.is_empty() {
            // What was proposed since the last poll travels together.
            let group = self.dirty.pop_first()?;
            self.with(group, |replica, ctx| replica.flush(ctx));
        }
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending.iter();
        let promises = pending.filter_map(|group| self.peers.blocked_until(*group, self.now));
        promises.chain(self.next_tick()).min()
    }

    /// Panics unless the invariants hold.
    ///
    /// # Panics
    ///
    /// When one of them is broken: a bug in this machine.
    pub fn assert_invariants(&self) {
        for (group, replica) in &self.groups {
            replica.assert_invariants(self.mutant);
            let waits = replica.role() == Role::PrimaryPending;
            assert_eq!(self.pending.contains(group), waits, "{replica:?}");
        }
        let copies: usize = self.groups.values().map(Replica::copies).sum();
        assert_eq!(self.copies, copies, "snapshots that nobody fetches");
    }

    /// The replica that this host is.
    pub fn me(&self) -> ReplicaId {
        self.me
    }

    /// The newest config that is believed here; also of groups that this host is no member of any more.
    pub fn config(&self, group: GroupId) -> Option<&Arc<GroupConfig>> {
        self.groups.get(&group).map(Replica::config)
    }

    /// Every group that this host is or was a member of, for status pages.
    pub fn summary(&self) -> Vec<GroupSummary> {
        self.groups.values().map(Replica::summary).collect()
    }

    /// One group of [`Self::summary`].
    pub fn group_summary(&self, group: GroupId) -> Option<GroupSummary> {
        self.groups.get(&group).map(Replica::summary)
    }

    /// How far one group is here: whether there is a state at all, what is held of it, and what is known to be
    /// committed; as in [`Self::group_summary`].
    #[doc(hidden)]
    pub fn place_for_testing_only(&self, group: GroupId) -> Option<(bool, Seq, Seq)> {
        self.groups.get(&group).map(Replica::place)
    }

    /// The committed entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn committed_entries_for_testing_only(&self, group: GroupId, from: Seq) -> Vec<Entry> {
        let replica = self.groups.get(&group);
        replica.map(|replica| replica.entries(from, replica.commit())).unwrap_or_default()
    }

    /// All entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn log_entries_for_testing_only(&self, group: GroupId, from: Seq) -> Vec<Entry> {
        let replica = self.groups.get(&group);
        replica.map(|replica| replica.entries(from, Seq(u64::MAX))).unwrap_or_default()
    }

    fn on_message(&mut self, from: ReplicaId, message: Message) -> Result<(), Failure> {
        if from == self.me || self.peers.is_dead(from) {
            let message = format!("replica {from} is dead, or is us");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        self.peers.hear(from, self.now);
        match message {
            Message::Append(mut append) => {
                let group = append.group;
                self.believe_peer(append.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_append(ctx, from, append))
            }
            Message::AppendAck(ack) => {
                self.with_member(from, ack.group, |replica, ctx| replica.on_ack(ctx, from, ack))
            }
            Message::AppendNack(mut nack) => {
                let group = nack.group;
                self.believe_peer(nack.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_nack(ctx, from, &nack))
            }
            Message::SnapshotOffer(mut offer) => {
                let group = offer.group;
                self.believe_peer(offer.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_offer(ctx, from, offer))
            }
            Message::Release(release) => {
                self.on_release(from, release);
                Ok(())
            }
            Message::Beat(beat) => self.on_beat(from, beat),
            Message::BeatAck(ack) => self.on_beat_ack(from, ack),
        }
    }

    fn on_release(&mut self, from: ReplicaId, release: Release) {
        if let Some(peer) = self.peers.get_mut(from) {
            let Release { group, up_to } = release;
            peer.lease.granted.on_release(group, up_to, self.mutant);
            self.with(group, |replica, ctx| replica.activate(ctx));
        }
    }

    fn on_beat(&mut self, from: ReplicaId, beat: Beat) -> Result<(), Failure> {
        if beat.commits.len() > limits::BEAT_COMMITS_MAX {
            let message = format!("a beat with {} commits", beat.commits.len());
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        // Whom no config of ours names gets no promise.
        let Some(peer) = self.peers.get_mut(from) else {
            let message = format!("replica {from} shares no group with us");
            return Err(Failure::new(ErrorCode::Denied, message));
        };
        let promise = match self.mutant {
            Mutant::NoDriftMargin => self.timers.lease,
            _ => self.timers.promise(),
        };
        let (now, granted) = (self.now, &mut peer.lease.granted);
        let ack = granted.on_beat(now, beat.sent_at, beat.known_set, promise);
        self.outputs.push_back(Output::Send { to: from, message: Message::BeatAck(ack) });
        for news in beat.commits {
            self.with(news.group, |replica, ctx| replica.on_commit_news(ctx, from, news));
        }
        Ok(())
    }

    fn on_beat_ack(&mut self, from: ReplicaId, ack: BeatAck) -> Result<(), Failure> {
        let Some(peer) = self.peers.get_mut(from) else {
            let message = format!("replica {from} shares no group with us");
            return Err(Failure::new(ErrorCode::Denied, message));
        };
        let held = &mut peer.lease.held;
        let mut groups: BTreeSet<GroupId> = BTreeSet::new();
        if ack.set.is_some() {
            groups.extend(held.groups());
        }
        if held.on_ack(self.now, ack, self.timers.lease, self.mutant)? {
            groups.extend(held.groups());
            for group in groups {
                self.with(group, |replica, ctx| replica.update_gate(ctx));
            }
        }
        Ok(())
    }

    /// Adopts a config that came with a message about `group`.
    fn believe_peer(&mut self, claim: Option<ConfigClaim>, group: GroupId) -> Result<(), Failure> {
        claim.map_or(Ok(()), |claim| self.believe(claim, Some(group)))
    }

    /// Adopts a config when it is news, and proven.
    fn believe(&mut self, claim: ConfigClaim, about: Option<GroupId>) -> Result<(), Failure> {
        let config = &claim.config;
        if about.is_some_and(|group| group != config.group) {
            return Err(Failure::new(ErrorCode::Malformed, "a config of another group"));
        }
        let known = self.groups.get(&config.group).map_or(Epoch(0), Replica::epoch);
        let replayed = config.epoch < known && self.mutant == Mutant::BelieveReplayedConfig;
        if config.epoch <= known && !replayed {
            return Ok(());
        }
        config.check()?;
        let proven = claim.proof.len() <= limits::CONFIG_PROOF_BYTES_MAX
            && self.verifier.is_proven(config, &claim.proof);
        if !proven && self.mutant != Mutant::BelieveUnprovenConfig {
            let message = format!("nothing proves epoch {} of {}", config.epoch, config.group);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let group = config.group;
        if !self.groups.contains_key(&group) {
            if config.role_of(self.me).is_none() {
                return Ok(());
            }
            if self.groups.len() >= limits::HOST_GROUPS_MAX {
                let message = format!("this host is in {} groups", self.groups.len());
                return Err(Failure::new(ErrorCode::Overloaded, message));
            }
            let targets = self.targets.get(&group).cloned().unwrap_or_default();
            self.groups.insert(group, Replica::new(group, targets));
        }
        self.with(group, |replica, ctx| replica.adopt(ctx, claim));
        Ok(())
    }

    /// Lets one replica handle an event; `None` when there is none of this group.
    fn with<T>(
        &mut self,
        group: GroupId,
        handle: impl FnOnce(&mut Replica, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let replica = self.groups.get_mut(&group)?;
        let mut ctx = Context {
            now: self.now,
            me: self.me,
            timers: &self.timers,
            mutant: self.mutant,
            peers: &mut self.peers,
            outputs: &mut self.outputs,
            dirty: &mut self.dirty,
            expired_below: self.expired_below,
            snapshots: &mut self.snapshots,
            copies: &mut self.copies,
            learning: &mut self.learning,
        };
        let result = handle(replica, &mut ctx);
        if replica.role() == Role::PrimaryPending {
            self.pending.insert(group);
        } else {
            self.pending.remove(&group);
        }
        Some(result)
    }

    /// Like [`Self::with`], for a message about a group.
    fn with_member(
        &mut self,
        from: ReplicaId,
        group: GroupId,
        handle: impl FnOnce(&mut Replica, &mut Context<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.with(group, handle).unwrap_or_else(|| {
            let message = format!("replica {from} speaks of group {group}, which is not here");
            Err(Failure::new(ErrorCode::WrongNode, message))
        })
    }

    fn next_tick(&self) -> Option<Instant> {
        if self.groups.is_empty() {
            return None;
        }
        Some(self.ticked_at.map_or(self.now, |at| at.after(self.timers.tick())))
    }

    fn tick(&mut self) {
        let since = self.ticked_at.replace(self.now).unwrap_or(self.now);
        // Whoever was not running has not listened either: silence counts only while we hear.
        let pause = self.now.since(since).saturating_sub(self.timers.heartbeat);
        if pause > self.timers.heartbeat {
            self.peers.forgive(pause, self.now);
            for replica in self.groups.values_mut() {
                replica.forgive(pause, self.now);
            }
        }
        self.peers.expire(self.now);
        self.send_beats();
        // A quiet group is looked at once per heartbeat, unless somebody has just fallen silent.
        self.ticks = self.ticks.wrapping_add(1);
        let silence = self.timers.heartbeat.saturating_mul(2);
        let news = self.timers.take_over.saturating_mul(4);
        let alarmed = self.peers.any_silent(self.now, silence, news);
        self.tick_groups(alarmed || self.ticks.is_multiple_of(TICKS_PER_HEARTBEAT));
    }

    fn tick_groups(&mut self, all: bool) {
        self.learning = self.groups.values().filter(|replica| replica.is_learning()).count();
        let groups = self.groups.iter().filter(|(_, replica)| all || replica.is_busy());
        let groups: Vec<GroupId> = groups.map(|(group, _)| *group).collect();
        for group in groups {
            self.with(group, |replica, ctx| replica.tick(ctx));
        }
    }

    /// One beat per peer that is a member of a group that we lead, however many groups they are.
    fn send_beats(&mut self) {
        let next = self.now.after(self.timers.heartbeat);
        let due = self.peers.take_due(self.now, next);
        if due.is_empty() {
            return;
        }
        let mut beats: BTreeMap<ReplicaId, Vec<CommitNews>> = BTreeMap::new();
        for replica in self.groups.values() {
            replica.collect_news(&due, &mut beats);
        }
        for (to, commits) in beats {
            let Some(peer) = self.peers.get_mut(to) else { continue };
            let known_set = peer.lease.held.beat(self.now);
            let message = Message::Beat(Beat { sent_at: self.now, known_set, commits });
            self.outputs.push_back(Output::Send { to, message });
        }
    }
}

fn no_member(me: ReplicaId, group: GroupId) -> Failure {
    let message = format!("replica {me} holds nothing of group {group}");
    Failure::new(ErrorCode::WrongNode, message)
}
