//! What the death of a node costs those who work: kill -9 under load, again and again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use futures_util::future::{join, join_all};
use holo_client::{Cluster, SharedArray};

use crate::lab::{Lab, until, whole};
use crate::report::Row;
use crate::timing::{Stopwatch, pause_ms, percentile};
use crate::workloads::less;

/// Every node is the primary of some of these.
const SHARDS: u64 = 48;
const SHARD_ELEMS: u64 = 1024;
const NODES: usize = 3;
/// Clients that go on adding while nodes die.
const LANES: u64 = 4;
/// How long they are under way before.
const WARM_MS: u64 = 250;

/// What clients were told while a node died.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

/// Kills one of three nodes `kills` times, every third time the catalog's leader, while clients add to elements of all
/// shards. Counted is the time from the kill until every shard has acknowledged a new update, at the default timers.
///
/// # Errors
///
/// Those of the cluster, an update that failed, and a sum that says that one was lost or done twice.
pub(crate) async fn run(kills: usize, rows: &mut Vec<Row>) -> Result<()> {
    let mut lab = Lab::found(NODES)?;
    let cluster = lab.client().await?;
    until(&cluster, "three voters", |report| {
        report.voters.len() == NODES
            && report.voters_answering.len() == NODES
            && report.notes.is_empty()
    })
    .await?;
    let array = cluster.array("bench/recovery").shape([SHARDS * SHARD_ELEMS]);
    let array = array.shard_elems(SHARD_ELEMS).replicas(2).create::<u64>().await?;
    let (mut all, mut of_leader, mut acknowledged) = (Vec::new(), Vec::new(), 0);
    for kill in 0..kills {
        let report = until(&cluster, "whole", |report| whole(report, NODES)).await?;
        let leader = usize::try_from(report.leader)? - 1;
        let victim = (leader + kill % NODES) % NODES;
        let load = Load::default();
        let killed = async {
            pause_ms(WARM_MS).await;
            lab.kill(victim)?;
            let watch = Stopwatch::start();
            let shards = (0..SHARDS).map(|shard| array.fetch_add(shard * SHARD_ELEMS, 1));
            let answers = join_all(shards).await;
            let seconds = watch.seconds();
            load.stop.store(true, Ordering::Relaxed);
            for answer in answers {
                answer?;
            }
            anyhow::Ok(seconds)
        };
        let lanes = join_all((0..LANES).map(|lane| work(&array, lane, &load)));
        let (seconds, _lanes) = join(killed, lanes).await;
        let seconds = seconds?;
        let failed = load.failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} updates failed after kill {kill}");
        acknowledged += SHARDS + load.acknowledged.load(Ordering::Relaxed);
        all.push(seconds);
        if victim == leader {
            of_leader.push(seconds);
        }
        lab.start(victim)?;
    }
    until(&cluster, "whole", |report| whole(report, NODES)).await?;
    ensure!(total(&cluster, &array).await? == u128::from(acknowledged), "updates were lost");

    let what = format!("kill -9 ({kills}x, {acknowledged} updates kept) to all shards serving");
    rows.push(less(&format!("{what}, p50"), percentile(&mut all, 50), "s", "", 0.0, 0.8));
    rows.push(less(&format!("{what}, max"), percentile(&mut all, 100), "s", "", 0.0, 1.5));
    let leaders = format!("the same, catalog leader ({}x), max", of_leader.len());
    rows.push(less(&leaders, percentile(&mut of_leader, 100), "s", "", 0.0, 1.5));
    Ok(())
}

async fn work(array: &SharedArray<u64>, lane: u64, load: &Load) {
    let mut round = 0u64;
    while !load.stop.load(Ordering::Relaxed) {
        let shard = round.wrapping_mul(7).wrapping_add(lane) % SHARDS;
        let told = match array.fetch_add(shard * SHARD_ELEMS + 1 + lane, 1).await {
            Ok(_before) => &load.acknowledged,
            Err(_told) => &load.failed,
        };
        told.fetch_add(1, Ordering::Relaxed);
        round += 1;
    }
}

async fn total(cluster: &Cluster, array: &SharedArray<u64>) -> Result<u128> {
    let values = array.read(..).await?;
    let by_reading: u128 = values.into_iter().map(u128::from).sum();
    let by_summing = cluster.expr("sum(x)").input("x", "bench/recovery").run().await?;
    let by_summing = by_summing.into_value()?.to_i128();
    ensure!(i128::try_from(by_reading)? == by_summing, "a sum and a read differ");
    Ok(by_reading)
}
