//! The placement table: partition to holders, primary first.

use crate::placement::balance::Balancer;
use crate::placement::{Member, Ring};
use crate::wire::TableBody;
use crate::{ErrorCode, Failure, PartitionId, ShardIndex, TableVersion, limits};

/// Which members hold each partition, primary first, at one version.
///
/// # Invariants
///
/// There are `2^bits` sets of `replicas` member indexes each; the indexes of a set differ and are below the number of
/// members that the table was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementTable {
    version: TableVersion,
    bits: u8,
    replicas: usize,
    member_count: usize,
    sets: Vec<u16>,
}

impl PlacementTable {
    /// Computes the table of `members`; with `previous` (a table and its members) as little as possible moves.
    ///
    /// With fewer members than `replicas` each partition has a copy on every member. A previous table of another
    /// partition count is ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] without members, beyond [`limits::NODES_MAX`] members,
    /// [`limits::PARTITION_BITS_MAX`] bits or outside 1..=[`limits::REPLICAS_MAX`] replicas.
    pub fn compute(
        members: &[Member],
        bits: u8,
        replicas: usize,
        previous: Option<(&Self, &[Member])>,
        version: TableVersion,
    ) -> Result<Self, Failure> {
        check_bounds(members.len(), bits, replicas).map_err(invalid)?;
        Self::compute_on(&Ring::new(members), members, bits, replicas, previous, version)
    }

    /// As [`Self::compute`], on the ring of these very members: making one is most of the work where little moves.
    ///
    /// # Errors
    ///
    /// As [`Self::compute`].
    pub(crate) fn compute_on(
        ring: &Ring,
        members: &[Member],
        bits: u8,
        replicas: usize,
        previous: Option<(&Self, &[Member])>,
        version: TableVersion,
    ) -> Result<Self, Failure> {
        check_bounds(members.len(), bits, replicas).map_err(invalid)?;
        let replicas = replicas.min(members.len());
        let previous = previous.filter(|(table, _)| table.bits == bits);
        let sets = Balancer::new(ring, members, bits, replicas).place(previous);
        Ok(Self { version, bits, replicas, member_count: members.len(), sets })
    }

    /// The partition of a shard; see [`partition_of`].
    pub fn partition_of(&self, placement_key: &[u8; 32], shard: ShardIndex) -> PartitionId {
        partition_of(self.bits, placement_key, shard)
    }

    /// Index of the member that orders the partition's writes.
    ///
    /// # Panics
    ///
    /// When `partition` is not below [`Self::partitions`]; those of [`Self::partition_of`] always are.
    pub fn primary(&self, partition: PartitionId) -> usize {
        usize::from(self.holders(partition)[0])
    }

    /// Indexes of the members that hold the partition, primary first; none for a partition that does not exist.
    pub fn holders(&self, partition: PartitionId) -> &[u16] {
        let start = (partition.0 as usize).saturating_mul(self.replicas);
        self.sets.get(start..start + self.replicas).unwrap_or_default()
    }

    /// How many partitions there are: 2^bits.
    pub fn partitions(&self) -> u32 {
        1 << self.bits
    }

    /// Base-2 logarithm of the number of partitions.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Copies of each partition.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Version; grows with every change.
    pub fn version(&self) -> TableVersion {
        self.version
    }

    /// How many members it was made for.
    pub fn member_count(&self) -> usize {
        self.member_count
    }

    /// How many partitions each member is the primary of, by member index.
    pub fn primaries(&self) -> Vec<u32> {
        let mut primaries = vec![0; self.member_count];
        for set in self.sets.chunks_exact(self.replicas) {
            primaries[usize::from(set[0])] += 1;
        }
        primaries
    }

    /// The table as it crosses the wire.
    pub fn to_body(&self) -> TableBody {
        TableBody {
            version: self.version.0,
            partition_bits: u32::from(self.bits),
            replicas: u32::try_from(self.replicas).unwrap_or(u32::MAX),
            members: self.sets.iter().flat_map(|index| index.to_le_bytes()).collect(),
        }
    }

    /// Checks a table that came from outside and is about `member_count` members.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] unless every invariant holds.
    pub fn from_body(body: &TableBody, member_count: usize) -> Result<Self, Failure> {
        let malformed = |why: String| Failure::new(ErrorCode::Malformed, why);
        let bits = u8::try_from(body.partition_bits).unwrap_or(u8::MAX);
        let replicas = usize::try_from(body.replicas).unwrap_or(usize::MAX);
        check_bounds(member_count, bits, replicas).map_err(malformed)?;
        let expected = (2 * replicas) << bits;
        if body.members.len() != expected || replicas > member_count {
            return Err(malformed(format!(
                "a table of {} bytes for 2^{bits} partitions x {replicas} replicas on {member_count} members",
                body.members.len()
            )));
        }
        let sets: Vec<u16> = body
            .members
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        for (partition, set) in sets.chunks_exact(replicas).enumerate() {
            let unknown = set.iter().any(|index| usize::from(*index) >= member_count);
            let twice = set.iter().enumerate().any(|(at, index)| set[..at].contains(index));
            if unknown || twice {
                return Err(malformed(format!("partition {partition} is held by members {set:?}")));
            }
        }
        Ok(Self { version: TableVersion(body.version), bits, replicas, member_count, sets })
    }

    /// The replica sets one after the other.
    pub(super) fn sets(&self) -> &[u16] {
        &self.sets
    }
}

/// The partition of a shard: the top `bits` bits of BLAKE3 of the shard index, keyed by its colocation group's
/// placement key.
pub fn partition_of(bits: u8, placement_key: &[u8; 32], shard: ShardIndex) -> PartitionId {
    let hash = blake3::keyed_hash(placement_key, &shard.0.to_le_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    let top = u32::from_le_bytes([a, b, c, d]);
    PartitionId(top.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0))
}

fn invalid(why: String) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, why)
}

fn check_bounds(members: usize, bits: u8, replicas: usize) -> Result<(), String> {
    if members == 0 || members > limits::NODES_MAX {
        return Err(format!("{members} members; 1 to {} are possible", limits::NODES_MAX));
    }
    if bits > limits::PARTITION_BITS_MAX {
        return Err(format!(
            "2^{bits} partitions; at most 2^{} are possible",
            limits::PARTITION_BITS_MAX
        ));
    }
    if replicas == 0 || replicas > limits::REPLICAS_MAX {
        return Err(format!("{replicas} replicas; 1 to {} are possible", limits::REPLICAS_MAX));
    }
    Ok(())
}
