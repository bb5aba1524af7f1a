//! Frozen states of groups: a learner compares its pages with them and fetches what differs.
//!
//! Freezing costs a handle per page; later writes copy the pages that they change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use holo_core::replication::{GroupId, Input, LogPosition, NodeNumber, ReplicaId, SnapshotId};
use holo_core::wire::{
    Decode, Empty, GroupBody, Kind, ShardPages, SnapshotIndex, SnapshotPages, SnapshotQuery,
};
use holo_core::{ArrayId, ErrorCode, Failure, PAGE_BYTES, PublicKey, ShardIndex, limits};
use holo_mem::{MemError, PageRun, Shard, ShardSnapshot};
use holo_net::{BulkReply, Connection};
use prost::Message;
use tokio::task::JoinSet;

use super::incoming::stage;
use super::payloads::request;
use super::{DataPlane, FetchId};
use crate::workers::blocking;

/// How long one request of a copy may take.
const COPY_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of page digests in one part of an index.
const INDEX_BYTES: usize = 512 << 10;
/// Bytes of pages that are fetched in one request.
const RUN_BYTES: u64 = 2 << 20;

const PAGE: u64 = PAGE_BYTES as u64;

/// All shards of a group as they were at one moment.
#[derive(Debug)]
pub(crate) struct Frozen {
    shards: Vec<(ArrayId, ShardIndex, ShardSnapshot)>,
}

impl Frozen {
    /// The shards as they are now.
    pub(crate) fn of(shards: &[(ArrayId, ShardIndex, Arc<Shard>)]) -> Self {
        let frozen = shards.iter().map(|(array, index, shard)| (*array, *index, shard.snapshot()));
        Self { shards: frozen.collect() }
    }

    /// Visits every page that somebody wrote.
    pub(crate) fn for_each_page(
        &self,
        mut visit: impl FnMut(ArrayId, ShardIndex, u32, &PageRun) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for (array, shard, snapshot) in &self.shards {
            for (page, written) in (0u32..).zip(snapshot.written()) {
                if written {
                    visit(*array, *shard, page, &read_page(snapshot, page)?)?;
                }
            }
        }
        Ok(())
    }

    /// The contents of the shards after the first `after`, as many as go into one part.
    fn index(&self, after: u64) -> Result<SnapshotIndex, Failure> {
        let after = usize::try_from(after).unwrap_or(usize::MAX).min(self.shards.len());
        let (mut shards, mut bytes) = (Vec::new(), 0);
        let mut rest = self.shards[after..].iter();
        for (array, index, snapshot) in rest.by_ref() {
            let pages = pages_of(*array, *index, snapshot)?;
            bytes += 16 + pages.digests.len() + 4 * pages.pages.len();
            shards.push(pages);
            if bytes >= INDEX_BYTES {
                break;
            }
        }
        Ok(SnapshotIndex { shards, more: rest.len() > 0 })
    }

    fn find(&self, array: ArrayId, shard: ShardIndex) -> Option<&ShardSnapshot> {
        let found = self.shards.iter().find(|(of, index, _)| (*of, *index) == (array, shard));
        found.map(|(_, _, snapshot)| snapshot)
    }
}

/// What a learner fetches, and from whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetch {
    pub(super) id: FetchId,
    pub(super) group: GroupId,
    pub(super) from: ReplicaId,
    pub(super) snapshot: SnapshotId,
    pub(super) at: LogPosition,
}

impl DataPlane {
    /// Tells a learner what a frozen state contains.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for no member of the cluster and for no replica of the group, [`ErrorCode::NotFound`] when
    /// the state is not kept any more.
    pub(crate) async fn snapshot_index(
        self: Arc<Self>,
        key: PublicKey,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let node = self.member(key)?;
        let query = SnapshotQuery::decode_body(&body)?;
        let frozen = self.frozen(node, query.group, query.snapshot).await?;
        let index = blocking(move || frozen.index(query.after)).await?;
        Ok(Bytes::from(index.encode_to_vec()))
    }

