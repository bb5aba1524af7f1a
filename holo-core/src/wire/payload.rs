//! Bodies by which replicas move bytes: payloads before their operation, frozen states for learners.

use bytes::Bytes;

use super::GroupBody;
use crate::replication::{Incarnation, NodeNumber, PayloadId, ReplicaId};
use crate::{ErrorCode, Failure};

/// A payload: who distributed it, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PayloadBody {
    /// Number of the node that distributed it.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// The life of that node.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
    /// Its number there.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

impl From<PayloadId> for PayloadBody {
    fn from(id: PayloadId) -> Self {
        Self { node: id.origin.node.0, incarnation: id.origin.incarnation.0, number: id.number }
    }
}

impl PayloadBody {
    /// The payload that an optional part of a message names.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when there is none.
    pub fn checked(body: Option<Self>) -> Result<PayloadId, Failure> {
        let body = body.ok_or_else(|| Failure::new(ErrorCode::Malformed, "no payload is named"))?;
        let origin =
            ReplicaId { node: NodeNumber(body.node), incarnation: Incarnation(body.incarnation) };
        Ok(PayloadId { origin, number: body.number })
    }
}

/// Head of bytes on their way to a replica, and of the answer to [`FetchPayload`]: the bytes follow raw.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StagePayload {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The payload.
    #[prost(message, optional, tag = "2")]
    pub payload: Option<PayloadBody>,
    /// The array.
    #[prost(uint64, tag = "3")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "4")]
    pub shard: u64,
    /// First byte in the shard.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// BLAKE3 of the bytes of each page that the range touches, 32 bytes each, in order.
    #[prost(bytes = "bytes", tag = "6")]
    pub digests: Bytes,
}

/// Asks for a payload that a replica has staged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FetchPayload {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The payload.
    #[prost(message, optional, tag = "2")]
    pub payload: Option<PayloadBody>,
}

/// Asks what a frozen state of a group contains.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotQuery {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The frozen state.
    #[prost(uint64, tag = "2")]
    pub snapshot: u64,
    /// How many shards the asker has seen already.
    #[prost(uint64, tag = "3")]
    pub after: u64,
}

/// Shards of a frozen state, by array and index.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotIndex {
    /// Some of the shards.
    #[prost(message, repeated, tag = "1")]
    pub shards: Vec<ShardPages>,
    /// There are more behind these.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// The pages of one shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ShardPages {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// Indexes of the pages that somebody wrote, ascending; all others are zero.
    #[prost(uint32, repeated, tag = "3")]
    pub pages: Vec<u32>,
    /// BLAKE3 of each of those pages, 32 bytes each, of the shard's own bytes in its last page.
    #[prost(bytes = "bytes", tag = "4")]
    pub digests: Bytes,
}

/// Asks for consecutive pages of a frozen state; the answer's bulk is their bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotPages {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The frozen state.
    #[prost(uint64, tag = "2")]
    pub snapshot: u64,
    /// The array.
    #[prost(uint64, tag = "3")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "4")]
    pub shard: u64,
    /// First byte.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "6")]
    pub len: u64,
}
