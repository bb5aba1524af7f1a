//! One replica of one group: its log, its role, and how it changes with a newer config.
//!
//! | file | concern |
//! |---|---|
//! | `follow` | a backup's and a learner's side: entries, snapshots, news of commits |
//! | `lead` | a primary's side: proposals, sending, acks, the commit |
//! | `apply` | from the commit to the driver and back to who asked |
//! | `takeover` | silence, barrier, promises, the permission to read |
//! | `steering` | towards the wanted holders, one change after the other |
//! | `copies` | snapshots for learners |
//! | `remains` | what it begins with, and what it leaves for the next life of its node |

mod apply;
mod copies;
mod follow;
mod lead;
mod remains;
mod steering;
mod takeover;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attention::Attention;
use super::config::{ConfigRole, GroupConfig, GroupId, ReplicaId};
use super::dedup::SessionWindows;
use super::io::{Output, ReadGate, Role};
use super::log::Log;
use super::messages::{
    ConfigClaim, Entry, LogPosition, Message, PayloadId, Release, SessionId, SnapshotId,
};
use super::mutant::Mutant;
use super::payloads::Payloads;
use super::peers::Peers;
use super::progress::Progress;
use super::summary::{GroupSummary, LearnerSummary};
use super::timers::Timers;
use crate::group::{Seq, Ticket};
use crate::{Epoch, ErrorCode, Failure, Instant};
use apply::Running;
use copies::Turns;
use lead::Lead;
pub(super) use lead::Wanted;
use remains::Restored;

/// What the replicas of a host share, and need of it while they handle an event.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) now: Instant,
    pub(super) me: ReplicaId,
    pub(super) timers: Timers,
    pub(super) mutant: Mutant,
    pub(super) peers: Peers,
    pub(super) outputs: VecDeque<Output>,
    /// Groups that may have something to send.
    pub(super) dirty: BTreeSet<GroupId>,
    /// Sessions below this one have expired, says the catalog.
    pub(super) expired_below: SessionId,
    /// The last snapshot's number.
    pub(super) snapshots: u64,
    /// Snapshots that this host keeps for learners.
    pub(super) copies: usize,
    /// Groups with a learner that waits for its turn to copy.
    pub(super) turns: Turns,
    /// Groups of this host that have or want learners, as of the last tick and asked for since.
    pub(super) learning: usize,
}

impl Context {
    /// What a host begins with.
    pub(super) fn new(me: ReplicaId, timers: Timers, mutant: Mutant) -> Self {
        Self {
            now: Instant(0),
            me,
            timers,
            mutant,
            peers: Peers::default(),
            outputs: VecDeque::new(),
            dirty: BTreeSet::new(),
            expired_below: SessionId(0),
            snapshots: 0,
            copies: 0,
            turns: Turns::default(),
            learning: 0,
        }
    }

    /// The next group that may freeze its state for a learner, when there is room for it.
    pub(super) fn next_turn(&mut self) -> Option<GroupId> {
        (self.copies < self.timers.copies_max).then(|| self.turns.next()).flatten()
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn send(&mut self, to: ReplicaId, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }
}

/// One replica of one group.
///
/// # Invariants
///
/// 1. `applied <= emitted <= commit <= min(verified, held)` on a backup, and `<= last` on a primary.
/// 2. Nothing at or below `commit` is ever cut off.
/// 3. There is a `lead` exactly when the role is primary, active or pending.
#[derive(Debug)]
pub(super) struct Replica {
    group: GroupId,
    claim: ConfigClaim,
    role: Role,
    base: Base,
    log: Log,
    /// The log agrees with this epoch's primary up to here; a backup's and a learner's.
    verified: Seq,
    /// No bytes are missing up to here.
    held: Seq,
    commit: Seq,
    /// Handed to the driver up to here, or passed over.
    emitted: Seq,
    applied: Seq,
    /// Requests as of `emitted`: what decides which entry is executed.
    decisions: SessionWindows,
    /// Requests and their answers as of `applied`: what clients hear and snapshots carry.
    results: SessionWindows,
    /// The entries `applied + 1 ..= emitted`.
    running: VecDeque<Running>,
    payloads: Payloads,
    /// Who waits for which entry.
    tickets: BTreeMap<Seq, Vec<Ticket>>,
    gate: ReadGate,
    adopted_at: Instant,
    asked_at: Option<Instant>,
    targets: Vec<ReplicaId>,
    /// Config or targets are news that no tick has looked at yet.
    stirred: bool,
    /// What the host has noted of us.
    noted: Attention,
    follow: Follow,
    lead: Option<Box<Lead>>,
    restored: Option<Box<Restored>>,
    /// Until when an earlier life may have promised its silence.
    silent_until: Instant,
}

/// What entries are applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// Nothing.
    None,
    /// A state that the driver is fetching.
    Fetching { from: ReplicaId, snapshot: SnapshotId, at: LogPosition },
    /// A state with everything up to `applied` in it.
    Ready,
}

