//! A primary's side: proposals, sending, acks, the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::copies::{drop_copy, fail_copy};
use super::steering::{Pending, Retry};
use super::{Base, Context, Replica, malformed, outcome_unknown};
use crate::group::{Op, Seq, Ticket};
use crate::replication::config::ReplicaId;
use crate::replication::io::{Output, Role};
use crate::replication::messages::{
    Append, AppendAck, AppendNack, Entry, EntryOp, LogPosition, Message, Payload, RequestKey,
    SessionId, check_operation,
};
use crate::replication::mutant::Mutant;
use crate::replication::progress::{Progress, SnapshotCopy};
use crate::{Count, ErrorCode, Failure, Instant, limits};

/// What a replica keeps only while it is the primary.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// Every other member.
    pub(super) progress: BTreeMap<ReplicaId, Progress>,
    /// The first entry of our time.
    pub(super) barrier: Seq,
    /// Learners that we ever proposed to be in sync in this epoch: the catalog may have agreed without our knowing,
    /// so their acks and leases count from the proposal on, whatever becomes of it.
    pub(super) proposed: BTreeSet<ReplicaId>,
    /// The change that the catalog is asked for.
    pub(super) pending: Option<Pending>,
    /// Entries that are not applied yet, by their request.
    pub(super) keys: BTreeMap<(SessionId, u64), Seq>,
    /// When the catalog last refused.
    pub(super) refused_at: Option<Instant>,
    /// The catalog was asked in this epoch to let a silent member go though the class wants more, and may have agreed
    /// without our knowing: what is acknowledged now may have too few copies.
    pub(super) pleads: bool,
    /// When it was last asked for that.
    pub(super) pleaded_at: Option<Instant>,
    /// Targets that could not be brought up.
    pub(super) retries: BTreeMap<ReplicaId, Retry>,
    /// A snapshot waits until everything that was emitted is applied.
    pub(super) hold: bool,
}

/// An operation on its way into the log.
#[derive(Debug)]
pub(in crate::replication) struct Wanted {
    pub(in crate::replication) ticket: Ticket,
    pub(in crate::replication) request: Option<RequestKey>,
    pub(in crate::replication) op: Op,
    pub(in crate::replication) payload: Option<Payload>,
}