    /// Gives a learner pages of a frozen state.
    ///
    /// # Errors
    ///
    /// As [`Self::snapshot_index`]; [`ErrorCode::TooLarge`], [`ErrorCode::OutOfRange`].
    pub(crate) async fn snapshot_pages(
        self: Arc<Self>,
        key: PublicKey,
        body: Bytes,
    ) -> Result<BulkReply, Failure> {
        let node = self.member(key)?;
        let query = SnapshotPages::decode_body(&body)?;
        let frozen = self.frozen(node, query.group, query.snapshot).await?;
        let (array, shard) = (ArrayId(query.array), ShardIndex(query.shard));
        let snapshot = frozen.find(array, shard).ok_or_else(|| {
            let message = format!("shard {shard} of array #{array} is not in the frozen state");
            Failure::new(ErrorCode::NotFound, message)
        })?;
        let len = usize::try_from(query.len)
            .ok()
            .filter(|len| *len as u64 <= limits::SHARD_BYTES_MAX)
            .ok_or_else(|| Failure::new(ErrorCode::TooLarge, format!("{} bytes", query.len)))?;
        let run = snapshot.read(query.offset, len)?;
        self.copied.fetch_add(len as u64, Ordering::Relaxed);
        Ok(BulkReply { body: Bytes::from(Empty {}.encode_to_vec()), bulk: run.to_bytes() })
    }

    /// Makes the shards of a group what they are in a frozen state of another replica.
    pub(super) async fn fetch_snapshot(self: Arc<Self>, fetch: Fetch) {
        let Fetch { id, group, from, at, .. } = fetch;
        // Where it ends with this task.
        let mut copying = JoinSet::new();
        copying.spawn_on(Arc::clone(&self).copy_in_background(fetch), &self.background);
        let copied = copying.join_next().await.and_then(Result::ok).unwrap_or_else(|| {
            Err(Failure::new(ErrorCode::Internal, "a copy ended without an outcome"))
        });
        let input = match copied {
            Ok((bytes, was_kept)) => {
                tracing::debug!(%group, %from, bytes, "copied");
                if was_kept {
                    self.forget_kept(group).await;
                }
                Input::SnapshotFetched { group, at }
            }
            Err(failure) => {
                tracing::debug!(%group, %from, code = %failure.code, message = %failure.message, "not copied");
                Input::SnapshotFailed { group }
            }
        };
        self.with_machine(|machine, now| {
            if machine.fetching.get(&group) != Some(&id) {
                return;
            }
            machine.fetching.remove(&group);
            if let Err(failure) = machine.host.handle_input(now, input) {
                // The group has gone on without this copy.
                tracing::debug!(%group, code = %failure.code, "a copy came too late");
            }
        });
    }