/// What a backup or learner remembers within one epoch.
#[derive(Debug, Default)]
struct Follow {
    /// The primary has spoken to this group in this epoch.
    spoke: bool,
    tried_at: Option<Instant>,
    nudged_at: Option<Instant>,
    fetched_at: Option<Instant>,
    /// Promises that we were given and give back, and how often to say so again.
    release: Option<(Epoch, u8)>,
}

impl Replica {
    /// A replica that knows nothing of its group yet.
    pub(super) fn new(group: GroupId, targets: Vec<ReplicaId>) -> Self {
        let config = GroupConfig {
            group,
            epoch: Epoch(0),
            primary: ReplicaId::default(),
            in_sync: Vec::new(),
            learners: Vec::new(),
            lost: false,
        };
        Self {
            group,
            claim: ConfigClaim { config: Arc::new(config), proof: Bytes::new() },
            role: Role::Empty,
            base: Base::None,
            log: Log::default(),
            verified: Seq(0),
            held: Seq(0),
            commit: Seq(0),
            emitted: Seq(0),
            applied: Seq(0),
            decisions: SessionWindows::default(),
            results: SessionWindows::default(),
            running: VecDeque::new(),
            payloads: Payloads::default(),
            tickets: BTreeMap::new(),
            gate: ReadGate::closed(Epoch(0)),
            adopted_at: Instant(0),
            asked_at: None,
            targets,
            stirred: false,
            noted: Attention::default(),
            follow: Follow::default(),
            lead: None,
            restored: None,
            silent_until: Instant(0),
        }
    }

    /// Takes a config that is proven and newer than ours.
    pub(super) fn adopt(&mut self, ctx: &mut Context, claim: ConfigClaim) {
        let (old, new) = (Arc::clone(&self.claim.config), Arc::clone(&claim.config));
        self.leave_lease_set(ctx, &old, &new);
        let led = self.lead.is_some();
        if led && (new.primary != ctx.me || new.lost) {
            self.stand_down(ctx, &new);
        }
        self.claim = claim;
        self.weigh_restored(ctx, &new);
        self.stirred = true;
        self.adopted_at = ctx.now;
        self.asked_at = None;
        self.follow = Follow { release: self.follow.release.take(), ..Follow::default() };
        self.verified = self.commit;
        for member in new.members().filter(|member| *member != ctx.me) {
            ctx.peers.meet(member, ctx.now);
        }
        match new.role_of(ctx.me).filter(|_| !new.lost) {
            Some(ConfigRole::Primary) => self.adopt_as_primary(ctx, &old),
            Some(ConfigRole::Backup) => {
                self.start_from_nothing(ctx);
                self.set_role(ctx, Role::Backup);
            }
            Some(ConfigRole::Learner) => {
                // In an epoch that it missed the group may have been lost and started again, with a log of its own.
                if self.role != Role::Learner || new.epoch.0 != old.epoch.0 + 1 {
                    self.reset(ctx);
                } else if old.primary != new.primary {
                    self.give_up_copy();
                }
                self.set_role(ctx, Role::Learner);
            }
            None => {
                if self.role != Role::Empty {
                    self.reset(ctx);
                }
                self.set_role(ctx, Role::Empty);
            }
        }
        self.enter_lease_set(ctx, &new);
        if self.lead.is_some() {
            self.try_commit(ctx);
            ctx.dirty.insert(self.group);
            self.steer(ctx);
        } else {
            self.give_back(ctx);
        }
        self.update_gate(ctx);
    }

