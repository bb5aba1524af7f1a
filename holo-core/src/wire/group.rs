//! The name of a group, wherever one is named.

use crate::replication::{Class, GroupId};
use crate::{ErrorCode, Failure, PartitionId, limits};

/// A group.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct GroupBody {
    /// Its partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Copies wanted by its class.
    #[prost(uint32, tag = "2")]
    pub replicas: u32,
    /// In-sync copies without which nothing is written.
    #[prost(uint32, tag = "3")]
    pub min_in_sync: u32,
}

impl GroupBody {
    /// The group that an optional part of a message names.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when there is none, or no such class or partition.
    pub fn checked(body: Option<Self>) -> Result<GroupId, Failure> {
        body.ok_or_else(|| Failure::new(ErrorCode::Malformed, "no group is named"))?.try_into()
    }
}

impl From<GroupId> for GroupBody {
    fn from(group: GroupId) -> Self {
        Self {
            partition: group.partition.0,
            replicas: u32::from(group.class.replicas),
            min_in_sync: u32::from(group.class.min_in_sync),
        }
    }
}

impl TryFrom<GroupBody> for GroupId {
    type Error = Failure;

    /// Checks a group that came from outside: [`ErrorCode::Malformed`].
    fn try_from(body: GroupBody) -> Result<Self, Failure> {
        if body.partition >> limits::PARTITION_BITS_MAX != 0 {
            let message = format!("partition {} of a group", body.partition);
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        let class = Class::new(body.replicas, body.min_in_sync)
            .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
        Ok(Self { partition: PartitionId(body.partition), class })
    }
}
