//! Towards the wanted holders, one change after the other.
//!
//! Nothing here is needed for safety: every change is a compare-and-set in the catalog, and whatever of them comes
//! true is coped with.

use super::{Context, Replica};
use crate::replication::config::{ConfigChange, GroupConfig, Proposal, ReplicaId};
use crate::replication::io::{Output, Role};
use crate::replication::mutant::Mutant;
use crate::replication::progress::Progress;
use crate::{Epoch, Instant, limits};

use super::lead::Lead;

/// A change that the catalog is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    change: ConfigChange,
    /// When it was first asked for.
    since: Instant,
    /// When it was last asked for.
    asked_at: Instant,
}

/// A target that could not be brought up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    at: Instant,
    failures: u32,
}

impl Replica {
    /// Proposes the next change, or the same one again.
    pub(super) fn steer(&mut self, ctx: &mut Context) {
        let Some(lead) = &self.lead else { return };
        let change = match lead.pending {
            None => self.wanted_change(ctx),
            // Somebody who has fallen silent goes first: nothing is committed until it is gone.
            Some(pending) if ctx.now.since(pending.since) > ctx.timers.evict => {
                self.overdue_removal(ctx).filter(|change| *change != pending.change)
            }
            Some(_) => None,
        };
        if let Some(change) = change {
            self.ask_for(ctx, change);
        } else if let Some(lead) = &mut self.lead
            && let Some(pending) = &mut lead.pending
            && ctx.now.since(pending.asked_at) >= ctx.timers.propose_again
        {
            pending.asked_at = ctx.now;
            let change = pending.change;
            self.emit_proposal(ctx, change);
        }
    }

    /// The catalog refused what we asked for in `epoch`.
    pub(in crate::replication) fn on_refused(&mut self, ctx: &mut Context, epoch: Epoch) {
        if epoch != self.epoch() {
            return;
        }
        // It may have agreed to an earlier copy of the same question: those proposed stay counted until a newer
        // config says more.
        self.ask_catalog(ctx);
        if let Some(lead) = &mut self.lead
            && let Some(pending) = lead.pending.take()
        {
            if let ConfigChange::AddLearner(learner) = pending.change {
                note_failure(lead, learner, ctx);
            }
            lead.refused_at = Some(ctx.now);
            lead.pleads = false;
            self.try_commit(ctx);
        }
    }

    fn ask_for(&mut self, ctx: &mut Context, change: ConfigChange) {
        let Some(lead) = &mut self.lead else { return };
        lead.pending = Some(Pending { change, since: ctx.now, asked_at: ctx.now });
        match change {
            ConfigChange::AddInSync(learner) if ctx.mutant != Mutant::PendingMemberNotCounted => {
                lead.proposed.insert(learner);
            }
            ConfigChange::AddLearner(_) => ctx.learning += 1,
            ConfigChange::Remove(member) if self.claim.config.learners.contains(&member) => {
                note_failure(lead, member, ctx);
            }
            ConfigChange::Remove(_) if !may_shrink(&self.claim.config) => {
                lead.pleads = true;
                lead.pleaded_at = Some(ctx.now);
            }
            _ => {}
        }
        // From here on its lease is needed: the readers must know before the catalog does.
        self.update_gate(ctx);
        self.emit_proposal(ctx, change);
    }

    fn emit_proposal(&self, ctx: &mut Context, change: ConfigChange) {
        let (group, epoch, by) = (self.group, self.epoch(), ctx.me);
        ctx.emit(Output::Propose(Proposal { group, epoch, by, change }));
    }

    fn wanted_change(&self, ctx: &Context) -> Option<ConfigChange> {
        let lead = self.lead.as_ref()?;
        if lead.refused_at.is_some_and(|at| ctx.now.since(at) < ctx.timers.propose_again) {
            return None;
        }
        self.overdue_removal(ctx)
            .or_else(|| self.learner_to_remove(ctx, lead))
            .or_else(|| self.learner_to_promote(ctx, lead))
            .or_else(|| self.learner_to_add(ctx, lead))
            .or_else(|| self.change_among_in_sync(ctx, lead))
            .or_else(|| self.last_resort(ctx, lead))
    }

    /// A silent in-sync member below what the class wants. The catalog agrees only when it knows its node to be gone;
    /// then the rest can at least be read. Asked now and then, after everything else, and not for a short silence:
    /// until the answer nothing is acknowledged.
    fn last_resort(&self, ctx: &Context, lead: &Lead) -> Option<ConfigChange> {
        let pause = ctx.timers.propose_again.saturating_mul(4);
        if lead.pleaded_at.is_some_and(|at| ctx.now.since(at) < pause) {
            return None;
        }
        let long = ctx.timers.take_over.saturating_mul(2);
        let silent = |id: &&ReplicaId| {
            lead.progress
                .get(id)
                .is_some_and(|progress| ctx.peers.silence(**id, progress.since, ctx.now) > long)
        };
        let member = self.claim.config.in_sync.iter().find(silent)?;
        Some(ConfigChange::Remove(*member))
    }

