//! Bodies of the messages between replicas. Tags are never reused; an older peer passes over fields it does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::payload::{GroupBody, PayloadBody};
use super::view::RequestKeyBody;
use crate::group::{Op, PageSpan, Seq, StagingId, UpdateKind};
use crate::replication::{
    Answer, Append, AppendAck, AppendNack, Beat, BeatAck, CommitNews, ConfigClaim, Entry, EntryOp,
    GroupConfig, GroupId, Incarnation, LogPosition, Message, NodeNumber, Outcome, Payload, Release,
    ReplicaId, RequestKey, SessionId, SessionWindow, SessionWindows, SetVersion, SnapshotId,
    SnapshotOffer,
};
use crate::{ArrayId, DType, Epoch, ErrorCode, Failure, Instant, ShardIndex, limits};

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
    /// [`Append`].
    #[prost(message, tag = "1")]
    Append(AppendBody),
    /// [`AppendAck`].
    #[prost(message, tag = "2")]
    AppendAck(AppendAckBody),
    /// [`AppendNack`].
    #[prost(message, tag = "3")]
    AppendNack(AppendNackBody),
    /// [`SnapshotOffer`].
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

/// A replica.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicaBody {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// Its life.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
}

/// A config with the catalog's proof.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// Its version.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Who orders operations.
    #[prost(message, optional, tag = "3")]
    pub primary: Option<ReplicaBody>,
    /// In-sync replicas, ascending.
    #[prost(message, repeated, tag = "4")]
    pub in_sync: Vec<ReplicaBody>,
    /// Learners, ascending.
    #[prost(message, repeated, tag = "5")]
    pub learners: Vec<ReplicaBody>,
    /// The last in-sync copy is gone.
    #[prost(bool, tag = "6")]
    pub lost: bool,
    /// The catalog's proof.
    #[prost(bytes = "bytes", tag = "7")]
    pub proof: Bytes,
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

/// [`Append`].
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
    pub claim: Option<ConfigBody>,
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

/// [`Entry`]; its number follows from its place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntryBody {
    /// The epoch in which it was proposed.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Whose request it is.
    #[prost(message, optional, tag = "2")]
    pub request: Option<RequestKeyBody>,
    /// Sessions below this one have expired.
    #[prost(uint64, tag = "3")]
    pub expired_below: u64,
    /// The payload that it publishes.
    #[prost(message, optional, tag = "4")]
    pub payload: Option<PayloadBody>,
    /// Bytes of the payload.
    #[prost(uint64, tag = "5")]
    pub payload_len: u64,
    /// What it does; absent for a barrier.
    #[prost(message, optional, tag = "6")]
    pub op: Option<OpBody>,
}

/// [`Op`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpBody {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// 1: publish, 2: write, 3: update, 4: fill.
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    /// Bytes that change, of a publication or a fill.
    #[prost(uint64, tag = "5")]
    pub len: u64,
    /// The bytes of a write, the pattern of a fill, the operand of an update.
    #[prost(bytes = "bytes", tag = "6")]
    pub bytes: Bytes,
    /// Number of the staged frames of a publication.
    #[prost(uint64, tag = "7")]
    pub staging: u64,
    /// [`DType::to_byte`] of an update.
    #[prost(uint32, tag = "8")]
    pub dtype: u32,
    /// [`UpdateKind::to_byte`].
    #[prost(uint32, tag = "9")]
    pub update: u32,
    /// What an update expects.
    #[prost(bytes = "bytes", tag = "10")]
    pub expected: Bytes,
}

/// [`AppendAck`].
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

/// [`AppendNack`].
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
    pub claim: Option<ConfigBody>,
}

