//! Prints what memory costs here: GB/s of the ways bytes go through a shard, next to a plain copy of the same run.
//!
//! `cargo run --release -p holo-mem --example mem_bench [MiB]`

use std::{
    hint::black_box,
    io::{self, Write},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use holo_core::{ArrayId, ArrayLayout, DType, Shape, ShardIndex, TenantId};
use holo_mem::{Arena, MemError, Shard, Store};

const ROUNDS: usize = 5;
const MIB: u64 = 1 << 20;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::disallowed_methods, reason = "a benchmark is a driver: it reads the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// The best of several rounds, in GB/s of `bytes`.
fn best<E>(bytes: u64, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let (result, took) = timed(&mut work);
        result?;
        best = best.min(took);
    }
    Ok(gigabytes_per_second(bytes, best))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn gigabytes_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e9
}

fn stage(shard: &Shard, src: &[u8]) -> Result<(), MemError> {
    let mut staged = shard.stage(0, shard.bytes())?;
    let mut rest = src;
    for buffer in staged.buffers() {
        let (head, tail) = rest.split_at(buffer.len());
        buffer.copy_from_slice(head);
        rest = tail;
    }
    shard.publish(staged)
}

fn main() -> Outcome<()> {
    let mib = std::env::args().nth(1).map_or(Ok(512), |mib| mib.parse::<u64>())?;
    let bytes = mib * MIB;
    let mut out = io::stdout().lock();
    fresh_memory(&mut out, bytes)?;

    let store = Store::new(2 * bytes);
    let layout = ArrayLayout::new(Shape::new(&[bytes / 8])?, DType::F64, 1 << 19)?;
    store.install(TenantId(1), ArrayId(1), &layout, (0..layout.shards()).map(ShardIndex))?;
    let shards = store.array_shards(ArrayId(1));
    let shards: Vec<Arc<Shard>> = shards.into_iter().map(|(_, shard)| shard).collect();
    let shard_bytes = usize::try_from(layout.bytes_in_shard(ShardIndex(0)))?;
    let (src, mut dst) = (vec![1_u8; shard_bytes], vec![2_u8; shard_bytes + 64]);
    // Where a guest's memory or a good buffer would start: copies to odd addresses run at half the speed.
    let aligned = dst.as_ptr().align_offset(64);
    let dst = &mut dst[aligned..aligned + shard_bytes];

    copies(&mut out, bytes, shard_bytes)?;
    let rate = timed(|| shards.iter().try_for_each(|shard| stage(shard, &src)));
    rate.0?;
    writeln!(out, "staged write, fresh   {:8.2} GB/s", gigabytes_per_second(bytes, rate.1))?;
    let rate = best(bytes, || shards.iter().try_for_each(|shard| stage(shard, &src)))?;
    writeln!(out, "staged write, reused  {rate:8.2} GB/s")?;
    let rate = best(bytes, || both_halves(&shards, |shard| stage(shard, &src)))?;
    writeln!(out, "  on two threads      {rate:8.2} GB/s")?;
    let rate = best(bytes, || {
        shards.iter().try_for_each(|shard| {
            shard.read(0, shard_bytes)?.copy_to(dst);
            Ok::<(), MemError>(())
        })
    })?;
    writeln!(out, "read, copied          {rate:8.2} GB/s")?;
    let rate = best(bytes, || {
        shards.iter().try_for_each(|shard| {
            black_box(shard.read(0, shard_bytes)?.to_bytes());
            Ok::<(), MemError>(())
        })
    })?;
    writeln!(out, "read as handles       {rate:8.2} GB/s")?;
    digests(&mut out, bytes, &shards, &src)?;
    small_operations(&mut out, &shards)?;
    let removed = timed(|| {
        drop(shards);
        store.remove(ArrayId(1))
    });
    writeln!(out, "remove                {:8.2} ms", removed.1.as_secs_f64() * 1e3)?;
    let resident = store.usage().resident_bytes;
    let ((), took) = timed(|| store.trim());
    let trimmed = resident - store.usage().resident_bytes;
    writeln!(out, "trim                  {:8.2} GB/s", gigabytes_per_second(trimmed, took))?;
    Ok(())
}

