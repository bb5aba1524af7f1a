//! What a second copy costs: the same writes with one copy and with two, in one run.

use anyhow::{Result, ensure};
use bytes::Bytes;
use holo_client::{Cluster, DType, Unwatched};

use crate::report::Row;
use crate::timing::{Stopwatch, percentile};
use crate::workloads::{gb, less, more};

const BULK_BYTES: usize = 512 << 20;
const ROUNDS: usize = 5;
/// Small reads and writes that are timed one after the other.
const SMALL: u64 = 10_000;

/// Bulk writes and single elements, with two copies and with one.
///
/// # Errors
///
/// Those of the cluster, and bytes that come back changed.
pub(crate) async fn run(cluster: &Cluster, rows: &mut Vec<Row>) -> Result<()> {
    let one = bulk_write(cluster, 1).await?;
    let two = bulk_write(cluster, 2).await?;
    rows.push(more("bulk write 512 MiB, two copies", two, "GB/s", "one copy", one, one * 0.5));

    let array = cluster.array("bench/pairs").shape([1 << 20]).replicas(2);
    let array = array.create::<u64>().await?;
    array.fill(1).await?;
    let (mut reads, mut writes, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..SMALL {
        let index = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (1 << 20);
        let watch = Stopwatch::start();
        array.get(index).await?;
        reads.push(watch.seconds() * 1e6);
        let watch = Stopwatch::start();
        array.set(index, round).await?;
        writes.push(watch.seconds() * 1e6);
        let watch = Stopwatch::start();
        let before = array.fetch_add(index, 1).await?;
        updates.push(watch.seconds() * 1e6);
        ensure!(before == round, "element {index} was {before}, not {round}");
    }
    cluster.remove("bench/pairs").await?;
    let read = percentile(&mut reads, 50);
    let rows_of = [("8-byte write", &mut writes), ("fetch_add", &mut updates)];
    for (what, micros) in rows_of {
        let ours = percentile(micros, 50);
        let what = format!("{what}, two copies, p50");
        rows.push(less(&what, ours, "us", "8-byte get", read, read * 2.2));
    }
    Ok(())
}

/// GB/s of the best of some rounds.
async fn bulk_write(cluster: &Cluster, copies: u32) -> Result<f64> {
    let elems = (BULK_BYTES / 8) as u64;
    let array = cluster.array("bench/copies").shape([elems]).replicas(copies);
    let array = array.create_any(DType::U64).await?;
    let source: Vec<u8> = (0..elems).flat_map(u64::to_le_bytes).collect();
    let source = Bytes::from(source);
    let mut seconds = f64::INFINITY;
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        array.write_shared(0, source.clone(), &Unwatched).await?;
        seconds = seconds.min(watch.seconds());
    }
    let mut back = vec![1u8; BULK_BYTES];
    array.read_into(.., &mut back, &Unwatched).await?;
    ensure!(back == source, "{copies} copies: what was written came back changed");
    cluster.remove("bench/copies").await?;
    Ok(gb(BULK_BYTES) / seconds)
}
