//! One entry of a log, and the operation in it.

use bytes::Bytes;

use super::malformed;
use crate::group::{Op, PageSpan, Seq, StagingId, UpdateKind};
use crate::replication::{Entry, EntryOp, Payload, RequestKey, SessionId};
use crate::wire::{PayloadBody, RequestKeyBody};
use crate::{ArrayId, DType, Epoch, Failure, ShardIndex};

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
    pub(super) fn checked(self, seq: Seq) -> Result<Entry, Failure> {
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
    pub(super) fn checked(self) -> Result<Op, Failure> {
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

fn eight(bytes: &Bytes) -> Result<[u8; 8], Failure> {
    bytes.as_ref().try_into().map_err(|_short| malformed("a value that has not 8 bytes"))
}
