//! The last copy: which arrays have data in which groups, what is lost with a node, and how a lost group starts again.
//!
//! A lost group that starts again names one replica, which is its primary. Whatever that one holds, nothing as a rule, is
//! the group's data from then on, and all others become its learners: so no two replicas of a new start can hold
//! different remains of the old one.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::command::{Answer, Authority};
use crate::catalog::principals::CLUSTER;
use crate::catalog::state::CatalogState;
use crate::placement::partition_of;
use crate::replication::{Class, GroupConfig, GroupId, NodeNumber};
use crate::{ArrayDescriptor, Epoch, ErrorCode, Failure, ShardIndex, Verb};

/// Shards that are hashed to find out whether an array has any in some partitions; one with more is taken to have.
const SHARDS_TRACED_MAX: u64 = 4096;
/// Shards that are hashed for one question in all.
const HASHES_MAX: u64 = 1 << 21;
/// Arrays that a refusal names.
const NAMED_MAX: usize = 5;

impl CatalogState {
    /// Arrays with data in any of `groups`. An array of very many shards counts without a look.
    pub fn arrays_in<'a>(
        &'a self,
        groups: &'a BTreeSet<GroupId>,
    ) -> impl Iterator<Item = &'a ArrayDescriptor> {
        let mut hashes_left = HASHES_MAX;
        let classes: BTreeSet<Class> = groups.iter().map(|group| group.class).collect();
        let of_class: BTreeMap<Class, usize> = classes
            .iter()
            .map(|class| (*class, groups.iter().filter(|group| group.class == *class).count()))
            .collect();
        self.arrays().filter(move |array| {
            let class = array.class();
            let Some(count) = of_class.get(&class) else { return false };
            let shards = array.layout.shards();
            let all = *count == 1 << self.partition_bits;
            if shards == 0 || all {
                return shards > 0;
            }
            if shards > SHARDS_TRACED_MAX || shards > hashes_left {
                return true;
            }
            hashes_left -= shards;
            (0..shards).map(ShardIndex).any(|shard| {
                let partition = partition_of(self.partition_bits, &array.placement_key, shard);
                groups.contains(&GroupId { partition, class })
            })
        })
    }

    /// Groups of which `node` holds the only in-sync copy, as far as any array has data in them.
    pub(super) fn last_copies(&self, node: NodeNumber) -> BTreeSet<GroupId> {
        let alone = |group: &&GroupId| {
            self.groups
                .get(*group)
                .is_some_and(|config| config.in_sync.iter().all(|member| member.node == node))
        };
        let groups = self.groups_of(node).iter().filter(alone).copied().collect();
        self.with_data(groups)
    }

    /// Those of `groups` in which some array has data.
    fn with_data(&self, groups: BTreeSet<GroupId>) -> BTreeSet<GroupId> {
        let mut occupied = BTreeSet::new();
        if groups.is_empty() {
            return occupied;
        }
        for array in self.arrays_in(&groups) {
            let class = array.class();
            let shards = array.layout.shards();
            if shards > SHARDS_TRACED_MAX {
                occupied.extend(groups.iter().filter(|group| group.class == class));
                continue;
            }
            for shard in (0..shards).map(ShardIndex) {
                let partition = partition_of(self.partition_bits, &array.placement_key, shard);
                let group = GroupId { partition, class };
                if groups.contains(&group) {
                    occupied.insert(group);
                }
            }
            if occupied.len() == groups.len() {
                break;
            }
        }
        occupied
    }

    pub(super) fn last_copy_refusal(&self, name: &str, groups: &BTreeSet<GroupId>) -> Failure {
        let mut named: Vec<String> = self
            .arrays_in(groups)
            .take(NAMED_MAX + 1)
            .map(|array| array.name.as_str().to_owned())
            .collect();
        if named.len() > NAMED_MAX {
            named.truncate(NAMED_MAX);
            named.push("others".to_owned());
        }
        let message = format!(
            "node {name} has the last copy of {} groups, with data of {}",
            groups.len(),
            named.join(", ")
        );
        Failure::new(ErrorCode::LastCopy, message)
            .help("drain the node instead, or say --accept-loss to give this data up")
    }

    /// The last in-sync replicas of these groups are gone.
    pub(super) fn lose(&mut self, groups: &[GroupId]) {
        let groups: BTreeSet<GroupId> = groups.iter().copied().collect();
        let occupied = self.with_data(groups.clone());
        for group in groups {
            let fresh = if occupied.contains(&group) { None } else { self.fresh_config(group) };
            let next = fresh.or_else(|| {
                let config = self.groups.get(&group)?.clone();
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
        let occupied = self.with_data(lost.clone());
        self.reset_lost(&lost.difference(&occupied).copied().collect());
    }

    /// Starts these groups anew, as far as they are lost and a node is there for them.
    pub(super) fn reset_lost(&mut self, groups: &BTreeSet<GroupId>) {
        for group in groups {
            if !self.lost.contains(group) {
                continue;
            }
            if let Some(fresh) = self.fresh_config(*group) {
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
        Ok(Answer::Done)
    }

    /// The next config of a group that starts anew on one replica: the first target that can take it, or else the first
    /// node that can.
    fn fresh_config(&self, group: GroupId) -> Option<GroupConfig> {
        let epoch = Epoch(self.groups.get(&group)?.epoch.0 + 1);
        let targets = self
            .targets
            .get(&group.class.replicas)
            .map_or(&[][..], |table| table.holders(group.partition));
        let primary =
            targets.iter().chain(self.nodes.keys()).find_map(|number| self.ready(*number))?;
        Some(GroupConfig {
            group,
            epoch,
            primary,
            in_sync: vec![primary],
            learners: Vec::new(),
            lost: false,
        })
    }
}
