//! Emptying a node: what would move, what stands in the way, and how far it is.
//!
//! Only nodes that answer receive anything: one that is silent may never come back, whether it is planned around yet or
//! not. So a drain is refused when those that answer are too few, and says when they are fewer than the copies wanted.
//!
//! A class whose arrays were all removed keeps its groups, and nobody's data is in them: they stand in no drain's way. Where
//! nodes enough are left for what must be in sync they move as all others do. Where there are not, so that no primary could
//! ever give the copy up, the catalog takes the draining node out of the config as soon as another in-sync replica that
//! answers goes on without it ([`CatalogState::release_draining`]): a take-over, but for who asks. None of them starts anew
//! for that: an only copy on a node that lives needs no lease of anybody to go on answering, and would do so for as long as
//! it has not heard of it. It copies its nothing to somebody else, and is out of the group with that one's coming in sync.
//!
//! A drain is a state in the catalog. The plan of a draining node's cluster leaves it out, primaries follow the tables
//! step by step ([`CatalogState::next_change`]), and it is `drained` when no config names it: read from configs, so
//! whoever asked may die meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::nodes::{NodeRecord, NodeState};
use crate::catalog::planner::{Plan, plan_without};
use crate::catalog::state::CatalogState;
use crate::catalog::targets::TargetTable;
use crate::replication::{Class, GroupConfig, GroupId, NodeNumber};
use crate::{ByteCount, Epoch, ErrorCode, Failure, UnixMillis};

