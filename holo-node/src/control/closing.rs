//! Stopping the whole cluster, as the control plane sees it: what this node has to do, and what the leader sees to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holo_core::catalog::{CatalogState, Close, CloseId, Held, NodeRecord, Operation};
use holo_core::group::Seq;
use holo_core::replication::{GroupConfig, GroupId, ReplicaId};
use holo_core::wire::CloseReport;
use holo_core::{ClusterId, Epoch, ErrorCode, Failure, Instant, PublicKey, action, limits};
use tokio::sync::watch;

use super::Control;
use crate::ports::Intake;

/// How long one command of the leader may take; the next look tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// A group that came back is written again after this long, however many copies it has by then.
const SETTLED_AT_LATEST: Duration = Duration::from_secs(60);

/// What a node has to do about a close of the cluster.
#[derive(Debug)]
pub(crate) enum CloseStage {
    /// There is none.
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToHold {
    pub(crate) group: GroupId,
    pub(crate) epoch: Epoch,
    /// Its last operation, which its primary has told; `None` for the primary itself.
    pub(crate) last: Option<Seq>,
}

/// What the leader has to do.
enum Step {
    Nothing,
    Finish(CloseId),
    Abort(GroupId),
    Settle(CloseId, Vec<GroupId>),
}

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
        self.unreadable.load(Ordering::Relaxed)
    }

    /// What this process has to do.
    pub(crate) fn close_stage(&self, me: ReplicaId) -> CloseStage {
        self.copy.read(|state| {
            // Older than this process, the copy may not know of the close that ended the one before.
            let knows_us = state.node(me.node).is_some_and(|node| node.replica() == me);
            if state.is_closed_for(me) {
                return CloseStage::Stop;
            }
            let Some(close) = state.close().filter(|_| knows_us) else {
                return if knows_us { CloseStage::Open } else { CloseStage::Wait };
            };
            if !close.finished {
                return CloseStage::Write(close.id, to_hold(state, close, me));
            }
            let ours = close.holds.iter().filter(|(group, hold)| {
                hold.is_held_by(me.node) && state.awaited(**group).is_some()
            });
            let ours: Vec<Held> = ours
                .map(|(group, hold)| Held {
                    group: *group,
                    epoch: hold.epoch,
                    seq: hold.seq,
                    bytes: hold.bytes,
                    at: state.group(*group).map_or(Epoch(0), |config| config.epoch),
                })
                .collect();
            if ours.is_empty() { CloseStage::Wait } else { CloseStage::Read(close.id, ours) }
        })
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

    /// The leader's part: finishes a close when everything is on disk, and settles what came back.
    pub(super) async fn tend_close(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let closed = self.copy.read(|state| state.close().is_some_and(|close| close.finished));
        let since = {
            let mut duties = self.duties.lock();
            match closed {
                true => *duties.reopening_since.get_or_insert(now),
                false => {
                    duties.reopening_since = None;
                    now
                }
            }
        };
        let me = self.replica();
        let waited = now.since(since);
        let step = self.copy.read(|state| next_step(state, me, waited));
        let operation = match step {
            Step::Nothing => return Ok(()),
            Step::Finish(close) => {
                tracing::info!("everything is on disk: the cluster stops");
                Operation::FinishClose(close)
            }
            Step::Abort(group) => {
                tracing::error!(%group, "a group has lost its last copy while the cluster was to stop: it goes on");
                Operation::AbortClose
            }
            Step::Settle(close, groups) => Operation::Settle { close, groups },
        };
        self.propose_as_node(operation, PATIENCE).await.map(drop)
    }

    /// Whether the nodes of a cluster that was closed may still be on their way back, so that nobody is replaced yet.
    pub(super) fn is_coming_back(&self) -> bool {
        let delay = self.copy.read(|state| {
            let finished = state.close().is_some_and(|close| close.finished);
            finished.then(|| state.settings().repair_delay_ms.max(state.settings().voter_delay_ms))
        });
        let since = self.duties.lock().reopening_since.unwrap_or_else(|| self.clock.now());
        delay.is_some_and(|delay| self.clock.now().since(since) < Duration::from_millis(delay))
    }

    /// Begins to stop the whole cluster, or takes it back.
    pub(super) async fn close_cluster(&self, key: PublicKey, cancel: bool) -> Result<(), Failure> {
        self.policy().authorize::<action::Shutdown>(key, "cluster")?;
        if self.config.temporary && !cancel {
            let message = "a cluster of `holo dev` lives in memory and ends with that command";
            return Err(Failure::new(ErrorCode::NotYet, message)
                .help("save arrays with `holo array get NAME --out FILE`, then give --now"));
        }
        let operation = if cancel { Operation::AbortClose } else { Operation::BeginClose };
        tracing::info!(by = %key.short(), cancel, "asked to stop the whole cluster");
        self.propose(holo_core::catalog::Authority::Principal(key), operation, PATIENCE).await?;
        Ok(())
    }

    /// How the stop of the whole cluster goes.
    pub(super) fn watch_close(&self, key: PublicKey) -> Result<CloseReport, Failure> {
        let _may = self.policy().authorize::<action::Status>(key, "cluster")?;
        Ok(self.copy.read(close_report))
    }
}

