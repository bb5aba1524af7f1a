//! What holds in every state, checked: after every step in tests, and for each snapshot that comes from outside.

use std::collections::BTreeSet;

use crate::catalog::state::CatalogState;
use crate::{ErrorCode, Failure};

impl CatalogState {
    /// Checks the invariants of [`CatalogState`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`], naming the one that is broken.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_nodes()?;
        self.check_groups()?;
        self.check_arrays()?;
        self.check_close()
    }

    fn check_nodes(&self) -> Result<(), Failure> {
        let (mut keys, mut names, mut addresses) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (number, node) in &self.nodes {
            ensure(node.number == *number && *number < self.next_node, "the number of a node")?;
            if node.state.is_living() {
                let fresh = keys.insert(node.id)
                    && names.insert(&node.name)
                    && addresses.insert(&node.address);
                ensure(fresh, "key, name or address of a node")?;
            } else {
                ensure(!node.up, "a node that is gone answers")?;
            }
        }
        let living = |number| self.nodes.get(number).is_some_and(|node| node.state.is_living());
        ensure(self.voters.iter().all(living), "a voter that is no node")?;
        ensure(self.voters.windows(2).all(|pair| pair[0] < pair[1]), "the order of voters")?;
        ensure(self.sessions_expired_below <= self.next_session, "the session mark")?;
        Ok(())
    }

    fn check_groups(&self) -> Result<(), Failure> {
        let mut named = 0;
        for (group, config) in &self.groups {
            config.check()?;
            ensure(config.group == *group, "the group of a config")?;
            ensure(group.partition.0 >> self.partition_bits == 0, "a group beyond the ring")?;
            ensure(self.lost.contains(group) == config.lost, "the index of lost groups")?;
            if !config.lost {
                named += config.members().count();
                for member in config.members() {
                    ensure(self.groups_of(member.node).contains(group), "the index by node")?;
                    let node = self.nodes.get(&member.node).filter(|node| node.state.is_living());
                    // What an earlier life was in sync with may lie on its node's disk.
                    let known = node.is_some_and(|node| {
                        node.incarnation == member.incarnation
                            || (node.incarnation > member.incarnation
                                && config.in_sync.contains(&member))
                    });
                    ensure(known, "a config names a replica that is gone")?;
                }
            }
        }
        let indexed: usize = self.by_node.values().map(BTreeSet::len).sum();
        ensure(named == indexed, "the index by node has more")?;
        let whole = self.classes().len() << self.partition_bits;
        ensure(self.groups.len() == whole, "a class without all its groups")?;
        for (replicas, table) in &self.targets {
            let sound =
                table.copies() <= *replicas && table.partitions() == 1 << self.partition_bits;
            ensure(sound, "a target table")?;
        }
        Ok(())
    }

    fn check_arrays(&self) -> Result<(), Failure> {
        for array in self.arrays() {
            let named = self.arrays.named(array.tenant, &array.name);
            let is_found = named.is_some_and(|named| named.descriptor.id == array.id);
            ensure(is_found, "two arrays of one name, or one that its name does not find")?;
            ensure(array.id < self.arrays.next(), "the id of an array")?;
            ensure(self.has_groups(array.class()), "an array without groups")?;
        }
        Ok(())
    }
}

pub(super) fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(ErrorCode::Malformed, format!("catalog: broken invariant: {what}")))
    }
}