/// [`SnapshotOffer`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotOfferBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Its config, unless the receiver is known to have it.
    #[prost(message, optional, tag = "3")]
    pub claim: Option<ConfigBody>,
    /// The state's name at the sender.
    #[prost(uint64, tag = "4")]
    pub snapshot: u64,
    /// The last entry that it contains.
    #[prost(message, optional, tag = "5")]
    pub at: Option<PositionBody>,
    /// Sessions below this one have expired.
    #[prost(uint64, tag = "6")]
    pub expired_below: u64,
    /// The other sessions.
    #[prost(message, repeated, tag = "7")]
    pub sessions: Vec<SessionBody>,
}

/// The answered requests of one session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionBody {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Lower numbers are forgotten.
    #[prost(uint64, tag = "2")]
    pub floor: u64,
    /// The highest number seen.
    #[prost(uint64, tag = "3")]
    pub highest: u64,
    /// The answers.
    #[prost(message, repeated, tag = "4")]
    pub answers: Vec<AnswerBody>,
}

/// The end of one request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AnswerBody {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// [`ErrorCode::number`] when it was refused, 0 when it was done.
    #[prost(uint32, tag = "2")]
    pub refused: u32,
    /// The result when it was done.
    #[prost(bytes = "vec", tag = "3")]
    pub result: Vec<u8>,
}

/// [`Release`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ReleaseBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The last epoch whose promises are given back.
    #[prost(uint64, tag = "2")]
    pub up_to: u64,
}

/// [`Beat`].
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

/// [`BeatAck`].
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