    fn adopt_as_primary(&mut self, ctx: &mut Context, old: &GroupConfig) {
        self.start_from_nothing(ctx);
        // In an epoch that we missed, others may have cut what we know them to hold.
        let next = Epoch(old.epoch.0 + 1);
        let missed =
            self.claim.config.epoch != next && ctx.mutant != Mutant::ContinueAcrossMissedEpochs;
        match self.lead.take() {
            Some(lead) if !missed => self.continue_to_lead(ctx, lead),
            lead => {
                if let Some(lead) = lead {
                    self.drop_copies(ctx, &lead);
                    // The barrier may be committed by fewer than they were promised.
                    self.fail_tickets(ctx, self.commit);
                }
                self.begin_to_lead(ctx);
            }
        }
        for member in self.claim.config.members() {
            if let Some(peer) = ctx.peers.get_mut(member) {
                peer.beat_at = ctx.now;
            }
        }
    }

    /// Our part in the leases of a primary that is about to change, before anything else changes.
    fn leave_lease_set(&self, ctx: &mut Context, old: &GroupConfig, new: &GroupConfig) {
        let followed = old.primary != ctx.me && old.role_of(ctx.me).is_some();
        let follows_on = new.primary == old.primary && new.role_of(ctx.me).is_some() && !new.lost;
        if followed && !follows_on {
            let version = ctx.peers.next_version();
            if let Some(peer) = ctx.peers.get_mut(old.primary) {
                peer.lease.granted.leave(self.group, version, ctx.mutant);
            }
        }
    }

    fn enter_lease_set(&self, ctx: &mut Context, new: &GroupConfig) {
        if new.primary == ctx.me || new.role_of(ctx.me).is_none() || new.lost {
            return;
        }
        let version = ctx.peers.next_version();
        if let Some(peer) = ctx.peers.get_mut(new.primary) {
            peer.lease.granted.enter(self.group, new.epoch, version);
        }
    }

    /// Ends our time as primary: first the reads, then the leases, then those who wait.
    fn stand_down(&mut self, ctx: &mut Context, new: &GroupConfig) {
        self.gate = ReadGate::closed(new.epoch);
        ctx.emit(Output::Reads { group: self.group, gate: self.gate.clone() });
        for member in self.claim.config.members() {
            if let Some(peer) = ctx.peers.get_mut(member) {
                peer.lease.held.void(self.group);
            }
        }
        self.follow.release = Some((Epoch(new.epoch.0 - 1), 4));
        if let Some(lead) = self.lead.take() {
            self.drop_copies(ctx, &lead);
        }
        self.fail_tickets(ctx, self.commit);
    }

    /// Gives the promises back that we were given as primary; said a few times, as it may get lost.
    fn give_back(&mut self, ctx: &mut Context) {
        let Some((up_to, times)) = self.follow.release else { return };
        self.follow.release = (times > 1).then(|| (up_to, times - 1));
        if self.claim.config.primary != ctx.me {
            let release = Release { group: self.group, up_to };
            ctx.send(self.claim.config.primary, Message::Release(release));
        }
    }

    /// Drops everything.
    fn reset(&mut self, ctx: &mut Context) {
        self.fail_tickets(ctx, Seq(0));
        ctx.emit(Output::Reset { group: self.group });
        for id in self.payloads.clear() {
            ctx.emit(Output::ReleasePayload { group: self.group, id });
        }
        self.restart_at(LogPosition::default(), SessionWindows::default());
        self.base = Base::None;
    }

    /// Begins with the state at a place and nothing after it.
    fn restart_at(&mut self, at: LogPosition, windows: SessionWindows) {
        self.log = Log::after(at);
        self.verified = at.seq;
        self.held = at.seq;
        self.commit = at.seq;
        self.emitted = at.seq;
        self.applied = at.seq;
        self.running.clear();
        self.decisions = windows.clone();
        self.results = windows;
    }

    fn set_role(&mut self, ctx: &mut Context, role: Role) {
        self.role = role;
        ctx.emit(Output::Role { group: self.group, role, epoch: self.epoch() });
    }

