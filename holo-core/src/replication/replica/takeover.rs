//! Silence, takeover, barrier and promises; and the permission to read.

use std::sync::Arc;
use std::time::Duration;

use super::{Base, Context, Replica};
use crate::limits;
use crate::replication::config::{ConfigChange, Proposal, ReplicaId};
use crate::replication::io::{Output, ReadGate, Role};
use crate::replication::messages::CommitNews;
use crate::replication::mutant::Mutant;
use crate::replication::peers::DueBeat;
use crate::replication::progress::Progress;

impl Replica {
    /// Proposes to take over from a primary that is silent, that hears nothing of us, or that does not know that it leads:
    /// whatever it says, its lease is over and no write is committed.
    pub(super) fn watch_primary(&mut self, ctx: &mut Context) {
        let config = &self.claim.config;
        let may = self.role == Role::Backup && self.base == Base::Ready;
        let (primary, since, round) = (config.primary, self.adopted_at, ctx.timers.silence());
        let silence = ctx.peers.silence(primary, since, ctx.now);
        // What it had heard of us shows in its beats.
        let deafness = match ctx.mutant {
            Mutant::IgnoreEcho => Duration::ZERO,
            _ => ctx.peers.deafness(primary, since, ctx.now, round),
        };
        // One that became the primary after it had gone deaf does not beat, and speaks of other groups.
        let absence = match self.follow.spoke {
            true => Duration::ZERO,
            false => ctx.now.since(since).saturating_sub(round),
        };
        let tried = self.follow.tried_at;
        let due = tried.is_none_or(|at| ctx.now.since(at) >= ctx.timers.propose_again);
        if may && due && silence.max(deafness).max(absence) > ctx.timers.take_over {
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

    /// Says on whose leases local reads rest, when that has changed.
    pub(in crate::replication) fn update_gate(&mut self, ctx: &mut Context) {
        let leased_by = self.leased_by(ctx);
        if self.gate.epoch == self.epoch() && self.gate.leased_by.as_deref() == leased_by.as_deref()
        {
            return;
        }
        let leased_by = leased_by.map(Arc::from);
        self.gate = ReadGate { epoch: self.epoch(), leased_by };
        ctx.emit(Output::Reads { group: self.group, gate: self.gate.clone() });
    }

    /// A peer has told which leases are ours, or renewed them.
    pub(in crate::replication) fn on_leases(&mut self, ctx: &mut Context) {
        self.update_gate(ctx);
        if self.lead.is_some() && !self.claim.config.learners.is_empty() {
            self.steer(ctx);
        }
    }

    /// All that a former primary answered must be applied here, and every other member of the maximal in-sync set must
    /// have told that we are the one to whom it leases its silence.
    fn leased_by(&self, ctx: &Context) -> Option<Vec<ReplicaId>> {
        let lead = self.lead.as_ref().filter(|_| self.role == Role::Primary)?;
        if ctx.mutant == Mutant::ReadWithoutLease {
            return Some(Vec::new());
        }
        if self.applied < lead.barrier && ctx.mutant != Mutant::ServeBeforeBarrier {
            return None;
        }
        let members = self.claim.config.in_sync.iter().chain(&lead.proposed);
        let peers = members.copied().filter(|member| *member != ctx.me);
        peers.map(|peer| ctx.peers.lease_until(peer, self.group).map(|_until| peer)).collect()
    }

    /// For each peer of `due`, which is in ascending order, that is a member of a group that we lead: the commit, unless
    /// it is known to know it.
    pub(in crate::replication) fn collect_news(&self, due: &mut [DueBeat]) {
        let Some(lead) = &self.lead else { return };
        for (member, progress) in &lead.progress {
            let Ok(at) = due.binary_search_by_key(member, |beat| beat.to) else { continue };
            let beat = &mut due[at];
            if self.has_news_for(progress) && beat.commits.len() < limits::BEAT_COMMITS_MAX {
                let (group, epoch, commit) = (self.group, self.epoch(), self.commit);
                beat.commits.push(CommitNews { group, epoch, commit });
            }
        }
    }

    /// Whether some member may not know how far the group is committed.
    pub(super) fn has_news(&self) -> bool {
        self.lead
            .as_ref()
            .is_some_and(|lead| lead.progress.values().any(|it| self.has_news_for(it)))
    }

    fn has_news_for(&self, progress: &Progress) -> bool {
        progress.confirmed && progress.committed < self.commit
    }

    /// The other members, while we lead.
    pub(in crate::replication) fn led(&self) -> impl Iterator<Item = ReplicaId> {
        self.lead.iter().flat_map(|lead| lead.progress.keys().copied())
    }

    /// Snapshots that are kept for learners.
    pub(in crate::replication) fn copies(&self) -> usize {
        let progress = self.lead.iter().flat_map(|lead| lead.progress.values());
        progress.filter(|progress| progress.copy.is_some()).count()
    }
}
