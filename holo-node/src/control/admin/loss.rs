//! Data whose last copy has died: what it is, and that an operator gives it up.

use std::collections::BTreeSet;

use holo_core::catalog::{CatalogState, Operation};
use holo_core::replication::{GroupConfig, GroupId, NodeNumber};
use holo_core::wire::LossReport;
use holo_core::{Count, ErrorCode, Failure, PublicKey, action};

use super::{CLUSTER, Control};

/// Arrays that a report names.
const ARRAYS_NAMED: usize = 100;

/// What nobody serves.
struct Unserved {
    /// Lost for good.
    lost: BTreeSet<GroupId>,
    report: LossReport,
}

impl Control {
    /// What is lost, and what is only waited for.
    pub(super) fn plan_loss(&self, key: PublicKey) -> Result<LossReport, Failure> {
        self.may::<action::Config>(key, CLUSTER)?;
        Ok(self.copy.read(unserved).report)
    }

    /// Gives up the data of lost groups: they start again, empty. Not what nodes that are not back have on disk: evicting
    /// them does.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when nothing is lost, or something else than `mark` stands for.
    pub(super) async fn accept_loss(
        &self,
        key: PublicKey,
        mark: &[u8],
    ) -> Result<LossReport, Failure> {
        self.may::<action::Config>(key, CLUSTER)?;
        let Unserved { lost, report } = self.copy.read(unserved);
        if lost.is_empty() {
            return Err(nothing_lost(&report));
        }
        if mark != report.mark {
            return Err(Failure::new(ErrorCode::Conflict, "something else is lost by now")
                .help("look again at what it is: `holo ring accept-loss --plan`"));
        }
        self.command(key, Operation::AcceptLoss(lost.into_iter().collect())).await?;
        tracing::warn!(groups = report.groups, arrays = ?report.arrays, by = %key.short(), "lost data was given up");
        Ok(report)
    }
}

fn nothing_lost(report: &LossReport) -> Failure {
    if report.groups_awaited == 0 {
        return Failure::new(ErrorCode::Conflict, "nothing is lost: every group has a copy")
            .help("there is nothing to give up; `holo status` shows how many copies there are");
    }
    let groups = Count(report.groups_awaited).of("group");
    let nodes = report.waits_for.join(", ");
    let message = format!("nothing is lost for good: {groups} may come back with {nodes}");
    Failure::new(ErrorCode::Conflict, message).help(
        "start these nodes again; if one never comes back, `holo node evict NODE --accept-loss` gives up what only it has",
    )
}

fn unserved(state: &CatalogState) -> Unserved {
    let (mut lost, mut awaited) = (BTreeSet::new(), BTreeSet::new());
    let mut holders: BTreeSet<NodeNumber> = BTreeSet::new();
    let mut mark = blake3::Hasher::new();
    for config in state.groups() {
        if let Some(hold) = state.awaited(config.group) {
            holders.extend(hold.holders.iter().map(|replica| replica.node));
            awaited.insert(config.group);
        } else if config.lost {
            mark.update(config.group.to_string().as_bytes()).update(b" ");
            mark.update(&config.epoch.0.to_le_bytes());
            lost.insert(config.group);
        } else if is_silent(state, config) {
            holders.extend(config.in_sync.iter().map(|replica| replica.node));
            awaited.insert(config.group);
        }
    }
    // Groups without data are missed by nobody.
    if state.arrays_in(&awaited, 1).is_empty() {
        awaited.clear();
        holders.clear();
    }
    let arrays = state.arrays_in(&lost, ARRAYS_NAMED).into_iter();
    let name = |number: &NodeNumber| {
        state.node(*number).map_or_else(|| format!("node {number}"), |node| node.name.clone())
    };
    let report = LossReport {
        groups: lost.len() as u64,
        arrays: arrays.map(|array| array.name.as_str().to_owned()).collect(),
        mark: mark.finalize().as_bytes().to_vec(),
        groups_awaited: awaited.len() as u64,
        waits_for: holders.iter().map(name).collect(),
    };
    Unserved { lost, report }
}

/// Whether none of those who hold a group answers. They may yet, with all that they had.
fn is_silent(state: &CatalogState, config: &GroupConfig) -> bool {
    !config.in_sync.iter().any(|replica| state.is_up(*replica))
}
