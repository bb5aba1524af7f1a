//! A picture of a host for status pages and for the simulator's invariants.

use super::config::{GroupId, ReplicaId};
use super::io::{ReadGate, Role};
use crate::Epoch;
use crate::group::Seq;

/// One group as its replica on this host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// The group.
    pub group: GroupId,
    /// This replica's role.
    pub role: Role,
    /// The epoch of its config.
    pub epoch: Epoch,
    /// The primary by that config.
    pub primary: ReplicaId,
    /// The in-sync replicas by that config.
    pub in_sync: Vec<ReplicaId>,
    /// The learners, with what the primary knows of them; empty elsewhere than at the primary.
    pub learners: Vec<LearnerSummary>,
    /// The group has lost its last in-sync copy.
    pub lost: bool,
    /// Whether this replica has a state to apply entries to.
    pub has_base: bool,
    /// The number of the last entry in its log.
    pub last: Seq,
    /// The number up to which no staged bytes are missing here; never above `last`.
    pub held: Seq,
    /// How far it knows the group to be committed.
    pub commit: Seq,
    /// How far the driver has applied.
    pub applied: Seq,
    /// The permission for local reads as last emitted.
    pub gate: ReadGate,
}

impl GroupSummary {
    /// The group's last operation in `epoch`, when this replica has applied it: for the primary, what is committed, once
    /// nothing more can be; for others, what the primary has told. Meant for a group that takes no operations any more.
    ///
    /// A primary with fewer members in sync than the class wants commits nothing in this epoch: what follows its last
    /// committed operation was promised to nobody, and waiting for it would never end.
    pub fn rests_at(&self, epoch: Epoch, last: Option<Seq>) -> Option<Seq> {
        if self.epoch != epoch || self.lost || !self.has_base {
            return None;
        }
        let rests = match last {
            None => {
                let wanted = usize::from(self.group.class.min_in_sync);
                let ends = self.commit == self.last || self.in_sync.len() < wanted;
                self.role == Role::Primary && self.applied == self.commit && ends
            }
            Some(last) => {
                matches!(self.role, Role::Primary | Role::Backup)
                    && self.applied == last
                    && self.commit == last
            }
        };
        rests.then_some(self.applied)
    }
}

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerSummary {
    /// Which.
    pub learner: ReplicaId,
    /// It has fetched its snapshot.
    pub based: bool,
    /// It holds entries up to here.
    pub matched: Seq,
}
