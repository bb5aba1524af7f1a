//! The cluster as those see it who use it: members, and who holds each group right now.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::partition_of;
use crate::replication::{Class, NodeNumber};
use crate::wire::{AwaitedBody, ClassBody, MemberEntry, ViewBody};
use crate::{
    ArrayDescriptor, ErrorCode, Failure, Member, NodeId, PartitionId, PublicKey, ShardIndex, limits,
};

/// Members and holders at one version of the catalog.
///
/// # Invariants
///
/// Members are in ascending order of their numbers, and node ids are unique. Every class has an entry per partition,
/// and every index in it is that of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    version: u64,
    cluster_name: String,
    partition_bits: u8,
    members: Vec<MemberView>,
    by_node: BTreeMap<NodeId, usize>,
    classes: BTreeMap<Class, Vec<Vec<u16>>>,
    voters: Vec<NodeNumber>,
    awaited: BTreeMap<(Class, PartitionId), Vec<u16>>,
}

/// One member and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Key, name, address, zone and weight.
    pub member: Member,
    /// Its number in the catalog.
    pub number: NodeNumber,
    /// `active`, `draining` and so on: for people.
    pub state: String,
    /// Whether the catalog's leader hears from it.
    pub up: bool,
}

impl ClusterView {
    /// Checks the parts against each other. `classes` has, for each partition, the in-sync holders by index, the
    /// primary first; nobody where the data is lost.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], naming what breaks an invariant.
    pub fn new(
        version: u64,
        cluster_name: impl Into<String>,
        partition_bits: u8,
        members: Vec<MemberView>,
        classes: BTreeMap<Class, Vec<Vec<u16>>>,
    ) -> Result<Self, Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
        if partition_bits > limits::PARTITION_BITS_MAX || members.len() > limits::NODES_MAX {
            return refuse(format!("2^{partition_bits} partitions, {} members", members.len()));
        }
        if !members.windows(2).all(|pair| pair[0].number < pair[1].number) {
            return refuse("members are not in the order of their numbers".to_owned());
        }
        let by_node: BTreeMap<_, _> =
            members.iter().enumerate().map(|(index, member)| (member.member.node, index)).collect();
        if by_node.len() != members.len() {
            return refuse("a node is named twice".to_owned());
        }
        for (class, partitions) in &classes {
            let sound = partitions.len() == 1 << partition_bits
                && partitions.iter().flatten().all(|index| usize::from(*index) < members.len());
            if !sound {
                return refuse(format!("holders of class {class:?}"));
            }
        }
        let cluster_name = cluster_name.into();
        Ok(Self {
            version,
            cluster_name,
            partition_bits,
            members,
            by_node,
            classes,
            voters: Vec::new(),
            awaited: BTreeMap::new(),
        })
    }

    /// The same, with the nodes that vote in the catalog.
    #[must_use]
    pub fn with_voters(self, voters: Vec<NodeNumber>) -> Self {
        Self { voters, ..self }
    }

    /// The same, with the members that have groups on disk which nobody has offered back yet, by index.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for a group or a member that there is not.
    pub fn with_awaited(
        self,
        awaited: BTreeMap<(Class, PartitionId), Vec<u16>>,
    ) -> Result<Self, Failure> {
        let sound = awaited.iter().all(|((class, partition), holders)| {
            self.classes.contains_key(class)
                && partition.0 < self.partitions()
                && holders.iter().all(|index| usize::from(*index) < self.members.len())
        });
        if !sound {
            return Err(Failure::new(ErrorCode::InvalidArgument, "groups that are waited for"));
        }
        Ok(Self { awaited, ..self })
    }

    /// Version of the catalog that it shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Name of the cluster, for people.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// How many partitions there are: 2^bits.
    pub fn partitions(&self) -> u32 {
        1 << self.partition_bits
    }

    /// The members in ascending order of their numbers.
    pub fn members(&self) -> &[MemberView] {
        &self.members
    }

    /// Whether a node votes in the catalog: what changes the catalog is asked of one that does.
    pub fn votes(&self, number: NodeNumber) -> bool {
        self.voters.contains(&number)
    }

    /// Index of a node; `None` for no member.
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.by_node.get(&node).copied()
    }

    /// The member of a node id; `None` for no member.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.index_of(node).map(|index| &self.members[index].member)
    }

    /// Classes that have arrays.
    pub fn classes(&self) -> impl Iterator<Item = Class> {
        self.classes.keys().copied()
    }

    /// Indexes of the members that hold a partition in sync, the primary first; none for lost data, or for a class or
    /// partition that there is not.
    pub fn holders(&self, class: Class, partition: PartitionId) -> &[u16] {
        let partitions = self.classes.get(&class).map_or(&[][..], Vec::as_slice);
        partitions.get(partition.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// How many groups each member is the primary of, by member index.
    pub fn primaries(&self) -> Vec<u32> {
        let mut counts = vec![0; self.members.len()];
        for primary in self.classes.values().flatten().filter_map(|holders| holders.first()) {
            counts[usize::from(*primary)] += 1;
        }
        counts
    }

    /// The partition of a shard.
    pub fn partition_of(&self, array: &ArrayDescriptor, shard: ShardIndex) -> PartitionId {
        partition_of(self.partition_bits, &array.placement_key, shard)
    }

    /// The member that orders the writes of a shard, with its index.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DataLost`] when nobody holds the shard any more, [`ErrorCode::NotReady`] when those who have it on
    /// disk since the cluster was closed are not back, [`ErrorCode::WrongNode`] when this view is older
    /// than the first array of that class.
    pub fn primary_of(
        &self,
        array: &ArrayDescriptor,
        shard: ShardIndex,
    ) -> Result<(usize, &Member), Failure> {
        if !self.classes.contains_key(&array.class()) {
            let message = format!("the holders of {} are not known yet", array.name);
            return Err(Failure::new(ErrorCode::WrongNode, message)
                .help("fetch the view of the cluster again"));
        }
        let partition = self.partition_of(array, shard);
        let holders = self.holders(array.class(), partition);
        if holders.is_empty()
            && let Some(awaited) = self.awaited.get(&(array.class(), partition))
        {
            return Err(self.not_back(array, shard, awaited));
        }
        let Some(primary) = holders.first().map(|index| usize::from(*index)) else {
            let message = format!("shard {shard} of {} died with its last copy", array.name);
            return Err(Failure::new(ErrorCode::DataLost, message)
                .help("`holo ring accept-loss` gives such parts up: they begin anew as zeros; or remove the array and fill it again"));
        };
        Ok((primary, &self.members[primary].member))
    }

    fn not_back(&self, array: &ArrayDescriptor, shard: ShardIndex, awaited: &[u16]) -> Failure {
        let names = awaited.iter().filter_map(|index| self.members.get(usize::from(*index)));
        let names: Vec<&str> = names.map(|member| member.member.name.as_str()).collect();
        let message = format!(
            "shard {shard} of {}: its holders are not back yet: {}",
            array.name,
            names.join(", ")
        );
        Failure::new(ErrorCode::NotReady, message)
            .help("start these nodes: since the cluster was shut down they have it on disk")
            .retry_after_ms(200)
    }

    /// The shards of an array whose primary is the member with this index, in order.
    pub fn shards_of(
        &self,
        array: &ArrayDescriptor,
        index: usize,
    ) -> impl Iterator<Item = ShardIndex> {
        let all = (0..array.layout.shards()).map(ShardIndex);
        all.filter(move |shard| {
            self.primary_of(array, *shard).is_ok_and(|(primary, _)| primary == index)
        })
    }

    /// As it crosses the wire.
    pub fn to_body(&self) -> ViewBody {
        let members = self.members.iter().map(|view| MemberEntry {
            node: view.member.node.0.0.to_vec(),
            name: view.member.name.clone(),
            address: view.member.address.clone(),
            zone: view.member.zone.clone(),
            weight_milli: view.member.weight_milli,
            number: view.number.0,
            state: view.state.clone(),
            up: view.up,
        });
        let classes = self.classes.iter().map(|(class, partitions)| ClassBody {
            replicas: u32::from(class.replicas),
            min_in_sync: u32::from(class.min_in_sync),
            holders: encode_holders(partitions),
        });
        ViewBody {
            version: self.version,
            unchanged: false,
            cluster_name: self.cluster_name.clone(),
            partition_bits: u32::from(self.partition_bits),
            members: members.collect(),
            classes: classes.collect(),
            voters: self.voters.iter().map(|voter| voter.0).collect(),
            awaited: self
                .awaited
                .iter()
                .map(|((class, partition), holders)| AwaitedBody {
                    replicas: u32::from(class.replicas),
                    min_in_sync: u32::from(class.min_in_sync),
                    partition: partition.0,
                    holders: holders.iter().copied().map(u32::from).collect(),
                })
                .collect(),
        }
    }

    /// Checks a view that came from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when an invariant is broken.
    pub fn from_body(body: &ViewBody) -> Result<Self, Failure> {
        let malformed = |what: &str| Failure::new(ErrorCode::Malformed, format!("view: {what}"));
        let partition_bits = u8::try_from(body.partition_bits)
            .ok()
            .filter(|bits| *bits <= limits::PARTITION_BITS_MAX)
            .ok_or_else(|| malformed("too many partitions"))?;
        let mut members = Vec::with_capacity(body.members.len());
        for entry in &body.members {
            let member = Member {
                node: NodeId(PublicKey::from_slice(&entry.node)?),
                name: entry.name.clone(),
                address: entry.address.clone(),
                zone: entry.zone.clone(),
                weight_milli: entry.weight_milli,
            };
            member.check().map_err(|why| malformed(&why))?;
            let number = NodeNumber(entry.number);
            members.push(MemberView { member, number, state: entry.state.clone(), up: entry.up });
        }
        let mut classes = BTreeMap::new();
        for class in &body.classes {
            let key = Class::new(class.replicas, class.min_in_sync)
                .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
            let holders = decode_holders(&class.holders, 1 << partition_bits)
                .ok_or_else(|| malformed("holders"))?;
            classes.insert(key, holders);
        }
        let view =
            Self::new(body.version, body.cluster_name.clone(), partition_bits, members, classes)
                .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
        let mut awaited = BTreeMap::new();
        for group in &body.awaited {
            let class = Class::new(group.replicas, group.min_in_sync)
                .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
            let holders = group.holders.iter().map(|index| u16::try_from(*index).ok());
            let holders: Option<Vec<u16>> = holders.collect();
            let holders = holders.ok_or_else(|| malformed("groups that are waited for"))?;
            awaited.insert((class, PartitionId(group.partition)), holders);
        }
        view.with_voters(body.voters.iter().copied().map(NodeNumber).collect())
            .with_awaited(awaited)
            .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })
    }
}