    /// Takes entries after `seq` off the log.
    fn cut_after(&mut self, ctx: &mut Context, seq: Seq) {
        assert!(seq >= self.commit, "what is committed is never cut: {self:?}");
        for entry in self.log.cut_after(seq) {
            self.forget_payload(ctx, &entry);
        }
        self.held = self.held.min(seq);
        self.verified = self.verified.min(seq);
    }

    fn forget_payload(&mut self, ctx: &mut Context, entry: &Entry) {
        if let Some(id) = self.payloads.unname(entry) {
            ctx.emit(Output::ReleasePayload { group: self.group, id });
        }
    }

    /// Goes on to where the first bytes are missing.
    fn advance_held(&mut self, mutant: Mutant) {
        while let Some(entry) = self.log.get(self.held.next()) {
            if !self.payloads.has(entry.payload) && mutant != Mutant::AckWithoutPayload {
                break;
            }
            self.held = entry.seq;
        }
    }

    /// Asks the catalog for a config above ours, not too often.
    fn ask_catalog(&mut self, ctx: &mut Context) {
        if self.asked_at.is_some_and(|at| ctx.now.since(at) < ctx.timers.propose_again) {
            return;
        }
        self.asked_at = Some(ctx.now);
        ctx.emit(Output::AskCatalog { group: self.group, above: self.epoch() });
    }

    /// The bytes of a payload lie here.
    pub(super) fn on_payload_ready(
        &mut self,
        ctx: &mut Context,
        id: PayloadId,
    ) -> Result<(), Failure> {
        if self.role == Role::Empty {
            return Err(self.wrong_node());
        }
        self.payloads.ready(id, ctx.now)?;
        let before = self.held;
        self.advance_held(ctx.mutant);
        if self.held > before && self.lead.is_none() && self.follow.spoke {
            self.acknowledge(ctx, self.claim.config.primary);
        }
        Ok(())
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, ctx: &mut Context) {
        self.stirred = false;
        for id in self.payloads.expire(ctx.now, ctx.timers.payload_keep) {
            ctx.emit(Output::ReleasePayload { group: self.group, id });
        }
        match self.role {
            Role::Empty => {}
            Role::Learner | Role::Backup => self.tick_follow(ctx),
            Role::PrimaryPending | Role::Primary => self.tick_lead(ctx),
        }
    }

    /// The attention that it needs now; with what was noted before, when that was something else.
    pub(super) fn news_of_attention(&mut self) -> Option<(Attention, Attention)> {
        let now = self.attention();
        (now != self.noted).then(|| (std::mem::replace(&mut self.noted, now), now))
    }

    /// What the host has noted.
    pub(super) fn noted(&self) -> Attention {
        self.noted
    }

    fn attention(&self) -> Attention {
        Attention {
            busy: self.is_busy(),
            pending: self.role == Role::PrimaryPending,
            learning: self.lead.as_ref().is_some_and(|lead| self.is_learning(lead)),
            news: self.has_news(),
        }
    }

    fn is_busy(&self) -> bool {
        if self.stirred {
            return true;
        }
        match self.role {
            Role::Empty => false,
            Role::Learner | Role::PrimaryPending => true,
            Role::Backup => !self.follow.spoke || self.held < self.log.last().seq,
            Role::Primary => self.lead.as_ref().is_some_and(|lead| {
                let last = self.log.last().seq;
                lead.pending.is_some()
                    || lead.hold
                    || lead.progress.values().any(|it| !it.confirmed || it.reached() < last)
            }),
        }
    }

    /// After a pause of our own, nobody's slowness is held against them.
    pub(super) fn forgive(&mut self, pause: Duration, now: Instant) {
        self.adopted_at = self.adopted_at.after(pause).min(now);
        for progress in self.lead.iter_mut().flat_map(|lead| lead.progress.values_mut()) {
            progress.forgive(pause, now);
        }
    }

    pub(super) fn set_targets(&mut self, targets: Vec<ReplicaId>) {
        self.targets = targets;
        self.stirred = true;
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.claim.config.epoch
    }

    pub(super) fn config(&self) -> &Arc<GroupConfig> {
        &self.claim.config
    }

    pub(super) fn entries(&self, from: Seq, up_to: Seq) -> Vec<Entry> {
        let after = Seq(from.0.saturating_sub(1));
        self.log.after_seq(after).take_while(|entry| entry.seq <= up_to).cloned().collect()
    }

