//! A node that stopped in order and starts again: its groups go on from what its earlier life left on disk.
//!
//! Nobody is asked when a process stops, so that it works where no majority of voters is left: a machine that is rebooted,
//! or all of them at once. What it leaves of a group is as good as the replica was when it ended. So it is taken for the
//! group's data, under these rules:
//!
//! 1. The life that left it is in sync in the present config. Nothing was acknowledged without it since then, whoever led
//!    meanwhile: an acknowledgement takes all that are in sync. Which life it is says the file, which is encrypted for
//!    its node; that it is in sync still says the catalog.
//! 2. No other in-sync replica answers. One that does has the same, and more copies of it: it takes over, or puts the
//!    earlier life out, by itself.
//! 3. The group goes on with the new life alone; all others begin as learners. So no two of them go on with different
//!    remains.
//! 4. The earlier life may have promised to serve nobody else's reads; the new one waits until every such promise has
//!    passed ([`Input::Restore`]).
//!
//! A registration that says that something is left keeps the earlier lives in sync. What cannot be read after all is said
//! to be gone, and that life leaves the config as if nothing had been left.
//!
//! [`Input::Restore`]: crate::replication::Input::Restore

use std::collections::BTreeSet;

use crate::catalog::admission::past_life;
use crate::catalog::command::{Answer, Authority};
use crate::catalog::state::CatalogState;
use crate::replication::{GroupConfig, GroupId, Incarnation, ReplicaId};
use crate::{Epoch, ErrorCode, Failure, limits};

/// A group of which an earlier life of a node is in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastReplica {
    /// The group.
    pub group: GroupId,
    /// The earlier life.
    pub life: Incarnation,
    /// The epoch of the group's config in which it is.
    pub at: Epoch,
}

/// What a node has found of a group that an earlier life of it holds by the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// Of what.
    pub past: PastReplica,
    /// It is here again, whole; or it is gone for good.
    pub is_whole: bool,
}

impl CatalogState {
    /// The groups of which an earlier life of the node is in sync; `None` as long as this state does not know of the life
    /// that `me` names, or knows of a later one.
    pub fn to_resume(&self, me: ReplicaId) -> Option<Vec<PastReplica>> {
        if !self.is_current(me) {
            return None;
        }
        let groups = self.groups_of(me.node).iter().filter_map(|group| self.groups.get(group));
        let past = groups.filter_map(|config| {
            let life = config.past_life(me)?;
            Some(PastReplica { group: config.group, life, at: config.epoch })
        });
        Some(past.collect())
    }

    /// Whether another in-sync replica of a group than those of `me`'s node answers: then that one goes on with it.
    pub fn is_carried_by_others(&self, group: GroupId, me: ReplicaId) -> bool {
        self.groups.get(&group).is_some_and(|config| self.has_other_copy(config, me))
    }

    pub(super) fn resume(
        &mut self,
        by: Authority,
        reporter: ReplicaId,
        found: &[Resumption],
    ) -> Result<Answer, Failure> {
        self.check_itself(by, reporter.node)?;
        if !self.is_current(reporter) || self.is_closed_for(reporter) {
            return Err(past_life(reporter.node));
        }
        if found.len() > limits::PROPOSALS_MAX {
            let message = format!("{} groups, at most {}", found.len(), limits::PROPOSALS_MAX);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let mut gone = BTreeSet::new();
        for Resumption { past, is_whole } in found {
            let Some(config) = self.groups.get(&past.group) else { continue };
            // Whoever asks looks again at what became of it.
            if config.epoch != past.at || config.past_life(reporter) != Some(past.life) {
                continue;
            }
            if !is_whole {
                gone.insert(past.group);
            } else if !self.has_other_copy(config, reporter) {
                self.put_group(GroupConfig {
                    group: past.group,
                    epoch: Epoch(past.at.0 + 1),
                    primary: reporter,
                    in_sync: vec![reporter],
                    learners: Vec::new(),
                    lost: false,
                });
            }
        }
        let is_past = |member: ReplicaId| {
            member.node == reporter.node && member.incarnation < reporter.incarnation
        };
        self.remove_from_groups(&gone, is_past, false);
        Ok(Answer::Done)
    }

    fn has_other_copy(&self, config: &GroupConfig, me: ReplicaId) -> bool {
        config.in_sync.iter().any(|member| member.node != me.node && self.is_up(*member))
    }
}
