//! A backup's and a learner's side: entries, snapshots, news of commits.

use super::{Base, Context, Replica, denied, malformed};
use crate::group::Seq;
use crate::replication::config::ReplicaId;
use crate::replication::io::{Output, Role};
use crate::replication::messages::{
    Append, AppendAck, AppendNack, CommitNews, Entry, LogPosition, Message, SnapshotOffer,
};
use crate::replication::mutant::Mutant;
use crate::{Epoch, Failure, Instant, limits};

impl Replica {
    /// Entries, or a question whether the logs agree.
    pub(in crate::replication) fn on_append(
        &mut self,
        ctx: &mut Context,
        from: ReplicaId,
        append: Append,
    ) -> Result<(), Failure> {
        let stale = append.epoch < self.epoch() && ctx.mutant != Mutant::NoEpochCheckOnAppend;
        if stale || append.epoch > self.epoch() {
            self.refuse_epoch(ctx, from, append.epoch);
            return Ok(());
        }
        self.check_primary(ctx, from, append.epoch)?;
        check_entries(&append)?;
        self.follow.spoke = true;
        self.give_back(ctx);
        if self.base == Base::None {
            self.refuse(ctx, from, Seq(0), true);
            return Ok(());
        }
        if !self.agrees_at(ctx.mutant, append.prev) {
            let have = self.where_logs_may_agree(append.prev.seq);
            self.refuse(ctx, from, have, false);
            return Ok(());
        }
        self.take_entries(ctx, from, append.prev.seq, append.entries);
        self.commit_to(ctx, append.commit);
        self.acknowledge(ctx, from);
        Ok(())
    }

    /// A state to fetch.
    pub(in crate::replication) fn on_offer(
        &mut self,
        ctx: &mut Context,
        from: ReplicaId,
        offer: SnapshotOffer,
    ) -> Result<(), Failure> {
        if offer.epoch != self.epoch() {
            self.refuse_epoch(ctx, from, offer.epoch);
            return Ok(());
        }
        self.check_primary(ctx, from, offer.epoch)?;
        if offer.at.epoch > offer.epoch || offer.at.seq.0 == u64::MAX {
            return Err(malformed("a snapshot of the future"));
        }
        self.follow.spoke = true;
        let is_news = match self.base {
            Base::None => true,
            Base::Fetching { from: earlier, snapshot, .. } => {
                earlier != from || snapshot < offer.snapshot
            }
            // Bytes that it lacks may be gone everywhere, so only what it holds whole counts.
            Base::Ready => offer.at.seq > self.verified.min(self.held),
        };
        if self.role == Role::Learner && is_news {
            if !self.running.is_empty() {
                ctx.emit(Output::Reset { group: self.group });
            }
            for id in self.payloads.clear() {
                ctx.emit(Output::ReleasePayload { group: self.group, id });
            }
            self.restart_at(offer.at, offer.windows.as_ref().clone());
            self.base = Base::Fetching { from, snapshot: offer.snapshot, at: offer.at };
            let (group, snapshot, at) = (self.group, offer.snapshot, offer.at);
            ctx.emit(Output::FetchSnapshot { group, from, snapshot, at });
        }
        self.acknowledge(ctx, from);
        Ok(())
    }

    /// The driver has the whole state.
    pub(in crate::replication) fn on_snapshot_fetched(
        &mut self,
        ctx: &mut Context,
        at: LogPosition,
    ) {
        if let Base::Fetching { from, at: wanted, .. } = self.base
            && wanted == at
        {
            self.base = Base::Ready;
            self.advance(ctx);
            self.acknowledge(ctx, from);
        }
    }

    /// The driver could not get the state.
    pub(in crate::replication) fn on_snapshot_failed(&mut self, ctx: &mut Context) {
        if let Base::Fetching { from, at, .. } = self.base {
            if ctx.mutant == Mutant::AcceptTornSnapshot {
                return self.on_snapshot_fetched(ctx, at);
            }
            self.give_up_copy();
            self.refuse(ctx, from, at.seq, true);
        }
    }

    /// A state that is half there is no state.
    pub(super) fn give_up_copy(&mut self) {
        if matches!(self.base, Base::Fetching { .. }) {
            self.base = Base::None;
        }
    }

    /// A quiet group's commit.
    pub(in crate::replication) fn on_commit_news(
        &mut self,
        ctx: &mut Context,
        from: ReplicaId,
        news: CommitNews,
    ) {
        if news.epoch != self.epoch() {
            self.refuse_epoch(ctx, from, news.epoch);
        } else if from == self.claim.config.primary
            && matches!(self.role, Role::Backup | Role::Learner)
        {
            let before = self.commit;
            self.commit_to(ctx, news.commit);
            if self.commit > before {
                self.acknowledge(ctx, from);
            }
        }
    }

    /// Looks after what a follower waits for.
    pub(super) fn tick_follow(&mut self, ctx: &mut Context) {
        self.watch_primary(ctx);
        let now = ctx.now;
        let due = |at: Option<Instant>, every| at.is_none_or(|at| now.since(at) >= every);
        if self.held < self.log.last().seq && due(self.follow.fetched_at, ctx.timers.evict) {
            self.follow.fetched_at = Some(ctx.now);
            self.fetch_missing(ctx, self.claim.config.primary, self.held, 16);
        }
        // A primary that does not know its epoch yet, or lost our answer, is told.
        let quiet = !self.follow.spoke && ctx.now.since(self.adopted_at) >= ctx.timers.heartbeat;
        if quiet && due(self.follow.nudged_at, ctx.timers.heartbeat) {
            self.follow.nudged_at = Some(ctx.now);
            self.refuse_with_config(ctx, self.claim.config.primary);
        }
    }

