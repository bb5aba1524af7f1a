//! Groups and their configs: how they are made, changed and indexed.

use std::collections::BTreeSet;

use crate::catalog::changes::Subject;
use crate::catalog::state::CatalogState;
use crate::replication::{Class, GroupConfig, GroupId, Incarnation, NodeNumber, ReplicaId};
use crate::{Count, Epoch, ErrorCode, Failure, PartitionId};

impl CatalogState {
    /// Whether the class has its groups.
    pub fn has_groups(&self, class: Class) -> bool {
        self.groups.contains_key(&GroupId { partition: PartitionId(0), class })
    }

    /// Makes the groups of a class from the target table, unless they are there.
    ///
    /// A replica that is not up at the start is left out: its primary adds it when it comes.
    ///
    /// Groups that stayed when the last array of their class was removed may have fewer copies by now than must be in
    /// sync. They get them back where there are nodes enough, which is what is asked of a class that is new, too.
    pub(super) fn make_groups(&mut self, class: Class) -> Result<(), Failure> {
        if self.has_groups(class) {
            let ready = self.nodes.keys().filter(|number| self.ready(**number).is_some()).count();
            if ready < usize::from(class.min_in_sync) && !self.arrays.has_class(class) {
                return Err(too_few_nodes(class, ready));
            }
            return Ok(());
        }
        let Some(table) = self.targets.get(&class.replicas) else {
            let message = format!("there is no placement table for {} copies yet", class.replicas);
            return Err(Failure::new(ErrorCode::Conflict, message)
                .help("try again: the catalog's leader makes one")
                .retry_after_ms(200));
        };
        let mut configs = Vec::with_capacity(1 << self.partition_bits);
        for partition in self.partitions() {
            let targets = table.holders(partition);
            let ready: Vec<ReplicaId> =
                targets.iter().filter_map(|number| self.ready(*number)).collect();
            let Some(primary) = ready.first().copied() else {
                return Err(too_few_nodes(class, 0));
            };
            if ready.len() < usize::from(class.min_in_sync) {
                return Err(too_few_nodes(class, ready.len()));
            }
            let mut in_sync = ready;
            in_sync.sort_unstable();
            // There may be a million of these.
            in_sync.shrink_to_fit();
            configs.push(GroupConfig {
                group: GroupId { partition, class },
                epoch: Epoch(1),
                primary,
                in_sync,
                learners: Vec::new(),
                lost: false,
            });
        }
        self.add_groups(configs);
        Ok(())
    }

    /// The replica of a node that can take something now.
    pub(super) fn ready(&self, number: NodeNumber) -> Option<ReplicaId> {
        let node = self.nodes.get(&number)?;
        (node.up && node.incarnation.0 > 0 && node.state.may_hold()).then(|| node.replica())
    }

    /// Whether the replica is its node's present life and was not put out.
    pub(super) fn is_current(&self, replica: ReplicaId) -> bool {
        replica.incarnation.0 > 0
            && self
                .nodes
                .get(&replica.node)
                .is_some_and(|node| node.state.is_living() && node.replica() == replica)
    }

    /// Whether the replica is current and its node answers.
    pub fn is_up(&self, replica: ReplicaId) -> bool {
        self.is_current(replica) && self.nodes.get(&replica.node).is_some_and(|node| node.up)
    }

    /// Puts a config in the place of the last one, and keeps the indexes in step.
    pub(super) fn put_group(&mut self, config: GroupConfig) {
        debug_assert!(config.check().is_ok(), "{config:?}");
        let group = config.group;
        debug_assert!(
            self.groups.get(&group).is_none_or(|old| config.epoch.0 == old.epoch.0 + 1),
            "{config:?}"
        );
        self.replace_group(config);
        self.void_hold(group);
    }

    /// As [`Self::put_group`], whatever the epochs are.
    pub(super) fn replace_group(&mut self, config: GroupConfig) {
        let group = config.group;
        if let Some(place) = self.groups.get_mut(&group) {
            // In its place: taking it out and putting it in again would leave holes in the tree.
            let old = std::mem::replace(place, config.clone());
            self.unindex(&old);
            self.index(&config);
        } else {
            self.index(&config);
            self.groups.insert(group, config);
        }
        self.touch(Subject::Group(group));
    }

