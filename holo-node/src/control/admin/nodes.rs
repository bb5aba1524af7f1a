//! Nodes: their states, and how they are emptied.

use std::collections::{BTreeMap, BTreeSet};

use holo_core::catalog::{DrainPlan, NodeChange, NodeRecord, NodeState, Operation};
use holo_core::replication::{GroupId, NodeNumber};
use holo_core::wire::{DrainReport, NodeOrder, NodeOrderKind, ReceiverBody};
use holo_core::{Count, ErrorCode, Failure, PublicKey, UnixMillis, action};

use super::{CLUSTER, Control, find_node};

/// Arrays that a sentence names.
const ARRAYS_NAMED: usize = 5;

impl Control {
    /// Changes a node's state.
    pub(super) async fn change_node(
        &self,
        key: PublicKey,
        order: &NodeOrder,
    ) -> Result<(), Failure> {
        let node = self.copy.read(|state| find_node(state, &order.node).cloned())?;
        self.may::<action::Drain>(key, &node.name)?;
        let change = match order.kind() {
            NodeOrderKind::Cordon => NodeChange::Cordon,
            NodeOrderKind::Uncordon => NodeChange::Uncordon,
            NodeOrderKind::Drain => {
                self.refuse_drain(&node)?;
                let deadline = order.deadline_unix_ms;
                NodeChange::Drain { deadline: (deadline != 0).then_some(UnixMillis(deadline)) }
            }
            NodeOrderKind::Undrain => NodeChange::Undrain,
            NodeOrderKind::Evict => NodeChange::Evict { accept_loss: order.accept_loss },
            NodeOrderKind::Leave => NodeChange::Leave,
            NodeOrderKind::Reweigh => NodeChange::Reweigh { weight_milli: order.weight_milli },
            NodeOrderKind::Unknown => {
                return Err(Failure::new(
                    ErrorCode::InvalidArgument,
                    "no change of the node is named",
                ));
            }
        };
        tracing::info!(node = %node.name, by = %key.short(), change = ?order.kind(), "a node is changed");
        let number = node.number;
        self.command(key, Operation::SetNodeState { node: number, change }).await?;
        Ok(())
    }

    /// Refuses a drain for the first reason of its plan, rooms among them, which the catalog alone does not know.
    fn refuse_drain(&self, node: &NodeRecord) -> Result<(), Failure> {
        if matches!(node.state, NodeState::Draining { .. } | NodeState::Drained) {
            return Ok(());
        }
        self.drain_plan(node.number)?.refusals.into_iter().next().map_or(Ok(()), Err)
    }

    fn drain_plan(&self, node: NodeNumber) -> Result<DrainPlan, Failure> {
        let now = self.clock.wall();
        self.copy.read(|state| {
            let health = self.health.lock();
            let rooms = state.nodes().filter_map(|other| {
                let load =
                    health.load(other.replica()).filter(|load| load.reserved_bytes_max > 0)?;
                Some((other.number, load.reserved_bytes_max.saturating_sub(load.reserved_bytes)))
            });
            let rooms: BTreeMap<NodeNumber, u64> = rooms.collect();
            state.drain_plan(node, now, Some(&rooms))
        })
    }

    /// What a drain of a node would do.
    pub(super) fn plan_drain(&self, key: PublicKey, text: &str) -> Result<DrainReport, Failure> {
        self.may::<action::Status>(key, CLUSTER)?;
        let node = self.copy.read(|state| find_node(state, text).cloned())?;
        let plan = self.drain_plan(node.number)?;
        let mut report = head(&node);
        report.groups_total = plan.groups as u64;
        report.groups_left = plan.groups as u64;
        report.primaries_left = plan.primaries as u64;
        report.bytes_left = plan.bytes;
        report.receivers = receivers(&plan);
        report.refusals = plan.refusals.into_iter().map(Into::into).collect();
        let silence = self.silence_of(&node).map(|silence| silence.words);
        report.warnings = silence.into_iter().chain(plan.warnings).collect();
        Ok(report)
    }

    /// What to say of a node that is emptied and does not answer; `None` while it answers or holds nothing.
    fn silence_of(&self, node: &NodeRecord) -> Option<Silence> {
        self.copy.read(|state| {
            let held = state.groups_of(node.number);
            if node.up || held.is_empty() {
                return None;
            }
            let alone = held.iter().copied().filter(|group| {
                let config = state.group(*group);
                config.is_some_and(|it| !it.in_sync.iter().any(|replica| state.is_up(*replica)))
            });
            let alone: BTreeSet<GroupId> = alone.collect();
            let mut arrays: Vec<&str> = state
                .arrays_in(&alone, ARRAYS_NAMED + 1)
                .into_iter()
                .map(|array| array.name.as_str())
                .collect();
            if arrays.len() > ARRAYS_NAMED {
                arrays.truncate(ARRAYS_NAMED);
                arrays.push("others");
            }
            let alone = alone.len() as u64;
            Some(Silence { alone, words: silence(&node.name, alone, &arrays) })
        })
    }

    /// How a drain goes.
    pub(super) fn watch_drain(&self, key: PublicKey, text: &str) -> Result<DrainReport, Failure> {
        self.may::<action::Status>(key, CLUSTER)?;
        let node = self.copy.read(|state| find_node(state, text).cloned())?;
        Ok(self.drain_report(&node))
    }

