//! The members of a cluster together with their placement table.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{HelloReply, NodeEntry, TableBody};
use crate::{
    ArrayDescriptor, ErrorCode, Failure, NodeId, PartitionId, PlacementTable, PublicKey,
    ShardIndex, limits,
};

/// One node of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub node: NodeId,
    /// A name for people.
    pub name: String,
    /// Where it listens: `127.0.0.1:7400`.
    pub address: String,
    /// Failure domain; empty where nobody named one, which is a domain like any other.
    pub zone: String,
    /// Relative capacity in thousandths; 1000 is normal.
    pub weight_milli: u32,
}

impl Member {
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |text: &str, max: usize| !text.is_empty() && text.len() <= max;
        if !within(&self.name, limits::NODE_NAME_BYTES_MAX)
            || self.name.chars().any(char::is_control)
        {
            return Err(format!("node {} has no usable name", self.node.short()));
        }
        if !within(&self.address, limits::NODE_ADDRESS_BYTES_MAX) {
            return Err(format!("node {} has no usable address", self.name));
        }
        if self.zone.len() > limits::NODE_NAME_BYTES_MAX {
            return Err(format!("the zone of node {} has too long a name", self.name));
        }
        if self.weight_milli == 0 || self.weight_milli > limits::NODE_WEIGHT_MILLI_MAX {
            return Err(format!(
                "node {} has weight {} thousandths; 1 to {} are possible",
                self.name,
                self.weight_milli,
                limits::NODE_WEIGHT_MILLI_MAX
            ));
        }
        Ok(())
    }
}

impl TryFrom<NodeEntry> for Member {
    type Error = Failure;

    /// Checks a member that came from outside: [`ErrorCode::Malformed`].
    fn try_from(entry: NodeEntry) -> Result<Self, Failure> {
        let member = Self {
            node: NodeId(PublicKey::from_slice(&entry.node)?),
            name: entry.name,
            address: entry.address,
            zone: entry.zone,
            weight_milli: entry.weight_milli,
        };
        member.check().map_err(|why| Failure::new(ErrorCode::Malformed, why))?;
        Ok(member)
    }
}

impl From<&Member> for NodeEntry {
    fn from(member: &Member) -> Self {
        Self {
            node: member.node.0.0.to_vec(),
            name: member.name.clone(),
            address: member.address.clone(),
            zone: member.zone.clone(),
            weight_milli: member.weight_milli,
        }
    }
}

/// Who the members are and which of them holds what.
///
/// # Invariants
///
/// Ids, names and addresses are unique, and the table is about exactly these members in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    cluster_name: String,
    members: Vec<Member>,
    table: PlacementTable,
    by_node: BTreeMap<NodeId, usize>,
}

impl Membership {
    /// Checks the members against each other and the table.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], naming the member that breaks a rule.
    pub fn new(
        cluster_name: impl Into<String>,
        members: Vec<Member>,
        table: PlacementTable,
    ) -> Result<Self, Failure> {
        let refuse = |why: String| Failure::new(ErrorCode::InvalidArgument, why);
        let cluster_name = cluster_name.into();
        if cluster_name.len() > limits::NODE_NAME_BYTES_MAX {
            return Err(refuse("the cluster has too long a name".to_owned()));
        }
        if members.len() > limits::NODES_MAX || members.len() != table.member_count() {
            let message =
                format!("{} members with a table for {}", members.len(), table.member_count());
            return Err(refuse(message));
        }
        let (mut by_node, mut names, mut addresses) =
            (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        for (index, member) in members.iter().enumerate() {
            member.check().map_err(refuse)?;
            let fresh = by_node.insert(member.node, index).is_none()
                && names.insert(member.name.as_str())
                && addresses.insert(member.address.as_str());
            if !fresh {
                let message =
                    format!("id, name or address of node {} is taken by another", member.name);
                return Err(refuse(message));
            }
        }
        Ok(Self { cluster_name, members, table, by_node })
    }

    /// Checks what a node told a peer that connected.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when it breaks a rule of [`Self::new`] or [`PlacementTable::from_body`].
    pub fn from_hello(reply: &HelloReply) -> Result<Self, Failure> {
        let table = reply
            .table
            .as_ref()
            .ok_or_else(|| Failure::new(ErrorCode::Malformed, "no placement table"))?;
        Self::from_parts(&reply.cluster_name, &reply.members, table)
    }

    /// Checks the parts of a [`HelloReply`].
    ///
    /// # Errors
    ///
    /// As [`Self::from_hello`].
    pub fn from_parts(
        cluster_name: &str,
        entries: &[NodeEntry],
        table: &TableBody,
    ) -> Result<Self, Failure> {
        let table = PlacementTable::from_body(table, entries.len())?;
        let members: Result<Vec<_>, _> = entries.iter().cloned().map(Member::try_from).collect();
        Self::new(cluster_name, members?, table)
            .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })
    }

    /// Members and table as parts of a [`HelloReply`].
    pub fn to_parts(&self) -> (Vec<NodeEntry>, TableBody) {
        (self.members.iter().map(NodeEntry::from).collect(), self.table.to_body())
    }

    /// Name of the cluster, for people.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// The members, in the order that the table's indexes mean.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The placement table.
    pub fn table(&self) -> &PlacementTable {
        &self.table
    }

    /// Index of a node; `None` for no member.
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.by_node.get(&node).copied()
    }

    /// The member of a node id; `None` for no member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.index_of(node).and_then(|index| self.members.get(index))
    }

    /// The partition of a shard.
    pub fn partition_of(&self, array: &ArrayDescriptor, shard: ShardIndex) -> PartitionId {
        self.table.partition_of(&array.placement_key, shard)
    }

    /// The member that orders the writes of a shard, with its index.
    pub fn primary_of(&self, array: &ArrayDescriptor, shard: ShardIndex) -> (usize, &Member) {
        let index = self.table.primary(self.partition_of(array, shard));
        (index, &self.members[index])
    }

    /// The shards of an array whose primary is the member with this index, in order.
    pub fn shards_of(
        &self,
        array: &ArrayDescriptor,
        index: usize,
    ) -> impl Iterator<Item = ShardIndex> {
        let all = (0..array.layout.shards()).map(ShardIndex);
        all.filter(move |shard| self.primary_of(array, *shard).0 == index)
    }
}