/// Arrays and nodes that a refusal names.
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
            let is_named = |to| self.groups.get(&it.group).is_some_and(|config| config.names(to));
            for to in &it.add {
                bytes = bytes.saturating_add(each);
                if is_named(*to) {
                    // It has made room for it.
                    continue;
                }
                let sum = arriving.entry(*to).or_insert(0);
                *sum = sum.saturating_add(each);
            }
        }
        for (to, needed) in &arriving {
            let free = free_bytes.and_then(|free| free.get(to)).copied().unwrap_or(u64::MAX);
            if *needed > free {
                let name = self.nodes.get(to).map_or("?", |node| node.name.as_str());
                let (needed, free) = (ByteCount(*needed), ByteCount(free));
                let mut message = format!("node {name} would get {needed} and has room for {free}");
                if self.groups.values().any(|config| !config.learners.is_empty()) {
                    message.push_str(" while moves are under way, which change both");
                }
                let mut help = "add a node or memory, or free arrays".to_owned();
                if let Some(undrain) = self.back_into_service() {
                    help = format!("{undrain}, or {help}");
                }
                refusals.push(Failure::new(ErrorCode::OutOfCapacity, message).help(help));
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

    /// What takes a node that was emptied and answers back into service; `None` when there is none.
    pub fn back_into_service(&self) -> Option<String> {
        let idle = self.nodes.values().filter(|node| node.up && node.state == NodeState::Drained);
        let names: Vec<&str> = idle.map(|node| node.name.as_str()).collect();
        let first = names.first()?;
        let was = if names.len() == 1 { "was" } else { "were" };
        Some(format!(
            "`holo undrain {first}` takes a node back into service ({} {was} drained)",
            listed(&names)
        ))
    }

    /// Why copies are missing that nobody makes: all nodes in service answer, none is being drained, and they are fewer than
    /// some array has copies.
    pub fn too_few_in_service(&self) -> Option<String> {
        let takes = || self.nodes.values().filter(|node| node.state.may_hold());
        let there = takes().count();
        let copies = self.arrays().map(|array| usize::from(array.replicas)).max()?;
        // A drain that is under way warns of it by itself.
        let changes = takes().any(|node| !node.up) || self.nodes.values().any(is_draining);
        if there >= copies || changes {
            return None;
        }
        let verb = if there == 1 { "node is" } else { "nodes are" };
        let more = self.back_into_service().unwrap_or_else(|| "add nodes".to_owned());
        Some(format!("arrays of {copies} copies have fewer: {there} {verb} in service; {more}"))
    }

    /// Why a node cannot be emptied, as far as the catalog alone can tell.
    pub(super) fn drain_refusals(&self, node: NodeNumber) -> Vec<Failure> {
        let Receivers { left, silent } = self.receivers_without(node);
        let name = self.nodes.get(&node).map_or("?", |node| node.name.as_str());
        let mut help = match silent.as_slice() {
            [] => "add a node first".to_owned(),
            silent => format!("start {} again or add a node first", listed(silent)),
        };
        if let Some(undrain) = self.back_into_service() {
            help = format!("{undrain}, or {help}");
        }
        if left == 0 {
            let message = match silent.as_slice() {
                [] => format!("no other node could hold what node {name} holds"),
                silent => format!(
                    "no node that answers could hold what node {name} holds: {}",
                    unanswering(silent)
                ),
            };
            return vec![
                Failure::new(ErrorCode::DrainRefused, message)
                    .help(format!("{help}, or stop the cluster: `holo shutdown --cluster`")),
            ];
        }
        let mut refusals = Vec::new();
        for class in self.classes() {
            if usize::from(class.min_in_sync) <= left || !self.arrays.has_class(class) {
                continue;
            }
            let arrays = self.arrays().filter(|array| array.class() == class);
            let names: Vec<&str> =
                arrays.take(NAMED_MAX + 1).map(|array| array.name.as_str()).collect();
            let there = if left == 1 { "one node".to_owned() } else { format!("{left} nodes") };
            let why = if silent.is_empty() {
                String::new()
            } else {
                format!(" ({})", unanswering(&silent))
            };
            let message = format!(
                "{there} would be left without node {name}{why}, and {} copies must be in sync of {}",
                class.min_in_sync,
                listed(&names)
            );
            refusals.push(Failure::new(ErrorCode::DrainRefused, message).help(help.clone()));
        }
        refusals
    }

    fn drain_warnings(&self, node: NodeNumber) -> Vec<String> {
        let Receivers { left, silent } = self.receivers_without(node);
        let why = match silent.as_slice() {
            [] => "there are no more nodes".to_owned(),
            silent => unanswering(silent),
        };
        // Below the copies that must be in sync nothing goes: that is a refusal, or a wait.
        let goes = self.arrays().filter(|array| usize::from(array.class().min_in_sync) <= left);
        let copies: BTreeSet<u8> = goes.map(|array| array.replicas).collect();
        let fewer = copies.into_iter().filter(|copies| usize::from(*copies) > left);
        fewer.map(|copies| format!("arrays of {copies} copies will have {left}: {why}")).collect()
    }

    /// Takes draining nodes out of the groups of classes without arrays, as far as their primaries cannot: see the module.
    ///
    /// Called after everything by which that may become so: a drain begins, the last array of a class is removed, a node
    /// falls silent, answers again or takes nothing any more. A replica that comes in sync has a call of its own.
    pub(super) fn release_draining(&mut self) {
        let draining = self.nodes.values().filter(|node| is_draining(node));
        let draining: Vec<NodeNumber> = draining.map(|node| node.number).collect();
        if draining.is_empty() {
            return;
        }
        let classes = self.classes().into_iter().filter(|class| !self.arrays.has_class(*class));
        let classes: Vec<Class> = classes.collect();
        for class in classes {
            let held = draining.iter().flat_map(|node| self.groups_of(*node));
            let held: BTreeSet<GroupId> = held.filter(|it| it.class == class).copied().collect();
            if held.is_empty() {
                continue;
            }
            let short = draining.iter().filter(|node| self.is_short_without(**node, class));
            let short: BTreeSet<NodeNumber> = short.copied().collect();
            for group in held {
                let Some(config) = self.groups.get(&group) else { continue };
                let mut next = GroupConfig { epoch: Epoch(config.epoch.0 + 1), ..config.clone() };
                let gone = draining
                    .iter()
                    .filter(|node| self.let_go(&mut next, **node, || short.contains(*node)));
                if gone.count() > 0 {
                    self.put_group(next);
                }
            }
        }
    }

    /// As [`Self::release_draining`], for a group that is about to get a new config.
    pub(super) fn let_draining_go(&self, next: &mut GroupConfig) {
        let class = next.group.class;
        let drains = |it: &NodeNumber| self.nodes.get(it).is_some_and(is_draining);
        let draining: Vec<NodeNumber> = next.members().map(|it| it.node).filter(drains).collect();
        if draining.is_empty() || self.arrays.has_class(class) {
            return;
        }
        for node in draining {
            self.let_go(next, node, || self.is_short_without(node, class));
        }
    }

    /// Takes a draining node out of a config of a class without arrays; says whether it did. A learner is of no use to
    /// anybody. Who is in sync stays where its primary can let it go (`is_short` says when not), so that the group has its
    /// copies all the time for an array to come; and stays as long as no other one that answers has all that it has.
    fn let_go(
        &self,
        next: &mut GroupConfig,
        node: NodeNumber,
        is_short: impl FnOnce() -> bool,
    ) -> bool {
        let is_learner = next.learners.iter().any(|it| it.node == node);
        next.learners.retain(|it| it.node != node);
        let mut others = next.in_sync.iter().filter(|it| it.node != node);
        let is_in_sync = others.clone().count() < next.in_sync.len();
        if !is_in_sync || !others.any(|it| self.is_up(*it)) || !is_short() {
            return is_learner;
        }
        next.in_sync.retain(|it| it.node != node);
        if next.primary.node == node {
            let successor = self.choose_primary(next.group, &next.in_sync);
            next.primary = successor.unwrap_or(next.in_sync[0]);
        }
        true
    }

    /// Whether fewer nodes would be left without `node` than must be in sync.
    fn is_short_without(&self, node: NodeNumber, class: Class) -> bool {
        let wanted = usize::from(class.min_in_sync);
        let takes = |it: &&NodeRecord| it.number != node && it.up && it.state == NodeState::Active;
        // As a rule these suffice, and nobody looks through all the tables for who is cordoned.
        let active = self.nodes.values().filter(takes).take(wanted).count();
        active < wanted && self.receivers_without(node).left < wanted
    }

    /// Who could take what `node` holds.
    fn receivers_without(&self, node: NodeNumber) -> Receivers<'_> {
        let holders: BTreeSet<NodeNumber> =
            self.targets.values().flat_map(TargetTable::all_holders).copied().collect();
        // Who is cordoned keeps what it has, and where that is nothing it gets nothing.
        let takes = |it: &&NodeRecord| {
            it.state.may_hold() && (it.state != NodeState::Cordoned || holders.contains(&it.number))
        };
        let others = self.nodes.values().filter(|it| it.number != node).filter(takes);
        let (there, silent): (Vec<_>, Vec<_>) = others.partition(|it| it.up);
        let silent = silent.into_iter().map(|it| it.name.as_str()).collect();
        Receivers { left: there.len(), silent }
    }
}

/// The nodes beside one that is to be emptied.
struct Receivers<'a> {
    /// Those that answer and may hold copies.
    left: usize,
    /// Names of those that could and do not answer.
    silent: Vec<&'a str>,
}

fn is_draining(node: &NodeRecord) -> bool {
    matches!(node.state, NodeState::Draining { .. })
}

fn unanswering(silent: &[&str]) -> String {
    let verb = if silent.len() == 1 { "does" } else { "do" };
    format!("{} {verb} not answer", listed(silent))
}

/// `a, b`, with an end to long lists.
fn listed(names: &[&str]) -> String {
    if names.len() <= NAMED_MAX {
        return names.join(", ");
    }
    format!("{} and others", names[..NAMED_MAX].join(", "))
}
