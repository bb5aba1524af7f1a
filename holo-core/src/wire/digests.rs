//! Bodies by which an operator compares the copies of groups.

use bytes::Bytes;

use super::GroupBody;
use crate::group::Seq;
use crate::replication::GroupId;
use crate::{Epoch, ErrorCode, Failure};

/// Asks a node what the groups that it holds in sync contain.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DigestQuery {
    /// Groups up to this one are known already; nothing to begin with the first.
    #[prost(message, optional, tag = "1")]
    pub after: Option<GroupBody>,
    /// The groups that are asked for, at most [`crate::limits::DIGEST_GROUPS_MAX`]; none for all of them.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<GroupBody>,
}

/// What they contain, in ascending order; those of which the node is no in-sync replica are left out.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupDigests {
    /// The first of them.
    #[prost(message, repeated, tag = "1")]
    pub replicas: Vec<ReplicaDigestBody>,
    /// There may be more behind these.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// What one replica of a group contains.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReplicaDigestBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch in which the replica is.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The number of the last operation that it has applied.
    #[prost(uint64, tag = "3")]
    pub applied: u64,
    /// BLAKE3 over which shards it has, 32 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub shards: Bytes,
    /// BLAKE3 over places and digests of all their pages that are not zero, 32 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub pages: Bytes,
    /// Bytes of those pages.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
}

/// A checked [`ReplicaDigestBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaDigest {
    /// The group.
    pub group: GroupId,
    /// The epoch in which the replica is.
    pub epoch: Epoch,
    /// The number of the last operation that it has applied.
    pub applied: Seq,
    /// BLAKE3 over which shards it has.
    pub shards: [u8; 32],
    /// BLAKE3 over places and digests of all their pages that are not zero.
    pub pages: [u8; 32],
    /// Bytes of those pages.
    pub bytes: u64,
}

impl ReplicaDigest {
    /// Whether two replicas are at the same point of the group's history, so that their pages must be the same.
    pub fn is_comparable_with(&self, other: &Self) -> bool {
        let at = |it: &Self| (it.group, it.epoch, it.applied, it.shards);
        at(self) == at(other)
    }
}

impl From<&ReplicaDigest> for ReplicaDigestBody {
    fn from(replica: &ReplicaDigest) -> Self {
        Self {
            group: Some(replica.group.into()),
            epoch: replica.epoch.0,
            applied: replica.applied.0,
            shards: Bytes::copy_from_slice(&replica.shards),
            pages: Bytes::copy_from_slice(&replica.pages),
            bytes: replica.bytes,
        }
    }
}

impl TryFrom<ReplicaDigestBody> for ReplicaDigest {
    type Error = Failure;

    /// Checks what a node said: [`ErrorCode::Malformed`].
    fn try_from(body: ReplicaDigestBody) -> Result<Self, Failure> {
        let digest = |bytes: &Bytes| {
            bytes
                .as_ref()
                .try_into()
                .map_err(|_length| Failure::new(ErrorCode::Malformed, "a digest has 32 bytes"))
        };
        Ok(Self {
            group: GroupBody::checked(body.group)?,
            epoch: Epoch(body.epoch),
            applied: Seq(body.applied),
            shards: digest(&body.shards)?,
            pages: digest(&body.pages)?,
            bytes: body.bytes,
        })
    }
}
