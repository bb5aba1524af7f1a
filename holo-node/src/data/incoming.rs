//! Bulk bytes on their way into pages, without holding up the thread that serves the network: memory that nobody has
//! touched yet is slow, and hashing reads all of it again.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join;
use holo_core::{Failure, TileSink};
use holo_mem::{Shard, Staged};
use holo_net::BulkReader;

use crate::workers::blocking;

/// Up to so many bytes are copied and hashed on the spot: another thread would cost more.
const AT_ONCE: u64 = 64 << 10;
/// Bytes that are copied and hashed in one go, while the next ones arrive.
const BATCH_BYTES: usize = 1 << 20;

/// Takes all that is left of `incoming` as the bytes from `offset` on, and compares it with `digests`, 32 bytes a page.
///
/// # Errors
///
/// Those of the network, of [`Shard::stage`] and of [`Staged::verify`].
pub(crate) async fn stage(
    shard: Arc<Shard>,
    offset: u64,
    digests: Bytes,
    incoming: &mut BulkReader,
) -> Result<Staged, Failure> {
    let len = incoming.remaining();
    if len <= AT_ONCE {
        let mut staged = shard.stage(offset, len)?;
        for buffer in staged.buffers() {
            incoming.read_exact(buffer).await?;
        }
        staged.verify(&digests)?;
        return Ok(staged);
    }
    let (mut staged, mut place) = (None, offset);
    let mut batch = next_batch(incoming).await?;
    loop {
        let start = place;
        place += batch.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let expected = (place == offset + len).then(|| digests.clone());
        let (shard, before) = (Arc::clone(&shard), staged.take());
        // One hand-over per batch does all of its work while its bytes are in the processor's cache.
        let filling = blocking(move || {
            let mut staged = before.map_or_else(|| shard.stage(offset, len), Ok)?;
            let mut place = start;
            for chunk in batch {
                staged.copy_from(place, &chunk);
                place += chunk.len() as u64;
            }
            match expected {
                Some(expected) => staged.verify(&expected)?,
                None => staged.hash_written(),
            }
            Ok(staged)
        });
        let (filled, next) = join(filling, next_batch(incoming)).await;
        batch = next?;
        if batch.is_empty() {
            return filled;
        }
        staged = Some(filled?);
    }
}

/// What comes next, up to a batch; nothing at the end.
async fn next_batch(incoming: &mut BulkReader) -> Result<Vec<Bytes>, Failure> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(chunk) = incoming.chunk().await? else { break };
        bytes += chunk.len();
        batch.push(chunk);
    }
    Ok(batch)
}