/// What may be written, by a catalog; for a process in this life.
pub(super) fn intake_of(state: &CatalogState, me: Option<ReplicaId>) -> Intake {
    let id = state.close().map_or_else(CloseId::default, |close| close.id);
    if me.is_some_and(|me| state.is_closed_for(me)) {
        return Intake::Closing(id);
    }
    let Some(close) = state.close() else { return Intake::Open };
    if !close.finished {
        return Intake::Closing(id);
    }
    let waiting: BTreeSet<GroupId> = close.holds.keys().copied().collect();
    Intake::Reopening(Arc::new(waiting))
}

/// How a close goes, or how far the cluster has come back.
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
            let late = config.in_sync.iter().filter(|it| !hold.holders.contains(it));
            waits_for.extend(late.filter_map(|it| missing(it.node)));
        }
    }
    report.waits_for = waits_for.into_iter().collect();
    report
}

fn to_hold(state: &CatalogState, close: &Close, me: ReplicaId) -> Vec<ToHold> {
    let ours = close.holds.iter().filter_map(|(group, hold)| {
        let config = state.group(*group)?;
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

fn next_step(state: &CatalogState, me: Option<ReplicaId>, waited: Duration) -> Step {
    let Some(close) = state.close() else { return Step::Nothing };
    if close.finished {
        if me.is_none_or(|me| state.is_closed_for(me)) {
            return Step::Nothing;
        }
        let back = close.holds.keys().filter_map(|group| state.group(*group));
        let ready = back.filter(|config| !config.lost && has_copies(state, config, waited));
        let groups: Vec<GroupId> =
            ready.map(|config| config.group).take(limits::PROPOSALS_MAX).collect();
        return if groups.is_empty() { Step::Nothing } else { Step::Settle(close.id, groups) };
    }
    let mut whole = true;
    for (group, hold) in &close.holds {
        match state.group(*group) {
            Some(config) if config.lost => return Step::Abort(*group),
            Some(config) if hold.is_whole(config) => {}
            _ => whole = false,
        }
    }
    if whole { Step::Finish(close.id) } else { Step::Nothing }
}

/// Whether a group that came back has the copies that it can have. Nodes that are not there count for a while.
fn has_copies(state: &CatalogState, config: &GroupConfig, waited: Duration) -> bool {
    let delay = Duration::from_millis(state.settings().repair_delay_ms);
    let holders = state
        .target(config.group.class.replicas)
        .map_or(&[][..], |table| table.holders(config.group.partition));
    let counts = |node: &NodeRecord| node.state.may_hold() && (node.up || waited < delay);
    let wanted = holders.iter().filter(|it| state.node(**it).is_some_and(counts)).count();
    config.in_sync.len() >= wanted.max(1) || waited >= SETTLED_AT_LATEST
}
