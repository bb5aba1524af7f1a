//! Moving ranges of elements between memory of ours and the nodes.
//!
//! A range is cut at shard borders. A short piece is one small request; a long one has a stream of its own, with a
//! BLAKE3 digest for each page, checked as the page arrives, straight in its place in the caller's memory. Several
//! pieces are under way at the same time.

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;

use holo_core::ArrayDescriptor;
use holo_core::wire::{
    Decode, Empty, FillRange, GetRange, GetReply, Kind, PageDigests, PutRange, WriteShard,
};
use holo_core::{ErrorCode, Failure, PAGE_BYTES, ShardRun, limits};

use crate::call::{Call, Deadline};
use crate::retry::{Attempts, Effect};
use crate::segments::{self, DIGEST_BYTES};
use crate::session::{Session, request};
use crate::views::{Route, Target};
use crate::{Progress, Result, Unwatched};

/// Reads `elems` of an array into `dst`, which has exactly their bytes.
pub(crate) async fn read(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    elems: Range<u64>,
    dst: &mut [u8],
    progress: &dyn Progress,
) -> Result<()> {
    let mut rest = dst;
    let mut under_way = FuturesUnordered::new();
    for run in array.layout.shard_runs(elems)? {
        let len = bytes_of(&run)?;
        if len > rest.len() {
            return Err(wrong_length(rest.len(), len).into());
        }
        let (piece, after) = rest.split_at_mut(len);
        rest = after;
        if under_way.len() >= call.session().options().in_flight() {
            finish_one(&mut under_way, array, progress).await?;
        }
        under_way.push(read_run(call, array, run, piece));
    }
    while !under_way.is_empty() {
        finish_one(&mut under_way, array, progress).await?;
    }
    Ok(())
}

/// Writes `src` over `elems` of an array, whose bytes it has exactly.
pub(crate) async fn write(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    elems: Range<u64>,
    src: Source<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let mut start = 0;
    let mut under_way = FuturesUnordered::new();
    for run in array.layout.shard_runs(elems)? {
        let end = start + bytes_of(&run)?;
        if end > src.len() {
            return Err(wrong_length(src.len(), end).into());
        }
        if under_way.len() >= call.session().options().in_flight() {
            finish_one(&mut under_way, array, progress).await?;
        }
        // The one copy of borrowed bytes is made here, a few shards ahead of the network and not all at once.
        under_way.push(write_run(call, array, run, src.part(start..end)));
        start = end;
    }
    while !under_way.is_empty() {
        finish_one(&mut under_way, array, progress).await?;
    }
    Ok(())
}

/// Bytes to write.
#[derive(Clone, Debug)]
pub(crate) enum Source<'a> {
    /// The caller keeps them: each piece is copied once.
    Borrowed(&'a [u8]),
    /// Ours: nothing is copied.
    Shared(Bytes),
}

impl Source<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    fn part(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(&bytes[range]),
            Self::Shared(bytes) => bytes.slice(range),
        }
    }
}

async fn finish_one(
    under_way: &mut FuturesUnordered<impl Future<Output = Result<u64, Failure>>>,
    array: &ArrayDescriptor,
    progress: &dyn Progress,
) -> Result<()> {
    match under_way.next().await {
        Some(Ok(bytes)) => {
            progress.advanced(bytes);
            Ok(())
        }
        Some(Err(failure)) => Err(failure.context(format!("array {}", array.name)).into()),
        None => Ok(()),
    }
}

async fn read_run(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    run: ShardRun,
    dst: &mut [u8],
) -> Result<u64, Failure> {
    let (session, target) = (call.session(), Target::Shard(array, run.shard));
    let deadline = call.deadline();
    let range =
        GetRange { array: array.id.0, shard: run.shard.0, offset: run.byte, len: run.bytes };
    if dst.len() <= limits::INLINE_BYTES_MAX {
        let reply: GetReply =
            session.call(target, Kind::Get, Effect::Read, &range, deadline).await?;
        if reply.data.len() != dst.len() {
            return Err(wrong_length(dst.len(), reply.data.len()));
        }
        dst.copy_from_slice(&reply.data);
        return Ok(run.bytes);
    }
    let body = Bytes::from(range.encode_to_vec());
    let mut attempts = Attempts::new(Effect::Read);
    loop {
        let read = match session.route(target) {
            Ok(route) => {
                let work = read_bulk(session, &route, body.clone(), run.byte, dst, deadline);
                session.watch(&route, target, work).await
            }
            Err(failure) => Err(failure),
        };
        match read {
            Ok(()) => return Ok(run.bytes),
            Err(failure) => session.recover(&mut attempts, failure, deadline).await?,
        }
    }
}

