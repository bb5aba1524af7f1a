//! Beats between two nodes, the lease sets that they renew, and promises that are given back.

use crate::group::Seq;
use crate::replication::{CommitNews, GroupId};
use crate::wire::GroupBody;
use crate::{Epoch, Failure};

/// [`Release`](crate::replication::Release).
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReleaseBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The last epoch whose promises are given back.
    #[prost(uint64, tag = "2")]
    pub up_to: u64,
}

/// [`Beat`](crate::replication::Beat).
#[derive(Clone, PartialEq, prost::Message)]
pub struct BeatBody {
    /// Nanoseconds of the sender's own clock.
    #[prost(uint64, tag = "1")]
    pub sent_at: u64,
    /// The lease set that the sender knows.
    #[prost(uint64, tag = "2")]
    pub known_set: u64,
    /// News of commits.
    #[prost(message, repeated, tag = "3")]
    pub commits: Vec<CommitBody>,
    /// The newest of the sender's beats to the receiver whose answer has come; left out by older versions.
    #[prost(uint64, optional, tag = "4")]
    pub answered: Option<u64>,
}

/// [`CommitNews`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CommitBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The number up to which the group is committed.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// [`BeatAck`](crate::replication::BeatAck).
#[derive(Clone, PartialEq, prost::Message)]
pub struct BeatAckBody {
    /// What the beat named.
    #[prost(uint64, tag = "1")]
    pub sent_at: u64,
    /// Version of the lease set.
    #[prost(uint64, tag = "2")]
    pub set_version: u64,
    /// Whether `set` is given: an empty set is one, too.
    #[prost(bool, tag = "3")]
    pub has_set: bool,
    /// The whole set.
    #[prost(message, repeated, tag = "4")]
    pub set: Vec<GroupBody>,
}

impl From<&CommitNews> for CommitBody {
    fn from(news: &CommitNews) -> Self {
        Self { group: Some(news.group.into()), epoch: news.epoch.0, commit: news.commit.0 }
    }
}

impl CommitBody {
    pub(super) fn checked(self) -> Result<CommitNews, Failure> {
        let group: GroupId = GroupBody::checked(self.group)?;
        Ok(CommitNews { group, epoch: Epoch(self.epoch), commit: Seq(self.commit) })
    }
}
