//! What a close of the cluster asks of each node and of the catalog's leader, read off the catalog: the drivers carry it
//! out, and decide nothing of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::closing::{Close, CloseId, Held};
use crate::catalog::command::Operation;
use crate::catalog::nodes::NodeRecord;
use crate::catalog::state::CatalogState;
use crate::group::Seq;
use crate::replication::{GroupConfig, GroupId, ReplicaId};
use crate::{Epoch, ErrorCode, Failure, limits};

/// A group that came back is written again after this long, however many copies it has by then.
const SETTLED_AT_LATEST: Duration = Duration::from_secs(60);

/// What a node has to do about a close of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseStage {
    /// There is none: what lies on disk of an earlier one is of no use.
    Open,
    /// Write these down. None: what is left is others'.
    Write(CloseId, Vec<ToHold>),
    /// Read these, which nobody has offered back, and offer them.
    Read(CloseId, Vec<Held>),
    /// Nothing, for now.
    Wait,
    /// End.
    Stop,
}

/// A group to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToHold {
    /// The group.
    pub group: GroupId,
    /// The epoch of its config.
    pub epoch: Epoch,
    /// Its last operation, which its primary has told; `None` for the primary itself.
    pub last: Option<Seq>,
}

/// What the leader of the catalog has to do about a close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseStep {
    /// Nothing, for now.
    Nothing,
    /// Everything is on disk: end it.
    Finish(CloseId),
    /// A group has lost its last copy meanwhile: the cluster goes on.
    Abort(GroupId),
    /// These groups came back and have the copies that they can have.
    Settle(CloseId, Vec<GroupId>),
}

impl CloseStep {
    /// What has to be applied for it.
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::Nothing => None,
            Self::Finish(close) => Some(Operation::FinishClose(*close)),
            Self::Abort(_) => Some(Operation::AbortClose),
            Self::Settle(close, groups) => {
                Some(Operation::Settle { close: *close, groups: groups.clone() })
            }
        }
    }
}

/// What may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// Everything.
    #[default]
    Open,
    /// Nothing: the whole cluster is about to stop, or has.
    Closing(CloseId),
    /// All but these groups, which come back from disk.
    Reopening(Arc<BTreeSet<GroupId>>),
}

impl Intake {
    /// Refuses an operation while its group takes none.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ShuttingDown`] while the cluster is about to stop, [`ErrorCode::NotReady`] while the group comes back.
    pub fn check(&self, group: GroupId) -> Result<(), Failure> {
        match self {
            Self::Open => Ok(()),
            Self::Closing(_) => Err(Failure::new(
                ErrorCode::ShuttingDown,
                "the cluster is being shut down and takes no writes",
            )
            .help("what was acknowledged is kept; write again when the cluster runs again")
            .retry_after_ms(1000)),
            Self::Reopening(waiting) if waiting.contains(&group) => {
                let message = format!(
                    "group {group} comes back from disk and takes no writes before it has its copies"
                );
                Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(100))
            }
            Self::Reopening(_) => Ok(()),
        }
    }
}

impl CatalogState {
    /// What the process that `me` names has to do.
    pub fn close_stage(&self, me: ReplicaId) -> CloseStage {
        // Older than this process, a copy of the catalog may not know of the close that ended the one before.
        let knows_us = self.node(me.node).is_some_and(|node| node.replica() == me);
        if self.is_closed_for(me) {
            return CloseStage::Stop;
        }
        let Some(close) = self.close().filter(|_| knows_us) else {
            return if knows_us { CloseStage::Open } else { CloseStage::Wait };
        };
        if !close.finished {
            return CloseStage::Write(close.id, self.to_hold(close, me));
        }
        let ours = close
            .holds
            .iter()
            .filter(|(group, hold)| hold.is_held_by(me.node) && self.awaited(**group).is_some());
        let ours: Vec<Held> = ours
            .map(|(group, hold)| Held {
                group: *group,
                epoch: hold.epoch,
                seq: hold.seq,
                bytes: hold.bytes,
                at: self.group(*group).map_or(Epoch(0), |config| config.epoch),
            })
            .collect();
        if ours.is_empty() { CloseStage::Wait } else { CloseStage::Read(close.id, ours) }
    }

    /// What the leader has to do, which is the process that `me` names and has seen a closed cluster come back for
    /// `waited`.
    pub fn close_step(&self, me: Option<ReplicaId>, waited: Duration) -> CloseStep {
        let Some(close) = self.close() else { return CloseStep::Nothing };
        if close.finished {
            if me.is_none_or(|me| self.is_closed_for(me)) {
                return CloseStep::Nothing;
            }
            let back = close.holds.keys().filter_map(|group| self.group(*group));
            let ready = back.filter(|config| !config.lost && self.has_copies(config, waited));
            let groups: Vec<GroupId> =
                ready.map(|config| config.group).take(limits::PROPOSALS_MAX).collect();
            return if groups.is_empty() {
                CloseStep::Nothing
            } else {
                CloseStep::Settle(close.id, groups)
            };
        }
        let mut whole = true;
        for (group, hold) in &close.holds {
            match self.group(*group) {
                Some(config) if config.lost => return CloseStep::Abort(*group),
                Some(config) if hold.is_whole(config) => {}
                _ => whole = false,
            }
        }
        if whole { CloseStep::Finish(close.id) } else { CloseStep::Nothing }
    }

    /// What the process that `me` names may let be written.
    pub fn intake(&self, me: Option<ReplicaId>) -> Intake {
        let id = self.close().map_or_else(CloseId::default, |close| close.id);
        if me.is_some_and(|me| self.is_closed_for(me)) {
            return Intake::Closing(id);
        }
        let Some(close) = self.close() else { return Intake::Open };
        if !close.finished {
            return Intake::Closing(id);
        }
        Intake::Reopening(Arc::new(close.holds.keys().copied().collect()))
    }

    fn to_hold(&self, close: &Close, me: ReplicaId) -> Vec<ToHold> {
        let ours = close.holds.iter().filter_map(|(group, hold)| {
            let config = self.group(*group)?;
            let epoch = config.epoch;
            if config.lost || !config.in_sync.contains(&me) || hold.holders.contains(&me) {
                return None;
            }
            match hold.epoch {
                Epoch(0) => {
                    (config.primary == me).then_some(ToHold { group: *group, epoch, last: None })
                }
                _ => Some(ToHold { group: *group, epoch, last: Some(hold.seq) }),
            }
        });
        ours.collect()
    }

    /// Whether a group that came back has the copies that it can have. Nodes that are not there count for a while.
    fn has_copies(&self, config: &GroupConfig, waited: Duration) -> bool {
        let delay = Duration::from_millis(self.settings().repair_delay_ms);
        let table = self.target(config.group.class.replicas);
        let holders = table.map_or(&[][..], |table| table.holders(config.group.partition));
        let counts = |node: &NodeRecord| node.state.may_hold() && (node.up || waited < delay);
        let wanted = holders.iter().filter(|it| self.node(**it).is_some_and(counts)).count();
        // What a past life had may be gone: then the group waits again.
        let there = config.in_sync.iter().filter(|it| self.is_current(**it)).count();
        there >= wanted.max(1) || (there > 0 && waited >= SETTLED_AT_LATEST)
    }
}