fn encode_holders(partitions: &[Vec<u16>]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(partitions.len() * 5);
    for holders in partitions {
        bytes.put_u8(u8::try_from(holders.len()).unwrap_or(u8::MAX));
        for index in holders {
            bytes.put_u16_le(*index);
        }
    }
    bytes.freeze()
}

fn decode_holders(mut bytes: &[u8], partitions: usize) -> Option<Vec<Vec<u16>>> {
    // At least one byte a partition: what is allocated is bounded by what came.
    if bytes.len() < partitions {
        return None;
    }
    let mut all = Vec::with_capacity(partitions);
    for _ in 0..partitions {
        let (count, rest) = bytes.split_first()?;
        if usize::from(*count) > limits::GROUP_MEMBERS_MAX {
            return None;
        }
        let (indexes, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let (pairs, _) = indexes.as_chunks::<2>();
        all.push(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect());
        bytes = rest;
    }
    bytes.is_empty().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ClusterView {
        let members = (1..=3u8).map(|number| MemberView {
            member: Member {
                node: NodeId(PublicKey([number; 32])),
                name: format!("n{number}"),
                address: format!("10.0.0.{number}:7400"),
                zone: String::new(),
                weight_milli: 1000,
            },
            number: NodeNumber(u32::from(number)),
            state: "active".to_owned(),
            up: number != 2,
        });
        let holders = vec![vec![0, 1], vec![], vec![2, 0], vec![1]];
        let classes = BTreeMap::from([(Class { replicas: 2, min_in_sync: 1 }, holders)]);
        let view = ClusterView::new(7, "lab", 2, members.collect(), classes).unwrap();
        let awaited = ((Class { replicas: 2, min_in_sync: 1 }, PartitionId(1)), vec![0, 2]);
        let view = view.with_voters(vec![NodeNumber(1), NodeNumber(3)]);
        view.with_awaited(BTreeMap::from([awaited])).unwrap()
    }

    #[test]
    fn a_view_crosses_the_wire_whole() {
        assert_eq!(ClusterView::from_body(&view().to_body()).unwrap(), view());
        assert_eq!(view().primaries(), [1, 1, 1]);
        assert!(view().votes(NodeNumber(3)) && !view().votes(NodeNumber(2)));
    }

    #[test]
    fn broken_views_are_refused() {
        let spoil: [fn(&mut ViewBody); 9] = [
            |body| body.partition_bits = 40,
            |body| body.members.swap(0, 1),
            |body| body.members[1].node = vec![1; 32],
            |body| body.classes[0].holders = Bytes::from_static(&[1, 9, 0, 0, 0, 0]),
            |body| body.classes[0].holders = body.classes[0].holders.slice(1..),
            |body| body.classes[0].min_in_sync = 3,
            |body| body.awaited[0].holders = vec![3],
            |body| body.awaited[0].partition = 4,
            |body| body.awaited[0].replicas = 3,
        ];
        for (index, spoil) in spoil.iter().enumerate() {
            let mut body = view().to_body();
            spoil(&mut body);
            let refused = ClusterView::from_body(&body).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Malformed, "{index}");
        }
    }
}