    /// Does what needs the lock of the machine where users are served: a thread that stands back could be kept waiting
    /// while it holds the lock, and everybody else with it.
    async fn foreground<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let plane = Arc::clone(self);
        let working = self.runtime.spawn(async move { work(&plane) });
        let ended = |_| Failure::new(ErrorCode::ShuttingDown, "the node is stopping");
        working.await.map_err(ended)?
    }

    /// Touches pages, unless this fetch was overtaken. Under the lock of the machine, so that nothing comes between.
    pub(super) async fn while_current<T: Send + 'static>(
        self: &Arc<Self>,
        fetch: Fetch,
        touch: impl FnOnce() -> Result<T, MemError> + Send + 'static,
    ) -> Result<T, Failure> {
        let touching = self.foreground(move |plane| {
            let machine = plane.machine.lock();
            if machine.fetching.get(&fetch.group) != Some(&fetch.id) {
                let message = format!("the copy of group {} was overtaken by another", fetch.group);
                return Err(Failure::new(ErrorCode::Cancelled, message));
            }
            Ok(touch()?)
        });
        touching.await
    }

    /// Copies what differs from what is kept here; gives the number of bytes that travelled, and whether anything was.
    async fn copy_in_background(self: Arc<Self>, fetch: Fetch) -> Result<(u64, bool), Failure> {
        let was_kept = self.start_with_kept(fetch).await;
        // Not before: nothing keeps it alive meanwhile.
        let link = self.control.background_link(fetch.from.node).await?;
        Ok((self.copy(&link, fetch).await?, was_kept))
    }

    /// Copies what differs; gives the number of bytes that travelled.
    async fn copy(self: &Arc<Self>, link: &Connection, fetch: Fetch) -> Result<u64, Failure> {
        let Fetch { group, snapshot, .. } = fetch;
        let (mut seen, mut bytes) = (0, 0);
        let mut here = self.arrays.shards_of_group(group);
        loop {
            let query =
                SnapshotQuery { group: Some(group.into()), snapshot: snapshot.0, after: seen };
            let body = Bytes::from(query.encode_to_vec());
            let answer = link.call(request(Kind::SnapshotIndex, COPY_DEADLINE, body)).await?;
            let index = SnapshotIndex::decode_body(&answer)?;
            seen += index.shards.len() as u64;
            let more = index.more && !index.shards.is_empty();
            for pages in index.shards {
                let name = (ArrayId(pages.array), ShardIndex(pages.shard));
                let found = here.iter().position(|(array, shard, _)| (*array, *shard) == name);
                let Some(found) = found else {
                    if self.arrays.has_heard_of(name.0)
                        && self.arrays.pages(name.0, name.1).is_none()
                        && self.arrays.group_of(name.0, name.1).is_none()
                    {
                        // Removed meanwhile.
                        continue;
                    }
                    let message = format!("shard {} of array #{} is not here yet", name.1, name.0);
                    return Err(Failure::new(ErrorCode::NotFound, message));
                };
                let (_, _, shard) = here.swap_remove(found);
                bytes += self.copy_shard(link, fetch, &pages, &shard).await?;
            }
            if !more {
                break;
            }
        }
        // What the frozen state does not have, nobody wrote before it.
        for (_, _, shard) in here {
            let clearing = self.while_current(fetch, move || {
                shard.clear();
                Ok(())
            });
            clearing.await?;
        }
        Ok(bytes)
    }

    async fn copy_shard(
        self: &Arc<Self>,
        link: &Connection,
        fetch: Fetch,
        wanted: &ShardPages,
        shard: &Arc<Shard>,
    ) -> Result<u64, Failure> {
        let (array, index, here) =
            (ArrayId(wanted.array), ShardIndex(wanted.shard), shard.snapshot());
        let own = blocking(move || pages_of(array, index, &here)).await?;
        if own.pages == wanted.pages && own.digests == wanted.digests {
            return Ok(0);
        }
        let (digests, rest) = wanted.digests.as_chunks::<32>();
        let ascending = wanted.pages.windows(2).all(|pair| pair[0] < pair[1]);
        let past = wanted.pages.last().is_some_and(|last| u64::from(*last) * PAGE >= shard.bytes());
        if digests.len() != wanted.pages.len() || !rest.is_empty() || !ascending || past {
            return Err(Failure::new(ErrorCode::Malformed, "the pages of a frozen shard"));
        }
        let (own_digests, _) = own.digests.as_chunks::<32>();
        if own.pages.iter().any(|page| wanted.pages.binary_search(page).is_err()) {
            // Something is zero there that is not zero here.
            let shard = Arc::clone(shard);
            let clearing = self.while_current(fetch, move || {
                shard.clear();
                Ok(())
            });
            clearing.await?;
        }
        let differs = |page: u32, digest: &[u8; 32]| {
            let same = own.pages.binary_search(&page).ok().and_then(|at| own_digests.get(at));
            same != Some(digest)
        };
        let cleared = shard.used_frames() == 0;
        let missing = wanted.pages.iter().zip(digests);
        let missing = missing.filter(|(page, digest)| cleared || differs(**page, digest));
        let mut bytes = 0;
        for run in runs(missing.map(|(page, digest)| (*page, *digest))) {
            bytes += self.copy_run(link, fetch, wanted, shard, &run).await?;
        }
        Ok(bytes)
    }

    async fn copy_run(
        self: &Arc<Self>,
        link: &Connection,
        fetch: Fetch,
        wanted: &ShardPages,
        shard: &Arc<Shard>,
        run: &PageRange,
    ) -> Result<u64, Failure> {
        let offset = u64::from(run.first) * PAGE;
        let len = (run.digests.len() as u64 * PAGE).min(shard.bytes() - offset);
        let query = SnapshotPages {
            group: Some(fetch.group.into()),
            snapshot: fetch.snapshot.0,
            array: wanted.array,
            shard: wanted.shard,
            offset,
            len,
        };
        let body = Bytes::from(query.encode_to_vec());
        let asked = request(Kind::SnapshotPages, COPY_DEADLINE, body);
        let (_, mut incoming) = link.bulk(asked, Vec::new()).await?;
        if incoming.remaining() != len {
            let message = format!("{} bytes of pages instead of {len}", incoming.remaining());
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        let digests = Bytes::copy_from_slice(run.digests.as_flattened());
        let staged = stage(Arc::clone(shard), offset, digests, &mut incoming).await?;
        let shard = Arc::clone(shard);
        self.while_current(fetch, move || shard.publish(staged)).await?;
        self.fetched.fetch_add(len, Ordering::Relaxed);
        Ok(len)
    }

    /// A frozen state for the replica of the group on `node`.
    async fn frozen(
        self: &Arc<Self>,
        node: NodeNumber,
        group: Option<GroupBody>,
        snapshot: u64,
    ) -> Result<Arc<Frozen>, Failure> {
        let group = GroupBody::checked(group)?;
        let finding = self.foreground(move |plane| {
            plane.check_holder(node, group)?;
            let machine = plane.machine.lock();
            machine.frozen.get(&(group, SnapshotId(snapshot))).cloned().ok_or_else(|| {
                let message = format!("frozen state {snapshot} of group {group}");
                Failure::new(ErrorCode::NotFound, message)
            })
        });
        finding.await
    }
}

