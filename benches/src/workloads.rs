//! The workloads: three nodes and one client on one machine, warm, one copy of each array.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use holo_client::{AnyArray, Cluster, DType, Progress, Unwatched};

use crate::references::References;
use crate::report::Row;
use crate::timing::{Stopwatch, pause_ms, percentile};

/// Elements of a page of `float64`.
const PAGE_ELEMS: u64 = 8192;
/// Bytes of a bulk transfer.
const BULK_BYTES: usize = 1 << 30;
/// Requests in flight for the throughput figures.
const IN_FLIGHT: usize = 64;
/// Rounds whose best is reported for work on whole arrays.
const ROUNDS: usize = 5;

const NO_OP: &str = r#"(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32) i32.const 0))"#;

/// One GiB there and back.
///
/// # Errors
///
/// Those of the cluster, and bytes that come back changed.
pub(crate) async fn bulk(
    cluster: &Cluster,
    references: &References,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let elems = (BULK_BYTES / 8) as u64;
    let array =
        cluster.array("bench/bulk").shape([elems]).replicas(1).create_any(DType::F64).await?;
    let source: Vec<u8> = (0..BULK_BYTES / 8).flat_map(|i| (i as u64).to_le_bytes()).collect();
    let source = Bytes::from(source);
    let mut back = vec![1u8; BULK_BYTES];
    let (mut write, mut read) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        array.write_shared(0, source.clone(), &Unwatched).await?;
        write = write.min(watch.seconds());
        let watch = Stopwatch::start();
        array.read_into(.., &mut back, &Unwatched).await?;
        read = read.min(watch.seconds());
    }
    ensure!(back == source, "1 GiB came back changed");
    cluster.remove("bench/bulk").await?;
    let tcp = references.tcp_gb_per_s;
    rows.push(more("bulk write 1 GiB", gb(BULK_BYTES) / write, "GB/s", "plain TCP", tcp, 3.0));
    rows.push(more("bulk read 1 GiB", gb(BULK_BYTES) / read, "GB/s", "plain TCP", tcp, 3.5));
    Ok(())
}

/// Single elements and single pages.
///
/// # Errors
///
/// Those of the cluster.
pub(crate) async fn small(
    cluster: &Cluster,
    references: &References,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let elems = PAGE_ELEMS * 64 * 16;
    let array =
        cluster.array("bench/small").shape([elems]).replicas(1).create_any(DType::F64).await?;
    cluster.expr("y = float64(i)").output("y", &array).run().await?;

    let get = latency(&array, elems, 1, 20_000).await?;
    let ping = references.tcp_ping_us;
    rows.push(less("8-byte get, p50", get, "us", "TCP ping-pong", ping, 65.0));
    let per_second = throughput(&array, elems, 1, 300_000).await?;
    rows.push(more("8-byte gets, 64 in flight", per_second, "1/s", "", 0.0, 350_000.0));

    let page = latency(&array, elems, PAGE_ELEMS, 4_000).await?;
    rows.push(less("64 KiB page read, p50", page, "us", "TCP ping-pong", ping, 95.0));
    let pages = throughput(&array, elems, PAGE_ELEMS, 40_000).await?;
    let rate = pages * 65_536.0 / 1e9;
    rows.push(more(
        "64 KiB page reads, 64 in flight",
        rate,
        "GB/s",
        "plain TCP",
        references.tcp_gb_per_s,
        3.0,
    ));
    cluster.remove("bench/small").await?;
    Ok(())
}

/// Fused expressions over whole arrays.
///
/// # Errors
///
/// Those of the cluster, and a sum that is wrong.
pub(crate) async fn compute(
    cluster: &Cluster,
    references: &References,
    elems: u64,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let array =
        cluster.array("bench/quadratic").shape([elems]).replicas(1).create_any(DType::I64).await?;
    let fill = cluster.expr("y = i*i + 3*i + 1").output("y", &array);
    let fill = best(async || Ok(fill.run().await.map(|_report| ())?)).await?;
    let sum = cluster.expr("sum(x)").input("x", &array);
    let sum = best(async || {
        let value = sum.run().await?.into_value()?;
        ensure!(value.to_i128() == i128::from(closed_form(elems)), "the sum is {value}");
        Ok(())
    })
    .await?;
    cluster.remove("bench/quadratic").await?;
    rows.push(less(
        "fill 100M int64",
        fill,
        "s",
        "native, 1 core",
        references.native_fill_s,
        0.055,
    ));
    rows.push(less("sum 100M int64", sum, "s", "native, 1 core", references.native_sum_s, 0.023));

    let x = cluster.array("bench/x").shape([10_000_000]).replicas(1).create_any(DType::F32).await?;
    for name in ["bench/y", "bench/z"] {
        cluster.array(name).shape([10_000_000]).like("bench/x").create_any(DType::F32).await?;
    }
    cluster.expr("y = float32(i)").output("y", &x).run().await?;
    cluster.expr("y = x + x").input("x", &x).output("y", "bench/y").run().await?;
    let add = cluster.expr("z = x + y").input("x", &x).input("y", "bench/y").output("z", "bench/z");
    let add = best(async || Ok(add.run().await.map(|_report| ())?)).await?;
    rows.push(less(
        "add two 10M float32",
        add * 1e3,
        "ms",
        "native, 1 core",
        references.native_add_ms,
        4.5,
    ));
    for name in ["bench/x", "bench/y", "bench/z"] {
        cluster.remove(name).await?;
    }
    Ok(())
}

