//! Stopping the whole cluster, as the control plane sees it: what this node has to do, and what is asked of it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holo_core::catalog::{CatalogState, CloseStage, NodeRecord, Operation, PastReplica};
use holo_core::replication::{GroupId, ReplicaId};
use holo_core::wire::CloseReport;
use holo_core::{ClusterId, ErrorCode, Failure, Instant, PublicKey, action};
use tokio::sync::watch;

use super::Control;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Control {
    /// The version of the catalog that this node knows, and every advance of it.
    pub(crate) fn catalog_version(&self) -> watch::Receiver<u64> {
        self.copy.version()
    }

    /// The cluster's id; `None` before this node has joined.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster().ok()
    }

    /// This node's time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// From now on heartbeats tell of so many groups that this node has on disk and cannot read.
    pub(crate) fn note_unreadable(&self, groups: usize) {
        self.unreadable.store(groups as u64, Ordering::Relaxed);
    }

    /// Groups that this node has on disk and cannot read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed) + self.unresumed.load(Ordering::Relaxed)
    }

    /// From now on heartbeats tell as well of so many groups that an earlier life left on disk and that cannot be read.
    pub(crate) fn note_unresumed(&self, groups: usize) {
        self.unresumed.store(groups as u64, Ordering::Relaxed);
    }

    /// From now on heartbeats tell why this node cannot write down what it holds; nothing when it can.
    pub(crate) fn note_unwritten(&self, reason: &str) {
        reason.clone_into(&mut *self.cannot_write.lock());
    }

    /// The groups of which an earlier life of this node is in sync; `None` as long as that is not known.
    pub(crate) fn to_resume(&self, me: ReplicaId) -> Option<Vec<PastReplica>> {
        self.copy.read(|state| state.to_resume(me))
    }

    /// Whether an in-sync replica of a group on another node answers.
    pub(crate) fn is_carried_by_others(&self, group: GroupId) -> bool {
        let me = self.replica();
        self.copy.read(|state| me.is_some_and(|me| state.is_carried_by_others(group, me)))
    }

    /// Whether this process is in sync in a group, by the catalog.
    pub(crate) fn holds_in_sync(&self, group: GroupId) -> bool {
        let me = self.replica();
        self.copy.read(|state| {
            let in_sync = state.group(group).map(|config| &config.in_sync);
            in_sync.zip(me).is_some_and(|(in_sync, me)| in_sync.contains(&me))
        })
    }

    /// What this process has to do.
    pub(crate) fn close_stage(&self, me: ReplicaId) -> CloseStage {
        self.copy.read(|state| state.close_stage(me))
    }

    /// Whether this node leads the catalog and others still run.
    pub(crate) fn leads_others(&self) -> bool {
        let me = self.number();
        self.is_leader()
            && self.copy.read(|state| {
                let living = state.nodes().filter(|node| node.state.is_living());
                living
                    .map(|node| node.number)
                    .any(|it| Some(it) != me && self.links.link(it).is_some())
            })
    }

    /// Begins to stop the whole cluster, or takes it back.
    pub(super) async fn close_cluster(&self, key: PublicKey, cancel: bool) -> Result<(), Failure> {
        self.policy().authorize::<action::Shutdown>(key, "cluster")?;
        if let Some(refusal) = self.close_refusal().filter(|_| !cancel) {
            return Err(refusal);
        }
        let operation = if cancel { Operation::AbortClose } else { Operation::BeginClose };
        tracing::info!(by = %key.short(), cancel, "asked to stop the whole cluster");
        self.propose(holo_core::catalog::Authority::Principal(key), operation, PATIENCE).await?;
        Ok(())
    }

    /// Why this cluster cannot be stopped without a loss, as things are.
    fn close_refusal(&self) -> Option<Failure> {
        if self.config.temporary {
            let message = "a cluster of `holo dev` lives in memory and ends with that command";
            return Some(
                Failure::new(ErrorCode::NotYet, message)
                    .help("save arrays with `holo array get NAME --out FILE`, then give --now"),
            );
        }
        self.copy.read(CatalogState::close_refusal)
    }

    /// How the stop of the whole cluster goes, or why it would be refused.
    pub(super) fn watch_close(&self, key: PublicKey) -> Result<CloseReport, Failure> {
        let _may = self.policy().authorize::<action::Status>(key, "cluster")?;
        let refusal = self.close_refusal().map(Into::into);
        Ok(CloseReport { refusal, ..self.copy.read(close_report) })
    }
}

/// How a close goes: whom it waits for, but not those who wait themselves; or how far the cluster has come back.
pub(super) fn close_report(state: &CatalogState) -> CloseReport {
    let Some(close) = state.close() else {
        return CloseReport { stage: "open".to_owned(), ..CloseReport::default() };
    };
    let mut report = CloseReport {
        stage: if close.finished { "closed" } else { "closing" }.to_owned(),
        close: close.id.0,
        groups: close.holds.len() as u64,
        ..CloseReport::default()
    };
    let mut waits_for = BTreeSet::new();
    for (group, hold) in &close.holds {
        report.bytes = report.bytes.saturating_add(hold.bytes);
        let Some(config) = state.group(*group) else { continue };
        let missing = |node: holo_core::replication::NodeNumber| {
            state.node(node).map(|node: &NodeRecord| node.name.clone())
        };
        if close.finished {
            match state.awaited(*group) {
                Some(hold) => {
                    waits_for.extend(hold.holders.iter().filter_map(|it| missing(it.node)));
                }
                None => report.groups_done += 1,
            }
        } else if hold.is_whole(config) {
            report.groups_done += 1;
        } else {
            // The primary goes first: the others cannot write before it has told which operation is the last.
            let begun = hold.epoch == config.epoch;
            let late = config.in_sync.iter().filter(|it| match begun {
                true => !hold.holders.contains(it),
                false => **it == config.primary,
            });
            waits_for.extend(late.filter_map(|it| missing(it.node)));
        }
    }
    report.waits_for = waits_for.into_iter().collect();
    report
}