    /// Adds groups that are not there. Added one by one in their order they would leave half of the tree empty.
    pub(super) fn add_groups(&mut self, configs: Vec<GroupConfig>) {
        for config in &configs {
            self.index(config);
            self.touch(Subject::Group(config.group));
            self.void_hold(config.group);
        }
        let mut fresh = configs.into_iter().map(|config| (config.group, config)).collect();
        self.groups.append(&mut fresh);
    }

    /// Closes the gaps that the tree of groups has when they came one by one.
    pub(super) fn pack_groups(&mut self) {
        self.groups = std::mem::take(&mut self.groups).into_iter().collect();
    }

    pub(super) fn index(&mut self, config: &GroupConfig) {
        if config.lost {
            self.lost.insert(config.group);
            return;
        }
        for member in config.members() {
            self.by_node.entry(member.node).or_default().insert(config.group);
        }
    }

    pub(super) fn unindex(&mut self, config: &GroupConfig) {
        self.lost.remove(&config.group);
        for member in config.members() {
            if let Some(groups) = self.by_node.get_mut(&member.node) {
                groups.remove(&config.group);
                if groups.is_empty() {
                    self.by_node.remove(&member.node);
                }
            }
        }
    }

    /// Takes all lives of a node but `keep` out of every config. Groups whose last in-sync replica that was are lost; where
    /// no array had anything in them, or the loss is accepted, they start anew elsewhere.
    pub(super) fn remove_node_from_groups(
        &mut self,
        node: NodeNumber,
        keep: Option<Incarnation>,
        accept_loss: bool,
    ) {
        let groups = self.groups_of(node).clone();
        let goes = |member: ReplicaId| member.node == node && Some(member.incarnation) != keep;
        self.remove_from_groups(&groups, goes, accept_loss);
    }

    /// A node has started again and may have what its earlier lives left: those that are in sync stay for now.
    pub(super) fn retire_earlier_lives(&mut self, node: NodeNumber, current: Incarnation) {
        let me = ReplicaId { node, incarnation: current };
        let goes = |group: &&GroupId| {
            let config = self.groups.get(*group);
            config.is_none_or(|config| config.past_life(me).is_none())
        };
        let groups: BTreeSet<GroupId> = self.groups_of(node).iter().filter(goes).copied().collect();
        let is_past = |member: ReplicaId| member.node == node && member.incarnation < current;
        self.remove_from_groups(&groups, is_past, false);
    }

    /// Takes replicas out of the configs of some groups, as [`Self::remove_node_from_groups`] does.
    pub(super) fn remove_from_groups(
        &mut self,
        groups: &BTreeSet<GroupId>,
        goes: impl Fn(ReplicaId) -> bool,
        accept_loss: bool,
    ) {
        let mut emptied = BTreeSet::new();
        for group in groups {
            let Some(config) = self.groups.get(group) else { continue };
            if !config.members().any(&goes) {
                continue;
            }
            let mut next = config.clone();
            next.epoch = Epoch(config.epoch.0 + 1);
            next.in_sync.retain(|member| !goes(*member));
            next.learners.retain(|member| !goes(*member));
            if next.in_sync.is_empty() {
                emptied.insert(*group);
                continue;
            }
            if goes(next.primary) {
                let primary = self.choose_primary(*group, &next.in_sync);
                next.primary = primary.unwrap_or(next.in_sync[0]);
            }
            self.put_group(next);
        }
        self.lose(&emptied, accept_loss);
    }

    /// Who takes over among `candidates` when the catalog knows that the primary is dead: one that answers before one
    /// that does not, then by the target table's order.
    pub(super) fn choose_primary(
        &self,
        group: GroupId,
        candidates: &[ReplicaId],
    ) -> Option<ReplicaId> {
        let targets = self
            .targets
            .get(&group.class.replicas)
            .map_or(&[][..], |table| table.holders(group.partition));
        let place = |replica: &ReplicaId| {
            targets.iter().position(|number| *number == replica.node).unwrap_or(targets.len())
        };
        candidates
            .iter()
            .copied()
            .min_by_key(|replica| (!self.is_up(*replica), place(replica), *replica))
    }
}

fn too_few_nodes(class: Class, ready: usize) -> Failure {
    let message = format!(
        "{} in sync, and {} up for some",
        Count(u64::from(class.min_in_sync)).of("copy"),
        Count::from(ready).of("node")
    );
    Failure::new(ErrorCode::OutOfCapacity, message)
        .help("wait until the nodes are back, or ask for fewer copies in sync")
        .retry_after_ms(1000)
}