    /// Says how far the log is in agreement.
    pub(super) fn acknowledge(&self, ctx: &mut Context, to: ReplicaId) {
        let ack = AppendAck {
            group: self.group,
            epoch: self.epoch(),
            matched: self.verified.min(self.held),
            committed: self.commit,
            based: self.base == Base::Ready,
        };
        ctx.send(to, Message::AppendAck(ack));
    }

    /// Somebody speaks in an epoch that is not ours: the one who is behind shall learn of the other.
    fn refuse_epoch(&mut self, ctx: &mut Context, from: ReplicaId, theirs: Epoch) {
        if theirs < self.epoch() {
            self.refuse_with_config(ctx, from);
        } else {
            self.ask_catalog(ctx);
            self.refuse(ctx, from, self.commit, false);
        }
    }

    pub(super) fn refuse_with_config(&self, ctx: &mut Context, to: ReplicaId) {
        let nack = AppendNack {
            group: self.group,
            epoch: self.epoch(),
            have: self.verified.min(self.held),
            needs_snapshot: self.needs_snapshot(),
            claim: Some(self.claim.clone()),
        };
        ctx.send(to, Message::AppendNack(nack));
    }

    fn refuse(&self, ctx: &mut Context, to: ReplicaId, have: Seq, needs_snapshot: bool) {
        let (group, epoch) = (self.group, self.epoch());
        let nack = AppendNack { group, epoch, have, needs_snapshot, claim: None };
        ctx.send(to, Message::AppendNack(nack));
    }

    fn needs_snapshot(&self) -> bool {
        self.role == Role::Learner && self.base == Base::None
    }

    /// Only the primary of our epoch may tell us what the log is, and only when we are not it.
    fn check_primary(&self, ctx: &Context, from: ReplicaId, epoch: Epoch) -> Result<(), Failure> {
        let follows = matches!(self.role, Role::Backup | Role::Learner);
        let leads = from == self.claim.config.primary
            || epoch != self.epoch()
            || ctx.mutant == Mutant::IgnoreSenderRole;
        if follows && leads { Ok(()) } else { Err(denied(from, self.group)) }
    }

    fn agrees_at(&self, mutant: Mutant, prev: LogPosition) -> bool {
        prev.seq <= self.log.last().seq
            && (prev.seq <= self.commit
                || self.log.epoch_at(prev.seq) == Some(prev.epoch)
                || mutant == Mutant::NoPreviousEpochCheck)
    }

    /// A number below `conflict` at which the primary may try again: before the run of one epoch's entries there, and
    /// never below the commit.
    fn where_logs_may_agree(&self, conflict: Seq) -> Seq {
        let last = self.log.last().seq;
        if conflict > last {
            return last;
        }
        let epoch = self.log.epoch_at(conflict);
        let mut seq = conflict;
        while seq > self.commit && self.log.epoch_at(seq) == epoch {
            seq = Seq(seq.0 - 1);
        }
        seq
    }

    fn take_entries(&mut self, ctx: &mut Context, from: ReplicaId, prev: Seq, entries: Vec<Entry>) {
        let mut agreed = prev;
        let fetch_after = self.log.last().seq;
        for entry in entries {
            let seq = entry.seq;
            if seq <= self.commit {
                agreed = seq;
                continue;
            }
            if seq <= self.log.last().seq {
                let same = self.log.epoch_at(seq) == Some(entry.epoch)
                    || ctx.mutant == Mutant::NoPreviousEpochCheck;
                if same {
                    agreed = seq;
                    continue;
                }
                self.cut_after(ctx, Seq(seq.0 - 1));
            }
            if !self.log.has_room(entry.log_bytes()) {
                break;
            }
            self.payloads.name(&entry, ctx.now);
            self.log.push(entry);
            agreed = seq;
        }
        self.verified = self.verified.max(agreed);
        self.advance_held(ctx.mutant);
        if self.held < self.log.last().seq {
            let after = fetch_after.min(self.log.last().seq);
            self.fetch_missing(ctx, from, after.max(self.held), limits::APPEND_ENTRIES_MAX);
        }
    }

    fn fetch_missing(&self, ctx: &mut Context, from: ReplicaId, after: Seq, at_most: usize) {
        let missing = self.log.after_seq(after).filter_map(|entry| entry.payload);
        for payload in missing.filter(|payload| !self.payloads.has(Some(*payload))).take(at_most) {
            ctx.emit(Output::FetchPayload { group: self.group, from, payload });
        }
    }

    /// The primary has committed up to `commit`; we follow as far as our log agrees with its.
    fn commit_to(&mut self, ctx: &mut Context, commit: Seq) {
        let commit = commit.min(self.verified).min(self.held);
        if commit > self.commit {
            self.commit = commit;
            self.advance(ctx);
        }
    }
}

fn check_entries(append: &Append) -> Result<(), Failure> {
    if append.entries.len() > limits::APPEND_ENTRIES_MAX || append.prev.epoch > append.epoch {
        return Err(malformed("entries beyond the bounds of a message"));
    }
    let mut prev = append.prev;
    for entry in &append.entries {
        let follows = prev.seq.0.checked_add(1) == Some(entry.seq.0);
        if !follows || entry.epoch < prev.epoch || entry.epoch > append.epoch {
            return Err(malformed("entries out of order"));
        }
        entry.check()?;
        prev = entry.position();
    }
    Ok(())
}