    /// An in-sync member that is dead, silent or slow, or whose promise does not come so that nobody can read: what we
    /// send may not reach it though it is heard. Never below what the class wants.
    fn overdue_removal(&self, ctx: &Context) -> Option<ConfigChange> {
        let lead = self.lead.as_ref()?;
        let config = &self.claim.config;
        let last = self.log.last().seq;
        let is_overdue = |id: &ReplicaId, progress: &Progress| {
            ctx.peers.silence(*id, progress.since, ctx.now) > ctx.timers.evict
                || ctx.now.since(progress.leased_at) > ctx.timers.stall
                || (progress.matched < last
                    && ctx.now.since(progress.progressed_at) > ctx.timers.stall)
        };
        let overdue = |id: &&ReplicaId| {
            lead.progress.get(id).is_some_and(|progress| is_overdue(id, progress))
        };
        // A learner that may have become in sync without our knowing holds up the commit as well.
        if let Some(learner) = lead.proposed.iter().find(overdue) {
            return Some(ConfigChange::Remove(*learner));
        }
        if !may_shrink(config) {
            return None;
        }
        config.in_sync.iter().find(overdue).map(|member| ConfigChange::Remove(*member))
    }

    fn learner_to_remove(&self, ctx: &Context, lead: &Lead) -> Option<ConfigChange> {
        let goes = |id: &&ReplicaId| {
            let since = lead.progress.get(id).map_or(ctx.now, |progress| progress.since);
            !self.is_wanted(**id) || ctx.peers.silence(**id, since, ctx.now) > ctx.timers.evict
        };
        let learner = self.claim.config.learners.iter().find(goes)?;
        Some(ConfigChange::Remove(*learner))
    }

    /// A learner that holds all that is committed, and all that may have been before our time; and has promised to
    /// serve nobody else, which reads need from then on. None while an earlier primary may still read because of what we
    /// promised: whoever comes new to the members has promised it nothing, and might take our place before its time.
    fn learner_to_promote(&self, ctx: &Context, lead: &Lead) -> Option<ConfigChange> {
        if self.blocked_until(ctx).is_some() && ctx.mutant != Mutant::IgnorePromises {
            return None;
        }
        let is_ready = |id: &&ReplicaId| {
            let progress = lead.progress.get(id);
            progress.is_some_and(|progress| {
                let caught_up = progress.based
                    && progress.confirmed
                    && progress.matched >= self.commit.max(lead.barrier)
                    && ctx.peers.is_leased(**id, self.group, ctx.now);
                caught_up || (ctx.mutant == Mutant::PromoteBeforeCopied && progress.in_flight > 0)
            })
        };
        let learner = self.claim.config.learners.iter().find(is_ready)?;
        Some(ConfigChange::AddInSync(*learner))
    }

    fn learner_to_add(&self, ctx: &Context, lead: &Lead) -> Option<ConfigChange> {
        let config = &self.claim.config;
        let members = config.in_sync.len() + config.learners.len();
        if ctx.learning >= ctx.timers.learners_max
            || !config.learners.is_empty()
            || members >= limits::GROUP_MEMBERS_MAX
        {
            return None;
        }
        // Nor is a place free for a node of which an earlier life has not left yet.
        let is_free = |id: &&ReplicaId| {
            !config.names(id.node)
                && !ctx.peers.is_dead(**id)
                && lead.retries.get(id).is_none_or(|retry| retry.at <= ctx.now)
        };
        self.targets.iter().find(is_free).map(|target| ConfigChange::AddLearner(*target))
    }

    /// Once all wanted holders are in sync: the wanted primary leads, and those who are not wanted leave.
    fn change_among_in_sync(&self, ctx: &Context, lead: &Lead) -> Option<ConfigChange> {
        let config = &self.claim.config;
        let first = *self.targets.first()?;
        let complete = self.targets.iter().all(|target| config.in_sync.contains(target));
        if !complete || self.role != Role::Primary {
            return None;
        }
        if first != ctx.me {
            // Who is silent may be dead, and then it is not the one to lead but the one to leave.
            let keeps_up = lead.progress.get(&first).is_some_and(|progress| {
                let silence = ctx.peers.silence(first, progress.since, ctx.now);
                progress.confirmed
                    && progress.matched >= self.commit
                    && silence <= ctx.timers.silence()
            });
            return keeps_up.then_some(ConfigChange::Handover(first));
        }
        let surplus = config.in_sync.iter().find(|member| !self.targets.contains(member));
        surplus.filter(|_| may_shrink(config)).map(|member| ConfigChange::Remove(*member))
    }

    fn is_wanted(&self, replica: ReplicaId) -> bool {
        self.targets.is_empty() || self.targets.contains(&replica)
    }

    /// Whether this replica brings up a learner, or asks for one.
    pub(super) fn is_learning(&self, lead: &Lead) -> bool {
        let asks =
            matches!(lead.pending, Some(Pending { change: ConfigChange::AddLearner(_), .. }));
        asks || !self.claim.config.learners.is_empty()
    }
}

/// Whether one in-sync member less still is what the class wants.
fn may_shrink(config: &GroupConfig) -> bool {
    config.in_sync.len() > usize::from(config.group.class.min_in_sync)
}

fn note_failure(lead: &mut Lead, target: ReplicaId, ctx: &Context) {
    let retry = lead.retries.entry(target).or_insert(Retry { at: ctx.now, failures: 0 });
    let wait = ctx.timers.target_retry.saturating_mul(1 << retry.failures.min(4));
    retry.at = ctx.now.after(wait);
    retry.failures += 1;
    // A target that was asked for long ago says nothing about today.
    while lead.retries.len() > limits::GROUP_MEMBERS_MAX {
        lead.retries.pop_first();
    }
}
