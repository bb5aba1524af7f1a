//! Entries on their way to a replica, and what it says to them.

use super::{ClaimBody, EntryBody, malformed, too_many};
use crate::group::Seq;
use crate::replication::{Append, LogPosition};
use crate::wire::GroupBody;
use crate::{Epoch, Failure, limits};

/// [`Append`](crate::replication::Append).
#[derive(Clone, PartialEq, prost::Message)]
pub struct AppendBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Its config, unless the receiver is known to have it.
    #[prost(message, optional, tag = "3")]
    pub claim: Option<ClaimBody>,
    /// The place that the entries follow.
    #[prost(message, optional, tag = "4")]
    pub prev: Option<PositionBody>,
    /// The entries.
    #[prost(message, repeated, tag = "5")]
    pub entries: Vec<EntryBody>,
    /// The number up to which the group is committed.
    #[prost(uint64, tag = "6")]
    pub commit: u64,
}

/// [`AppendAck`](crate::replication::AppendAck).
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct AppendAckBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Entries up to here are held.
    #[prost(uint64, tag = "3")]
    pub matched: u64,
    /// The commit that the sender knows.
    #[prost(uint64, tag = "4")]
    pub committed: u64,
    /// Whether the sender has a state.
    #[prost(bool, tag = "5")]
    pub based: bool,
}

/// [`AppendNack`](crate::replication::AppendNack).
#[derive(Clone, PartialEq, prost::Message)]
pub struct AppendNackBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The sender's epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// A number at which the logs may agree.
    #[prost(uint64, tag = "3")]
    pub have: u64,
    /// The sender is a learner without a state.
    #[prost(bool, tag = "4")]
    pub needs_snapshot: bool,
    /// The sender's config.
    #[prost(message, optional, tag = "5")]
    pub claim: Option<ClaimBody>,
}

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PositionBody {
    /// The epoch in which the entry was proposed.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

impl AppendBody {
    pub(super) fn checked(self) -> Result<Append, Failure> {
        let prev = position(self.prev)?;
        if self.entries.len() > limits::APPEND_ENTRIES_MAX {
            return Err(too_many("entries", self.entries.len()));
        }
        let end = prev.seq.0.checked_add(self.entries.len() as u64 + 1);
        let end = end.ok_or_else(|| malformed("an entry with nothing after it"))?;
        let entries = self.entries.into_iter().zip(prev.seq.0 + 1..end);
        Ok(Append {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            claim: self.claim.map(ClaimBody::checked).transpose()?,
            prev,
            entries: entries
                .map(|(entry, seq)| entry.checked(Seq(seq)))
                .collect::<Result<_, _>>()?,
            commit: Seq(self.commit),
        })
    }
}

impl From<LogPosition> for PositionBody {
    fn from(at: LogPosition) -> Self {
        Self { epoch: at.epoch.0, seq: at.seq.0 }
    }
}

/// A place that an entry can follow: numbers go on from it.
pub(super) fn position(body: Option<PositionBody>) -> Result<LogPosition, Failure> {
    let body = body.ok_or_else(|| malformed("no place in the log"))?;
    if body.seq == u64::MAX {
        return Err(malformed("an end with nothing after it"));
    }
    Ok(LogPosition { epoch: Epoch(body.epoch), seq: Seq(body.seq) })
}