/// Calls of a module that does nothing, each in a fresh sandbox.
///
/// # Errors
///
/// Those of the cluster.
pub(crate) async fn calls(
    cluster: &Cluster,
    references: &References,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let module = wat::parse_str(NO_OP).context("the no-op module")?;
    let task = cluster.task(module);
    task.call(Bytes::new()).await?;
    let mut micros = Vec::with_capacity(5_000);
    for _ in 0..5_000 {
        let watch = Stopwatch::start();
        task.call(Bytes::new()).await?;
        micros.push(watch.seconds() * 1e6);
    }
    let ping = references.tcp_ping_us;
    rows.push(less(
        "no-op call in the node, p50",
        percentile(&mut micros, 50),
        "us",
        "TCP ping-pong",
        ping,
        70.0,
    ));
    let rounds = 10_000 / IN_FLIGHT;
    let watch = Stopwatch::start();
    let lanes = (0..IN_FLIGHT).map(|_| async {
        for _ in 0..rounds {
            task.call(Bytes::new()).await?;
        }
        anyhow::Ok(())
    });
    join_all(lanes).await.into_iter().collect::<Result<Vec<()>>>()?;
    let per_second = count(rounds * IN_FLIGHT) / watch.seconds();
    rows.push(more("no-op calls, 64 in flight", per_second, "1/s", "", 0.0, 100_000.0));
    Ok(())
}

/// What three nodes cost while nobody asks for anything.
///
/// # Errors
///
/// Those of the cluster.
pub(crate) async fn idle(cluster: &Cluster, seconds: u64, rows: &mut Vec<Row>) -> Result<()> {
    idle_share(cluster, seconds, "3 idle nodes without arrays", rows).await
}

/// Leaves the nodes alone and asks them what that cost.
///
/// # Errors
///
/// When one does not answer.
pub(crate) async fn idle_share(
    cluster: &Cluster,
    seconds: u64,
    what: &str,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let before = usage(cluster).await?;
    let watch = Stopwatch::start();
    pause_ms(seconds * 1000).await;
    let after = usage(cluster).await?;
    let share = (after.0 - before.0) / 1e3 / watch.seconds() * 100.0;
    rows.push(less(&format!("{what}: CPU"), share, "% of a core", "", 0.0, 2.0));
    let resident = after.1 / f64::from(1 << 20);
    rows.push(less(&format!("{what}: resident memory"), resident, "MiB", "", 0.0, 200.0));
    Ok(())
}

async fn usage(cluster: &Cluster) -> Result<(f64, f64)> {
    let (mut cpu_ms, mut resident) = (0.0, 0.0);
    for member in cluster.status().await {
        let status = member.outcome.context("a node does not answer")?;
        cpu_ms += count(usize::try_from(status.cpu_ms)?);
        resident += count(usize::try_from(status.resident_bytes)?);
    }
    Ok((cpu_ms, resident))
}

async fn latency(array: &AnyArray, elems: u64, width: u64, rounds: u64) -> Result<f64> {
    let mut block = vec![0u8; usize::try_from(width * 8)?];
    let mut micros = Vec::with_capacity(usize::try_from(rounds)?);
    for round in 0..rounds {
        let first = start(round, elems, width);
        let watch = Stopwatch::start();
        array.read_into(first..first + width, &mut block, &Unwatched).await?;
        micros.push(watch.seconds() * 1e6);
    }
    Ok(percentile(&mut micros, 50))
}

async fn throughput(array: &AnyArray, elems: u64, width: u64, total: u64) -> Result<f64> {
    let rounds = total / IN_FLIGHT as u64;
    let watch = Stopwatch::start();
    let lanes = (0..IN_FLIGHT as u64).map(|lane| async move {
        let mut block = vec![0u8; usize::try_from(width * 8)?];
        for round in 0..rounds {
            let first = start(round * 31 + lane * 1009, elems, width);
            array.read_into(first..first + width, &mut block, &Unwatched as &dyn Progress).await?;
        }
        anyhow::Ok(())
    });
    join_all(lanes).await.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(count(usize::try_from(rounds * IN_FLIGHT as u64)?) / watch.seconds())
}

/// Somewhere in the array, at a multiple of the width: every shard and so every node is asked.
fn start(round: u64, elems: u64, width: u64) -> u64 {
    round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (elems / width) * width
}

async fn best(run: impl AsyncFn() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        run().await?;
        best = best.min(watch.seconds());
    }
    Ok(best)
}

/// Sum of `i*i + 3i + 1` for all `i < n`, modulo 2^64.
fn closed_form(n: u64) -> i64 {
    let n = u128::from(n);
    let squares = (n - 1) * n * (2 * n - 1) / 6;
    let exact = squares + 3 * ((n - 1) * n / 2) + n;
    let low = u64::try_from(exact & u128::from(u64::MAX)).unwrap_or_default();
    low.cast_signed()
}

pub(crate) fn more(
    workload: &str,
    ours: f64,
    unit: &'static str,
    reference: &'static str,
    value: f64,
    target: f64,
) -> Row {
    let workload = workload.to_owned();
    Row { workload, ours, unit, more_is_better: true, reference, reference_value: value, target }
}

pub(crate) fn less(
    workload: &str,
    ours: f64,
    unit: &'static str,
    reference: &'static str,
    value: f64,
    target: f64,
) -> Row {
    Row { more_is_better: false, ..more(workload, ours, unit, reference, value, target) }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn count(value: usize) -> f64 {
    value as f64
}

pub(crate) fn gb(bytes: usize) -> f64 {
    count(bytes) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_the_sum() {
        for n in [1u64, 2, 10, 1000] {
            let sum = (0..n).fold(0i64, |sum, i| {
                let i = i.cast_signed();
                sum.wrapping_add(i * i + 3 * i + 1)
            });
            assert_eq!(closed_form(n), sum);
        }
    }
}
