//! Snapshots for learners: taken when everything emitted is applied, kept until the learner has its base.
//!
//! A host keeps a few at a time, whoever comes first. A learner that cannot copy, or does not, gives its place to the
//! next and is offered another snapshot after a pause, a longer one each time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::lead::Lead;
use super::{Base, Context, Replica};
use crate::replication::config::{GroupId, ReplicaId};
use crate::replication::dedup::SessionWindows;
use crate::replication::io::Output;
use crate::replication::messages::{LogPosition, Message, SnapshotId, SnapshotOffer};
use crate::replication::mutant::Mutant;
use crate::replication::progress::{Progress, SnapshotCopy};

/// How often the pause after a failed copy doubles at most.
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// Groups that wait until their host may keep a snapshot for them, in the order of their coming.
#[derive(Debug, Default)]
pub(in crate::replication) struct Turns {
    order: VecDeque<GroupId>,
    waiting: BTreeSet<GroupId>,
}

impl Turns {
    /// A group comes, or waits already.
    fn wait(&mut self, group: GroupId) {
        if self.waiting.insert(group) {
            self.order.push_back(group);
        }
    }

    /// Whoever has waited longest.
    pub(in crate::replication) fn next(&mut self) -> Option<GroupId> {
        let group = self.order.pop_front()?;
        self.waiting.remove(&group);
        Some(group)
    }
}

impl Replica {
    /// Offers a snapshot to every learner that wants one, as far as this host may keep them.
    pub(in crate::replication) fn serve_copies(&mut self, ctx: &mut Context) {
        self.serve(ctx, false);
    }

    /// This group has waited for that longest.
    pub(in crate::replication) fn take_turn(&mut self, ctx: &mut Context) {
        self.serve(ctx, true);
    }

    fn serve(&mut self, ctx: &mut Context, is_its_turn: bool) {
        let Some(lead) = &mut self.lead else { return };
        // Whoever held on had its turn before.
        let is_its_turn = std::mem::take(&mut lead.hold) || is_its_turn;
        if !lead.progress.values().any(|progress| progress.wants_copy) {
            return self.advance(ctx);
        }
        let wanting = lead.progress.iter().filter(|(_, progress)| progress.wants_copy);
        let wanting: Vec<ReplicaId> = wanting.map(|(id, _)| *id).collect();
        for learner in wanting {
            self.serve_copy(ctx, learner, is_its_turn);
        }
        self.advance(ctx);
    }

    fn serve_copy(&mut self, ctx: &mut Context, learner: ReplicaId, is_its_turn: bool) {
        let start = self.log.start().seq;
        let group = self.group;
        let Some(lead) = &mut self.lead else { return };
        let Some(progress) = lead.progress.get_mut(&learner) else { return };
        if !self.claim.config.learners.contains(&learner) {
            progress.wants_copy = false;
            return;
        }
        // What follows an old snapshot may be gone from the log.
        if progress.copy.as_ref().is_some_and(|copy| copy.at.seq < start) {
            drop_copy(ctx, group, progress);
        }
        if let Some(copy) = &mut progress.copy {
            if ctx.now.since(copy.offered_at) >= ctx.timers.resend {
                copy.offered_at = ctx.now;
                progress.wants_copy = false;
                self.offer(ctx, learner);
            }
            return;
        }
        if self.base != Base::Ready || ctx.now < progress.copy_after {
            return;
        }
        let is_behind = !is_its_turn && !ctx.turns.order.is_empty();
        if is_behind || ctx.copies >= ctx.timers.copies_max {
            ctx.turns.wait(group);
            return;
        }
        if self.applied != self.emitted {
            // The driver's state is that of `applied` only when nothing is under way.
            lead.hold = true;
            return;
        }
        let Some(epoch) = self.log.epoch_at(self.applied) else { return };
        ctx.snapshots += 1;
        ctx.copies += 1;
        let snapshot = SnapshotId(ctx.snapshots);
        let at = LogPosition { epoch, seq: self.applied };
        let windows = match ctx.mutant {
            Mutant::DedupMissingInSnapshot => Arc::new(SessionWindows::default()),
            _ => Arc::new(self.results.clone()),
        };
        let (offered_at, moved_at) = (ctx.now, ctx.now);
        progress.copy =
            Some(SnapshotCopy { snapshot, at, windows, offered_at, is_taken: false, moved_at });
        progress.based = false;
        progress.offered = at.seq;
        progress.received = at.seq;
        progress.wants_copy = false;
        progress.next = at.seq.next().max(progress.matched.next());
        ctx.emit(Output::TakeSnapshot { group, snapshot, at });
        self.offer(ctx, learner);
    }

    fn offer(&self, ctx: &mut Context, learner: ReplicaId) {
        let progress = self.lead.as_ref().and_then(|lead| lead.progress.get(&learner));
        let Some((progress, copy)) = progress.and_then(|p| Some((p, p.copy.as_ref()?))) else {
            return;
        };
        let offer = SnapshotOffer {
            group: self.group,
            epoch: self.epoch(),
            claim: (!progress.confirmed).then(|| self.claim.clone()),
            snapshot: copy.snapshot,
            at: copy.at,
            windows: Arc::clone(&copy.windows),
        };
        ctx.send(learner, Message::SnapshotOffer(offer));
    }

    /// Our time as primary is over: its snapshots go.
    pub(super) fn drop_copies(&self, ctx: &mut Context, lead: &Lead) {
        for copy in lead.progress.values().filter_map(|progress| progress.copy.as_ref()) {
            ctx.copies -= 1;
            let (group, snapshot) = (self.group, copy.snapshot);
            ctx.emit(Output::DropSnapshot { group, snapshot });
        }
    }
}

/// Ends a learner's snapshot.
pub(super) fn drop_copy(ctx: &mut Context, group: GroupId, progress: &mut Progress) {
    if let Some(copy) = progress.copy.take() {
        ctx.copies -= 1;
        ctx.emit(Output::DropSnapshot { group, snapshot: copy.snapshot });
    }
}

/// A learner's snapshot has come to nothing.
pub(super) fn fail_copy(ctx: &mut Context, group: GroupId, progress: &mut Progress) {
    drop_copy(ctx, group, progress);
    let doublings = progress.copy_failures.min(PAUSE_DOUBLINGS_MAX);
    progress.copy_failures = progress.copy_failures.saturating_add(1);
    progress.copy_after = ctx.now.after(ctx.timers.resend.saturating_mul(1 << doublings));
}
