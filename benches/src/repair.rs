//! How fast data moves when a node is emptied or has died, and what those who work feel of it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::join;
use holo_client::{Cluster, DType, SharedArray, Unwatched};
use holo_core::wire::{NodeOrder, NodeOrderKind, NodeReport, SettingsBody};
use tokio::task::spawn_blocking;

use crate::lab::{Lab, until, whole};
use crate::references::{self, References};
use crate::report::Row;
use crate::timing::{Stopwatch, pause_ms, percentile};
use crate::workloads::{count, less, more};

const NODES: usize = 3;
const BYTES: usize = 1 << 30;
/// How long a client is watched while nothing moves.
const CALM_MS: u64 = 5_000;
/// How often plain TCP moves an array while a client is watched.
const TCP_ROUNDS: usize = 4;
/// A node that does not answer is planned around after this long.
const REPAIR_DELAY_MS: u64 = 500;

/// Empties one of three nodes that hold two copies of 1 GiB, takes it back, and kills it.
///
/// # Errors
///
/// Those of the cluster.
pub(crate) async fn run(references: &References, rows: &mut Vec<Row>) -> Result<()> {
    let mut lab = Lab::found(NODES)?;
    let cluster = lab.client().await?;
    let delay = SettingsBody { repair_delay_ms: Some(REPAIR_DELAY_MS), ..SettingsBody::default() };
    cluster.settings(delay).await?;
    let elems = (BYTES / 8) as u64;
    let array = cluster.array("bench/moving").shape([elems]).replicas(2).create_any(DType::U64);
    let array = array.await?;
    let source: Vec<u8> = (0..elems).flat_map(u64::to_le_bytes).collect();
    array.write_shared(0, Bytes::from(source), &Unwatched).await?;
    until(&cluster, "whole", |report| whole(report, NODES)).await?;

    let typed = array.typed::<u64>()?;
    let stop = AtomicBool::new(false);
    let calm = async {
        pause_ms(CALM_MS).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (calm, ()) = join(gets(&typed, &stop), calm).await;
    let calm = calm?;
    let tcp = async {
        let mut best = 0.0f64;
        for _ in 0..TCP_ROUNDS {
            best = best.max(spawn_blocking(references::tcp_array).await??);
        }
        anyhow::Ok(best)
    };
    let (rate, busy) = beside(&typed, tcp).await?;
    let hot = references.tcp_gb_per_s;
    rows.push(more("(plain TCP into fresh memory)", rate, "GB/s", "plain TCP", hot, 0.0));
    rows.push(less("(8-byte get beside that, p99)", busy, "us", "in calm", calm, 0.0));

    let bytes = cluster.plan_drain("n3").await?.bytes_left;
    let (seconds, busy) = beside(&typed, drain(&cluster)).await?;
    push(rows, "drain", bytes, seconds, references, (busy, calm))?;

    order(&cluster, NodeOrderKind::Undrain).await?;
    until(&cluster, "n3 in use again", |report| {
        let settled =
            |node: &NodeReport| node.targets > 0 && node.primaries + node.backups == node.targets;
        whole(report, NODES) && report.nodes.iter().all(settled)
    })
    .await?;
    let bytes = cluster.plan_drain("n3").await?.bytes_left;
    let repaired = async {
        lab.kill(NODES - 1)?;
        // Its groups are served again long before, and the dead node's own copies count as repairs: what is measured
        // begins when those who live are given its place.
        until(&cluster, "repairing", |report| {
            let lives = |node: &&NodeReport| node.member.as_ref().is_some_and(|it| it.name != "n3");
            report.nodes.iter().filter(lives).any(|node| node.learners > 0)
        })
        .await?;
        let watch = Stopwatch::start();
        until(&cluster, "repaired", |report| whole(report, NODES - 1)).await?;
        anyhow::Ok(watch.seconds())
    };
    let (seconds, busy) = beside(&typed, repaired).await?;
    push(rows, "repair", bytes, seconds, references, (busy, calm))
}

/// Runs `work` while a client reads; gives its figure and the client's 99th percentile.
async fn beside(
    array: &SharedArray<u64>,
    work: impl Future<Output = Result<f64>>,
) -> Result<(f64, f64)> {
    let stop = AtomicBool::new(false);
    let work = async {
        let done = work.await;
        stop.store(true, Ordering::Relaxed);
        done
    };
    let (busy, figure) = join(gets(array, &stop), work).await;
    Ok((figure?, busy?))
}

fn push(
    rows: &mut Vec<Row>,
    what: &str,
    bytes: u64,
    seconds: f64,
    references: &References,
    (busy, calm): (f64, f64),
) -> Result<()> {
    let tcp = references.tcp_gb_per_s;
    let rate = count(usize::try_from(bytes)?) / 1e9 / seconds;
    let name = format!("{what} of {} MiB", bytes >> 20);
    rows.push(more(&name, rate, "GB/s", "plain TCP", tcp, tcp * 0.5));
    let name = format!("8-byte get during the {what}, p99");
    rows.push(less(&name, busy, "us", "in calm", calm, calm * 2.0));
    Ok(())
}

/// Empties n3; seconds until nothing names it any more.
async fn drain(cluster: &Cluster) -> Result<f64> {
    let watch = Stopwatch::start();
    order(cluster, NodeOrderKind::Drain).await?;
    while cluster.watch_drain("n3").await?.state != "drained" {
        pause_ms(50).await;
    }
    Ok(watch.seconds())
}

async fn order(cluster: &Cluster, kind: NodeOrderKind) -> Result<()> {
    let order = NodeOrder { node: "n3".to_owned(), kind: kind.into(), ..NodeOrder::default() };
    cluster.change_node(order).await.context("n3")
}

/// Reads one element after the other, a thousand times a second at most; the 99th percentile in microseconds.
async fn gets(array: &SharedArray<u64>, stop: &AtomicBool) -> Result<f64> {
    let mut micros = Vec::new();
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let index = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % array.len();
        let watch = Stopwatch::start();
        array.get(index).await?;
        micros.push(watch.seconds() * 1e6);
        round += 1;
        pause_ms(1).await;
    }
    Ok(percentile(&mut micros, 99))
}
