//! The last copy: which arrays have data in which groups, what is lost with a node, and how a lost group starts again.
//!
//! A lost group that starts again names one replica, which is its primary. Whatever that one holds, nothing as a rule, is
//! the group's data from then on, and all others become its learners: so no two replicas of a new start can hold
//! different remains of the old one.

use std::collections::BTreeSet;

use crate::catalog::command::{Answer, Authority};
use crate::catalog::principals::CLUSTER;
use crate::catalog::state::CatalogState;
use crate::placement::partition_of;
use crate::replication::{Class, GroupConfig, GroupId, NodeNumber};
use crate::{ArrayDescriptor, Count, Epoch, ErrorCode, Failure, ShardIndex, Verb};

/// Shards of one array that are looked up one by one; an array with more counts as having data everywhere.
const SHARDS_TRACED_MAX: u64 = 4096;
/// Shards that are looked up for one question in all; arrays beyond that count as having data everywhere.
const LOOKUPS_MAX: u64 = 1 << 19;
/// Arrays that a refusal names.
const NAMED_MAX: usize = 5;

/// Who has data in some groups.
struct Occupancy<'a> {
    arrays: Vec<&'a ArrayDescriptor>,
    groups: BTreeSet<GroupId>,
}

impl CatalogState {
    /// Up to `limit` arrays with data in any of `groups`. Arrays of very many shards count without a look.
    pub fn arrays_in(&self, groups: &BTreeSet<GroupId>, limit: usize) -> Vec<&ArrayDescriptor> {
        self.occupancy(groups, limit).arrays
    }