impl Replica {
    /// Somebody wants an operation.
    pub(in crate::replication) fn propose(
        &mut self,
        ctx: &mut Context,
        wanted: Wanted,
    ) -> Result<(), Failure> {
        let Wanted { ticket, request, op, payload } = wanted;
        let op = EntryOp::Op(op);
        check_operation(&op, request.as_ref(), payload.as_ref())?;
        self.check_admission(ctx)?;
        if let Some(key) = &request
            && self.is_known(ctx, key, ticket)?
        {
            // The first try has its own bytes.
            if let Some(payload) = payload.filter(|p| self.payloads.drop_unnamed(p.id)) {
                ctx.emit(Output::ReleasePayload { group: self.group, id: payload.id });
            }
            return Ok(());
        }
        if payload.is_some_and(|payload| !self.payloads.is_fresh(payload.id)) {
            // Another try of the same request may still succeed, so this is no refusal for good.
            let message = "the bytes of the payload are not staged here any more, or published";
            return Err(Failure::new(ErrorCode::NotReady, message).help("stage them again"));
        }
        let entry = Entry {
            epoch: self.epoch(),
            seq: self.log.last().seq.next(),
            request,
            expired_below: ctx.expired_below,
            op,
            payload,
        };
        if !self.log.has_room(entry.log_bytes()) {
            let message = format!("{} operations wait in group {}", self.log.len(), self.group);
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(20));
        }
        self.tickets.insert(entry.seq, vec![ticket]);
        if let (Some(lead), Some(key)) = (&mut self.lead, &request) {
            lead.keys.insert((key.session, key.number), entry.seq);
        }
        self.append_own(ctx, entry);
        self.try_commit(ctx);
        Ok(())
    }

    fn check_admission(&self, ctx: &Context) -> Result<(), Failure> {
        match self.role {
            Role::Primary => {}
            Role::PrimaryPending => {
                let message = format!("replica {} takes over group {}", ctx.me, self.group);
                return Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(50));
            }
            Role::Empty | Role::Learner | Role::Backup => return Err(self.wrong_node()),
        }
        if self.has_quorum(ctx.mutant) { Ok(()) } else { Err(self.no_quorum()) }
    }

    /// Whether enough replicas are in sync for a write.
    pub(super) fn has_quorum(&self, mutant: Mutant) -> bool {
        let pleads = self.lead.as_ref().is_some_and(|lead| lead.pleads);
        let enough = self.claim.config.in_sync.len() >= usize::from(self.group.class.min_in_sync);
        (enough && !pleads) || mutant == Mutant::IgnoreMinInSync
    }

    pub(super) fn no_quorum(&self) -> Failure {
        let gone = usize::from(self.lead.as_ref().is_some_and(|lead| lead.pleads));
        let message = format!(
            "group {} has {} in sync, a write needs {}",
            self.group,
            Count::from(self.claim.config.in_sync.len() - gone).of("replica"),
            self.group.class.min_in_sync
        );
        Failure::new(ErrorCode::NoQuorum, message)
            .help("wait until another replica is in sync, or bring its node back")
            .retry_after_ms(200)
    }

    /// Whether the request was seen before; if so, it is answered now or with its first try.
    fn is_known(
        &mut self,
        ctx: &mut Context,
        key: &RequestKey,
        ticket: Ticket,
    ) -> Result<bool, Failure> {
        if let Some(outcome) = self.results.answer(key).and_then(|answer| answer.outcome()) {
            ctx.emit(Output::Reply { ticket, outcome });
            return Ok(true);
        }
        let number = (key.session, key.number);
        if let Some(seq) = self.lead.as_ref().and_then(|lead| lead.keys.get(&number)) {
            let waiting = self.tickets.entry(*seq).or_default();
            if waiting.len() >= limits::TICKETS_PER_ENTRY_MAX {
                let message = "the same request waits too many times";
                return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(50));
            }
            waiting.push(ticket);
            return Ok(true);
        }
        let expired =
            key.session < ctx.expired_below && ctx.mutant != Mutant::ExecuteExpiredSession;
        let beyond = self.decisions.is_beyond(key)
            && !matches!(ctx.mutant, Mutant::ExecuteBeyondWindow | Mutant::ExecuteExpiredSession);
        if expired || beyond {
            return Err(outcome_unknown("it lies beyond its session or its window"));
        }
        if self.decisions.is_full_for(key.session) {
            let message = format!("group {} remembers too many requests", self.group);
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(200));
        }
        Ok(false)
    }

    /// Appends an entry of our own; members hear of it when the outputs are polled.
    fn append_own(&mut self, ctx: &mut Context, entry: Entry) {
        self.payloads.name(&entry, ctx.now);
        self.held = entry.seq;
        self.log.push(entry);
        ctx.dirty.insert(self.group);
    }

    /// Begins our time as primary: what we never acknowledged goes, a barrier comes.
    pub(super) fn begin_to_lead(&mut self, ctx: &mut Context) {
        self.cut_after(ctx, self.held);
        let last = self.log.last().seq;
        let mut lead = Lead { barrier: last.next(), ..Lead::default() };
        for member in self.claim.config.members().filter(|member| *member != ctx.me) {
            lead.progress.insert(member, Progress::unknown(last, ctx.now));
        }
        for entry in self.log.after_seq(self.applied) {
            if let Some(key) = entry.request {
                lead.keys.insert((key.session, key.number), entry.seq);
            }
        }
        self.lead = Some(Box::new(lead));
        self.set_role(ctx, Role::PrimaryPending);
        let barrier = Entry {
            epoch: self.epoch(),
            seq: last.next(),
            request: None,
            expired_below: ctx.expired_below,
            op: EntryOp::Barrier,
            payload: None,
        };
        self.append_own(ctx, barrier);
    }

    /// Goes on in the next epoch: what members have, they have, but for those who left.
    pub(super) fn continue_to_lead(&mut self, ctx: &mut Context, mut lead: Box<Lead>) {
        let config = &self.claim.config;
        let members: BTreeSet<_> = config.members().filter(|member| *member != ctx.me).collect();
        let gone: Vec<_> =
            lead.progress.keys().filter(|id| !members.contains(id)).copied().collect();
        for id in gone {
            if let Some(progress) = lead.progress.get_mut(&id) {
                drop_copy(ctx, self.group, progress);
            }
            if ctx.mutant != Mutant::ProgressSurvivesRemoval {
                lead.progress.remove(&id);
            }
        }
        let last = self.log.last().seq;
        for id in members {
            let progress = lead.progress.entry(id);
            let progress = progress.or_insert_with(|| Progress::unknown(last, ctx.now));
            // The bug has to get past this, too.
            let learns =
                config.learners.contains(&id) && ctx.mutant != Mutant::ProgressSurvivesRemoval;
            progress.enter_epoch(learns, ctx.now);
        }
        lead.retries.retain(|id, _| !config.in_sync.contains(id));
        lead.proposed.clear();
        lead.pleads = false;
        lead.pending = None;
        self.lead = Some(lead);
        self.set_role(ctx, self.role);
    }

    /// Sends what members lack.
    pub(in crate::replication) fn flush(&mut self, ctx: &mut Context) {
        let mut at = None;
        while let Some(member) = self.next_hungry(at) {
            at = Some(member);
            self.feed(ctx, member);
        }
    }

    /// The first member after one that may be sent something.
    fn next_hungry(&self, after: Option<ReplicaId>) -> Option<ReplicaId> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let last = self.log.last().seq;
        let mut members = self.lead.as_ref()?.progress.range((after, Bound::Unbounded));
        let hungry = members.find(|(_, progress)| !progress.confirmed || progress.next <= last);
        hungry.map(|(member, _)| *member)
    }

    /// Sends one member what it lacks, as far as it answers.
    fn feed(&mut self, ctx: &mut Context, member: ReplicaId) {
        let last = self.log.last().seq;
        loop {
            let progress = self.lead.as_ref().and_then(|lead| lead.progress.get(&member));
            let Some(progress) = progress else { return };
            let (limit, owes) = match progress.confirmed {
                true => (limits::APPENDS_IN_FLIGHT_MAX, progress.next <= last),
                // One question until it has answered in this epoch.
                false => (1, true),
            };
            if !owes || progress.in_flight >= limit || !self.send_append(ctx, member, false) {
                return;
            }
        }
    }

    /// Sends one message of entries, an empty one when `probe`; says whether it could.
    fn send_append(&mut self, ctx: &mut Context, member: ReplicaId, probe: bool) -> bool {
        let (start, last) = (self.log.start(), self.log.last());
        let (group, epoch, commit) = (self.group, self.epoch(), self.commit);
        let is_learner = self.claim.config.learners.contains(&member);
        let Some(lead) = &mut self.lead else { return false };
        let is_learner = is_learner && !lead.proposed.contains(&member);
        let Some(progress) = lead.progress.get_mut(&member) else { return false };
        let mut after = Seq(progress.next.0.saturating_sub(1)).min(last.seq);
        if after < start.seq {
            // Whoever is in sync has all that is committed, so the logs agree where ours begins; a learner may not.
            if is_learner {
                progress.wants_copy |= progress.based || progress.copy.is_none();
                if !probe {
                    return false;
                }
                after = last.seq;
            } else {
                after = start.seq;
            }
        }
        let Some(prev_epoch) = self.log.epoch_at(after) else { return false };
        let mut entries = Vec::new();
        let mut bytes = 0;
        if (!probe || progress.next.0 == after.0 + 1) && after < last.seq {
            let count = usize::try_from(last.seq.0 - after.0).unwrap_or(usize::MAX);
            entries.reserve_exact(count.min(limits::APPEND_ENTRIES_MAX));
            for entry in self.log.after_seq(after).take(limits::APPEND_ENTRIES_MAX) {
                bytes += entry.wire_bytes();
                if bytes > limits::APPEND_BYTES_MAX {
                    break;
                }
                entries.push(entry.clone());
            }
        }
        progress.next = Seq(after.0 + entries.len() as u64).next();
        progress.in_flight += 1;
        progress.sent_at = ctx.now;
        let claim = (!progress.confirmed).then(|| self.claim.clone());
        let prev = LogPosition { epoch: prev_epoch, seq: after };
        ctx.send(member, Message::Append(Append { group, epoch, claim, prev, entries, commit }));
        true
    }

    /// A member's log agrees with ours.
    pub(in crate::replication) fn on_ack(
        &mut self,
        ctx: &mut Context,
        from: ReplicaId,
        ack: AppendAck,
    ) -> Result<(), Failure> {
        if ack.epoch > self.epoch() {
            self.ask_catalog(ctx);
            return Ok(());
        }
        if ack.epoch < self.epoch() {
            return Ok(());
        }
        let last = self.log.last().seq;
        let (group, start) = (self.group, self.log.start().seq);
        let is_learner = self.claim.config.learners.contains(&from);
        let progress = self.lead.as_mut().and_then(|lead| lead.progress.get_mut(&from));
        let Some(progress) = progress else { return Err(super::denied(from, group)) };
        if ack.matched > last || ack.committed > last {
            return Err(malformed("an ack of what was never sent"));
        }
        let before = progress.reached();
        if !progress.confirmed {
            // It follows us from now on, so its lease can be had: reads, or its promotion, may wait for that.
            progress.confirmed = true;
            ctx.peers.hurry(from);
        }
        progress.committed = progress.committed.max(ack.committed);
        // What it had before it was offered a snapshot may be gone, and a copy may still fail.
        let is_firm = ack.based && ack.matched >= progress.offered;
        if is_firm {
            progress.based = true;
            progress.matched = progress.matched.max(ack.matched);
            progress.wants_copy = false;
            progress.copy_failures = 0;
            drop_copy(ctx, group, progress);
        } else {
            if !ack.based {
                progress.note_copying(ack.matched, ctx.now);
            }
            progress.based &= ack.based;
            // It goes on with what it had: the offer did not arrive.
            progress.wants_copy |= ack.based && progress.copy.is_some();
            progress.received = progress.received.max(ack.matched);
        }
        let reached = progress.reached();
        // What a learner lacks is gone from here.
        progress.wants_copy |= is_learner && ack.based && reached < start;
        if reached > before || reached == last {
            progress.progressed_at = ctx.now;
        }
        progress.next = progress.next.max(reached.next());
        progress.in_flight = progress.in_flight.saturating_sub(1);
        if progress.next == reached.next() {
            progress.in_flight = 0;
        }
        self.try_commit(ctx);
        ctx.dirty.insert(group);
        if is_learner {
            self.steer(ctx);
        }
        Ok(())
    }

    /// A member could not take what we sent.
    pub(in crate::replication) fn on_nack(
        &mut self,
        ctx: &mut Context,
        from: ReplicaId,
        nack: &AppendNack,
    ) -> Result<(), Failure> {
        if nack.epoch > self.epoch() {
            self.ask_catalog(ctx);
            return Ok(());
        }
        let (group, epoch) = (self.group, self.epoch());
        let is_learner = self.claim.config.learners.contains(&from);
        if self.lead.is_none() && nack.epoch < epoch {
            // It takes us for the primary of an epoch that has passed.
            self.refuse_with_config(ctx, from);
            return Ok(());
        }
        let start = self.log.start().seq;
        let progress = self.lead.as_mut().and_then(|lead| lead.progress.get_mut(&from));
        let Some(progress) = progress else { return Err(super::denied(from, group)) };
        if nack.epoch < epoch {
            // Once at once with the config, later by the timer.
            if progress.confirmed {
                progress.confirmed = false;
                progress.in_flight = 0;
                ctx.dirty.insert(group);
            }
            return Ok(());
        }
        if nack.needs_snapshot && is_learner {
            progress.received = Seq(0);
            progress.based = false;
            progress.wants_copy = true;
            progress.in_flight = 0;
            // It names the place of the copy that failed; before a copy has begun there is none.
            let is_copied = |copy: &SnapshotCopy| copy.is_taken && copy.at.seq <= nack.have;
            if progress.copy.as_ref().is_some_and(is_copied) {
                fail_copy(ctx, group, progress);
            }
            self.serve_copies(ctx);
            return Ok(());
        }
        if !progress.based {
            progress.received = progress.received.min(nack.have);
        }
        // It goes on with what it had: the offer did not arrive, and what it lacks may be gone from here.
        progress.wants_copy |= progress.copy.is_some() && nack.have < progress.offered;
        let next = nack.have.max(progress.reached()).min(self.log.last().seq).next();
        let again =
            progress.nacked == Some(next) && ctx.now.since(progress.nacked_at) < ctx.timers.resend;
        if next < progress.next && !again {
            progress.nacked = Some(next);
            progress.nacked_at = ctx.now;
            progress.next = next;
            progress.in_flight = 0;
            if next > start || !is_learner {
                ctx.dirty.insert(group);
            }
        }
        Ok(())
    }

    /// Commits what every member of the maximal in-sync set has: those in sync, and those proposed to be.
    pub(super) fn try_commit(&mut self, ctx: &mut Context) {
        let Some(lead) = &self.lead else { return };
        if self.base != Base::Ready {
            return;
        }
        let matched = |id: ReplicaId| match lead.progress.get(&id) {
            _ if id == ctx.me => self.log.last().seq,
            progress => progress.map_or(Seq(0), |progress| progress.matched),
        };
        let in_sync = self.claim.config.in_sync.iter();
        let all = in_sync.chain(&lead.proposed).map(|id| matched(*id));
        let common = match ctx.mutant {
            Mutant::CommitOnMajority => {
                let mut all: Vec<Seq> = all.collect();
                all.sort_unstable();
                all.get(all.len().saturating_sub(1) / 2).copied()
            }
            _ => all.min(),
        };
        let common = common.unwrap_or_default();
        // A barrier, and what lies before it, is committed by however few are left.
        let allowed = match self.role {
            Role::Primary if self.has_quorum(ctx.mutant) => common,
            _ => common.min(lead.barrier),
        };
        if allowed > self.commit {
            self.commit = allowed;
        }
        self.advance(ctx);
        self.activate(ctx);
    }

    /// Looks after members that do not answer, and after what shall change.
    pub(super) fn tick_lead(&mut self, ctx: &mut Context) {
        self.activate(ctx);
        let last = self.log.last().seq;
        let group = self.group;
        let Some(lead) = &mut self.lead else { return };
        let mut again = Vec::new();
        for (id, progress) in &mut lead.progress {
            if progress.matched >= last {
                progress.progressed_at = ctx.now;
            }
            if ctx.peers.is_leased(*id, group, ctx.now) {
                progress.leased_at = ctx.now;
            }
            let learner = self.claim.config.learners.contains(id);
            if learner && progress.based && ctx.now.since(progress.progressed_at) > ctx.timers.stall
            {
                // It owes the same entry for long: nobody may have its bytes any more.
                progress.progressed_at = ctx.now;
                progress.wants_copy = true;
            }
            let is_stuck = |copy: &SnapshotCopy| ctx.now.since(copy.moved_at) > ctx.timers.stall;
            if progress.copy.as_ref().is_some_and(is_stuck) {
                // It is heard, and takes up nothing of what it is offered.
                fail_copy(ctx, group, progress);
            }
            if ctx.now.since(progress.sent_at) < ctx.timers.resend {
                continue;
            }
            let moved_on = ctx.peers.get(*id).is_some_and(|peer| peer.lease.held.lacks(group));
            let owes = progress.reached() < last || progress.in_flight > 0;
            let learns = learner && !progress.based;
            if owes || learns || moved_on || !progress.confirmed {
                progress.rewind();
                again.push(*id);
            }
        }
        for id in again {
            self.send_append(ctx, id, true);
            ctx.dirty.insert(group);
        }
        self.serve_copies(ctx);
        self.steer(ctx);
        self.update_gate(ctx);
    }
}