impl From<&Message> for PeerMessage {
    fn from(message: &Message) -> Self {
        let body = match message {
            Message::Append(append) => MessageBody::Append(AppendBody {
                group: Some(append.group.into()),
                epoch: append.epoch.0,
                claim: append.claim.as_ref().map(ConfigBody::from),
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
                claim: nack.claim.as_ref().map(ConfigBody::from),
            }),
            Message::SnapshotOffer(offer) => MessageBody::SnapshotOffer(SnapshotOfferBody {
                group: Some(offer.group.into()),
                epoch: offer.epoch.0,
                claim: offer.claim.as_ref().map(ConfigBody::from),
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
                claim: body.claim.map(ConfigBody::checked).transpose()?,
            }),
            MessageBody::SnapshotOffer(body) => Self::SnapshotOffer(body.checked()?),
            MessageBody::Release(body) => Self::Release(Release {
                group: GroupBody::checked(body.group)?,
                up_to: Epoch(body.up_to),
            }),
            MessageBody::Beat(body) => Self::Beat(Beat {
                sent_at: Instant(body.sent_at),
                known_set: SetVersion(body.known_set),
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

impl AppendBody {
    fn checked(self) -> Result<Append, Failure> {
        let prev = position(self.prev)?;
        if self.entries.len() > limits::APPEND_ENTRIES_MAX {
            return Err(too_many("entries", self.entries.len()));
        }
        let last = prev.seq.0.checked_add(self.entries.len() as u64);
        last.ok_or_else(|| malformed("an entry beyond the last number"))?;
        let entries = self.entries.into_iter().zip(prev.seq.0 + 1..);
        Ok(Append {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            claim: self.claim.map(ConfigBody::checked).transpose()?,
            prev,
            entries: entries
                .map(|(entry, seq)| entry.checked(Seq(seq)))
                .collect::<Result<_, _>>()?,
            commit: Seq(self.commit),
        })
    }
}

impl From<&Entry> for EntryBody {
    fn from(entry: &Entry) -> Self {
        Self {
            epoch: entry.epoch.0,
            request: entry.request.map(|key| RequestKeyBody {
                session: key.session.0,
                number: key.number,
                floor: key.floor,
            }),
            expired_below: entry.expired_below.0,
            payload: entry.payload.map(|payload| payload.id.into()),
            payload_len: entry.payload.map_or(0, |payload| payload.len),
            op: match &entry.op {
                EntryOp::Barrier => None,
                EntryOp::Op(op) => Some(op.into()),
            },
        }
    }
}

impl EntryBody {
    fn checked(self, seq: Seq) -> Result<Entry, Failure> {
        let request = self.request.map(|key| RequestKey {
            session: SessionId(key.session),
            number: key.number,
            floor: key.floor,
        });
        let len = self.payload_len;
        let payload =
            self.payload.map(|body| PayloadBody::checked(Some(body)).map(|id| Payload { id, len }));
        let entry = Entry {
            epoch: Epoch(self.epoch),
            seq,
            request,
            expired_below: SessionId(self.expired_below),
            op: match self.op {
                None => EntryOp::Barrier,
                Some(op) => EntryOp::Op(op.checked()?),
            },
            payload: payload.transpose()?,
        };
        entry.check()?;
        Ok(entry)
    }
}

const PUBLISH: u32 = 1;
const WRITE: u32 = 2;
const UPDATE: u32 = 3;
const FILL: u32 = 4;

impl From<&Op> for OpBody {
    fn from(op: &Op) -> Self {
        let body = Self { array: op.array().0, shard: op.shard().0, ..Self::default() };
        match op {
            Op::Publish { staging, offset, len, .. } => {
                Self { kind: PUBLISH, offset: *offset, len: *len, staging: staging.0, ..body }
            }
            Op::Write { offset, bytes, .. } => {
                Self { kind: WRITE, offset: *offset, bytes: bytes.clone(), ..body }
            }
            Op::Update { offset, dtype, kind, operand, expected, .. } => Self {
                kind: UPDATE,
                offset: *offset,
                dtype: u32::from(dtype.to_byte()),
                update: u32::from(kind.to_byte()),
                bytes: Bytes::copy_from_slice(operand),
                expected: Bytes::copy_from_slice(expected),
                ..body
            },
            Op::Fill { offset, len, pattern, .. } => {
                Self { kind: FILL, offset: *offset, len: *len, bytes: pattern.clone(), ..body }
            }
        }
    }
}

impl OpBody {
    fn checked(self) -> Result<Op, Failure> {
        let (array, shard, offset, len) =
            (ArrayId(self.array), ShardIndex(self.shard), self.offset, self.len);
        Ok(match self.kind {
            PUBLISH => Op::Publish {
                array,
                shard,
                staging: StagingId(self.staging),
                pages: PageSpan::of_bytes(offset, len)
                    .ok_or_else(|| malformed("a publication outside its shard"))?,
                offset,
                len,
            },
            WRITE => Op::Write { array, shard, offset, bytes: self.bytes },
            UPDATE => Op::Update {
                array,
                shard,
                offset,
                dtype: DType::from_byte(self.dtype)?,
                kind: UpdateKind::from_byte(self.update)?,
                operand: eight(&self.bytes)?,
                expected: eight(&self.expected)?,
            },
            FILL => Op::Fill { array, shard, offset, len, pattern: self.bytes },
            _ => return Err(malformed("an unknown operation")),
        })
    }
}

impl From<&ConfigClaim> for ConfigBody {
    fn from(claim: &ConfigClaim) -> Self {
        let config = &claim.config;
        Self {
            group: Some(config.group.into()),
            epoch: config.epoch.0,
            primary: Some(config.primary.into()),
            in_sync: config.in_sync.iter().map(|id| ReplicaBody::from(*id)).collect(),
            learners: config.learners.iter().map(|id| ReplicaBody::from(*id)).collect(),
            lost: config.lost,
            proof: claim.proof.clone(),
        }
    }
}

impl ConfigBody {
    /// The claim, with its invariants checked; whether it is proven is another question.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] or [`ErrorCode::TooLarge`].
    pub fn checked(self) -> Result<ConfigClaim, Failure> {
        if self.proof.len() > limits::CONFIG_PROOF_BYTES_MAX {
            return Err(too_many("bytes of proof", self.proof.len()));
        }
        let primary = self.primary.ok_or_else(|| malformed("a config without a primary"))?;
        let ids = |ids: Vec<ReplicaBody>| {
            bounded(ids, limits::GROUP_MEMBERS_MAX, |id| Ok(ReplicaId::from(id)))
        };
        let config = GroupConfig {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            primary: primary.into(),
            in_sync: ids(self.in_sync)?,
            learners: ids(self.learners)?,
            lost: self.lost,
        };
        config.check()?;
        Ok(ConfigClaim { config: Arc::new(config), proof: self.proof })
    }
}

impl SnapshotOfferBody {
    fn checked(self) -> Result<SnapshotOffer, Failure> {
        if self.sessions.len() > limits::GROUP_SESSIONS_MAX {
            return Err(too_many("sessions", self.sessions.len()));
        }
        let mut sessions = BTreeMap::new();
        for body in self.sessions {
            let mut answers = BTreeMap::new();
            for answer in body.answers {
                let end = match answer.refused {
                    0 => Answer::Done(
                        Outcome::new(&answer.result).ok_or_else(|| malformed("a long result"))?,
                    ),
                    code => Answer::Refused(ErrorCode::from_number(code)),
                };
                answers.insert(answer.number, end);
            }
            let window = SessionWindow { floor: body.floor, highest: body.highest, answers };
            sessions.insert(SessionId(body.session), window);
        }
        let windows = SessionWindows::from_parts(SessionId(self.expired_below), sessions)?;
        Ok(SnapshotOffer {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            claim: self.claim.map(ConfigBody::checked).transpose()?,
            snapshot: SnapshotId(self.snapshot),
            at: position(self.at)?,
            windows: Arc::new(windows),
        })
    }
}

impl From<(&SessionId, &SessionWindow)> for SessionBody {
    fn from((session, window): (&SessionId, &SessionWindow)) -> Self {
        let answers = window.answers.iter().filter_map(|(number, answer)| match answer {
            // It has no end yet; a snapshot is of what is applied.
            Answer::Running => None,
            Answer::Done(outcome) => Some(AnswerBody {
                number: *number,
                refused: 0,
                result: outcome.as_slice().to_vec(),
            }),
            Answer::Refused(code) => Some(AnswerBody {
                number: *number,
                refused: u32::from(code.number()),
                result: Vec::new(),
            }),
        });
        Self {
            session: session.0,
            floor: window.floor,
            highest: window.highest,
            answers: answers.collect(),
        }
    }
}

impl From<&CommitNews> for CommitBody {
    fn from(news: &CommitNews) -> Self {
        Self { group: Some(news.group.into()), epoch: news.epoch.0, commit: news.commit.0 }
    }
}

impl CommitBody {
    fn checked(self) -> Result<CommitNews, Failure> {
        let group: GroupId = GroupBody::checked(self.group)?;
        Ok(CommitNews { group, epoch: Epoch(self.epoch), commit: Seq(self.commit) })
    }
}

impl From<ReplicaId> for ReplicaBody {
    fn from(id: ReplicaId) -> Self {
        Self { node: id.node.0, incarnation: id.incarnation.0 }
    }
}

impl From<ReplicaBody> for ReplicaId {
    fn from(body: ReplicaBody) -> Self {
        Self { node: NodeNumber(body.node), incarnation: Incarnation(body.incarnation) }
    }
}

impl From<LogPosition> for PositionBody {
    fn from(at: LogPosition) -> Self {
        Self { epoch: at.epoch.0, seq: at.seq.0 }
    }
}

fn position(body: Option<PositionBody>) -> Result<LogPosition, Failure> {
    let body = body.ok_or_else(|| malformed("no place in the log"))?;
    Ok(LogPosition { epoch: Epoch(body.epoch), seq: Seq(body.seq) })
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

fn eight(bytes: &Bytes) -> Result<[u8; 8], Failure> {
    bytes.as_ref().try_into().map_err(|_short| malformed("a value that has not 8 bytes"))
}

fn too_many(what: &str, count: usize) -> Failure {
    Failure::new(ErrorCode::TooLarge, format!("{count} {what} in a message between replicas"))
}

fn malformed(what: &str) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("message between replicas: {what}"))
}

#[cfg(test)]
mod tests;