async fn read_bulk(
    session: &Session,
    route: &Route,
    body: Bytes,
    offset: u64,
    dst: &mut [u8],
    deadline: Deadline,
) -> Result<(), Failure> {
    let connection = session.link(route, deadline).await?;
    let request = request(Kind::ReadShard, route, body, deadline)?;
    let (head, mut bytes) = connection.bulk(request, Vec::new()).await?;
    let digests = PageDigests::decode_body(&head)?.digests;
    segments::check_digest_count(offset, dst.len(), &digests)?;
    let sent = usize::try_from(bytes.remaining()).unwrap_or(usize::MAX);
    if sent != dst.len() {
        return Err(wrong_length(dst.len(), sent));
    }
    let mut rest = dst;
    let parts = segments::page_parts(offset, rest.len());
    for (page, (part, digest)) in parts.zip(digests.chunks_exact(DIGEST_BYTES)).enumerate() {
        let (here, after) = rest.split_at_mut(part);
        bytes.read_exact(here).await?;
        segments::verify(page, here, digest)?;
        rest = after;
    }
    Ok(())
}

/// Writes the bytes of one run. Every attempt names the same key, so that it happens once, whoever is the primary.
async fn write_run(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    run: ShardRun,
    data: Bytes,
) -> Result<u64, Failure> {
    let (session, target) = (call.session(), Target::Shard(array, run.shard));
    let deadline = call.deadline();
    let key = session.keys().take(session, deadline).await?;
    let (array, shard, offset) = (array.id.0, run.shard.0, run.byte);
    let written = if data.len() <= limits::INLINE_BYTES_MAX {
        let put = PutRange { array, shard, offset, data, key: Some(key.body()) };
        let put = session.call::<Empty>(target, Kind::Put, Effect::Keyed, &put, deadline).await;
        put.map(|Empty {}| ())
    } else {
        let digests = Bytes::from(segments::digests(run.byte, &data));
        let head = WriteShard { array, shard, offset, digests, key: Some(key.body()) };
        write_bulk(session, target, &Bytes::from(head.encode_to_vec()), &data, deadline).await
    };
    key.conclude(&written);
    written.map(|()| run.bytes)
}

async fn write_bulk(
    session: &Session,
    target: Target<'_>,
    head: &Bytes,
    data: &Bytes,
    deadline: Deadline,
) -> Result<(), Failure> {
    let mut attempts = Attempts::new(Effect::Keyed);
    loop {
        let written = match session.route(target) {
            Ok(route) => {
                let work = write_once(session, &route, head, data, deadline, &mut attempts);
                session.watch(&route, target, work).await
            }
            Err(failure) => Err(failure),
        };
        match written {
            Ok(()) => return Ok(()),
            Err(failure) => session.recover(&mut attempts, failure, deadline).await?,
        }
    }
}

async fn write_once(
    session: &Session,
    route: &Route,
    head: &Bytes,
    data: &Bytes,
    deadline: Deadline,
    attempts: &mut Attempts,
) -> Result<(), Failure> {
    let connection = session.link(route, deadline).await?;
    let request = request(Kind::WriteShard, route, head.clone(), deadline)?;
    attempts.sending();
    let (reply, _nothing) = connection.bulk(request, pages_of(data.clone())).await?;
    Empty::decode_body(&reply).map(|Empty {}| ())
}

/// Sets `elems` of an array to one value, whose little-endian bytes these are: nothing but the value travels.
pub(crate) async fn fill(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    elems: Range<u64>,
    value: &[u8],
) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    for run in array.layout.shard_runs(elems)? {
        if under_way.len() >= call.session().options().in_flight() {
            finish_one(&mut under_way, array, &Unwatched).await?;
        }
        under_way.push(fill_run(call, array, run, value));
    }
    while !under_way.is_empty() {
        finish_one(&mut under_way, array, &Unwatched).await?;
    }
    Ok(())
}

async fn fill_run(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    run: ShardRun,
    value: &[u8],
) -> Result<u64, Failure> {
    let (session, deadline) = (call.session(), call.deadline());
    let key = session.keys().take(session, deadline).await?;
    let fill = FillRange {
        array: array.id.0,
        shard: run.shard.0,
        offset: run.byte,
        len: run.bytes,
        value: value.to_vec(),
        key: Some(key.body()),
    };
    let target = Target::Shard(array, run.shard);
    let filled = session.call::<Empty>(target, Kind::Fill, Effect::Keyed, &fill, deadline).await;
    key.conclude(&filled);
    filled.map(|Empty {}| run.bytes)
}

/// Pieces of a payload: parts of one allocation, a page or so each, so that none holds the link for long.
fn pages_of(mut data: Bytes) -> Vec<Bytes> {
    let mut pages = Vec::with_capacity(data.len() / PAGE_BYTES + 1);
    while data.len() > PAGE_BYTES {
        pages.push(data.split_to(PAGE_BYTES));
    }
    pages.push(data);
    pages
}

fn bytes_of(run: &ShardRun) -> Result<usize, Failure> {
    usize::try_from(run.bytes).map_err(|source| {
        Failure::new(ErrorCode::TooLarge, format!("{} bytes in one shard: {source}", run.bytes))
    })
}

fn wrong_length(expected: usize, got: usize) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("{got} bytes where {expected} were expected"))
}