    /// A node's drain as it is now.
    pub(super) fn drain_report(&self, node: &NodeRecord) -> DrainReport {
        let progress = self.copy.read(|state| state.drain_progress(node.number));
        let left = progress.groups_left as u64;
        let mut report = head(node);
        report.groups_left = left;
        report.groups_total = left;
        report.primaries_left = progress.primaries_left as u64;
        let silence = self.silence_of(node);
        // What only a silent node has moves at no rate at all.
        let waits = silence.as_ref().and_then(|silence| silence.wait(&node.name));
        let stands_still = waits.is_some();
        if let Ok(plan) = self.drain_plan(node.number) {
            report.bytes_left = plan.bytes;
            let silence = silence.map(|silence| silence.words);
            report.warnings = silence.into_iter().chain(plan.warnings).collect();
            if matches!(node.state, NodeState::Draining { .. }) {
                // Nodes may have died since it began: it waits for them.
                let refusals = plan.refusals.into_iter();
                let holds_up = refusals.filter(|it| it.code == ErrorCode::DrainRefused);
                report.refusals = waits.into_iter().chain(holds_up).map(Into::into).collect();
            }
        }
        let leader = self.leader.lock();
        if let Some(meter) = leader.as_ref().and_then(|it| it.drain_meter(node.number)) {
            report.groups_total = meter.total().max(left);
            let eta = meter.eta_ms(self.clock.now(), left).filter(|_| !stands_still);
            report.eta_ms = eta.unwrap_or(0);
        }
        report
    }
}

/// A node that is emptied and does not answer.
struct Silence {
    /// Groups of which nobody else who answers has a copy.
    alone: u64,
    /// What that means for its drain.
    words: String,
}

impl Silence {
    /// What its drain waits for; `None` when the others have a copy of everything.
    fn wait(&self, name: &str) -> Option<Failure> {
        if self.alone == 0 {
            return None;
        }
        let groups = Count(self.alone).of("group");
        let message = format!("{name} does not answer and has the last copy of {groups}");
        let help = format!("start {name} again with `holo agent --dir DIR`");
        Some(Failure::new(ErrorCode::DrainRefused, message).help(help))
    }
}

/// What it means for the drain of a node that it does not answer: `alone` are the groups of which nobody else who answers
/// has a copy, and `arrays` have data in them.
fn silence(name: &str, alone: u64, arrays: &[&str]) -> String {
    let others = "new copies are made from those of the other nodes";
    if alone == 0 {
        return format!("{name} does not answer: nothing can be moved off it, {others}");
    }
    let groups = Count(alone).of("group");
    let data = match arrays {
        [] => "without data".to_owned(),
        arrays => format!("with parts of {}", arrays.join(", ")),
    };
    format!(
        "{name} does not answer: the last copy of {groups}, {data}, cannot be moved before it is back; where there are others, {others}; if it never comes back: `holo node evict {name} --plan`"
    )
}

fn head(node: &NodeRecord) -> DrainReport {
    let (since, deadline) = match node.state {
        NodeState::Draining { since, deadline } => (since.0, deadline.map_or(0, |it| it.0)),
        _ => (0, 0),
    };
    DrainReport {
        number: node.number.0,
        name: node.name.clone(),
        state: node.state.name().to_owned(),
        since_unix_ms: since,
        deadline_unix_ms: deadline,
        ..DrainReport::default()
    }
}

/// The nodes that groups come to when the drained one gives them up.
fn receivers(plan: &DrainPlan) -> Vec<ReceiverBody> {
    let mut groups: BTreeMap<NodeNumber, u64> = BTreeMap::new();
    let moves = plan.plan.iter().flat_map(|it| &it.moves);
    for to in moves.filter(|it| it.drop.contains(&plan.node)).flat_map(|it| &it.add) {
        *groups.entry(*to).or_insert(0) += 1;
    }
    groups.into_iter().map(|(number, groups)| ReceiverBody { number: number.0, groups }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drain of a dead node stood still without a word.
    #[test]
    fn of_a_node_that_does_not_answer_it_is_said_what_can_be_moved_and_what_to_do() {
        let said = silence("n3", 0, &[]);
        assert!(said.starts_with("n3 does not answer: nothing can be moved off it, new copies"));
        let said = silence("n3", 1, &[]);
        assert!(said.contains("the last copy of 1 group, without data, cannot be moved"), "{said}");
        let said = silence("n3", 85, &["b", "c"]);
        assert!(said.contains("the last copy of 85 groups, with parts of b, c, cannot"), "{said}");
        assert!(said.ends_with("if it never comes back: `holo node evict n3 --plan`"), "{said}");
    }

    /// Its drain told a time left, which grew, and not that it waited for the node.
    #[test]
    fn a_drain_waits_for_a_silent_node_only_for_what_nobody_else_has() {
        let silence = |alone| Silence { alone, words: String::new() };
        assert!(silence(0).wait("n3").is_none());
        let wait = silence(53).wait("n3").unwrap();
        assert_eq!(wait.message, "n3 does not answer and has the last copy of 53 groups");
        assert!(wait.help.unwrap().contains("`holo agent"));
    }
}
