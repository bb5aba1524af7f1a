//! What replicas of a group say to each other, and what their logs hold.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::config::{GroupConfig, GroupId, ReplicaId};
use super::dedup::SessionWindows;
use crate::group::{Op, Seq};
use crate::{Epoch, ErrorCode, Failure, Instant, limits};

/// A client's session, leased from the catalog in blocks; ids grow, and old ones expire from below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What makes an operation happen once, however often it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// The client's session.
    pub session: SessionId,
    /// The request's number in its session; the client counts up, at most 64 at a time without an answer.
    pub number: u64,
    /// The lowest number that the client still waits for; at most `number`. What lies below is forgotten.
    pub floor: u64,
}

/// Bytes that were staged on the replicas beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId {
    /// The replica that distributed the bytes.
    pub origin: ReplicaId,
    /// Its number for them, never used twice in one incarnation.
    pub number: u64,
}

/// A payload and how much it weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Which.
    pub id: PayloadId,
    /// Its bytes; they count against the bounds of the log.
    pub len: u64,
}

/// A place in a log: the entry's number and the epoch whose primary gave it. `(0, 0)` is the place before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The epoch in which the entry was proposed.
    pub epoch: Epoch,
    /// The entry's number.
    pub seq: Seq,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryOp {
    /// Nothing: the first entry of a new primary, which commits all before it.
    Barrier,
    /// An operation of a client.
    Op(Op),
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The epoch in which it was proposed.
    pub epoch: Epoch,
    /// Its number; the first has 1, without gaps.
    pub seq: Seq,
    /// Whose request it is; `None` for what needs no second try.
    pub request: Option<RequestKey>,
    /// Sessions below this one have expired, as far as the primary knew.
    pub expired_below: SessionId,
    /// What it does.
    pub op: EntryOp,
    /// Bytes that lie beside the log, for [`Op::Publish`].
    pub payload: Option<Payload>,
}

impl Entry {
    /// Its place.
    pub fn position(&self) -> LogPosition {
        LogPosition { epoch: self.epoch, seq: self.seq }
    }

    /// What it weighs in a message, roughly; the payload travels elsewhere.
    pub fn wire_bytes(&self) -> u64 {
        let inline = match &self.op {
            EntryOp::Op(Op::Write { bytes, .. }) => bytes.len() as u64,
            EntryOp::Barrier | EntryOp::Op(_) => 0,
        };
        Self::WIRE_BYTES_BASE + inline
    }

    /// What it weighs in the log, payload included.
    pub fn log_bytes(&self) -> u64 {
        self.wire_bytes().saturating_add(self.payload.map_or(0, |payload| payload.len))
    }

    /// An upper bound on the bytes of an entry but for those that a client chose.
    const WIRE_BYTES_BASE: u64 = 192;

    /// Checks an entry that came from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] for a part that contradicts another, and what [`Op::check`] says.
    pub fn check(&self) -> Result<(), Failure> {
        check_operation(&self.op, self.request.as_ref(), self.payload.as_ref())
    }
}

/// Checks what belongs together: only a publication has bytes beside the log, a floor is not above its request.
pub(super) fn check_operation(
    op: &EntryOp,
    request: Option<&RequestKey>,
    payload: Option<&Payload>,
) -> Result<(), Failure> {
    if let EntryOp::Op(op) = op {
        op.check()?;
    }
    let publishes = matches!(op, EntryOp::Op(Op::Publish { .. }));
    let sound = publishes == payload.is_some()
        && payload.is_none_or(|payload| payload.len <= limits::BULK_BYTES_MAX)
        && request.is_none_or(|key| key.floor <= key.number && !matches!(op, EntryOp::Barrier));
    if sound {
        Ok(())
    } else {
        Err(Failure::new(ErrorCode::Malformed, "an entry whose parts contradict each other"))
    }
}

/// A config and the catalog's proof of it. Nothing in it is believed before a
/// [`ConfigVerifier`](super::ConfigVerifier) has agreed.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigClaim {
    /// The config.
    pub config: Arc<GroupConfig>,
    /// The catalog's proof, opaque here.
    pub proof: Bytes,
}

impl fmt::Debug for ConfigClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigClaim({:?}, proof of {} bytes)", self.config, self.proof.len())
    }
}