    /// Those of `groups` in which an array has data, and up to `limit` of these arrays.
    fn occupancy(&self, groups: &BTreeSet<GroupId>, limit: usize) -> Occupancy<'_> {
        let mut found = Occupancy { arrays: Vec::new(), groups: BTreeSet::new() };
        let classes: BTreeSet<Class> = groups.iter().map(|group| group.class).collect();
        let mut lookups_left = LOOKUPS_MAX;
        for array in self.arrays().filter(|array| classes.contains(&array.class())) {
            if found.groups.len() == groups.len() && found.arrays.len() >= limit {
                break;
            }
            let class = array.class();
            let shards = array.layout.shards();
            let has_data = if shards > SHARDS_TRACED_MAX.min(lookups_left) {
                found.groups.extend(groups.iter().filter(|group| group.class == class));
                true
            } else {
                lookups_left -= shards;
                let of_shard = |shard| {
                    let key = &array.placement_key;
                    let partition = partition_of(self.partition_bits, key, ShardIndex(shard));
                    GroupId { partition, class }
                };
                let mut here = (0..shards).map(of_shard).filter(|group| groups.contains(group));
                let first = here.next();
                found.groups.extend(first.into_iter().chain(here));
                first.is_some()
            };
            if has_data && found.arrays.len() < limit {
                found.arrays.push(array);
            }
        }
        found
    }

    /// Those of `groups` in which an array has data.
    pub(super) fn occupied(&self, groups: &BTreeSet<GroupId>) -> BTreeSet<GroupId> {
        self.occupancy(groups, 0).groups
    }

    /// Groups of which `node` holds the only in-sync copy that answers, as far as any array has data in them.
    pub(super) fn last_copies(&self, node: NodeNumber) -> BTreeSet<GroupId> {
        let is_alone = |group: &&GroupId| {
            self.groups.get(*group).is_some_and(|config| {
                let mut copies = config.in_sync.iter();
                config.in_sync.iter().any(|copy| copy.node == node)
                    && copies.all(|copy| copy.node == node || !self.is_up(*copy))
            })
        };
        let groups = self.groups_of(node).iter().filter(is_alone).copied();
        let groups = groups.chain(self.only_held_by(node)).collect();
        self.occupied(&groups)
    }

    /// Why a node stays of which these groups have no other copy; and how they get one, which takes the node itself.
    pub(super) fn last_copy_refusal(
        &self,
        node: NodeNumber,
        groups: &BTreeSet<GroupId>,
    ) -> Failure {
        let (name, up) = self.nodes.get(&node).map_or(("?", false), |it| (it.name.as_str(), it.up));
        let message = format!(
            "node {name} has the last copy of {}, with data of {}",
            Count::from(groups.len()).of("group"),
            self.arrays_named(groups)
        );
        let instead = match up {
            true => format!("drain it instead: `holo drain {name}`"),
            false => format!("start {name} again with `holo agent --dir DIR`"),
        };
        Failure::new(ErrorCode::LastCopy, message)
            .help(format!("{instead}; `holo node evict {name} --accept-loss` gives this data up"))
    }

    /// The names of arrays with data in any of `groups`, with an end to long lists.
    pub(super) fn arrays_named(&self, groups: &BTreeSet<GroupId>) -> String {
        let arrays = self.arrays_in(groups, NAMED_MAX + 1);
        let mut named: Vec<&str> = arrays.iter().map(|array| array.name.as_str()).collect();
        if named.len() > NAMED_MAX {
            named.truncate(NAMED_MAX);
            named.push("others");
        }
        named.join(", ")
    }

    /// The last in-sync replicas of these groups are gone: those in which an array has data are lost unless that is
    /// accepted, the others start anew, or are lost as long as there is no node to start them on.
    pub(super) fn lose(&mut self, groups: &BTreeSet<GroupId>, accepted: bool) {
        let occupied = if accepted { BTreeSet::new() } else { self.occupancy(groups, 0).groups };
        for group in groups {
            // What was written down at a close and not changed since is not lost.
            let kept = occupied.contains(group) || self.is_held(*group);
            let fresh = if kept { None } else { self.fresh_config(*group) };
            let next = fresh.or_else(|| {
                let config = self.groups.get(group)?.clone();
                let epoch = Epoch(config.epoch.0 + 1);
                Some(GroupConfig { epoch, learners: Vec::new(), lost: true, ..config })
            });
            if let Some(next) = next {
                self.put_group(next);
            }
        }
    }

    /// Lost groups of a class in which no array has data any more start anew.
    pub(super) fn reset_empty_lost(&mut self, class: Class) {
        let lost: BTreeSet<GroupId> =
            self.lost.iter().filter(|group| group.class == class).copied().collect();
        if !lost.is_empty() {
            let occupied = self.occupancy(&lost, 0).groups;
            self.reset_lost(&lost.difference(&occupied).copied().collect());
        }
    }

    /// Starts these groups anew, as far as they are lost and a node is there for them.
    pub(super) fn reset_lost(&mut self, groups: &BTreeSet<GroupId>) {
        for group in groups {
            if self.lost.contains(group)
                && let Some(fresh) = self.fresh_config(*group)
            {
                self.forget_hold(*group);
                self.put_group(fresh);
            }
        }
    }

    pub(super) fn accept_loss(
        &mut self,
        by: Authority,
        groups: &[GroupId],
    ) -> Result<Answer, Failure> {
        self.check_verb(by, Verb::Config, CLUSTER)?;
        for group in groups {
            if !self.groups.contains_key(group) {
                return Err(Failure::new(ErrorCode::NotFound, format!("group {group}: not found")));
            }
            if self.lost.contains(group) && self.fresh_config(*group).is_none() {
                let message = format!("no node is there to start group {group} anew");
                return Err(
                    Failure::new(ErrorCode::OutOfCapacity, message).help("wait until a node is up")
                );
            }
        }
        self.reset_lost(&groups.iter().copied().collect());
        self.open_if_settled();
        Ok(Answer::Done)
    }

    /// The next config of a group that starts anew on one replica: the first target that can take it, or else the first
    /// node that can.
    fn fresh_config(&self, group: GroupId) -> Option<GroupConfig> {
        let epoch = Epoch(self.groups.get(&group)?.epoch.0 + 1);
        let table = self.targets.get(&group.class.replicas);
        let targets = table.map_or(&[][..], |table| table.holders(group.partition));
        let primary = targets.iter().chain(self.nodes.keys()).find_map(|it| self.ready(*it))?;
        let in_sync = vec![primary];
        Some(GroupConfig { group, epoch, primary, in_sync, learners: Vec::new(), lost: false })
    }
}
