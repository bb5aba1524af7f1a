//! Reads and writes of shards, and what replicas ask of each other.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holo_core::group::{Op, UpdateKind};
use holo_core::replication::{RequestKey, SessionId};
use holo_core::wire::{
    Decode, FillRange, GetRange, GetReply, Kind, PageDigests, PutRange, RequestKeyBody,
    UpdateElement, UpdateReply, WriteShard,
};
use holo_core::{ArrayId, ErrorCode, Failure, ShardIndex, action, limits};
use holo_net::{BulkReader, BulkReply, Peer, Response};

use super::{NodeService, encode};
use crate::data::{Access, DataPlane, Outcome, stage};

impl NodeService {
    pub(super) fn get(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        let request = GetRange::decode_body(body)?;
        let data = self.data()?;
        let len = inline_len(request.len)?;
        let access: Access<action::Read> = data.arrays.access(peer.key, ArrayId(request.array))?;
        let mut bytes = BytesMut::zeroed(len);
        let now = || self.clock.now();
        data.arrays.read(&access, ShardIndex(request.shard), now, |shard| {
            shard.read_into(request.offset, &mut bytes)
        })?;
        Ok(encode(GetReply { data: bytes.freeze() }))
    }

    pub(super) fn put(&self, peer: &Peer, body: &[u8]) -> Response {
        match self.start_put(peer, body) {
            Ok(started) => started,
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    pub(super) fn update(&self, peer: &Peer, body: &[u8]) -> Response {
        let reply = |previous: Bytes| encode(UpdateReply { previous: previous.to_vec() });
        match self.start_update(peer, body) {
            Ok(outcome) => answer(outcome, reply),
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    pub(super) fn fill(&self, peer: &Peer, body: &[u8]) -> Response {
        match self.start_fill(peer, body) {
            Ok(outcome) => answer(outcome, |_| Bytes::new()),
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    pub(super) fn read_shard(&self, peer: &Peer, body: &[u8]) -> Result<BulkReply, Failure> {
        let request = GetRange::decode_body(body)?;
        let data = self.data()?;
        let access: Access<action::Read> = data.arrays.access(peer.key, ArrayId(request.array))?;
        let len = usize::try_from(request.len).unwrap_or(usize::MAX);
        let now = || self.clock.now();
        let run = data.arrays.read(&access, ShardIndex(request.shard), now, |shard| {
            shard.read(request.offset, len)
        })?;
        let digests = Bytes::from(run.digests());
        Ok(BulkReply { body: encode(PageDigests { digests }), bulk: run.to_bytes() })
    }

    /// Messages of a peer's replication machine; the answer carries ours for it.
    pub(super) fn replicate(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        let data = self.data()?;
        data.take_batch(peer.key, body)
    }

    /// What a frozen state contains.
    pub(super) fn snapshot_index(&self, peer: &Peer, body: Bytes) -> Response {
        match self.data() {
            Ok(data) => {
                let index = Arc::clone(data).snapshot_index(peer.key, body);
                Response::WhileConnected(Box::pin(index))
            }
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    fn start_put(&self, peer: &Peer, body: &[u8]) -> Result<Response, Failure> {
        let request = PutRange::decode_body(body)?;
        inline_len(request.data.len() as u64)?;
        let data = self.data()?;
        let access: Access<action::Write> = data.arrays.access(peer.key, ArrayId(request.array))?;
        let (index, key) = (ShardIndex(request.shard), request_key(request.key)?);
        let (group, shard) = data.arrays.writable(&access, index)?;
        check_range(request.offset, request.data.len() as u64, shard.bytes())?;
        if request.data.is_empty() {
            return Ok(Response::Now(Ok(Bytes::new())));
        }
        if request.data.len() <= limits::OP_BYTES_MAX {
            let op = Op::Write {
                array: access.descriptor().id,
                shard: index,
                offset: request.offset,
                bytes: request.data,
            };
            return Ok(answer(data.propose(group, key, op)?, |_| Bytes::new()));
        }
        let mut staged = shard.stage(request.offset, request.data.len() as u64)?;
        let mut rest = request.data.as_ref();
        for buffer in staged.buffers() {
            let (part, tail) = rest.split_at(buffer.len());
            buffer.copy_from_slice(part);
            rest = tail;
        }
        let (data, place) = (Arc::clone(data), (access.descriptor().id, index));
        Ok(Response::Later(Box::pin(async move {
            data.publish(group, place, key, staged).await?;
            Ok(Bytes::new())
        })))
    }

    fn start_update(&self, peer: &Peer, body: &[u8]) -> Result<Outcome, Failure> {
        let request = UpdateElement::decode_body(body)?;
        let data = self.data()?;
        let access: Access<action::Write> = data.arrays.access(peer.key, ArrayId(request.array))?;
        let (index, key, dtype) =
            (ShardIndex(request.shard), request_key(request.key)?, access.dtype());
        let (group, shard) = data.arrays.writable(&access, index)?;
        check_element(request.offset, dtype.size(), shard.bytes())?;
        let kind = UpdateKind::from_byte(request.kind)?;
        let expected = match kind {
            UpdateKind::CompareExchange => value(&request.expected, dtype.size())?,
            _ => [0; 8],
        };
        let op = Op::Update {
            array: access.descriptor().id,
            shard: index,
            offset: request.offset,
            dtype,
            kind,
            operand: value(&request.operand, dtype.size())?,
            expected,
        };
        data.propose(group, key, op)
    }

    fn start_fill(&self, peer: &Peer, body: &[u8]) -> Result<Outcome, Failure> {
        let request = FillRange::decode_body(body)?;
        let data = self.data()?;
        let access: Access<action::Write> = data.arrays.access(peer.key, ArrayId(request.array))?;
        let (index, key, size) =
            (ShardIndex(request.shard), request_key(request.key)?, access.dtype().size());
        let (group, shard) = data.arrays.writable(&access, index)?;
        check_range(request.offset, request.len, shard.bytes())?;
        check_element(request.offset, size, shard.bytes())?;
        let _fits: [u8; 8] = value(&request.value, size)?;
        let op = Op::Fill {
            array: access.descriptor().id,
            shard: index,
            offset: request.offset,
            len: request.len,
            pattern: Bytes::from(request.value),
        };
        data.propose(group, key, op)
    }
}

/// Takes a bulk write: stages it on every replica, then publishes it in one step.
pub(super) async fn write_shard(
    data: Arc<DataPlane>,
    peer: Arc<Peer>,
    body: Bytes,
    mut incoming: BulkReader,
) -> Result<BulkReply, Failure> {
    let request = WriteShard::decode_body(&body)?;
    let access: Access<action::Write> = data.arrays.access(peer.key, ArrayId(request.array))?;
    let (index, key) = (ShardIndex(request.shard), request_key(request.key)?);
    let (group, shard) = data.arrays.writable(&access, index)?;
    let staged = stage(shard, request.offset, request.digests, &mut incoming).await?;
    data.publish(group, (access.descriptor().id, index), key, staged).await?;
    Ok(BulkReply { body: Bytes::new(), bulk: Vec::new() })
}

/// Answers now what has ended already, as everything does that has one copy, and the rest later.
fn answer(mut outcome: Outcome, reply: impl Fn(Bytes) -> Bytes + Send + 'static) -> Response {
    match outcome.now() {
        Some(ended) => Response::Now(ended.map(reply)),
        None => Response::Later(Box::pin(async move { outcome.wait().await.map(reply) })),
    }
}

fn request_key(body: Option<RequestKeyBody>) -> Result<Option<RequestKey>, Failure> {
    let Some(body) = body else { return Ok(None) };
    if body.session == 0 || body.floor > body.number {
        return Err(Failure::new(ErrorCode::Malformed, "the number of a request"));
    }
    let session = SessionId(body.session);
    Ok(Some(RequestKey { session, number: body.number, floor: body.floor }))
}

fn inline_len(len: u64) -> Result<usize, Failure> {
    let fits = usize::try_from(len).ok().filter(|len| *len <= limits::INLINE_BYTES_MAX);
    fits.ok_or_else(|| {
        let message =
            format!("{len} bytes in one small request, at most {}", limits::INLINE_BYTES_MAX);
        Failure::new(ErrorCode::TooLarge, message)
    })
}

fn check_range(offset: u64, len: u64, shard_bytes: u64) -> Result<(), Failure> {
    if offset.checked_add(len).is_some_and(|end| end <= shard_bytes) {
        return Ok(());
    }
    let message = format!("{len} bytes at {offset} of a shard of {shard_bytes}");
    Err(Failure::new(ErrorCode::OutOfRange, message))
}

fn check_element(offset: u64, size: usize, shard_bytes: u64) -> Result<(), Failure> {
    check_range(offset, size as u64, shard_bytes)?;
    if offset.is_multiple_of(size as u64) {
        return Ok(());
    }
    let message = format!("byte {offset} is not the start of an element of {size} bytes");
    Err(Failure::new(ErrorCode::InvalidArgument, message))
}

/// A value as an operation carries it.
fn value(bytes: &[u8], size: usize) -> Result<[u8; 8], Failure> {
    if bytes.len() != size || size > 8 {
        let message = format!("a value of {} bytes for elements of {size}", bytes.len());
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    let mut value = [0; 8];
    value[..size].copy_from_slice(bytes);
    Ok(value)
}

/// What replicas ask of each other with bulk bytes.
pub(super) async fn peer_bulk(
    data: Arc<DataPlane>,
    kind: Kind,
    peer: Arc<Peer>,
    body: Bytes,
    incoming: BulkReader,
) -> Result<BulkReply, Failure> {
    match kind {
        Kind::StagePayload => data.take_payload(peer.key, body, incoming).await,
        Kind::FetchPayload => data.give_payload(peer.key, &body),
        Kind::SnapshotPages => data.snapshot_pages(peer.key, body).await,
        other => Err(super::wrong_stream(other)),
    }
}
