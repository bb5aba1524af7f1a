//! Snapshots for learners: taken when everything emitted is applied, kept until the learner has its base.

use std::sync::Arc;

use super::lead::{Lead, drop_copy};
use super::{Base, Context, Replica};
use crate::replication::config::ReplicaId;
use crate::replication::dedup::SessionWindows;
use crate::replication::io::Output;
use crate::replication::messages::{LogPosition, Message, SnapshotId, SnapshotOffer};
use crate::replication::mutant::Mutant;
use crate::replication::progress::SnapshotCopy;

impl Replica {
    /// Offers a snapshot to every learner that wants one, as far as this host may keep them.
    pub(in crate::replication) fn serve_copies(&mut self, ctx: &mut Context) {
        let Some(lead) = &mut self.lead else { return };
        lead.hold = false;
        if !lead.progress.values().any(|progress| progress.wants_copy) {
            return self.advance(ctx);
        }
        let wanting = lead.progress.iter().filter(|(_, progress)| progress.wants_copy);
        let wanting: Vec<ReplicaId> = wanting.map(|(id, _)| *id).collect();
        for learner in wanting {
            self.serve_copy(ctx, learner);
        }
        self.advance(ctx);
    }

    fn serve_copy(&mut self, ctx: &mut Context, learner: ReplicaId) {
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
        if self.base != Base::Ready {
            return;
        }
        if ctx.copies >= ctx.timers.copies_max {
            ctx.queued.insert(group);
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
        progress.copy = Some(SnapshotCopy { snapshot, at, windows, offered_at: ctx.now });
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
