//! Writers that go on whatever happens to nodes, and know what must be in their array.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holo_client::{Cluster, SharedArray};
use tokio::task::JoinSet;

use crate::harness::until;

/// Shards of the array, enough that every node leads some.
const SHARDS: u64 = 24;
/// Elements of a shard: a page and a bit.
const SHARD: u64 = 9_000;
const WRITERS: u64 = 3;
/// Elements that a writer writes in one piece, across pages; too many to travel inside a log entry.
const BLOCK: u64 = 2_000;

/// Writers of one array, which is theirs alone.
pub(crate) struct Load {
    writers: JoinSet<u64>,
    rounds: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

/// What the writers were told, element by element.
pub(crate) struct Ledger {
    /// Rounds that each writer finished, each of them in the shard after the last one's.
    rounds: Vec<u64>,
}

impl Load {
    /// Makes the array and starts to write.
    pub(crate) async fn begin(cluster: &Cluster, name: &str) -> Self {
        let array = cluster.array(name).shape([SHARDS * SHARD]).shard_elems(SHARD).replicas(2);
        let array = array.create::<i64>().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut writers, mut rounds) = (JoinSet::new(), Vec::new());
        for writer in 0..WRITERS {
            let done = Arc::new(AtomicU64::new(0));
            writers.spawn(write(array.clone(), writer, Arc::clone(&done), Arc::clone(&stop)));
            rounds.push(done);
        }
        Self { writers, rounds, stop }
    }

    /// Waits until every writer has written to every shard once more from here on.
    pub(crate) async fn once_around(&mut self) {
        let done = |rounds: &[Arc<AtomicU64>]| -> Vec<u64> {
            rounds.iter().map(|done| done.load(Ordering::SeqCst)).collect()
        };
        let before = done(&self.rounds);
        until("every writer has been in every shard", async || {
            if let Some(ended) = self.writers.try_join_next() {
                panic!("a writer ended: {ended:?}");
            }
            let now = done(&self.rounds);
            now.iter().zip(&before).all(|(now, before)| *now > before + SHARDS).then_some(())
        })
        .await;
    }

    /// Lets the writers finish their rounds.
    pub(crate) async fn end(mut self) -> Ledger {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
        let rounds = self.rounds.iter().map(|done| done.load(Ordering::SeqCst)).collect();
        Ledger { rounds }
    }
}

impl Ledger {
    /// Reads everything back.
    pub(crate) async fn check(&self, array: &SharedArray<i64>) {
        let values = array.read(..).await.unwrap();
        let at = |element: u64| values[usize::try_from(element).unwrap()];
        for shard in 0..SHARDS {
            let first = shard * SHARD;
            let in_shard = |rounds: &u64| (rounds + SHARDS - 1 - shard) / SHARDS;
            let adds: u64 = self.rounds.iter().map(in_shard).sum();
            assert_eq!(at(first), adds.cast_signed(), "additions in shard {shard}");
            for (writer, rounds) in (0..).zip(&self.rounds) {
                let last = match in_shard(rounds) {
                    0 => 0,
                    times => number(shard + (times - 1) * SHARDS),
                };
                assert_eq!(at(own(shard, writer)), last, "writer {writer} in shard {shard}");
                for element in block(shard, writer) {
                    assert_eq!(at(element), last, "writer {writer}, element {element}");
                }
            }
        }
    }
}

/// Writes until it shall stop; returns the number of its rounds.
async fn write(
    array: SharedArray<i64>,
    writer: u64,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let (shard, value) = (round % SHARDS, number(round));
        let before = array.fetch_add(shard * SHARD, 1).await.unwrap();
        let own_adds = round / SHARDS;
        assert!(before >= own_adds.cast_signed(), "{before} after {own_adds} of one writer");
        array.set(own(shard, writer), value).await.unwrap();
        let block = block(shard, writer);
        array.write(block.start, &vec![value; usize::try_from(BLOCK).unwrap()]).await.unwrap();
        // Whoever was told that it is written reads it.
        assert_eq!(array.get(own(shard, writer)).await.unwrap(), value, "round {round}");
        assert_eq!(array.get(block.end - 1).await.unwrap(), value, "round {round}");
        round += 1;
        done.store(round, Ordering::SeqCst);
    }
    round
}

/// What is written in a round: never zero.
fn number(round: u64) -> i64 {
    round.cast_signed() + 1
}

/// The element of a shard that only this writer sets.
fn own(shard: u64, writer: u64) -> u64 {
    shard * SHARD + 1 + writer
}

/// The elements of a shard that only this writer writes; those of the last one end in the second page.
fn block(shard: u64, writer: u64) -> std::ops::Range<u64> {
    let start = shard * SHARD + 2_800 + writer * BLOCK;
    start..start + BLOCK
}
