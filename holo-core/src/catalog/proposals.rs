//! Proposed changes of configs, and the rules by which they are taken.
//!
//! Each is a compare-and-set on the group's epoch, so of two proposers the first wins. Two rules go beyond that:
//!
//! - **Below `min_in_sync`.** A removal, or a take-over, that leaves too few in sync to write is taken only when the one
//!   to go is known to be dead: its life is over, or the leader does not hear from it. Otherwise a replica that is merely
//!   cut off from its peer would cost the writes, and the two would put each other out by turns. With the dead one gone
//!   reads go on, and writes wait for a learner.
//! - **Both sides of a cut.** When primary and backup hear nothing of each other and both reach the catalog, both propose.
//!   Whoever comes first stays. That is the primary as a rule, because it asks earlier (by default `evict` is shorter
//!   than `take`). It is as well, for it holds the load and the leases, and its removal of a backup costs no pause.

use crate::catalog::admission::past_life;
use crate::catalog::command::{Answer, Authority, ChangeRefusal, ProposalAnswer};
use crate::catalog::state::CatalogState;
use crate::replication::{ConfigChange, GroupConfig, Proposal, ReplicaId};
use crate::{Epoch, ErrorCode, Failure, limits};

impl CatalogState {
    pub(super) fn propose(
        &mut self,
        by: Authority,
        reporter: ReplicaId,
        proposals: &[Proposal],
    ) -> Result<Answer, Failure> {
        self.check_itself(by, reporter.node)?;
        if !self.is_current(reporter) {
            return Err(past_life(reporter.node));
        }
        if proposals.len() > limits::PROPOSALS_MAX {
            let message =
                format!("{} proposals, at most {}", proposals.len(), limits::PROPOSALS_MAX);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let answers = proposals.iter().map(|proposal| {
            let decision = self.decide(reporter, proposal);
            let refusal = decision.as_ref().err().copied();
            if let Ok(config) = decision {
                self.put_group(config);
            }
            let config = self.groups.get(&proposal.group).cloned();
            ProposalAnswer { group: proposal.group, refusal, config }
        });
        Ok(Answer::Proposals(answers.collect()))
    }

    /// The next config if the proposal is taken; nothing changes.
    ///
    /// # Errors
    ///
    /// The rule that it breaks.
    pub fn decide(
        &self,
        reporter: ReplicaId,
        proposal: &Proposal,
    ) -> Result<GroupConfig, ChangeRefusal> {
        let config = self.groups.get(&proposal.group).ok_or(ChangeRefusal::NoSuchGroup)?;
        if proposal.by != reporter {
            return Err(ChangeRefusal::NotYours);
        }
        if proposal.epoch != config.epoch {
            return Err(ChangeRefusal::Stale);
        }
        if config.lost {
            return Err(ChangeRefusal::Lost);
        }
        if proposal.change != ConfigChange::TakeOver && config.primary != proposal.by {
            return Err(ChangeRefusal::NotPrimary);
        }
        let moves =
            matches!(proposal.change, ConfigChange::AddLearner(_) | ConfigChange::Handover(_));
        if moves && self.is_closing() {
            return Err(ChangeRefusal::Closing);
        }
        let mut next = config.clone();
        next.epoch = Epoch(config.epoch.0 + 1);
        match proposal.change {
            ConfigChange::AddLearner(learner) => self.add_learner(&mut next, learner)?,
            ConfigChange::AddInSync(learner) => self.add_in_sync(&mut next, learner)?,
            ConfigChange::Remove(member) => self.remove(&mut next, member)?,
            ConfigChange::TakeOver => self.take_over(&mut next, proposal.by)?,
            ConfigChange::Handover(backup) => self.hand_over(&mut next, backup)?,
        }
        Ok(next)
    }

    fn add_learner(&self, next: &mut GroupConfig, learner: ReplicaId) -> Result<(), ChangeRefusal> {
        // One node holds one replica, in one life.
        if next.names(learner.node) {
            return Err(ChangeRefusal::AlreadyMember);
        }
        // A process that was there when the cluster was closed has to end, and what it holds is of before.
        if !self.is_current(learner) || self.is_closed_for(learner) {
            return Err(ChangeRefusal::NoSuchReplica);
        }
        if !self.nodes.get(&learner.node).is_some_and(|node| node.state.may_hold()) {
            return Err(ChangeRefusal::NodeClosed);
        }
        if next.members().count() >= limits::GROUP_MEMBERS_MAX {
            return Err(ChangeRefusal::Full);
        }
        insert(&mut next.learners, learner);
        Ok(())
    }

    fn add_in_sync(&self, next: &mut GroupConfig, learner: ReplicaId) -> Result<(), ChangeRefusal> {
        if !next.learners.contains(&learner) {
            return Err(ChangeRefusal::NotLearner);
        }
        if !self.is_current(learner) {
            return Err(ChangeRefusal::NoSuchReplica);
        }
        next.learners.retain(|other| *other != learner);
        insert(&mut next.in_sync, learner);
        // A node that drains may have waited for just that, where nobody has data.
        self.let_draining_go(next);
        Ok(())
    }

    fn remove(&self, next: &mut GroupConfig, member: ReplicaId) -> Result<(), ChangeRefusal> {
        if next.learners.contains(&member) {
            next.learners.retain(|other| *other != member);
            return Ok(());
        }
        if !next.in_sync.contains(&member) {
            return Err(ChangeRefusal::NotMember);
        }
        if member == next.primary {
            return Err(ChangeRefusal::NotBackup);
        }
        let in_sync = next.in_sync.clone();
        if self.leave_in_sync(next, member).is_err() {
            // It stays, and the epoch passes all the same. The primary acknowledges again once it knows; a copy of its
            // question that is still under way must not be agreed to after that, when the member's node is missed.
            next.in_sync = in_sync;
        }
        Ok(())
    }

    fn take_over(&self, next: &mut GroupConfig, by: ReplicaId) -> Result<(), ChangeRefusal> {
        if by == next.primary || !next.in_sync.contains(&by) {
            return Err(ChangeRefusal::NotBackup);
        }
        let silent = std::mem::replace(&mut next.primary, by);
        self.leave_in_sync(next, silent)
    }

    fn hand_over(&self, next: &mut GroupConfig, backup: ReplicaId) -> Result<(), ChangeRefusal> {
        if backup == next.primary || !next.in_sync.contains(&backup) {
            return Err(ChangeRefusal::NotBackup);
        }
        if !self.is_current(backup) {
            return Err(ChangeRefusal::NoSuchReplica);
        }
        next.primary = backup;
        Ok(())
    }

    fn leave_in_sync(
        &self,
        next: &mut GroupConfig,
        member: ReplicaId,
    ) -> Result<(), ChangeRefusal> {
        next.in_sync.retain(|other| *other != member);
        let enough = next.in_sync.len() >= usize::from(next.group.class.min_in_sync);
        if !enough && self.is_up(member) {
            return Err(ChangeRefusal::TooFewInSync);
        }
        Ok(())
    }
}

/// Inserts into an ascending list.
fn insert(list: &mut Vec<ReplicaId>, replica: ReplicaId) {
    if let Err(place) = list.binary_search(&replica) {
        list.insert(place, replica);
    }
}