/// A frozen state of a group at one primary; a number of that replica, never used twice in one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// Version of a lease set; grows with each of its changes, over all pairs of one grantor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetVersion(pub u64);

/// What replicas send each other. It may be lost, doubled and come late; the sender is proven by the channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Primary to member: entries, or news of the commit.
    Append(Append),
    /// The answer to an [`Append`] that fits.
    AppendAck(AppendAck),
    /// The answer to an [`Append`] that does not, and the way to tell a replica of a newer config.
    AppendNack(AppendNack),
    /// Primary to learner: a state to fetch.
    SnapshotOffer(SnapshotOffer),
    /// A former primary gives back the promises that it was given.
    Release(Release),
    /// Primary of some group to a member of it: renews leases.
    Beat(Beat),
    /// The answer to a [`Beat`].
    BeatAck(BeatAck),
}

/// Entries after `prev`, and how far the group is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The group.
    pub group: GroupId,
    /// The epoch in which the sender is its primary.
    pub epoch: Epoch,
    /// That epoch's config; left out once the receiver has acknowledged the epoch.
    pub claim: Option<ConfigClaim>,
    /// The place that `entries` follow.
    pub prev: LogPosition,
    /// Entries without gaps; at most [`limits::APPEND_ENTRIES_MAX`](crate::limits::APPEND_ENTRIES_MAX).
    pub entries: Vec<Entry>,
    /// The number up to which the group is committed.
    pub commit: Seq,
}

/// The sender's log agrees with the primary's up to `matched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendAck {
    /// The group.
    pub group: GroupId,
    /// The epoch; an ack counts in this epoch only.
    pub epoch: Epoch,
    /// Every entry up to here is held, payload and all.
    pub matched: Seq,
    /// How far the sender knows the group to be committed.
    pub committed: Seq,
    /// Whether the sender has a state to apply entries to; a learner gets one by its snapshot.
    pub based: bool,
}

/// An [`Append`] was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendNack {
    /// The group.
    pub group: GroupId,
    /// The sender's epoch.
    pub epoch: Epoch,
    /// A number at which the logs may agree; from a learner without a state, where the copy ends that has just failed.
    pub have: Seq,
    /// The sender is a learner without a state.
    pub needs_snapshot: bool,
    /// The sender's config, when the receiver's is older.
    pub claim: Option<ConfigClaim>,
}

/// A state to fetch, and what was asked and answered up to it.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotOffer {
    /// The group.
    pub group: GroupId,
    /// The epoch in which the sender is its primary.
    pub epoch: Epoch,
    /// That epoch's config; left out once the receiver has acknowledged the epoch.
    pub claim: Option<ConfigClaim>,
    /// The name of the state at the sender.
    pub snapshot: SnapshotId,
    /// The last entry that it contains.
    pub at: LogPosition,
    /// The answered requests of all sessions, as of `at`.
    pub windows: Arc<SessionWindows>,
}

/// Every promise that was given to the sender for `group` in an epoch up to `up_to` is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The group.
    pub group: GroupId,
    /// The last epoch whose promises are given back.
    pub up_to: Epoch,
}

/// "I am here, I lead groups that you hold."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The sender's own clock at sending; comes back in the answer.
    pub sent_at: Instant,
    /// The version of the receiver's lease set that the sender knows; 0 for none.
    pub known_set: SetVersion,
    /// The newest of the sender's beats to the receiver whose answer has come, by what that beat says of its sending, or 0:
    /// a receiver that answers and is not heard cannot be served by the sender. `None` from a version that does not say.
    pub answered: Option<Instant>,
    /// Commits that the receiver may not know yet; at most
    /// [`limits::BEAT_COMMITS_MAX`](crate::limits::BEAT_COMMITS_MAX).
    pub commits: Vec<CommitNews>,
}

/// How far a group is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitNews {
    /// The group.
    pub group: GroupId,
    /// The epoch that it is about.
    pub epoch: Epoch,
    /// The number up to which the group is committed.
    pub commit: Seq,
}

/// "For the groups of this set I help nobody else until my receipt of your beat plus the promised time."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatAck {
    /// What the beat named.
    pub sent_at: Instant,
    /// The version of the set that the promise is about.
    pub set_version: SetVersion,
    /// The whole set, when the beat named another version.
    pub set: Option<Vec<GroupId>>,
}
