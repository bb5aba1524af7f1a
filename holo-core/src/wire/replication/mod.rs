//! Bodies of the messages between replicas. Tags are never reused; an older peer passes over fields it does not know.

mod append;
mod beat;
mod claim;
mod entry;
mod snapshot;

pub use append::{AppendAckBody, AppendBody, AppendNackBody, PositionBody};
pub use beat::{BeatAckBody, BeatBody, CommitBody, ReleaseBody};
pub use claim::{ClaimBody, ReplicaBody};
pub use entry::{EntryBody, OpBody};
pub use snapshot::{RemainsBody, RequestEndBody, SessionBody, SnapshotOfferBody};

use super::GroupBody;
use crate::group::Seq;
use crate::replication::{AppendAck, AppendNack, Beat, BeatAck, Message, Release, SetVersion};
use crate::{Epoch, ErrorCode, Failure, Instant, limits};

/// Messages of one life of a node for one life of another.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerBatch {
    /// The life of the sender.
    #[prost(uint32, tag = "1")]
    pub from_incarnation: u32,
    /// The life of the receiver that it is for.
    #[prost(uint32, tag = "2")]
    pub to_incarnation: u32,
    /// The messages, in their order.
    #[prost(message, repeated, tag = "3")]
    pub messages: Vec<PeerMessage>,
}

/// One [`Message`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerMessage {
    /// Which, with its content.
    #[prost(oneof = "MessageBody", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub body: Option<MessageBody>,
}

/// The kinds of [`Message`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MessageBody {
    /// [`Append`](crate::replication::Append).
    #[prost(message, tag = "1")]
    Append(AppendBody),
    /// [`AppendAck`].
    #[prost(message, tag = "2")]
    AppendAck(AppendAckBody),
    /// [`AppendNack`].
    #[prost(message, tag = "3")]
    AppendNack(AppendNackBody),
    /// [`SnapshotOffer`](crate::replication::SnapshotOffer).
    #[prost(message, tag = "4")]
    SnapshotOffer(SnapshotOfferBody),
    /// [`Release`].
    #[prost(message, tag = "5")]
    Release(ReleaseBody),
    /// [`Beat`].
    #[prost(message, tag = "6")]
    Beat(BeatBody),
    /// [`BeatAck`].
    #[prost(message, tag = "7")]
    BeatAck(BeatAckBody),
}

impl From<&Message> for PeerMessage {
    fn from(message: &Message) -> Self {
        let body = match message {
            Message::Append(append) => MessageBody::Append(AppendBody {
                group: Some(append.group.into()),
                epoch: append.epoch.0,
                claim: append.claim.as_ref().map(ClaimBody::from),
                prev: Some(append.prev.into()),
                entries: append.entries.iter().map(EntryBody::from).collect(),
                commit: append.commit.0,
            }),
            Message::AppendAck(ack) => MessageBody::AppendAck(AppendAckBody {
                group: Some(ack.group.into()),
                epoch: ack.epoch.0,
                matched: ack.matched.0,
                committed: ack.committed.0,
                based: ack.based,
            }),
            Message::AppendNack(nack) => MessageBody::AppendNack(AppendNackBody {
                group: Some(nack.group.into()),
                epoch: nack.epoch.0,
                have: nack.have.0,
                needs_snapshot: nack.needs_snapshot,
                claim: nack.claim.as_ref().map(ClaimBody::from),
            }),
            Message::SnapshotOffer(offer) => MessageBody::SnapshotOffer(SnapshotOfferBody {
                group: Some(offer.group.into()),
                epoch: offer.epoch.0,
                claim: offer.claim.as_ref().map(ClaimBody::from),
                snapshot: offer.snapshot.0,
                at: Some(offer.at.into()),
                expired_below: offer.windows.expired_below().0,
                sessions: offer.windows.sessions().iter().map(SessionBody::from).collect(),
            }),
            Message::Release(release) => MessageBody::Release(ReleaseBody {
                group: Some(release.group.into()),
                up_to: release.up_to.0,
            }),
            Message::Beat(beat) => MessageBody::Beat(BeatBody {
                sent_at: beat.sent_at.0,
                known_set: beat.known_set.0,
                commits: beat.commits.iter().map(CommitBody::from).collect(),
                answered: beat.answered.map(|at| at.0),
            }),
            Message::BeatAck(ack) => MessageBody::BeatAck(BeatAckBody {
                sent_at: ack.sent_at.0,
                set_version: ack.set_version.0,
                has_set: ack.set.is_some(),
                set: ack.set.iter().flatten().map(|group| GroupBody::from(*group)).collect(),
            }),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<PeerMessage> for Message {
    type Error = Failure;

    /// Checks a message that came from outside: [`ErrorCode::Malformed`] or [`ErrorCode::TooLarge`].
    fn try_from(message: PeerMessage) -> Result<Self, Failure> {
        Ok(match message.body.ok_or_else(|| malformed("an unknown message"))? {
            MessageBody::Append(body) => Self::Append(body.checked()?),
            MessageBody::AppendAck(body) => Self::AppendAck(AppendAck {
                group: GroupBody::checked(body.group)?,
                epoch: Epoch(body.epoch),
                matched: Seq(body.matched),
                committed: Seq(body.committed),
                based: body.based,
            }),
            MessageBody::AppendNack(body) => Self::AppendNack(AppendNack {
                group: GroupBody::checked(body.group)?,
                epoch: Epoch(body.epoch),
                have: Seq(body.have),
                needs_snapshot: body.needs_snapshot,
                claim: body.claim.map(ClaimBody::checked).transpose()?,
            }),
            MessageBody::SnapshotOffer(body) => Self::SnapshotOffer(body.checked()?),
            MessageBody::Release(body) => Self::Release(Release {
                group: GroupBody::checked(body.group)?,
                up_to: Epoch(body.up_to),
            }),
            MessageBody::Beat(body) => Self::Beat(Beat {
                sent_at: Instant(body.sent_at),
                known_set: SetVersion(body.known_set),
                answered: body.answered.map(Instant),
                commits: bounded(body.commits, limits::BEAT_COMMITS_MAX, CommitBody::checked)?,
            }),
            MessageBody::BeatAck(body) => {
                let groups = |group| GroupBody::checked(Some(group));
                let set = bounded(body.set, limits::HOST_GROUPS_MAX, groups)?;
                Self::BeatAck(BeatAck {
                    sent_at: Instant(body.sent_at),
                    set_version: SetVersion(body.set_version),
                    set: body.has_set.then_some(set),
                })
            }
        })
    }
}

fn bounded<B, T>(
    bodies: Vec<B>,
    max: usize,
    check: impl Fn(B) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    if bodies.len() > max {
        return Err(too_many("parts", bodies.len()));
    }
    bodies.into_iter().map(check).collect()
}

fn too_many(what: &str, count: usize) -> Failure {
    Failure::new(ErrorCode::TooLarge, format!("{count} {what} in a message between replicas"))
}

fn malformed(what: &str) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("message between replicas: {what}"))
}

#[cfg(test)]
mod tests;
