//! Silence, takeover, barrier and promises; and the permission to read.

use super::{Base, Context, Replica};
use crate::replication::config::{ConfigChange, Proposal};
use crate::replication::io::{Output, ReadGate, Role};
use crate::replication::messages::CommitNews;
use crate::replication::mutant::Mutant;
use crate::replication::peers::DueBeat;
use crate::{Instant, limits};

impl Replica {
    /// Proposes to take over from a primary that is silent.
    pub(super) fn watch_primary(&mut self, ctx: &mut Context) {
        let config = &self.claim.config;
        let may = self.role == Role::Backup && self.base == Base::Ready;
        let silence = ctx.peers.silence(config.primary, self.adopted_at, ctx.now);
        let tried = self.follow.tried_at;
        let due = tried.is_none_or(|at| ctx.now.since(at) >= ctx.timers.propose_again);
        if may && due && silence > ctx.timers.take_over {
            self.follow.tried_at = Some(ctx.now);
            ctx.emit(Output::Propose(Proposal {
                group: self.group,
                epoch: self.epoch(),
                by: ctx.me,
                change: ConfigChange::TakeOver,
            }));
            self.ask_catalog(ctx);
        }
    }

    /// Begins to serve once nobody else can, and all that was ever acknowledged is ours.
    pub(in crate::replication) fn activate(&mut self, ctx: &mut Context) {
        if self.role != Role::PrimaryPending {
            return;
        }
        let promised = self.blocked_until(ctx).is_some() && ctx.mutant != Mutant::IgnorePromises;
        let barrier = self.lead.as_ref().map(|lead| lead.barrier);
        let committed = barrier.is_some_and(|barrier| self.commit >= barrier)
            || ctx.mutant == Mutant::ServeBeforeBarrier;
        if !promised && committed {
            self.set_role(ctx, Role::Primary);
            self.update_gate(ctx);
        }
    }

    /// Until when our promises keep us from serving.
    pub(in crate::replication) fn blocked_until(&self, ctx: &Context) -> Option<Instant> {
        ctx.peers.blocked_until(self.group, ctx.now)
    }

    /// Says until when local reads are allowed, when that has changed.
    pub(in crate::replication) fn update_gate(&mut self, ctx: &mut Context) {
        let gate = ReadGate { epoch: self.epoch(), until: self.readable_until(ctx) };
        if gate != self.gate {
            self.gate = gate;
            ctx.emit(Output::Reads { group: self.group, gate });
        }
    }

    /// A peer has told which leases are ours, and until when.
    pub(in crate::replication) fn on_leases(&mut self, ctx: &mut Context) {
        self.update_gate(ctx);
        if self.lead.is_some() && !self.claim.config.learners.is_empty() {
            self.steer(ctx);
        }
    }

    /// All that a former primary answered must be applied here, and every other member of the maximal in-sync set must
    /// have leased us its silence.
    fn readable_until(&self, ctx: &Context) -> Option<Instant> {
        let lead = self.lead.as_ref().filter(|_| self.role == Role::Primary)?;
        if ctx.mutant == Mutant::ReadWithoutLease {
            return Some(Instant::MAX);
        }
        if self.applied < lead.barrier && ctx.mutant != Mutant::ServeBeforeBarrier {
            return None;
        }
        let members = self.claim.config.in_sync.iter().chain(&lead.proposed);
        let mut until = Instant::MAX;
        for member in members.filter(|member| **member != ctx.me) {
            until = until.min(ctx.peers.lease_until(*member, self.group)?);
        }
        (ctx.now < until).then_some(until)
    }

    /// For each peer of `due`, which is in ascending order, that is a member of a group that we lead: the commit, unless
    /// it is known to know it.
    pub(in crate::replication) fn collect_news(&self, due: &mut [DueBeat]) {
        let Some(lead) = &self.lead else { return };
        for (member, progress) in &lead.progress {
            let Ok(at) = due.binary_search_by_key(member, |beat| beat.to) else { continue };
            let beat = &mut due[at];
            beat.wanted = true;
            let known = progress.committed >= self.commit || !progress.confirmed;
            if !known && beat.commits.len() < limits::BEAT_COMMITS_MAX {
                let (group, epoch, commit) = (self.group, self.epoch(), self.commit);
                beat.commits.push(CommitNews { group, epoch, commit });
            }
        }
    }

    /// Snapshots that are kept for learners.
    pub(in crate::replication) fn copies(&self) -> usize {
        let progress = self.lead.iter().flat_map(|lead| lead.progress.values());
        progress.filter(|progress| progress.copy.is_some()).count()
    }
}
