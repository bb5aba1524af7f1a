//! Emptying a node: what would move, what stands in the way, and how far it is.
//!
//! A drain is a state in the catalog. The plan of a draining node's cluster leaves it out, primaries follow the tables
//! step by step ([`CatalogState::next_change`]), and it is `drained` when no config names it: read from configs, so
//! whoever asked may die meanwhile.

use std::collections::BTreeMap;

use crate::catalog::planner::{Plan, plan_without};
use crate::catalog::state::CatalogState;
use crate::replication::{Class, NodeNumber};
use crate::{ErrorCode, Failure, UnixMillis};

/// Arrays that a refusal names.
const NAMED_MAX: usize = 5;

/// What emptying a node would mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// The node.
    pub node: NodeNumber,
    /// Groups that it holds a copy of.
    pub groups: usize,
    /// Groups that it is the primary of.
    pub primaries: usize,
    /// Bytes that it would have to copy to others, estimated from the arrays' sizes.
    pub bytes: u64,
    /// Where they would go; `None` when there is nowhere.
    pub plan: Option<Plan>,
    /// Why it cannot be done. Empty when it can.
    pub refusals: Vec<Failure>,
    /// What will be less than was asked for, in words.
    pub warnings: Vec<String>,
}

/// How far the emptying of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainProgress {
    /// Groups that still name it.
    pub groups_left: usize,
    /// Those among them of which it is the primary.
    pub primaries_left: usize,
}

impl CatalogState {
    /// What would move if `node` were emptied, and why it cannot be. `free_bytes`, where it is known, is what each node
    /// can still take; a node that is not in it counts as having room.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] when there is no such node.
    pub fn drain_plan(
        &self,
        node: NodeNumber,
        now: UnixMillis,
        free_bytes: Option<&BTreeMap<NodeNumber, u64>>,
    ) -> Result<DrainPlan, Failure> {
        self.living(node)?;
        let mut refusals = self.drain_refusals(node);
        let progress = self.drain_progress(node);
        let plan = match plan_without(self, now, &[], Some(node)) {
            Ok(plan) => Some(plan),
            Err(failure) if refusals.is_empty() => {
                refusals.push(failure);
                None
            }
            Err(_) => None,
        };
        let mut arriving: BTreeMap<NodeNumber, u64> = BTreeMap::new();
        let mut bytes = 0u64;
        let mut group_bytes: BTreeMap<Class, u64> = BTreeMap::new();
        let moves = plan.iter().flat_map(|plan| &plan.moves).filter(|it| it.drop.contains(&node));
        for it in moves {
            let class = it.group.class;
            let each = *group_bytes
                .entry(class)
                .or_insert_with(|| self.bytes_of(class).div_ceil(1 << self.partition_bits));
            for to in &it.add {
                bytes = bytes.saturating_add(each);
                let sum = arriving.entry(*to).or_insert(0);
                *sum = sum.saturating_add(each);
            }
        }
        for (to, needed) in &arriving {
            let free = free_bytes.and_then(|free| free.get(to)).copied().unwrap_or(u64::MAX);
            if *needed > free {
                let name = self.nodes.get(to).map_or("?", |node| node.name.as_str());
                let message =
                    format!("node {name} would get {needed} bytes and has room for {free}");
                refusals.push(
                    Failure::new(ErrorCode::OutOfCapacity, message)
                        .help("add a node or memory, or free arrays"),
                );
            }
        }
        Ok(DrainPlan {
            node,
            groups: progress.groups_left,
            primaries: progress.primaries_left,
            bytes,
            plan,
            refusals,
            warnings: self.drain_warnings(node),
        })
    }

    /// How far the emptying of a node is; nothing is left for a node that holds nothing, or that there is not.
    pub fn drain_progress(&self, node: NodeNumber) -> DrainProgress {
        let groups = self.groups_of(node);
        let primaries = groups.iter().filter_map(|group| self.groups.get(group));
        DrainProgress {
            groups_left: groups.len(),
            primaries_left: primaries.filter(|config| config.primary.node == node).count(),
        }
    }

    /// Why a node cannot be emptied, as far as the catalog alone can tell.
    pub(super) fn drain_refusals(&self, node: NodeNumber) -> Vec<Failure> {
        let mut others = self.holders_possible();
        others.remove(&node);
        let name = self.nodes.get(&node).map_or("?", |node| node.name.as_str());
        if others.is_empty() {
            let message = format!("no other node could hold what node {name} holds");
            return vec![
                Failure::new(ErrorCode::DrainRefused, message)
                    .help("add a node first, or stop the cluster: `holo shutdown --cluster`"),
            ];
        }
        let mut refusals = Vec::new();
        for class in self.classes() {
            if usize::from(class.min_in_sync) <= others.len() {
                continue;
            }
            let arrays = self.arrays().filter(|array| array.class() == class);
            let mut names: Vec<&str> =
                arrays.take(NAMED_MAX + 1).map(|array| array.name.as_str()).collect();
            if names.is_empty() {
                continue;
            }
            if names.len() > NAMED_MAX {
                names.truncate(NAMED_MAX);
                names.push("others");
            }
            let message = format!(
                "without node {name} there are {} nodes, and {} copies must be in sync of {}",
                others.len(),
                class.min_in_sync,
                names.join(", ")
            );
            refusals.push(
                Failure::new(ErrorCode::DrainRefused, message)
                    .help("add a node first, or remove these arrays"),
            );
        }
        refusals
    }

    fn drain_warnings(&self, node: NodeNumber) -> Vec<String> {
        let mut others = self.holders_possible();
        others.remove(&node);
        let fewer = |class: &Class| usize::from(class.replicas) > others.len();
        let classes = self.classes().into_iter().filter(fewer);
        classes
            .map(|class| {
                format!(
                    "arrays of {} copies will have {}: there are no more nodes",
                    class.replicas,
                    others.len()
                )
            })
            .collect()
    }
}