/// Consecutive pages with their digests.
struct PageRange {
    first: u32,
    digests: Vec<[u8; 32]>,
}

/// Joins neighbours, up to [`RUN_BYTES`] a run.
fn runs(pages: impl Iterator<Item = (u32, [u8; 32])>) -> Vec<PageRange> {
    let mut runs: Vec<PageRange> = Vec::new();
    for (page, digest) in pages {
        let next = runs.last_mut().filter(|run| {
            let len = run.digests.len() as u64;
            u64::from(run.first) + len == u64::from(page) && (len + 1) * PAGE <= RUN_BYTES
        });
        match next {
            Some(run) => run.digests.push(digest),
            None => runs.push(PageRange { first: page, digests: vec![digest] }),
        }
    }
    runs
}

/// The pages of a shard that somebody wrote, with their digests.
fn pages_of(
    array: ArrayId,
    index: ShardIndex,
    snapshot: &ShardSnapshot,
) -> Result<ShardPages, Failure> {
    let (mut pages, mut digests) = (Vec::new(), Vec::new());
    for (page, written) in (0u32..).zip(snapshot.written()) {
        if written {
            digests.extend(read_page(snapshot, page)?.digests());
            pages.push(page);
        }
    }
    Ok(ShardPages { array: array.0, shard: index.0, pages, digests: Bytes::from(digests) })
}

fn read_page(snapshot: &ShardSnapshot, page: u32) -> Result<PageRun, MemError> {
    let offset = u64::from(page) * PAGE;
    let left = snapshot.bytes().saturating_sub(offset);
    snapshot.read(offset, PAGE_BYTES.min(usize::try_from(left).unwrap_or(PAGE_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_travel_together_up_to_a_bound() {
        let pages = [1, 2, 3, 7, 9, 10].map(|page| (page, [0; 32]));
        let joined: Vec<(u32, usize)> =
            runs(pages.into_iter()).iter().map(|run| (run.first, run.digests.len())).collect();
        assert_eq!(joined, [(1, 3), (7, 1), (9, 2)]);
        let many = runs((0..80).map(|page| (page, [0; 32])));
        assert_eq!(many.iter().map(|run| run.digests.len()).collect::<Vec<_>>(), [32, 32, 16]);
    }
}