    pub(super) fn commit(&self) -> Seq {
        self.commit
    }

    /// Whether there is a state, what is held, and what is committed.
    pub(super) fn place(&self) -> (bool, Seq, Seq) {
        (self.base == Base::Ready, self.held, self.commit)
    }

    /// Its role, and how many learners it brings up.
    pub(super) fn load(&self) -> (Role, usize) {
        (self.role, if self.lead.is_some() { self.claim.config.learners.len() } else { 0 })
    }

    pub(super) fn summary(&self) -> GroupSummary {
        let config = &self.claim.config;
        let learner = |(id, progress): (&ReplicaId, &Progress)| LearnerSummary {
            learner: *id,
            based: progress.based,
            matched: progress.matched,
        };
        let learners = self.lead.iter().flat_map(|lead| lead.progress.iter());
        GroupSummary {
            group: self.group,
            role: self.role,
            epoch: config.epoch,
            primary: config.primary,
            in_sync: config.in_sync.clone(),
            learners: learners
                .filter(|(id, _)| config.learners.contains(id))
                .map(learner)
                .collect(),
            lost: config.lost,
            has_base: self.base == Base::Ready,
            last: self.log.last().seq,
            held: self.held,
            commit: self.commit,
            applied: self.applied,
            gate: self.gate.clone(),
        }
    }

    /// # Panics
    ///
    /// When an invariant is broken.
    pub(super) fn assert_invariants(&self, mutant: Mutant) {
        let last = self.log.last().seq;
        let early = mutant == Mutant::ReadUncommittedTail;
        assert!(self.applied <= self.emitted, "{self:?}");
        assert!(self.emitted <= self.commit || early, "{self:?}");
        assert!(self.commit <= last && self.held <= last && self.verified <= last, "{self:?}");
        assert!(self.log.start().seq <= self.applied, "{self:?}");
        assert_eq!(self.emitted.0 - self.applied.0, self.running.len() as u64, "{self:?}");
        let leads = matches!(self.role, Role::Primary | Role::PrimaryPending);
        assert_eq!(leads, self.lead.is_some(), "{self:?}");
        assert!(leads || self.gate.leased_by.is_none(), "{self:?}");
        assert!(self.decisions.is_sound() && self.results.is_sound(), "{self:?}");
        assert_eq!(self.noted, self.attention(), "{self:?}");
    }

    fn wrong_node(&self) -> Failure {
        let config = &self.claim.config;
        if config.lost {
            let message = format!("the last copy of group {} is gone", self.group);
            return Failure::new(ErrorCode::DataLost, message)
                .help("`holo ring accept-loss` gives it up: it begins anew as zeros");
        }
        let message = match config.epoch {
            // What was put back is nobody's data yet.
            Epoch(0) => format!("group {} is not here", self.group),
            epoch => {
                let primary = config.primary;
                format!("group {} is served by replica {primary} in epoch {epoch}", self.group)
            }
        };
        Failure::new(ErrorCode::WrongNode, message).help("fetch the placement table again")
    }

    /// Answers everybody who waits for an entry after `seq`.
    fn fail_tickets(&mut self, ctx: &mut Context, seq: Seq) {
        for (entry, tickets) in self.tickets.split_off(&seq.next()) {
            let keyed = self.log.get(entry).is_some_and(|entry| entry.request.is_some());
            for ticket in tickets {
                // With a key it may be asked for again elsewhere, and happens once whatever becomes of this entry.
                let failure =
                    if keyed { self.wrong_node() } else { outcome_unknown("its primary changed") };
                ctx.emit(Output::Reply { ticket, outcome: Err(failure) });
            }
        }
    }
}

fn outcome_unknown(why: &str) -> Failure {
    let message = format!("nobody knows whether the request was executed: {why}");
    Failure::new(ErrorCode::OutcomeUnknown, message).help("read before you try again")
}

fn denied(sender: ReplicaId, group: GroupId) -> Failure {
    let message = format!("replica {sender} has no such role in group {group}");
    Failure::new(ErrorCode::Denied, message)
}

fn malformed(what: &str) -> Failure {
    Failure::new(ErrorCode::Malformed, what.to_owned())
}