/// What the first touch of memory costs, by page faults and by populating ahead.
fn fresh_memory(out: &mut impl Write, bytes: u64) -> Outcome<()> {
    let arena = Arena::new(bytes)?;
    let (populated, took) = timed(|| arena.prefault(bytes));
    writeln!(out, "populate ahead        {:8.2} GB/s", gigabytes_per_second(populated, took))?;
    drop(arena);
    let arena = Arena::new(bytes)?;
    let (frames, took) = timed(|| {
        let mut frames = Vec::new();
        while let Ok(mut frame) = arena.allocate() {
            frame.fill(1);
            frames.push(frame);
        }
        frames
    });
    writeln!(out, "first touch           {:8.2} GB/s", gigabytes_per_second(bytes, took))?;
    let count = frames.len();
    let ((), took) = timed(|| drop(frames));
    writeln!(out, "return {count} frames    {:8.2} ms", took.as_secs_f64() * 1e3)?;
    let (allocated, took) = timed(|| (0..100_000).filter(|_| arena.allocate().is_ok()).count());
    writeln!(out, "take and return one   {:8.1} ns", nanos_each(took, allocated))?;
    Ok(())
}

/// The yardstick: memcpy of the same run, shard by shard, between warm buffers.
fn copies(out: &mut impl Write, bytes: u64, shard_bytes: usize) -> Outcome<()> {
    let from = vec![3_u8; usize::try_from(bytes)?];
    let mut into = vec![4_u8; shard_bytes];
    let rate = best(bytes, || {
        for chunk in from.chunks_exact(shard_bytes) {
            black_box(&mut into).copy_from_slice(chunk);
        }
        Ok::<(), MemError>(())
    })?;
    writeln!(out, "memcpy, read side     {rate:8.2} GB/s")?;
    let mut all = from;
    let rate = best(bytes, || {
        for chunk in all.chunks_exact_mut(shard_bytes) {
            chunk.copy_from_slice(black_box(&into));
        }
        Ok::<(), MemError>(())
    })?;
    writeln!(out, "memcpy, write side    {rate:8.2} GB/s")?;
    Ok(())
}

fn digests(out: &mut impl Write, bytes: u64, shards: &[Arc<Shard>], src: &[u8]) -> Outcome<()> {
    let digest = || {
        shards.iter().try_for_each(|shard| {
            black_box(shard.read(0, src.len())?.digests());
            Ok::<(), MemError>(())
        })
    };
    let (first, took) = timed(digest);
    first?;
    writeln!(out, "digest, first         {:8.2} GB/s", gigabytes_per_second(bytes, took))?;
    writeln!(out, "digest, cached        {:8.2} GB/s", best(bytes, digest)?)?;
    Ok(())
}

fn small_operations(out: &mut impl Write, shards: &[Arc<Shard>]) -> Outcome<()> {
    const COUNT: u64 = 1_000_000;
    let Some(shard) = shards.first() else { return Ok(()) };
    let offset = |i: u64| (i * 8 * 7919) % (shard.bytes() - 8);
    let mut element = [0; 8];
    let (result, took) =
        timed(|| (0..COUNT).try_for_each(|i| shard.read_into(offset(i), &mut element)));
    result?;
    writeln!(out, "read 8 bytes          {:8.1} ns", nanos_each(took, 1_000_000))?;
    let (result, took) = timed(|| (0..COUNT).try_for_each(|i| shard.write(offset(i), &[1; 8])));
    result?;
    writeln!(out, "write 8 bytes         {:8.1} ns", nanos_each(took, 1_000_000))?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn nanos_each(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1e9 / count.max(1) as f64
}

fn both_halves(
    shards: &[Arc<Shard>],
    work: impl Fn(&Shard) -> Result<(), MemError> + Sync,
) -> Result<(), MemError> {
    let (left, right) = shards.split_at(shards.len() / 2);
    let half = |shards: &[Arc<Shard>]| shards.iter().try_for_each(|shard| work(shard));
    thread::scope(|scope| {
        let other = scope.spawn(|| half(left));
        half(right)?;
        other.join().unwrap_or(Ok(()))
    })
}
