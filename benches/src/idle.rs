//! What nodes cost that hold groups and have nothing to do.

use anyhow::Result;

use crate::lab::{Lab, until, whole};
use crate::report::Row;
use crate::timing::pause_ms;
use crate::workloads::idle_share;

const NODES: usize = 3;
/// Copies of the two arrays.
const CLASSES: [u32; 2] = [2, 3];
/// Groups of a class: one per partition.
const PARTITIONS: u64 = 256;
/// So many that hardly any partition has none.
const SHARDS: u64 = 8 * PARTITIONS;
/// How long what followed the last change goes on.
const CALM_MS: u64 = 5_000;

/// Three nodes, each a process with the default timers, with arrays of two classes.
///
/// # Errors
///
/// Those of the cluster.
pub(crate) async fn run(seconds: u64, rows: &mut Vec<Row>) -> Result<()> {
    let lab = Lab::found(NODES)?;
    let cluster = lab.client().await?;
    until(&cluster, "three voters", |report| {
        report.voters.len() == NODES && report.voters_answering.len() == NODES
    })
    .await?;
    for copies in CLASSES {
        let name = format!("bench/idle{copies}");
        let array = cluster.array(&name).shape([SHARDS]).shard_elems(1).replicas(copies);
        array.create::<u64>().await?.set(0, 1).await?;
    }
    let groups = PARTITIONS * CLASSES.len() as u64;
    until(&cluster, "whole", |report| {
        whole(report, NODES) && report.groups == groups && report.notes.is_empty()
    })
    .await?;
    pause_ms(CALM_MS).await;
    let what = format!("3 idle nodes with {groups} groups of two classes");
    idle_share(&cluster, seconds.max(30), &what, rows).await
}
